"""Queries: the significant lines of one or many texts, hashed once and looked up together.

Not covered: normalizing (normalize.py) and looking up (segment.py, sealed.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from pytest_collabcode.clones.fingerprints import (
    Halves,
    Hashes,
    Integers,
    line_hashes,
    low_halves,
    stable_order,
    window_fingerprints,
    window_starts,
)

Distinct = tuple[
    Integers, Hashes, Integers
]  # starts, fingerprints sorted and without repetition, which of them each is


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Query:
    """Texts laid end to end; windows never cross from one into the next."""

    lines: tuple[str, ...] = field(repr=False)  # normalized, of all texts
    hashes: Hashes  # (N,)
    halves: Halves  # (N,) their low halves, which is all that segments keep
    bounds: Integers  # (T + 1,) position of each text's first line, and the end of the last
    _distinct: dict[int, Distinct] = field(default_factory=dict)  # by width, for the parts of an index ask the same

    @staticmethod
    def of(texts: Sequence[Sequence[str]]) -> Query:
        """Return the query of some texts, each given as its normalized significant lines.

        Example:
            >>> query = Query.of([["a", "b"], [], ["c"]])
            >>> query.lines, query.bounds.tolist()
            (('a', 'b', 'c'), [0, 2, 2, 3])
        """
        lines = tuple(chain.from_iterable(texts))
        bounds = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        hashes = line_hashes(lines)
        return Query(lines=lines, hashes=hashes, halves=low_halves(hashes), bounds=bounds)

    def windows(self, width: int) -> tuple[Integers, Hashes]:
        """Return (starts, fingerprints) of every window of `width` lines inside one text."""
        starts = window_starts(self.bounds, width=width)
        return starts, window_fingerprints(self.hashes, width)[starts]

    def distinct(self, width: int) -> Distinct:
        """Return the windows of `width` lines as (starts, distinct fingerprints in order, which of these each has).

        Example:
            >>> starts, fingerprints, which = Query.of([["a", "b", "a", "b"]]).distinct(2)
            >>> starts.tolist(), len(fingerprints), bool(which[0] == which[2])
            ([0, 1, 2], 2, True)
        """
        if width not in self._distinct:
            starts, fingerprints = self.windows(width)
            order = stable_order(fingerprints)
            ordered = fingerprints[order]
            is_new = np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]
            which = np.empty(len(starts), dtype=np.int64)
            which[order] = np.cumsum(is_new) - 1
            self._distinct[width] = starts, ordered[is_new], which
        return self._distinct[width]

    def text_of(self, positions: Integers) -> Integers:
        """Return the number of the text that each position stands in."""
        return np.searchsorted(self.bounds, positions, side="right") - 1
