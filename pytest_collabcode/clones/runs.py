"""Runs: equal windows merged along diagonals, and of those the maximal ones.

A diagonal is one offset between the text and the documents; consecutive windows on it are one run.
Not covered: gaps (type-3 clones).
Source: the diagonal method of dot plots, Gibbs and McIntyre 1970.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pytest_collabcode.clones.index import CloneIndex, Integers


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive significant lines of a text that equal consecutive lines of one document."""

    first: int  # in the text's significant lines
    stop: int  # behind the last
    position: int  # of the first line, in the index


def runs_of(index: CloneIndex, ids: Integers) -> list[Run]:
    """Return all runs of a text, maximal on both sides, each verified line by line.

    Args:
        index: of the documents.
        ids: of the text's significant lines, shape (n,), as `CloneIndex.line_ids` gives them.
    Returns:
        Runs of at least index.min_lines lines, one per document place, in no promised order.
    Example:
        >>> from pytest_collabcode.records import Document
        >>> index = CloneIndex.build([Document(path="x", text="a\\nb\\nc\\n", organization="acme")], min_lines=2)
        >>> runs_of(index, index.line_ids(["z", "b", "c"]))
        [Run(first=1, stop=3, position=1)]

    """
    starts, positions = index.matches(ids)
    if not len(starts):
        return []
    diagonal = positions - starts
    order = np.lexsort((starts, diagonal))
    starts, positions, diagonal = starts[order], positions[order], diagonal[order]
    same_document = np.diff(index.document[positions]) == 0
    joined = (np.diff(diagonal) == 0) & (np.diff(starts) == 1) & same_document
    firsts = np.flatnonzero(np.append(True, ~joined))
    lasts = np.append(firsts[1:], len(starts)) - 1
    stops = starts[lasts] + index.min_lines
    rows = np.stack([starts[firsts], stops, positions[firsts]], axis=1).tolist()
    runs = [Run(*row) for row in rows]
    if index.n_dropped:  # a run may have lost windows at its ends or in its middle
        runs = list({_extended(index, ids, run) for run in runs})
    return runs


def _extended(index: CloneIndex, ids: Integers, run: Run) -> Run:
    before = _common(index, ids, range(run.first - 1, -1, -1), run)
    after = _common(index, ids, range(run.first, len(ids)), run)
    return Run(run.first - before, run.first + after, run.position - before)


def _common(index: CloneIndex, ids: Integers, text: range, run: Run) -> int:
    """Count equal lines from the run's start along `text`, inside the run's document."""
    owner, shift = index.document[run.position], run.position - run.first
    for count, i in enumerate(text):
        place = i + shift
        inside = 0 <= place < len(index.lines) and index.document[place] == owner
        if not inside or index.lines[place] != ids[i]:
            return count
    return len(text)


def by_organization(index: CloneIndex, runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs by the organization of their document.

    Example:
        >>> by_organization(CloneIndex.build([]), [])
        {}

    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(index.documents[index.document[run.position]].organization, []).append(run)
    return groups


def maximal(runs: Sequence[Run]) -> list[Run]:
    """Keep the runs whose lines are not contained in another's; of equal ones the first by position, so by path.

    Example:
        >>> maximal([Run(1, 7, 40), Run(0, 8, 90), Run(0, 8, 20), Run(3, 9, 60)])
        [Run(first=0, stop=8, position=20), Run(first=3, stop=9, position=60)]

    """
    kept: list[Run] = []
    for run in sorted(runs, key=lambda r: (r.first, -r.stop, r.position)):
        if not kept or run.stop > kept[-1].stop:
            kept.append(run)
    return kept


def holds(kept: Sequence[Run], run: Run) -> bool:
    """Whether one of the maximal runs of an organization contains the lines of a run.

    Args:
        kept: as `maximal` returns them, so that firsts and stops both grow.
        run: of any organization.
    Example:
        >>> kept = [Run(0, 8, 20), Run(3, 9, 60)]
        >>> holds(kept, Run(3, 9, 1)), holds(kept, Run(1, 9, 1))
        (True, False)

    """
    place = bisect_right(kept, run.first, key=lambda r: r.first)
    return place > 0 and kept[place - 1].stop >= run.stop
