"""Matching: from equal windows to maximal runs, each verified line by line on the texts.

What pairs of equal windows extend to (pairs.py, extension.py) is compared with the documents' lines; of the runs of
one text in one organization those are kept that no other contains.
Not covered: gaps (near.py), sealed documents (sealing.py).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pytest_collabcode.clones.extension import LONG, Candidates, equal_lines, extended, promising
from pytest_collabcode.clones.fingerprints import Integers
from pytest_collabcode.clones.pairs import Rows, left_maximal, rows_of
from pytest_collabcode.clones.query import Query
from pytest_collabcode.clones.runs import Run
from pytest_collabcode.clones.segment import Segment

Found = tuple[int, Run]  # number of the text, run


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matches:
    """What one part of an index holds of a query."""

    runs: list[Found]
    counts: Integers  # (N,) places of the window that begins at each line of the query


def match(segment: Segment, query: Query) -> Matches:
    """Return all runs of min_lines lines or more, none contained in another of the same organization and kind.

    Example:
        >>> from pytest_collabcode.clones.segment import Shape
        >>> from pytest_collabcode.records import Document
        >>> documents = [Document(path="x", text="a\\nb\\n\\nc\\n", organization="acme")]
        >>> segment = Segment.build(documents, Shape(min_lines=2))
        >>> [(text, run)] = match(segment, Query.of([["z", "b", "c"]])).runs
        >>> text, run.first, run.stop, run.last_line
        (0, 1, 3, 4)
    """
    counts = np.zeros(len(query.lines), dtype=np.int64)
    starts, wanted, which = query.distinct(segment.shape.width)
    if not len(starts) or not len(segment.fingerprints):
        return Matches(runs=[], counts=counts)
    known, (low, high) = rows_of(segment, wanted)
    if not len(known):
        return Matches(runs=[], counts=counts)
    is_known = np.zeros(len(wanted), dtype=bool)
    is_known[known] = True
    held = np.flatnonzero(is_known[which])
    row = known.searchsorted(which[held])
    starts, low, high = starts[held], low[row], high[row]
    counts[starts] = high - low
    runs, is_sound = _runs(segment, query, _candidates(segment, query, starts, (low, high), counts, pruned=True))
    if not is_sound:  # hashes collided, so what seemed contained may be not
        runs, _ = _runs(segment, query, _candidates(segment, query, starts, (low, high), counts, pruned=False))
    return Matches(runs=runs, counts=counts)


def _candidates(
    segment: Segment, query: Query, starts: Integers, rows: Rows, counts: Integers, *, pruned: bool
) -> Candidates:
    """Return what the pairs of equal windows extend to; pruned, without what seems contained in something else."""
    found = [np.empty((6, 0), dtype=np.int64)]
    for begins, places, is_open in left_maximal(segment, query, starts, rows, counts):
        candidates = extended(segment, query, begins, places, is_open=is_open, pruned=pruned)
        found.append(promising(segment, candidates) if pruned else candidates)
    joined = np.concatenate(found, axis=1)
    return promising(segment, joined) if pruned else joined


def _runs(segment: Segment, query: Query, candidates: Candidates) -> tuple[list[Found], bool]:
    """Return the runs that reach farther than those before them, and whether all were equal on the texts."""
    order = np.lexsort((candidates[3], candidates[2], candidates[1]))
    runs: list[Found] = []
    is_sound = True
    current, reach, last = (-1, -1), 0, (-1, -1)  # of this text and group: how far; where the last run begins, stands
    for text, group, begin, place, limit, length in candidates[:, order].T.tolist():
        if (text, group) != current:
            current, reach, last = (text, group), 0, (-1, -1)
        if LONG <= length < limit and begin + limit > reach:
            segment.check_lines(place, place + limit)
            if begin < reach and segment.lines[place + reach - begin] != query.halves[reach]:
                continue  # it ends at the latest where an earlier one did
            length = int(equal_lines(segment, query, *(np.array([n]) for n in (begin, place, limit)))[0])
        if begin + length <= reach or length < segment.shape.min_lines:
            continue
        offset = int(query.bounds[text])
        verified = list(_verified(segment, query, (begin, begin + length), place, offset))
        is_sound &= [(run.first, run.stop) for run in verified] == [(begin - offset, begin - offset + length)]
        for run in verified:
            first, stop = run.first + offset, run.stop + offset
            if stop <= reach:
                continue
            if first == last[0]:
                runs[last[1]] = (text, run)  # it begins where the last one does and reaches farther
            else:
                runs.append((text, run))
            if first == begin:  # else hashes collided, and what begins between may still reach farther
                reach, last = stop, (begin, len(runs) - 1 if first != last[0] else last[1])
    return runs, is_sound


def _verified(segment: Segment, query: Query, span: tuple[int, int], place: int, offset: int) -> Iterator[Run]:
    """Yield the stretches of a candidate whose lines are equal as texts: all of it, but for colliding hashes.

    Their lines are counted from `offset` on, where the text begins in the query.
    """
    begin, stop = span
    number = int(np.searchsorted(segment.bounds, place, side="right")) - 1
    numbers, lines = segment.documents.lines(number)
    shift = place - int(segment.bounds[number]) - begin
    origin = segment.documents.origin(number)
    first = begin
    while stop - first >= segment.shape.min_lines:
        last = first
        while last < stop and query.lines[last] == lines[last + shift]:
            last += 1
        if last - first >= segment.shape.min_lines:
            own = numbers[first + shift : last + shift]
            yield Run(
                first=first - offset,
                stop=last - offset,
                origin=origin,
                first_line=own[0],
                last_line=own[-1],
                n_header=bisect_right(own, origin.header_lines),
            )
        first = last + 1
