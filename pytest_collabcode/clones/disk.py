"""Segments on disk: one container each, with the texts that its clones are verified on.

Per significant line: 8 bytes of fingerprint, 4 of place and 4 of line hash (a sparse segment has a quarter of the
first two), beside the text itself. Memory while asking does not depend on the size: arrays are mapped, and of
documents only those with a hit are read.
Not covered: merging several (merging.py), their manifest (folder.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from pytest_collabcode.clones.container import Container, create
from pytest_collabcode.clones.fingerprints import low_halves, text_hashes, window_starts
from pytest_collabcode.clones.normalize import significant
from pytest_collabcode.clones.runs import Origin
from pytest_collabcode.clones.segment import KEPT_IN_MEMORY, Lines, Segment, Shape, group_bounds, sorted_windows
from pytest_collabcode.records import Document

Arrays = dict[str, tuple[npt.DTypeLike, int]]
TABLE = ("organizations", "licences", "planted", "header_lines", "digests")  # one element a document
BOUNDED = {"lines": "bounds", "texts": "text_bounds", "paths": "path_bounds"}  # what is laid end to end


class DiskDocuments:
    """The documents of a container.

    Args:
        container: written by `write_segment` or `merging.merge_segments`.
        normalization: of the index.
    """

    def __init__(self, container: Container, normalization: str) -> None:
        self._container = container
        self._normalization = normalization
        self._lines = lru_cache(maxsize=KEPT_IN_MEMORY)(self._read)
        self._origins = lru_cache(maxsize=KEPT_IN_MEMORY)(self._about)

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

    @property
    def owners(self) -> npt.NDArray[np.uint16]:
        """Whose each is, as its place in `organizations`."""
        owners: npt.NDArray[np.uint16] = self._container.whole("organizations")
        return owners

    def origin(self, number: int) -> Origin:
        """Return what is known of a document but its text."""
        return self._origins(number)

    def _about(self, number: int) -> Origin:
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


def place_digest(organization: str, path: str) -> int:
    """Return the 64-bit digest of where a document belongs, whatever its text is.

    Example:
        >>> place_digest("acme", "x.py") == place_digest("acme", "y.py")
        False
    """
    return xxh3_64_intdigest(_place(organization, path.encode("utf-8", "surrogatepass")))


def place_digests(container: Container) -> Iterator[int]:
    """Yield the place_digest of every document of a container.

    Raises:
        StoreError: it is damaged.
    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.segment"
        >>> write_segment(path, [Document(path="x.py", text="a\\n", organization="acme")], Shape())
        >>> list(place_digests(Container(path))) == [place_digest("acme", "x.py")]
        True
    """
    names, paths = container.about["organizations"], container.whole("paths").tobytes()
    bounds = container.whole("path_bounds").tolist()
    for owner, (first, stop) in zip(container.whole("organizations").tolist(), pairwise(bounds), strict=True):
        yield xxh3_64_intdigest(_place(names[owner], paths[first:stop]))


def _place(organization: str, path: bytes) -> bytes:
    return organization.encode() + b"\0" + path


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
