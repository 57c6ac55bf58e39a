"""Segments on disk: one container each, with the texts that its clones are verified on.

Per significant line: 8 bytes of fingerprint, 4 of place and 4 of line hash (a sparse segment has a quarter of the
first two), beside the text itself. Memory while asking does not depend on the size: arrays are mapped, and of
documents only those with a hit are read.
Not covered: several segments and their manifest (folder.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from pytest_collabcode.clones.container import Array, Container, create
from pytest_collabcode.clones.fingerprints import Hashes, low_halves, text_hashes, window_starts
from pytest_collabcode.clones.normalize import significant
from pytest_collabcode.clones.runs import Origin
from pytest_collabcode.clones.segment import KEPT_IN_MEMORY, Lines, Segment, Shape, group_bounds, sorted_windows
from pytest_collabcode.records import Document

Arrays = dict[str, tuple[npt.DTypeLike, int]]
MERGED_AT_ONCE = 1 << 22  # windows sorted at a time while segments are merged
TABLE = ("organizations", "licences", "planted", "header_lines", "digests")  # one element a document
BOUNDED = {"lines": "bounds", "texts": "text_bounds", "paths": "path_bounds"}  # what is laid end to end


class DiskDocuments:
    """The documents of a container.

    Args:
        container: written by `write_segment` or `merge_segments`.
        normalization: of the index.
    """

    def __init__(self, container: Container, normalization: str) -> None:
        self._container = container
        self._normalization = normalization
        self._lines = lru_cache(maxsize=KEPT_IN_MEMORY)(self._read)

    @property
    def organizations(self) -> tuple[str, ...]:
        """Whose documents they are, sorted.

        Example:
            >>> import tempfile
            >>> path = Path(tempfile.mkdtemp()) / "a.segment"
            >>> write_segment(path, [Document(path="x.py", text="a\\n\\nb\\n", organization="acme")], Shape())
            >>> documents = DiskDocuments(Container(path), "verbatim")
            >>> documents.organizations, documents.origin(0).path, documents.lines(0)
            (('acme',), 'x.py', ([1, 3], ['a', 'b']))
        """
        return tuple(sorted(self._container.about["organizations"]))

    def origin(self, number: int) -> Origin:
        """Return what is known of a document but its text."""
        about, organization = self._container.about, int(self._of("organizations", number))
        return Origin(
            organization=about["organizations"][organization],
            path=self._slice("paths", number).decode("utf-8", "surrogatepass"),
            planted=bool(self._of("planted", number)),
            licence=about["licences"][int(self._of("licences", number))],
            header_lines=int(self._of("header_lines", number)),
        )

    def lines(self, number: int) -> Lines:
        """Return a document's significant lines."""
        return self._lines(number)

    def document(self, number: int) -> Document:
        """Return a document with its text, the licence header not separated."""
        origin = self.origin(number)
        return Document(
            path=origin.path,
            text=self._text(number),
            organization=origin.organization,
            licence=origin.licence,
            planted=origin.planted,
            header_lines=origin.header_lines,
        )

    def _read(self, number: int) -> Lines:
        return significant(self._text(number), self._normalization)

    def _text(self, number: int) -> str:
        return self._slice("texts", number).decode("utf-8", "surrogatepass")

    def _of(self, name: str, number: int) -> int:
        self._container.check(name, number, number + 1)
        return int(self._container.array(name)[number])

    def _slice(self, name: str, number: int) -> bytes:
        self._container.check(BOUNDED[name], number, number + 2)
        first, stop = self._container.array(BOUNDED[name])[number : number + 2].tolist()
        self._container.check(name, first, stop)
        return bytes(self._container.array(name)[first:stop])


def open_segment(container: Container, shape: Shape) -> Segment:
    """Return a segment that lies in a container; what it touches is verified first.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.segment"
        >>> write_segment(path, [Document(path="x.py", text="a\\nb\\nc\\n", organization="acme")], Shape(min_lines=2))
        >>> len(open_segment(Container(path), Shape(min_lines=2)).fingerprints)
        2
    """

    def check_rows(rows: npt.NDArray[np.int64]) -> None:
        for name in ("fingerprints", "places"):
            container.check_scattered(name, rows)

    return Segment(
        shape=shape,
        documents=DiskDocuments(container, shape.normalization),
        bounds=container.whole("bounds"),
        lines=container.array("lines"),
        fingerprints=container.array("fingerprints"),
        places=container.array("places"),
        groups=container.whole("groups"),
        check_rows=check_rows,
        check_lines_at=lambda places: container.check_scattered("lines", places),
        check_lines=lambda first, stop: container.check("lines", first, stop),
    )


def write_segment(path: Path, documents: Sequence[Document], shape: Shape) -> None:
    """Index documents into one container.

    Args:
        path: of the container.
        documents: of any organizations, with fewer than 2^32 significant lines in all.
        shape: which windows.
    Raises:
        StoreError: the disk is full or cannot be written.
    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.segment"
        >>> write_segment(path, [Document(path="x.py", text="a\\n", organization="acme")], Shape())
        >>> Container(path).about["organizations"]
        ['acme']
    """
    ordered = sorted(documents, key=lambda d: (d.organization, d.planted, d.path))
    texts = [(d.header + d.text).encode("utf-8", "surrogatepass") for d in ordered]
    paths = [d.path.encode("utf-8", "surrogatepass") for d in ordered]
    hashes = [text_hashes(text, shape.normalization) for text in texts]
    bounds = np.cumsum([0, *map(len, hashes)], dtype=np.int64)
    flat = np.concatenate(hashes) if hashes else np.empty(0, dtype=np.uint64)
    groups = group_bounds([(d.organization, d.planted) for d in ordered], bounds)
    organizations = sorted({d.organization for d in ordered})
    licences = sorted({d.licence for d in ordered})
    n_windows = len(window_starts(bounds, width=shape.width, stride=shape.stride))
    sizes = {"lines": len(flat), "texts": sum(map(len, texts)), "paths": sum(map(len, paths))}
    needed = layout(len(ordered), n_windows, len(groups), sizes)
    with create(path, needed, {"organizations": organizations, "licences": licences}) as arrays:
        arrays["fingerprints"][:], arrays["places"][:] = sorted_windows(flat, bounds, shape)
        arrays["lines"][:], arrays["bounds"][:], arrays["groups"][:] = low_halves(flat), bounds, groups
        for name, blobs in (("texts", texts), ("paths", paths)):
            arrays[BOUNDED[name]][:] = np.cumsum([0, *map(len, blobs)])
            arrays[name][:] = np.frombuffer(b"".join(blobs), dtype=np.uint8)
        arrays["organizations"][:] = [organizations.index(d.organization) for d in ordered]
        arrays["licences"][:] = [licences.index(d.licence) for d in ordered]
        arrays["planted"][:] = [d.planted for d in ordered]
        arrays["header_lines"][:] = [d.header_lines for d in ordered]
        arrays["digests"][:] = [document_digest(d) for d in ordered]


def document_digest(document: Document) -> int:
    """Return the 64-bit digest by which an index knows a document again: owner, path, text, and what goes with them.

    Example:
        >>> a, b = (Document(path="x.py", text="a", organization=name) for name in ("acme", "zeta"))
        >>> document_digest(a) == document_digest(b)
        False
    """
    about = (document.organization, document.path, str(document.planted), document.licence, document.header_lines)
    text = document.header + document.text
    return xxh3_64_intdigest("\0".join(map(str, (*about, text))).encode("utf-8", "surrogatepass"))


def merge_segments(path: Path, containers: Sequence[Container], shape: Shape) -> None:
    """Write one segment that holds what several hold; memory stays at a few million windows.

    Raises:
        StoreError: one is damaged, or the disk is full.
        ValueError: together they have 2^32 significant lines or more.
    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in "ab":
        ...     document = Document(path=f"{name}.py", text="a\\nb\\n", organization="acme")
        ...     write_segment(folder / name, [document], Shape(min_lines=2))
        >>> merge_segments(folder / "c", [Container(folder / "a"), Container(folder / "b")], Shape(min_lines=2))
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


def layout(n_documents: int, n_windows: int, n_groups: int, sizes: dict[str, int]) -> Arrays:
    """Return the arrays of a segment; `sizes` are those of what is laid end to end.

    Example:
        >>> layout(1, 2, 2, {"lines": 3, "texts": 9, "paths": 4})["fingerprints"][1]
        2
    """
    return {
        "fingerprints": (np.uint64, n_windows),
        "places": (np.uint32, n_windows),
        "lines": (np.uint32, sizes["lines"]),
        "bounds": (np.int64, n_documents + 1),
        "groups": (np.int64, n_groups),
        "organizations": (np.uint16, n_documents),
        "licences": (np.uint16, n_documents),
        "planted": (np.uint8, n_documents),
        "header_lines": (np.uint32, n_documents),
        "digests": (np.uint64, n_documents),
        "path_bounds": (np.int64, n_documents + 1),
        "paths": (np.uint8, sizes["paths"]),
        "text_bounds": (np.int64, n_documents + 1),
        "texts": (np.uint8, sizes["texts"]),
    }


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
