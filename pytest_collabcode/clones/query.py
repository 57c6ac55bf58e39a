"""Queries: the significant lines of one or many texts, hashed once and looked up together.

Not covered: normalizing (normalize.py) and looking up (segment.py, sealed.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from pytest_collabcode.clones.fingerprints import (
    Halves,
    Hashes,
    Integers,
    line_hashes,
    low_halves,
    window_fingerprints,
    window_starts,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Query:
    """Texts laid end to end; windows never cross from one into the next."""

    lines: tuple[str, ...]  # normalized, of all texts
    hashes: Hashes  # (N,)
    halves: Halves  # (N,) their low halves, which is all that segments keep
    bounds: Integers  # (T + 1,) position of each text's first line, and the end of the last

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

    def text_of(self, positions: Integers) -> Integers:
        """Return the number of the text that each position stands in."""
        return np.searchsorted(self.bounds, positions, side="right") - 1
