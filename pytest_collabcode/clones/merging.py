"""Merging: which segments of an index the next addition makes one of, and how.

What one addition merges is bounded by a share of the index, so that no addition is dear; what is merged grows by half
at least, so that a byte is written a few times only; and what may still be merged is merged when EIGHT have gathered,
so that the number of segments is bounded whatever is added: EIGHT that are small, and those that are not.
Not covered: the manifest, and when the merged ones are removed (folder.py).
Source: O'Neil et al. 1996 (log-structured merge-tree).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pytest_collabcode.clones.container import Array, Container, create
from pytest_collabcode.clones.disk import BOUNDED, TABLE, layout
from pytest_collabcode.clones.fingerprints import Hashes
from pytest_collabcode.clones.manifest import Entry

EIGHT = 8  # small segments that are waited for
MERGED_RATIO = 0.025  # of the text of an index, merged by one addition at most: this costs less than 1 % of a rebuild
LEAST_MERGED = 1 << 22  # bytes of text that are merged in any case: there an addition costs more by itself
LARGEST_MERGED = 1 << 34  # bytes of text of a merged segment at most
MERGED_AT_ONCE = 1 << 22  # windows sorted at a time


def due(entries: Sequence[Entry]) -> list[Entry]:
    """Return the segments that the next addition merges into one; none as long as few are small.

    Args:
        entries: all segments of an index.
    Example:
        >>> def entries(*sizes):
        ...     return [Entry(file="", bytes=0, documents=1, lines=1, windows=1, text_bytes=s << 20) for s in sizes]
        >>> due(entries(128, 1, 1, 1, 1, 1, 1, 1))
        []
        >>> [entry.text_bytes >> 20 for entry in due(entries(128, 1, 1, 1, 1, 1, 1, 1, 1))]
        [1, 1, 1, 1]
    """
    limit = min(max(sum(e.text_bytes for e in entries) * MERGED_RATIO, LEAST_MERGED), LARGEST_MERGED)
    small = sorted((e for e in entries if 2 * e.text_bytes <= limit), key=lambda e: e.text_bytes)
    sums = [0, *accumulate(e.text_bytes for e in small)]
    chosen: list[Entry] = []
    for first in range(len(small) if len(small) >= EIGHT else 0):
        stop = bisect_right(sums, sums[first] + limit) - 1
        while stop > first and 3 * small[stop - 1].text_bytes > 2 * (sums[stop] - sums[first]):
            stop -= 1  # it is larger than twice the others together
        if stop - first > len(chosen) and sum(e.lines for e in small[first:stop]) < 1 << 32:
            chosen = small[first:stop]
    return chosen


def merge_segments(path: Path, containers: Sequence[Container]) -> None:
    """Write one segment that holds what several hold, in their order; memory stays at a few million windows.

    Raises:
        StoreError: one is damaged, or the disk is full.
        ValueError: together they have 2^32 significant lines or more.
    Example:
        >>> from tempfile import mkdtemp
        >>> from pytest_collabcode.clones.disk import write_segment
        >>> from pytest_collabcode.clones.segment import Shape
        >>> from pytest_collabcode.records import Document
        >>> folder = Path(mkdtemp())
        >>> for name in "ab":
        ...     document = Document(path=f"{name}.py", text="a\\nb\\n", organization="acme")
        ...     write_segment(folder / name, [document], Shape(min_lines=2))
        >>> merge_segments(folder / "c", [Container(folder / "a"), Container(folder / "b")])
        >>> Container(folder / "c").whole("places").tolist()
        [0, 2]
    """
    lengths = {name: [len(c.array(name)) for c in containers] for name in ("fingerprints", "groups", *BOUNDED)}
    if sum(lengths["lines"]) >= 1 << 32:
        raise ValueError(f"n_lines={sum(lengths['lines'])}: a segment holds fewer than 2^32")
    names = {kind: sorted({n for c in containers for n in c.about[kind]}) for kind in ("organizations", "licences")}
    n_documents = sum(len(c.array("digests")) for c in containers)
    sizes = {name: sum(lengths[name]) for name in BOUNDED}
    n_groups = sum(lengths["groups"]) - len(containers) + 1
    with create(path, layout(n_documents, sum(lengths["fingerprints"]), n_groups, sizes), names) as arrays:
        for name in BOUNDED:
            _concatenate(arrays[name], [c.whole(name) for c in containers])
            arrays[BOUNDED[name]][:] = _joined_bounds([c.whole(BOUNDED[name]) for c in containers])
        arrays["groups"][:] = _joined_bounds([c.whole("groups") for c in containers])
        for name in TABLE:
            parts = [c.whole(name) for c in containers]
            if name in names:
                known = [np.array([names[name].index(n) for n in c.about[name]], dtype=np.uint16) for c in containers]
                parts = [old[part] if len(part) else part for old, part in zip(known, parts, strict=True)]
            _concatenate(arrays[name], parts)
        first = 0
        for fingerprints, places in _merged(containers, np.cumsum([0, *lengths["lines"][:-1]])):
            arrays["fingerprints"][first : first + len(places)] = fingerprints
            arrays["places"][first : first + len(places)] = places
            first += len(places)


def _concatenate(target: Array, parts: Sequence[Array]) -> None:
    first = 0
    for part in parts:
        target[first : first + len(part)] = part
        first += len(part)


def _joined_bounds(parts: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    shifts = np.cumsum([0, *(part[-1] for part in parts)])
    return np.concatenate([[0], *(part[1:] + shift for part, shift in zip(parts, shifts, strict=False))])


def _merged(containers: Sequence[Container], shifts: npt.NDArray[np.int64]) -> Iterator[tuple[Hashes, Array]]:
    """Yield ranges of the merged (fingerprints, places), taking from every segment the same range of fingerprints."""
    sources = [c.whole("fingerprints") for c in containers]
    places = [c.whole("places") for c in containers]
    steps = max(1, -(-sum(map(len, sources)) // MERGED_AT_ONCE))
    limits = [(1 << 64) * step // steps for step in range(1, steps)]
    cuts = [[0, *(int(np.searchsorted(s, np.uint64(x))) for x in limits), len(s)] for s in sources]
    for step in range(steps):
        taken = [slice(own[step], own[step + 1]) for own in cuts]
        fingerprints = np.concatenate([s[t] for s, t in zip(sources, taken, strict=True)])
        moved = [p[t].astype(np.int64) + shift for p, t, shift in zip(places, taken, shifts, strict=True)]
        order = np.argsort(fingerprints, kind="stable")
        yield fingerprints[order], np.concatenate(moved)[order].astype(np.uint32)
