"""Pairs: the windows that a query and a segment have in common, less those that an earlier window continues into.

A pair of equal windows whose preceding lines are equal too is the middle of a run and is dropped at once, so a run
costs one pair however long it is. Windows with more than MAX_PLACES places are hot: of those the first MAX_PLACES of
each organization are looked at.
Not covered: how far pairs extend (extension.py).
Source: maximal matches by left-maximality, as in Gusfield 1997, section 7.12.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from pytest_collabcode.clones.extension import Flags, equal_lines, room, same_line, slices
from pytest_collabcode.clones.fingerprints import BASE, Hashes, Integers, window_fingerprints
from pytest_collabcode.clones.query import Query
from pytest_collabcode.clones.segment import Segment

MAX_PLACES = 1024  # of one window that are looked at in one organization, planted and natural apart
LOOKED_UP_AT_ONCE = 1 << 12  # fingerprints: the rows among which they stand fit a cache

Rows = tuple[Integers, Integers]  # low, high: of each window the rows [low, high) of a segment


def rows_of(segment: Segment, wanted: Hashes) -> tuple[Integers, Rows]:
    """Return which of the fingerprints a segment holds, and the rows of these.

    Args:
        segment: with a window at least.
        wanted: sorted, each once.
    Example:
        >>> from pytest_collabcode.clones.segment import Shape
        >>> from pytest_collabcode.records import Document
        >>> segment = Segment.build([Document(path="x", text="a\\na\\na", organization="acme")], Shape(min_lines=2))
        >>> known, (low, high) = rows_of(segment, np.append(segment.fingerprints[:1], np.uint64((1 << 64) - 1)))
        >>> known.tolist(), low.tolist(), high.tolist()
        ([0], [0], [2])
    """
    known = _known(segment, wanted)
    low = segment.fingerprints.searchsorted(wanted[known])
    high = segment.fingerprints.searchsorted(wanted[known], side="right")
    segment.check_rows(np.concatenate([low - 1, low, high - 1, high]))
    return known, (low, high)


def _known(segment: Segment, wanted: Hashes) -> Integers:
    """Return which of the fingerprints a segment holds, by looking the fewer up among the more."""
    rows = segment.fingerprints
    if len(rows) < len(wanted):
        segment.check_rows(np.arange(len(rows)))
        places = _sorted_places(wanted, rows)
        return np.unique(places[wanted[np.minimum(places, len(wanted) - 1)] == rows])
    places = _sorted_places(rows, wanted)
    segment.check_rows(places)
    segment.check_rows(places - 1)  # between these two nothing can be
    return np.flatnonzero(rows[np.minimum(places, len(rows) - 1)] == wanted)


def _sorted_places(among: Hashes, wanted: Hashes) -> Integers:
    """Return what searchsorted does, faster where both are sorted: what it looks at stays in the cache."""
    places = np.empty(len(wanted), dtype=np.int64)
    edges = [*among.searchsorted(wanted[::LOOKED_UP_AT_ONCE]).tolist(), len(among)]
    for number, (begin, end) in enumerate(pairwise(edges)):
        some = slice(number * LOOKED_UP_AT_ONCE, (number + 1) * LOOKED_UP_AT_ONCE)
        places[some] = among[begin : end + 1].searchsorted(wanted[some]) + begin
    return places


def left_maximal(
    segment: Segment, query: Query, starts: Integers, rows: Rows, counts: Integers
) -> Iterator[tuple[Integers, Integers, Flags]]:
    """Yield (begins, places, is_open) of pairs of equal windows that no earlier window continues into, in batches.

    Args:
        segment: of the places.
        query: of the lines.
        starts: lines where windows begin that the segment holds.
        rows: of each of them.
        counts: rows of the window that begins at each line of the query, shape (N,).
    Yields:
        In a batch equal begins stand together, and their places ascend. A run may begin any number of lines before a
        pair that is open, since it stands behind a hot window; else less than a stride.
    Example:
        >>> from pytest_collabcode.clones.segment import Shape
        >>> from pytest_collabcode.records import Document
        >>> segment = Segment.build([Document(path="x", text="a\\nb\\nc", organization="acme")], Shape(min_lines=2))
        >>> query = Query.of([["a", "b", "c"]])
        >>> starts, wanted, which = query.distinct(2)
        >>> _, (low, high) = rows_of(segment, wanted)
        >>> rows, counts = (low[which], high[which]), np.array([1, 1, 0])
        >>> [(begins, places, _)] = left_maximal(segment, query, starts, rows, counts)
        >>> begins.tolist(), places.tolist()
        ([0], [0])
    """
    low, high = rows
    is_hot = counts > MAX_PLACES
    # Of starts with equal windows and surroundings, which have the same places, one is looked at.
    keys = low.astype(np.uint64) * BASE + _contexts(segment, query, starts)
    _, chosen, kinds = np.unique(keys, return_index=True, return_inverse=True)
    by_kind = np.argsort(kinds, kind="stable")
    n_starts = np.bincount(kinds)
    behind = np.cumsum(n_starts)
    for some in slices(np.minimum(high - low, MAX_PLACES * len(segment.groups))[chosen]):
        begins = starts[chosen[some]]
        pair, places = _expanded(segment, query, begins, low[chosen[some]], high[chosen[some]])
        kept = _is_left_maximal(segment, query, begins[pair], places, counts)
        order = np.flatnonzero(kept)[np.argsort(pair[kept], kind="stable")]
        pair, places = pair[order], places[order]
        sizes = np.bincount(pair, minlength=len(begins))
        own = starts[by_kind[(behind - n_starts)[some.start] : behind[some.stop - 1]]]
        kind = np.repeat(np.arange(len(begins)), n_starts[some])  # of each of its own starts
        for batch in slices(sizes[kind]):
            number, row = _ranges((np.cumsum(sizes) - sizes)[kind[batch]], sizes[kind[batch]])
            if len(row):
                begins_here = own[batch][number]
                yield begins_here, places[row], is_hot[np.maximum(begins_here - segment.shape.stride, 0)]


def _is_left_maximal(segment: Segment, query: Query, begins: Integers, places: Integers, counts: Integers) -> Flags:
    stride = segment.shape.stride
    n_before = counts[np.maximum(begins - stride, 0)]
    # A hot window's pairs are not all looked at, so the window behind it cannot rely on them.
    is_relied = (n_before > 0) & ((n_before <= MAX_PLACES) | (counts[begins] > MAX_PLACES))
    i = np.flatnonzero(is_relied & same_line(segment, query, begins - 1, places - 1))
    left, _ = room(segment, query, begins[i], places[i])
    kept = np.ones(len(begins), dtype=bool)
    n_equal = equal_lines(segment, query, begins[i] - 1, places[i] - 1, np.minimum(left, stride), step=-1)
    kept[i] = n_equal < stride
    return kept


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
    firsts: dict[int, Integers] = {}  # row of a hot window -> places, for starts with other surroundings
    for i in np.flatnonzero(sizes > MAX_PLACES).tolist():
        first = int(low[i])
        if segment.shape.sparse or first not in firsts:  # sparse ones depend on the surroundings
            firsts[first] = _of_each_group(segment, query, int(begins[i]), first, int(high[i]))
        numbers.append(np.full(len(firsts[first]), i))
        places.append(firsts[first])
    return np.concatenate(numbers), np.concatenate(places)


def _of_each_group(segment: Segment, query: Query, begin: int, low: int, high: int) -> Integers:
    """Return the first places of a hot window in each group, short windows only where the run is long enough."""
    segment.check_rows(np.arange(low, high))
    hot = segment.places[low:high].astype(np.int64)
    if segment.shape.sparse:
        hot = hot[_is_long_enough(segment, query, np.full(len(hot), begin), hot)]
    cuts = np.searchsorted(hot, segment.groups)
    return np.concatenate([hot[a : min(b, a + MAX_PLACES)] for a, b in pairwise(cuts)])


def _is_long_enough(segment: Segment, query: Query, begins: Integers, places: Integers) -> Flags:
    """Whether the run through each pair of equal short windows can reach min_lines lines."""
    width, more = segment.shape.width, segment.shape.min_lines - segment.shape.width
    left, right = room(segment, query, begins, places)
    back = equal_lines(segment, query, begins - 1, places - 1, np.minimum(left, more), step=-1)
    ahead = equal_lines(segment, query, begins + width, places + width, np.minimum(right - width, more))
    return back + ahead >= more


def _ranges(firsts: Integers, sizes: Integers) -> tuple[Integers, Integers]:
    """Return (number of the range, element) for all elements of ranges."""
    number = np.repeat(np.arange(len(firsts)), sizes)
    return number, np.arange(len(number)) + np.repeat(firsts - np.cumsum(sizes) + sizes, sizes)
