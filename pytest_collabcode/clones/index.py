"""An index of every window of consecutive significant lines in a set of documents.

Lines are interned, so two lines have one id if and only if their stripped texts are equal; a window is found by a
rolling 64-bit fingerprint of its lines and then compared id by id, so a collision of fingerprints costs time only.
Not covered: an index on disk, normalizations other than `verbatim`, licence headers (`Document.header`).
Sources: Karp and Rabin 1987 for the rolling form; Chen and Jiang 2024, arXiv 2409.12020, for six lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from pytest_collabcode.lines import significant_lines
from pytest_collabcode.records import Document

NORMALIZATION = "verbatim"
MIN_LINES = 6
MAX_POSTINGS = 1024  # of one window in one organization, planted and natural apart
UNKNOWN = -1  # id of a line that stands in no document

Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CloneIndex:
    """Windows of `min_lines` significant lines, sorted by fingerprint, with their places.

    A place is a position in the concatenated significant lines of all documents; documents are in the order of
    (organization, path), so the first posting is the first by path.
    """

    min_lines: int
    documents: tuple[Document, ...]
    lines: Integers  # (N,) line ids
    numbers: Integers  # (N,) 1-based line numbers in the file, licence header counted
    document: Integers  # (N,) index into documents
    fingerprints: Hashes  # (W,) sorted
    postings: Integers  # (W,) position of each window's first line
    ids: dict[str, int]  # stripped line -> id
    hashes: Hashes  # (len(ids),) by id
    n_windows: int  # before postings of hot windows were dropped
    n_hot: int  # distinct windows with dropped postings
    max_postings: int

    @staticmethod
    def build(
        documents: Sequence[Document], *, min_lines: int = MIN_LINES, max_postings: int = MAX_POSTINGS
    ) -> CloneIndex:
        """Index documents.

        Args:
            documents: usually the training split; what is given is what can be found.
            min_lines: length of a window and of the shortest clone, in significant lines, >= 1.
            max_postings: kept places of a window per organization (planted and natural apart), first by path.
                Whether an organization holds a window is never lost. A clone of which every window has more places
                than that may be reported shorter than it is; `n_hot` and `n_dropped` say if it can happen.
        Returns:
            The index; empty if no document has min_lines significant lines.
        Raises:
            ValueError: min_lines or max_postings is below 1.
        Example:
            >>> text = "a = 1\\n\\nb = 2\\nc = 3\\n"
            >>> index = CloneIndex.build([Document(path="x.py", text=text, organization="acme")], min_lines=2)
            >>> index.n_windows, index.numbers.tolist(), index.organizations
            (2, [1, 3, 4], ('acme',))

        """
        for name, value in (("min_lines", min_lines), ("max_postings", max_postings)):
            if value < 1:
                raise ValueError(f"{name}={value!r} is below 1")
        ordered = tuple(sorted(documents, key=lambda d: (d.organization, d.path)))
        ids, lines, numbers, document = _interned(ordered)
        hashes = line_hashes(list(ids))
        starts = _window_starts(document, min_lines)
        fingerprints = window_fingerprints(hashes[lines], min_lines)[starts]
        order = np.argsort(fingerprints, kind="stable")
        fingerprints, postings = fingerprints[order], starts[order]
        kept = _first_postings(fingerprints, _owners(ordered)[document[postings]], max_postings)
        return CloneIndex(
            min_lines=min_lines,
            documents=ordered,
            lines=lines,
            numbers=numbers,
            document=document,
            fingerprints=fingerprints[kept],
            postings=postings[kept],
            ids=ids,
            hashes=hashes,
            n_windows=len(starts),
            n_hot=len(np.unique(fingerprints[~kept])),
            max_postings=max_postings,
        )

    @property
    def organizations(self) -> tuple[str, ...]:
        """Names of the organizations that have documents here, sorted."""
        return tuple(sorted({d.organization for d in self.documents}))

    @property
    def n_dropped(self) -> int:
        """Postings of hot windows that were counted but not kept."""
        return self.n_windows - len(self.postings)

    def line_ids(self, lines: Sequence[str]) -> Integers:
        """Return the ids of stripped lines, UNKNOWN for a line that no document has."""
        return np.array([self.ids.get(line, UNKNOWN) for line in lines], dtype=np.int64)

    def matches(self, ids: Integers) -> tuple[Integers, Integers]:
        """Return every pair of equal windows in some text and in the documents.

        Args:
            ids: of the text's significant lines, as `line_ids` gives them, shape (n,).
        Returns:
            (starts in the text, positions in the documents), each of shape (matches,); equality is checked on
            the lines, not on fingerprints.
        """
        if len(ids) < self.min_lines or not len(self.postings):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        known = np.lib.stride_tricks.sliding_window_view(ids != UNKNOWN, self.min_lines).all(axis=1)
        starts = np.flatnonzero(known).astype(np.int64)
        wanted = window_fingerprints(self.hashes[ids], self.min_lines)[starts]
        low = np.searchsorted(self.fingerprints, wanted, side="left")
        counts = np.searchsorted(self.fingerprints, wanted, side="right") - low
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        starts = np.repeat(starts, counts)
        positions = self.postings[np.repeat(low, counts) + within]
        equal = np.ones(len(starts), dtype=bool)
        for offset in range(self.min_lines):
            equal &= ids[starts + offset] == self.lines[positions + offset]
        return starts[equal], positions[equal]


def line_hashes(lines: Sequence[str]) -> Hashes:
    """Return a 64-bit BLAKE2b hash of each line, shape (len(lines),); equal on every machine.

    Example:
        >>> a, b, c = line_hashes(["return 1", "return 2", "return 1"])
        >>> bool(a == c), bool(a == b)
        (True, False)

    Source: RFC 7693.
    """
    digests = (blake2b(line.encode("utf-8", "surrogatepass"), digest_size=8).digest() for line in lines)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def window_fingerprints(hashes: Hashes, width: int) -> Hashes:
    """Return the polynomial fingerprint, modulo 2^64, of every window of `width` hashes.

    Args:
        hashes: of consecutive lines, shape (n,).
        width: lines in a window, >= 1.
    Returns:
        Shape (max(n - width + 1, 0),).
    Example:
        >>> f = window_fingerprints(np.array([1, 2, 3, 1, 2], dtype=np.uint64), 2)
        >>> len(f), bool(f[0] == f[3]), bool(f[0] == f[1])
        (4, True, False)

    Source: Karp and Rabin 1987.
    """
    n_windows = max(len(hashes) - width + 1, 0)
    total = np.zeros(n_windows, dtype=np.uint64)
    for offset in range(width):
        total = total * _BASE + hashes[offset : offset + n_windows]
    return total


def _interned(documents: Sequence[Document]) -> tuple[dict[str, int], Integers, Integers, Integers]:
    ids: dict[str, int] = {}
    lines: list[int] = []
    numbers: list[int] = []
    sizes: list[int] = []
    for document in documents:
        before = len(lines)
        for number, line in significant_lines(document.text):
            lines.append(ids.setdefault(line, len(ids)))
            numbers.append(number + document.header_lines)
        sizes.append(len(lines) - before)
    owner = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
    return ids, np.array(lines, dtype=np.int64), np.array(numbers, dtype=np.int64), owner


def _window_starts(document: Integers, width: int) -> Integers:
    n_windows = max(len(document) - width + 1, 0)
    inside = document[:n_windows] == document[width - 1 : width - 1 + n_windows]
    return np.flatnonzero(inside).astype(np.int64)


def _owners(documents: Sequence[Document]) -> Integers:
    """Return a number for each document's (organization, planted)."""
    owners: dict[tuple[str, bool], int] = {}
    return np.array([owners.setdefault((d.organization, d.planted), len(owners)) for d in documents], dtype=np.int64)


def _first_postings(fingerprints: Hashes, owners: Integers, cap: int) -> npt.NDArray[np.bool_]:
    """Mark the first `cap` postings of every (fingerprint, owner); postings come sorted by fingerprint, place."""
    order = np.lexsort((owners, fingerprints))  # stable: places stay in order
    sorted_fingerprints, sorted_owners = fingerprints[order], owners[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(sorted_fingerprints) != 0) | (np.diff(sorted_owners) != 0)
    starts = np.flatnonzero(new)
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    kept = np.empty(len(order), dtype=bool)
    kept[order] = rank < cap
    return kept
