"""Extension: how far the equal lines around pairs of a line of a query and a line of a segment reach.

It compares the low halves of line hashes, all pairs together, so what it says is verified on text by who uses it. Of
a much repeated text, such as a licence header, most pairs are dropped after one comparison: those that the first pair
of the same line contains.
Not covered: which pairs there are (pairs.py), texts (matching.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pytest_collabcode.clones.fingerprints import Integers
from pytest_collabcode.clones.query import Query
from pytest_collabcode.clones.segment import Segment

LONG = 256  # lines: longer runs are few, and are extended one by one
FIRST_BLOCK, LARGEST_BLOCK = 16, 1 << 14  # lines compared at once; they touch two checksummed blocks at most
AT_ONCE = 1 << 18  # pairs, or lines of pairs, in memory

Flags = npt.NDArray[np.bool_]
Candidates = Integers  # (6, P): text, group, first line in the query, its place, lines to the end, equal lines


def room(segment: Segment, query: Query, begins: Integers, places: Integers) -> tuple[Integers, Integers]:
    """Return how many lines stand before each pair, and from it on, in its text as well as in its document.

    Example:
        >>> from pytest_collabcode.clones.segment import Shape
        >>> from pytest_collabcode.records import Document
        >>> segment = Segment.build([Document(path="x", text="a\\nb\\nc\\nd", organization="acme")], Shape())
        >>> [n.tolist() for n in room(segment, Query.of([["b", "c"]]), np.array([0, 1]), np.array([1, 2]))]
        [[0, 1], [2, 1]]
    """
    texts, numbers = query.text_of(begins), np.searchsorted(segment.bounds, places, side="right") - 1
    left = np.minimum(begins - query.bounds[texts], places - segment.bounds[numbers])
    return left, np.minimum(query.bounds[texts + 1] - begins, segment.bounds[numbers + 1] - places)


def same_line(segment: Segment, query: Query, begins: Integers, places: Integers) -> Flags:
    """Whether the lines of each pair are equal; outside of all texts and documents that means nothing.

    Example:
        >>> from pytest_collabcode.clones.segment import Shape
        >>> from pytest_collabcode.records import Document
        >>> segment = Segment.build([Document(path="x", text="a\\nb", organization="acme")], Shape())
        >>> same_line(segment, Query.of([["b", "a"]]), np.array([0, 1]), np.array([1, 1])).tolist()
        [True, False]
    """
    segment.check_lines_at(places)
    theirs = segment.lines[np.clip(places, 0, len(segment.lines) - 1)]
    same: Flags = theirs == query.halves[np.clip(begins, 0, len(query.halves) - 1)]
    return same


def equal_lines(
    segment: Segment, query: Query, begins: Integers, places: Integers, limits: Integers, *, step: int = 1
) -> Integers:
    """Count the equal lines from each pair on, forwards or backwards, up to its limit, in growing blocks.

    Example:
        >>> from pytest_collabcode.clones.segment import Shape
        >>> from pytest_collabcode.records import Document
        >>> segment = Segment.build([Document(path="x", text="a\\nb\\nc", organization="acme")], Shape())
        >>> equal_lines(segment, Query.of([["a", "b", "z"]]), np.array([0]), np.array([0]), np.array([3])).tolist()
        [2]
    """
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


def extended(
    segment: Segment, query: Query, begins: Integers, places: Integers, *, is_open: Flags, pruned: bool
) -> Candidates:
    """Extend pairs of equal windows to the first line of their run, and as far as LONG lines behind it.

    Args:
        segment: of the places.
        query: of the lines.
        begins: lines where windows begin, equal ones together.
        places: of equal windows; ascending for each begin.
        is_open: whether the run may begin any number of lines before; else less than a stride.
        pruned: leave out pairs that the first of the same line and group contains.
    Example:
        >>> from pytest_collabcode.clones.segment import Shape
        >>> from pytest_collabcode.records import Document
        >>> documents = [Document(path=name, text=f"a\\nb\\n{name}", organization="acme") for name in "xyz"]
        >>> segment, query = Segment.build(documents, Shape(min_lines=2)), Query.of([["a", "b", "z"]])
        >>> pairs = (np.array([0, 0, 0]), np.array([0, 3, 6]))
        >>> extended(segment, query, *pairs, is_open=np.zeros(3, dtype=bool), pruned=True).T.tolist()
        [[0, 0, 0, 0, 3, 2], [0, 0, 0, 6, 3, 3]]
    """
    stride, width = segment.shape.stride, segment.shape.width
    groups = np.searchsorted(segment.groups, places, side="right") - 1
    back = np.zeros(len(begins), dtype=np.int64)
    i = np.flatnonzero(is_open | (stride > 1))
    left, _ = room(segment, query, begins[i], places[i])
    limits = np.where(is_open[i], left, np.minimum(left, stride - 1))
    back[i] = equal_lines(segment, query, begins[i] - 1, places[i] - 1, limits, step=-1)
    kept = np.arange(len(begins))
    if pruned:
        kept = np.flatnonzero(_reaches_farther(segment, query, begins, places, groups, back=back))
    begins, places, groups, back = begins[kept], places[kept], groups[kept], back[kept]
    _, right = room(segment, query, begins, places)
    ahead = _ahead(segment, query, begins, places, right)
    begins, places = begins - back, places - back
    return np.stack([query.text_of(begins), groups, begins, places, back + right, back + width + ahead])


def _reaches_farther(
    segment: Segment, query: Query, begins: Integers, places: Integers, groups: Integers, *, back: Integers
) -> Flags:
    """Whether each pair is the first of its line and group, or may hold a line that the first does not."""
    is_first = np.append(True, (np.diff(begins) != 0) | (np.diff(groups) != 0))[: len(begins)]
    first, which = np.flatnonzero(is_first), np.cumsum(is_first) - 1
    _, right = room(segment, query, begins[first], places[first])
    ends = (segment.shape.width + _ahead(segment, query, begins[first], places[first], right))[which]
    goes_on = same_line(segment, query, begins + ends, places + ends)
    farther: Flags = is_first | goes_on | (back > back[first][which])
    return farther


def _ahead(segment: Segment, query: Query, begins: Integers, places: Integers, right: Integers) -> Integers:
    """Count the equal lines behind equal windows, which have so many lines from them on, as far as LONG."""
    width = segment.shape.width
    return equal_lines(segment, query, begins + width, places + width, np.minimum(right, LONG) - width)


def promising(segment: Segment, candidates: Candidates) -> Candidates:
    """Drop what is too short, or contained in another of the same text and group, as far as is known.

    Example:
        >>> from pytest_collabcode.clones.segment import Shape
        >>> candidates = np.array([[0, 0, 0, 0, 9, 9], [0, 0, 1, 7, 8, 7]]).T
        >>> promising(Segment.build([], Shape()), candidates).T.tolist()
        [[0, 0, 0, 0, 9, 9]]
    """
    texts, groups, begins, places, limits, lengths = candidates
    is_open = (lengths >= LONG) & (lengths < limits)  # its end is not known
    i = np.flatnonzero(is_open | (lengths >= segment.shape.min_lines))
    i = i[np.lexsort((places[i], -lengths[i], begins[i], groups[i]))]
    is_first = np.append(True, (np.diff(texts[i]) != 0) | (np.diff(groups[i]) != 0))[: len(i)]
    ends = (begins + lengths)[i]
    ends += np.cumsum(is_first) * (ends.max(initial=0) + 1)  # larger than all of the text and group before
    is_new = np.append(True, ends[1:] > np.maximum.accumulate(ends)[:-1])[: len(i)]
    return candidates[:, i[is_new | is_open[i]]]


def slices(sizes: Integers) -> Iterator[slice]:
    """Cut a sequence into slices whose sizes sum to AT_ONCE at most, or that have one element.

    Example:
        >>> list(slices(np.array([1, 2, AT_ONCE])))
        [slice(0, 2, None), slice(2, 3, None)]
    """
    ends = np.append(0, np.cumsum(sizes))
    first = 0
    while first < len(sizes):
        stop = max(int(np.searchsorted(ends, ends[first] + AT_ONCE, side="right")) - 1, first + 1)
        yield slice(first, stop)
        first = stop
