"""Matching: from equal windows to maximal runs, each verified line by line on the texts.

A pair of equal windows whose preceding lines are equal too is the middle of a run and is dropped at once, so a run
costs one pair however long it is. What is left is extended over the line hashes, ordered by where it begins, and
skipped in constant time if it cannot reach farther than its organization's runs before it. Windows with more than
MAX_PLACES places are hot: of those the first MAX_PLACES of each organization are looked at.
Not covered: gaps (near.py), sealed documents (sealed.py).
Source: maximal matches by left-maximality, as in Gusfield 1997, section 7.12.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pytest_collabcode.clones.fingerprints import BASE, Halves, Hashes, Integers, window_fingerprints
from pytest_collabcode.clones.query import Query
from pytest_collabcode.clones.runs import Run
from pytest_collabcode.clones.segment import Segment

MAX_PLACES = 1024  # of one window that are looked at in one organization, planted and natural apart
FIRST_BLOCK, LARGEST_BLOCK = 16, 1 << 16  # lines compared at once while a run is extended

Flags = npt.NDArray[np.bool_]
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
    starts, fingerprints = query.windows(segment.shape.width)
    if not len(starts) or not len(segment.fingerprints):
        return Matches(runs=[], counts=counts)
    wanted, which = np.unique(fingerprints, return_inverse=True)
    low, high = _rows(segment, wanted)
    hot = high - low > MAX_PLACES
    counts[starts] = (high - low)[which]
    is_hot = np.zeros(len(query.lines), dtype=bool)
    is_hot[starts] = hot[which]
    known = np.flatnonzero((high > low)[which])
    if not len(known):
        return Matches(runs=[], counts=counts)
    begins, places = _left_maximal(segment, query, starts[known], (low, high, which[known]), is_hot)
    begins, places = _extended_left(segment, query, begins, places, is_hot)
    return Matches(runs=_verified_runs(segment, query, begins, places), counts=counts)


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


def _left_maximal(
    segment: Segment, query: Query, starts: Integers, rows: tuple[Integers, Integers, Integers], is_hot: Flags
) -> tuple[Integers, Integers]:
    """Return the (start, place) pairs of equal windows that no earlier indexed window continues into."""
    low, high, which = rows
    stride = segment.shape.stride
    contexts = _contexts(segment, query, starts)
    keys, chosen, kind = np.unique(which.astype(np.uint64) * BASE + contexts, return_index=True, return_inverse=True)
    begin = starts[chosen]  # one start for each kind of (window, lines before it)
    pair, places = _expanded(segment, query, begin, low[which[chosen]], high[which[chosen]])
    before = begin[pair] - stride
    continues = before >= query.bounds[query.text_of(begin[pair])]
    continues &= places - stride >= segment.bounds[np.searchsorted(segment.bounds, places, side="right") - 1]
    segment.check_lines_at(np.concatenate([places - stride, places - 1]))
    for offset in range(stride):
        i = np.flatnonzero(continues)
        continues[i] = segment.lines[places[i] - stride + offset] == query.halves[before[i] + offset]
    # A hot window's pairs are not all looked at, so the window behind it cannot rely on them.
    relied = is_hot[begin[pair]] | ~is_hot[np.maximum(before, 0)]
    kept = ~(continues & relied)
    pair, places = pair[kept], places[kept]
    order = np.argsort(kind, kind="stable")
    sizes = np.bincount(kind, minlength=len(keys))
    firsts = np.cumsum(sizes) - sizes
    repeated = np.repeat(np.arange(len(pair)), sizes[pair])
    within = np.arange(len(repeated)) - np.repeat(np.cumsum(sizes[pair]) - sizes[pair], sizes[pair])
    return starts[order[firsts[pair[repeated]] + within]], places[repeated]


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
    segment: Segment, query: Query, begin: Integers, low: Integers, high: Integers
) -> tuple[Integers, Integers]:
    """Return (number of the range, place) for all rows of all ranges; of hot ones the first of each group."""
    sizes = high - low
    cool = np.where(sizes > MAX_PLACES, 0, sizes)
    number = np.repeat(np.arange(len(low)), cool)
    rows = np.arange(len(number)) - np.repeat(np.cumsum(cool) - cool, cool) + np.repeat(low, cool)
    segment.check_rows(rows)
    numbers, places = [number], [segment.places[rows].astype(np.int64)]
    for i in np.flatnonzero(sizes > MAX_PLACES).tolist():
        segment.check_rows(np.arange(low[i], high[i]))
        hot = segment.places[low[i] : high[i]].astype(np.int64)
        if segment.shape.sparse:
            hot = hot[_long_enough(segment, query, int(begin[i]), hot)]
        cuts = np.searchsorted(hot, segment.groups)
        few = np.concatenate([hot[a : min(b, a + MAX_PLACES)] for a, b in pairwise(cuts)])
        numbers.append(np.full(len(few), i))
        places.append(few)
    return np.concatenate(numbers), np.concatenate(places)


def _long_enough(segment: Segment, query: Query, begin: int, places: Integers) -> Flags:
    """Whether the run through each place of a short window can reach min_lines lines, by the hashes around it."""
    shape, text = segment.shape, int(query.text_of(np.array([begin]))[0])
    more = shape.min_lines - shape.width
    numbers = np.searchsorted(segment.bounds, places, side="right") - 1
    first, last = segment.bounds[numbers], segment.bounds[numbers + 1] - 1
    n_lines = np.full(len(places), shape.width, dtype=np.int64)
    segment.check_lines_at(np.concatenate([places - more, places + shape.min_lines - 1]))
    for step in (-1, 1):
        edge = begin - 1 if step < 0 else begin + shape.width
        edges = places - 1 if step < 0 else places + shape.width
        equal = np.ones(len(places), dtype=bool)
        for offset in range(more):
            ours, theirs = edge + step * offset, edges + step * offset
            if not query.bounds[text] <= ours < query.bounds[text + 1]:
                break
            equal &= (theirs >= first) & (theirs <= last)
            equal &= segment.lines[np.clip(theirs, first, last)] == query.halves[ours]
            n_lines += equal
    return n_lines >= shape.min_lines


def _extended_left(
    segment: Segment, query: Query, begins: Integers, places: Integers, is_hot: Flags
) -> tuple[Integers, Integers]:
    """Move pairs to the first line of their run: at most a stride away, or behind a hot window anywhere."""
    halves, stride = query.halves, segment.shape.stride
    room = np.minimum(
        begins - query.bounds[query.text_of(begins)],
        places - segment.bounds[np.searchsorted(segment.bounds, places, side="right") - 1],
    )
    back = np.zeros(len(begins), dtype=np.int64)
    active = room > 0
    for step in range(1, stride):
        i = np.flatnonzero(active & (room >= step))
        equal = segment.lines[places[i] - step] == halves[begins[i] - step]
        back[i[equal]] = step
        active = np.zeros(len(begins), dtype=bool)
        active[i[equal]] = True
    after_hot = is_hot[np.maximum(begins - stride, 0)] & (room >= stride)
    for pair in np.flatnonzero(after_hot).tolist():
        begin, place, limit = int(begins[pair]), int(places[pair]), int(room[pair])
        segment.check_lines(place - limit, place)
        ours, theirs = halves[begin - limit : begin][::-1], segment.lines[place - limit : place][::-1]
        back[pair] = _common(ours, theirs)
    return begins - back, places - back


def _verified_runs(segment: Segment, query: Query, begins: Integers, places: Integers) -> list[Found]:
    """Return the runs that reach farther than those before them in their text and group."""
    halves = query.halves
    texts = query.text_of(begins)
    numbers = np.searchsorted(segment.bounds, places, side="right") - 1
    groups = np.searchsorted(segment.groups, places, side="right") - 1
    order = np.lexsort((places, begins, groups, texts))
    columns = (texts, groups, begins, places, numbers, query.bounds[texts + 1], segment.bounds[numbers + 1])
    runs: list[Found] = []
    current, reach, last = (-1, -1), 0, (-1, -1)  # of this text and group: how far; where the last run begins, stands
    for text, group, begin, place, number, text_end, end in zip(*(c[order].tolist() for c in columns), strict=True):
        if (text, group) != current:
            current, reach, last = (text, group), 0, (-1, -1)
        limit = min(text_end - begin, end - place)
        if begin + limit <= reach or limit < segment.shape.min_lines:
            continue
        segment.check_lines(place, place + limit)
        if begin < reach and segment.lines[place + reach - begin] != halves[reach]:
            continue  # it ends at the latest where an earlier one did
        length = _common(halves[begin : begin + limit], segment.lines[place : place + limit])
        for run in _verified(segment, query, (begin, begin + length), place, number):
            if run.stop <= reach:
                continue
            found = (text, _shifted(run, int(query.bounds[text])))
            if run.first == last[0]:
                runs[last[1]] = found  # it begins where the last one does and reaches farther
            else:
                runs.append(found)
            if run.first == begin:  # else hashes collided, and what begins between may still reach farther
                reach, last = run.stop, (begin, len(runs) - 1 if run.first != last[0] else last[1])
    return runs


def _verified(segment: Segment, query: Query, span: tuple[int, int], place: int, number: int) -> Iterator[Run]:
    """Yield the stretches of a candidate whose lines are equal as texts: all of it, but for colliding hashes."""
    begin, stop = span
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
                n_header=sum(n <= origin.header_lines for n in own),
            )
        first = last + 1


def _shifted(run: Run, offset: int) -> Run:
    return replace(run, first=run.first - offset, stop=run.stop - offset)


def _common(ours: Halves, theirs: Halves) -> int:
    """Count the equal elements at the beginning of two arrays of one length, in growing blocks."""
    done, size = 0, FIRST_BLOCK
    while done < len(ours):
        differs = ours[done : done + size] != theirs[done : done + size]
        place = int(differs.argmax())
        if differs[place]:
            return done + place
        done += len(differs)
        size = min(size * 4, LARGEST_BLOCK)
    return done
