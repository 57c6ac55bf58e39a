"""Matching: from equal windows to maximal runs, each verified line by line on the texts.

A pair of equal windows whose preceding lines are equal too is the middle of a run and is dropped at once, so a run
costs one pair however long it is. What is left is extended over the line hashes, all pairs together as far as LONG
lines; what another pair of the same text and organization contains is dropped then. Windows with more than MAX_PLACES
places are hot: of those the first MAX_PLACES of each organization are looked at.
Not covered: gaps (near.py), sealed documents (sealing.py).
Source: maximal matches by left-maximality, as in Gusfield 1997, section 7.12.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pytest_collabcode.clones.fingerprints import BASE, Hashes, Integers, window_fingerprints
from pytest_collabcode.clones.query import Query
from pytest_collabcode.clones.runs import Run
from pytest_collabcode.clones.segment import Segment

MAX_PLACES = 1024  # of one window that are looked at in one organization, planted and natural apart
LONG = 256  # lines: longer runs are few, and are extended one by one
FIRST_BLOCK, LARGEST_BLOCK = 16, 1 << 14  # lines compared at once; they touch two checksummed blocks at most
AT_ONCE = 1 << 18  # pairs, or lines of pairs, in memory

Flags = npt.NDArray[np.bool_]
Found = tuple[int, Run]  # number of the text, run
Candidates = Integers  # (6, P): text, group, first line in the query, its place, lines to the end, equal lines


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
    low, high = _rows(segment, wanted)
    known = np.flatnonzero((high > low)[which])
    starts, low, high = starts[known], low[which[known]], high[which[known]]
    counts[starts] = high - low
    candidates = [_promising(segment, c) for c in _candidates(segment, query, starts, (low, high), counts)]
    runs, is_sound = _runs(segment, query, _promising(segment, _joined(candidates)))
    if not is_sound:  # hashes collided, so what seemed contained may be not
        runs, _ = _runs(segment, query, _joined(list(_candidates(segment, query, starts, (low, high), counts))))
    return Matches(runs=runs, counts=counts)


def _rows(segment: Segment, wanted: Hashes) -> tuple[Integers, Integers]:
    """Return the rows [low, high) of each sorted fingerprint."""
    low = np.searchsorted(segment.fingerprints, wanted, side="left")
    segment.check_rows(np.concatenate([low, low - 1]))
    inside = np.minimum(low, len(segment.fingerprints) - 1)
    found = segment.fingerprints[inside] == wanted
    high = low.copy()
    high[found] = np.searchsorted(segment.fingerprints, wanted[found], side="right")
    segment.check_rows(high - 1)
    return low, high


def _candidates(
    segment: Segment, query: Query, starts: Integers, rows: tuple[Integers, Integers], counts: Integers
) -> Iterator[Candidates]:
    """Yield all pairs of equal windows that no earlier window continues into, extended on both sides, in batches."""
    low, high = rows
    # Of starts with equal windows and surroundings, which have the same places, one is looked at.
    keys = low.astype(np.uint64) * BASE + _contexts(segment, query, starts)
    _, chosen, kinds = np.unique(keys, return_index=True, return_inverse=True)
    by_kind = np.argsort(kinds, kind="stable")
    n_starts = np.bincount(kinds)
    behind = np.cumsum(n_starts)
    for some in _slices(np.minimum(high - low, MAX_PLACES * len(segment.groups))[chosen]):
        begins = starts[chosen[some]]
        pair, places = _expanded(segment, query, begins, low[chosen[some]], high[chosen[some]])
        kept = _is_left_maximal(segment, query, begins[pair], places, counts)
        order = np.flatnonzero(kept)[np.argsort(pair[kept], kind="stable")]
        pair, places = pair[order], places[order]
        sizes = np.bincount(pair, minlength=len(begins))
        own = starts[by_kind[(behind - n_starts)[some.start] : behind[some.stop - 1]]]
        kind = np.repeat(np.arange(len(begins)), n_starts[some])  # of each of its own starts
        for batch in _slices(sizes[kind]):
            number, row = _ranges((np.cumsum(sizes) - sizes)[kind[batch]], sizes[kind[batch]])
            if len(row):
                yield _extended(segment, query, own[batch][number], places[row], counts)


def _is_left_maximal(segment: Segment, query: Query, begins: Integers, places: Integers, counts: Integers) -> Flags:
    stride = segment.shape.stride
    left, _ = _room(segment, query, begins, places)
    is_inside = _equal_lines(segment, query, begins - 1, places - 1, np.minimum(left, stride), step=-1) == stride
    n_before = counts[np.maximum(begins - stride, 0)]
    # A hot window's pairs are not all looked at, so the window behind it cannot rely on them.
    is_relied = (n_before > 0) & ((n_before <= MAX_PLACES) | (counts[begins] > MAX_PLACES))
    is_middle: Flags = is_inside & is_relied
    return ~is_middle


def _contexts(segment: Segment, query: Query, starts: Integers) -> Hashes:
    """Return a hash of what, beside its window, decides which places a start has: the lines before it, and behind it.

    Where there are too few of them the value is one and the same (before), or its own for every start (behind).
    """
    shape = segment.shape
    texts = query.text_of(starts)
    contexts = np.full(len(starts), 1, dtype=np.uint64)
    whole = starts - shape.stride >= query.bounds[texts]
    contexts[whole] = window_fingerprints(query.hashes, shape.stride)[starts[whole] - shape.stride]
    if shape.sparse:
        behind, more = starts + shape.width, shape.min_lines - shape.width
        whole = behind + more <= query.bounds[texts + 1]
        contexts *= BASE
        contexts[whole] += window_fingerprints(query.hashes, more)[behind[whole]]
        contexts[~whole] += starts[~whole].astype(np.uint64)
    return contexts


def _expanded(
    segment: Segment, query: Query, begins: Integers, low: Integers, high: Integers
) -> tuple[Integers, Integers]:
    """Return (number of the range, place) for all rows of all ranges; of hot ones the first of each group."""
    sizes = high - low
    number, rows = _ranges(low, np.where(sizes > MAX_PLACES, 0, sizes))
    segment.check_rows(rows)
    numbers, places = [number], [segment.places[rows].astype(np.int64)]
    for i in np.flatnonzero(sizes > MAX_PLACES).tolist():
        segment.check_rows(np.arange(low[i], high[i]))
        hot = segment.places[low[i] : high[i]].astype(np.int64)
        if segment.shape.sparse:
            hot = hot[_is_long_enough(segment, query, np.full(len(hot), begins[i]), hot)]
        cuts = np.searchsorted(hot, segment.groups)
        few = np.concatenate([hot[a : min(b, a + MAX_PLACES)] for a, b in pairwise(cuts)])
        numbers.append(np.full(len(few), i))
        places.append(few)
    return np.concatenate(numbers), np.concatenate(places)


def _is_long_enough(segment: Segment, query: Query, begins: Integers, places: Integers) -> Flags:
    """Whether the run through each pair of equal short windows can reach min_lines lines."""
    width, more = segment.shape.width, segment.shape.min_lines - segment.shape.width
    left, right = _room(segment, query, begins, places)
    back = _equal_lines(segment, query, begins - 1, places - 1, np.minimum(left, more), step=-1)
    ahead = _equal_lines(segment, query, begins + width, places + width, np.minimum(right - width, more))
    return back + ahead >= more


def _extended(segment: Segment, query: Query, begins: Integers, places: Integers, counts: Integers) -> Candidates:
    """Extend pairs to the first line of their run, and as far as LONG lines behind it."""
    stride, width = segment.shape.stride, segment.shape.width
    left, right = _room(segment, query, begins, places)
    # The first line is less than a stride away, or behind a hot window anywhere.
    is_after_hot = counts[np.maximum(begins - stride, 0)] > MAX_PLACES
    back = _equal_lines(
        segment, query, begins - 1, places - 1, np.where(is_after_hot, left, np.minimum(left, stride - 1)), step=-1
    )
    ahead = _equal_lines(segment, query, begins + width, places + width, np.minimum(right, LONG) - width)
    begins, places = begins - back, places - back
    groups = np.searchsorted(segment.groups, places, side="right") - 1
    return np.stack([query.text_of(begins), groups, begins, places, back + right, back + width + ahead])


def _room(segment: Segment, query: Query, begins: Integers, places: Integers) -> tuple[Integers, Integers]:
    """Return how many lines stand before each pair, and from it on, in its text as well as in its document."""
    texts, numbers = query.text_of(begins), np.searchsorted(segment.bounds, places, side="right") - 1
    left = np.minimum(begins - query.bounds[texts], places - segment.bounds[numbers])
    return left, np.minimum(query.bounds[texts + 1] - begins, segment.bounds[numbers + 1] - places)


def _equal_lines(
    segment: Segment, query: Query, begins: Integers, places: Integers, limits: Integers, *, step: int = 1
) -> Integers:
    """Count the equal lines from each pair on, forwards or backwards, up to its limit, in growing blocks."""
    counts = np.zeros(len(begins), dtype=np.int64)
    active, size = np.flatnonzero(limits > 0), min(FIRST_BLOCK, int(limits.max(initial=1)))
    while len(active):
        going = []
        for i in np.array_split(active, -(-len(active) * size // AT_ONCE)):
            ahead = counts[i] + np.arange(size)[:, None]  # (lines, pairs)
            is_inside = ahead < limits[i]
            ahead = step * np.minimum(ahead, limits[i] - 1)
            theirs = places[i] + ahead
            segment.check_lines_at(theirs[[0, -1]].ravel())
            is_equal = is_inside & (segment.lines[theirs] == query.halves[begins[i] + ahead])
            is_whole = is_equal.all(axis=0)
            counts[i] += np.where(is_whole, size, is_equal.argmin(axis=0))
            going.append(i[is_whole])
        active, size = np.concatenate(going), min(size * 4, LARGEST_BLOCK)
    return counts


def _promising(segment: Segment, candidates: Candidates) -> Candidates:
    """Drop what is too short, or contained in another of the same text and group, as far as is known."""
    texts, groups, begins, places, limits, lengths = candidates
    is_open = (lengths >= LONG) & (lengths < limits)  # its end is not known
    i = np.flatnonzero(is_open | (lengths >= segment.shape.min_lines))
    i = i[np.lexsort((places[i], -lengths[i], begins[i], groups[i]))]
    is_first = np.append(True, (np.diff(texts[i]) != 0) | (np.diff(groups[i]) != 0))[: len(i)]
    ends = (begins + lengths)[i]
    ends += np.cumsum(is_first) * (ends.max(initial=0) + 1)  # larger than all of the text and group before
    is_new = np.append(True, ends[1:] > np.maximum.accumulate(ends)[:-1])[: len(i)]
    return candidates[:, i[is_new | is_open[i]]]


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
            length = int(_equal_lines(segment, query, *(np.array([n]) for n in (begin, place, limit)))[0])
        if begin + length <= reach or length < segment.shape.min_lines:
            continue
        verified = list(_verified(segment, query, (begin, begin + length), place))
        is_sound &= [(run.first, run.stop) for run in verified] == [(begin, begin + length)]
        for run in verified:
            if run.stop <= reach:
                continue
            offset = int(query.bounds[text])
            found = (text, replace(run, first=run.first - offset, stop=run.stop - offset))
            if run.first == last[0]:
                runs[last[1]] = found  # it begins where the last one does and reaches farther
            else:
                runs.append(found)
            if run.first == begin:  # else hashes collided, and what begins between may still reach farther
                reach, last = run.stop, (begin, len(runs) - 1 if run.first != last[0] else last[1])
    return runs, is_sound


def _verified(segment: Segment, query: Query, span: tuple[int, int], place: int) -> Iterator[Run]:
    """Yield the stretches of a candidate whose lines are equal as texts: all of it, but for colliding hashes."""
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
                first=first,
                stop=last,
                origin=origin,
                first_line=own[0],
                last_line=own[-1],
                n_header=bisect_right(own, origin.header_lines),
            )
        first = last + 1


def _slices(sizes: Integers) -> Iterator[slice]:
    """Cut a sequence into slices whose sizes sum to AT_ONCE at most, or that have one element."""
    ends = np.append(0, np.cumsum(sizes))
    first = 0
    while first < len(sizes):
        stop = max(int(np.searchsorted(ends, ends[first] + AT_ONCE, side="right")) - 1, first + 1)
        yield slice(first, stop)
        first = stop


def _ranges(firsts: Integers, sizes: Integers) -> tuple[Integers, Integers]:
    """Return (number of the range, element) for all elements of ranges."""
    number = np.repeat(np.arange(len(firsts)), sizes)
    return number, np.arange(len(number)) + np.repeat(firsts - np.cumsum(sizes) + sizes, sizes)


def _joined(candidates: list[Candidates]) -> Candidates:
    return np.concatenate([np.empty((6, 0), dtype=np.int64), *candidates], axis=1)
