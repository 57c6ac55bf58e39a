"""A segment: the windows of a set of documents, sorted by fingerprint, with their places.

Documents stand in the order of (organization, planted, path); a place is a position in their significant lines laid
end to end. Dense segments hold every window of `min_lines` lines. Sparse ones hold windows of half as many lines at a
stride such that every run of `min_lines` lines contains one of them whole.
Not covered: the arrays' way to disk (disk.py), comparing (matching.py).
Source: sampling every n-th window with all windows asked, as in Manber 1994's sif.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pytest_collabcode.clones.fingerprints import (
    Halves,
    Hashes,
    Integers,
    low_halves,
    stable_order,
    text_hashes,
    window_fingerprints,
    window_starts,
)
from pytest_collabcode.clones.normalize import NORMALIZATIONS, significant
from pytest_collabcode.clones.runs import Origin
from pytest_collabcode.errors import ConfigurationError, nearest
from pytest_collabcode.records import Document

Lines = tuple[Sequence[int], Sequence[str]]  # original 1-based numbers, normalized texts
KEPT_IN_MEMORY = 512  # documents whose lines are remembered while clones are verified


class Documents(Protocol):
    """The documents of a segment by number."""

    @property
    def organizations(self) -> tuple[str, ...]:
        """Whose documents they are, sorted."""
        ...

    @property
    def owners(self) -> npt.NDArray[np.uint16]:
        """Whose each is, as its place in `organizations`, shape (D,)."""
        ...

    def origin(self, number: int) -> Origin:
        """Return what is known of a document but its text."""
        ...

    def document(self, number: int) -> Document:
        """Return a document with its text."""
        ...

    def lines(self, number: int) -> Lines:
        """Return a document's significant lines."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Which windows stand in an index: a part of its identity."""

    min_lines: int = 6  # of a clone
    normalization: str = "verbatim"
    sparse: bool = False

    def __post_init__(self) -> None:
        if self.min_lines < 1:
            raise ConfigurationError(f"min_lines={self.min_lines!r} is below 1")
        if self.normalization not in NORMALIZATIONS:
            raise ConfigurationError(
                f"normalization={self.normalization!r}: {nearest(self.normalization, NORMALIZATIONS)}"
            )

    def __str__(self) -> str:
        return f"min_lines {self.min_lines}, {self.normalization}" + (", sparse" if self.sparse else "")

    @property
    def width(self) -> int:
        """Lines of a window that is indexed."""
        return (self.min_lines + 1) // 2 if self.sparse else self.min_lines

    @property
    def stride(self) -> int:
        """Lines from one indexed window to the next: each run of min_lines lines holds one whole.

        Example:
            >>> sparse = Shape(sparse=True)
            >>> sparse.width, sparse.stride
            (3, 4)
        """
        return self.min_lines - self.width + 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """Arrays of one set of documents; on disk they are memory-mapped."""

    shape: Shape
    documents: Documents
    bounds: Integers  # (D + 1,) place of each document's first line, and the end of the last
    lines: Halves  # (N,) low half of each line's hash, to extend runs without reading texts
    fingerprints: Hashes  # (W,) sorted
    places: Halves  # (W,) of each window's first line; ascending where fingerprints are equal
    groups: Integers  # (G + 1,) place where each (organization, planted) begins, and the end of the last
    check_rows: Callable[[Integers], None]  # raises if these rows of fingerprints and places are damaged
    check_lines_at: Callable[[Integers], None]  # the same for lines at these places
    check_lines: Callable[[int, int], None]  # the same for a range of lines

    @staticmethod
    def build(documents: Sequence[Document], shape: Shape) -> Segment:
        """Index documents, licence headers included, in memory.

        Example:
            >>> text = "a = 1\\n\\nb = 2\\nc = 3\\n"
            >>> documents = [Document(path="x.py", text=text, organization="acme")]
            >>> segment = Segment.build(documents, Shape(min_lines=2))
            >>> len(segment.fingerprints), segment.bounds.tolist(), segment.documents.lines(0)[0]
            (2, [0, 3], [1, 3, 4])
        """
        ordered = sorted(documents, key=lambda d: (d.organization, d.planted, d.path))
        hashes = [text_hashes(d.header + d.text, shape.normalization) for d in ordered]
        bounds = np.cumsum([0, *map(len, hashes)], dtype=np.int64)
        flat = np.concatenate(hashes) if hashes else np.empty(0, dtype=np.uint64)
        fingerprints, places = sorted_windows(flat, bounds, shape)
        owners = [(d.organization, d.planted) for d in ordered]
        return Segment(
            shape=shape,
            documents=MemoryDocuments(ordered, shape.normalization),
            bounds=bounds,
            lines=low_halves(flat),
            fingerprints=fingerprints,
            places=places,
            groups=group_bounds(owners, bounds),
            check_rows=lambda rows: None,
            check_lines_at=lambda places: None,
            check_lines=lambda first, stop: None,
        )


class MemoryDocuments:
    """Documents that are held in memory.

    Example:
        >>> documents = MemoryDocuments([Document(path="x.py", text="a\\n\\nb\\n", organization="acme")], "verbatim")
        >>> documents.lines(0), documents.origin(0).path
        (([1, 3], ['a', 'b']), 'x.py')
    """

    def __init__(self, documents: Sequence[Document], normalization: str) -> None:
        self._documents = documents
        self._normalization = normalization
        self._lines = lru_cache(maxsize=KEPT_IN_MEMORY)(self._read)

    @property
    def organizations(self) -> tuple[str, ...]:
        """Whose documents they are, sorted."""
        return tuple(sorted({d.organization for d in self._documents}))

    @property
    def owners(self) -> npt.NDArray[np.uint16]:
        """Whose each is, as its place in `organizations`."""
        names = self.organizations
        return np.array([names.index(d.organization) for d in self._documents], dtype=np.uint16)

    def document(self, number: int) -> Document:
        """Return a document with its text."""
        return self._documents[number]

    def origin(self, number: int) -> Origin:
        """Return what is known of a document but its text."""
        d = self._documents[number]
        return Origin(
            organization=d.organization,
            path=d.path,
            planted=d.planted,
            licence=d.licence,
            header_lines=d.header_lines,
        )

    def lines(self, number: int) -> Lines:
        """Return a document's significant lines."""
        return self._lines(number)

    def _read(self, number: int) -> Lines:
        document = self._documents[number]
        return significant(document.header + document.text, self._normalization)


def sorted_windows(hashes: Hashes, bounds: Integers, shape: Shape) -> tuple[Hashes, Halves]:
    """Return (fingerprints, places) of the windows that a shape indexes, sorted by fingerprint, then place.

    Args:
        hashes: of all lines of all documents, shape (N,), N < 2^32.
        bounds: of the documents in it, shape (D + 1,).
        shape: which windows.
    Example:
        >>> from pytest_collabcode.clones.fingerprints import line_hashes
        >>> fingerprints, places = sorted_windows(line_hashes("abab"), np.array([0, 4]), Shape(min_lines=2))
        >>> sorted(places.tolist()), bool((np.diff(fingerprints.astype(float)) >= 0).all())
        ([0, 1, 2], True)
    """
    starts = window_starts(bounds, width=shape.width, stride=shape.stride)
    fingerprints = window_fingerprints(hashes, shape.width)[starts]
    order = stable_order(fingerprints)
    return fingerprints[order], starts[order].astype(np.uint32)


def group_bounds(owners: Sequence[tuple[str, bool]], bounds: Integers) -> Integers:
    """Return the place where each run of equal owners begins, and the end of the last.

    Example:
        >>> group_bounds([("a", False), ("a", True), ("a", True)], np.array([0, 4, 5, 9])).tolist()
        [0, 4, 9]
    """
    firsts = [i for i, owner in enumerate(owners) if i == 0 or owner != owners[i - 1]]
    return np.append(bounds[firsts], bounds[-1]).astype(np.int64)
