"""An index on disk: a folder of segments and a manifest that says which of them count.

Adding writes a new segment and then, atomically, a new manifest; nothing that is there is changed, so readers go on
and a kill leaves the index as it was. When enough small segments have gathered, the next addition merges some of them
while it works. What a killed run left behind is removed by the next addition.
Not covered: which are merged (merging.py); several machines adding to one index (one writer at a time has the lock).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from filelock import FileLock

from pytest_collabcode.clones.container import Container
from pytest_collabcode.clones.disk import (
    DiskDocuments,
    document_digest,
    open_segment,
    place_digest,
    place_digests,
    write_segment,
)
from pytest_collabcode.clones.index import CloneIndex, OpenPart
from pytest_collabcode.clones.manifest import Entry, Manifest, read_manifest, write_manifest
from pytest_collabcode.clones.merging import due, merge_segments
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.errors import ConfigurationError, StoreError
from pytest_collabcode.records import Document

SEGMENT_BYTES = 1 << 27  # of text that is indexed at once: memory while adding is about six times that
RETRIES = 5  # a reader's, when an addition took a segment away between manifest and file

SPOOL = "spool-"  # begins the name of a folder that a way of building segments works in

Item = TypeVar("Item")
Progress = Callable[[int], None]
Changed = Callable[[Document], None]
Build = Callable[[Path, Iterator[list[Document]], Shape], Iterator[Entry]]  # batches in, segments of the folder out


def create_index(folder: Path, shape: Shape) -> None:
    """Make an empty index.

    Raises:
        ConfigurationError: something is there already.
        StoreError: it cannot be written.
    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp()) / "acme.index"
        >>> create_index(folder, Shape())
        >>> read_manifest(folder).shape.min_lines
        6
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(
            f"{folder} is not empty; add to it with collabcode index add, or name another folder"
        )
    write_manifest(folder, Manifest(shape=shape))


def new_segment(folder: Path, write: Callable[[Path], None]) -> Entry:
    """Let a segment be written under a new name, and return what a manifest says of it.

    Example:
        >>> from tempfile import mkdtemp
        >>> new_segment(Path(mkdtemp()), partial(write_segment, documents=[], shape=Shape())).lines
        0
    """
    path = folder / f"{uuid4().hex[:12]}.segment"
    write(path)
    container = Container(path)
    return Entry(
        file=path.name,
        bytes=path.stat().st_size,
        documents=len(container.array("digests")),
        lines=len(container.array("lines")),
        windows=len(container.array("fingerprints")),
        text_bytes=len(container.array("texts")),
    )


def grouped(items: Iterable[Item], limit: int, *, size: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Cut items into groups, each ended by the item with which its sizes sum to the limit or more.

    Example:
        >>> list(grouped(["a", "bcd", "e"], 3, size=len))
        [['a', 'bcd'], ['e']]
    """
    group: list[Item] = []
    total = 0
    for item in items:
        group.append(item)
        total += size(item)
        if total >= limit:
            yield group
            group, total = [], 0
    if group:
        yield group


def build_here(folder: Path, batches: Iterator[list[Document]], shape: Shape) -> Iterator[Entry]:
    """Write one segment per batch, one after the other: the way of building that needs nothing else (see engines/).

    Example:
        >>> from tempfile import mkdtemp
        >>> documents = [Document(path="x.py", text="a\\nb\\n", organization="acme")]
        >>> [entry.windows for entry in build_here(Path(mkdtemp()), iter([documents]), Shape(min_lines=2))]
        [1]
    """
    for batch in batches:
        yield new_segment(folder, partial(write_segment, documents=batch, shape=shape))


def add_documents(
    folder: Path,
    documents: Iterable[Document],
    *,
    progress: Progress = lambda n_bytes: None,
    changed: Changed | None = None,
    build: Build = build_here,
    batch_bytes: int | None = None,
) -> int:
    """Add documents to an index; those that stand in it already, with the same owner, path and text, are passed over.

    Args:
        folder: of the index.
        documents: taken one batch at a time.
        progress: told how many bytes of text each finished segment has.
        changed: told each document that is added although one of its owner and path, with another text, stands there.
        build: turns batches into segments; engines/ has ways for many cores and machines.
        batch_bytes: of text in a batch, None for SEGMENT_BYTES.
    Returns:
        How many documents were added.
    Raises:
        ConfigurationError: it is no index, or another version's.
        StoreError: the disk is full; what was there before is unharmed.
    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp()) / "acme.index"
        >>> create_index(folder, Shape(min_lines=2))
        >>> document = Document(path="x.py", text="a\\nb\\n", organization="acme")
        >>> add_documents(folder, [document]), add_documents(folder, [document])
        (1, 0)
    """
    manifest = read_manifest(folder)
    with FileLock(folder / ".lock"), ExitStack() as after, ThreadPoolExecutor(max_workers=1) as background:
        after.callback(lambda: _remove_leftovers(folder, read_manifest(folder)))  # after a failure too
        manifest = read_manifest(folder)
        _remove_leftovers(folder, manifest)
        old = due(manifest.segments)
        write = partial(merge_segments, containers=[Container(folder / entry.file) for entry in old])
        merging = [background.submit(new_segment, folder, write)] if old else []
        containers = _containers(folder, manifest)
        known = {digest for c in containers for digest in c.whole("digests").tolist()}
        places = {place for c in containers for place in place_digests(c)} if changed else set()
        new = _new(documents, known, places, changed)
        added: list[Entry] = []
        batches = grouped(new, batch_bytes or SEGMENT_BYTES, size=lambda d: len(d.text))
        for entry in build(folder, batches, manifest.shape):
            added.append(entry)
            progress(entry.text_bytes)
        gone = set(old)
        kept = [entry for entry in manifest.segments if entry not in gone]
        segments = (*(future.result() for future in merging), *kept, *added)
        if segments != manifest.segments:
            write_manifest(folder, Manifest(shape=manifest.shape, segments=segments))
    return sum(entry.documents for entry in added)


def open_index(folder: Path) -> CloneIndex:
    """Open an index for asking; nothing but the manifest and small tables is read.

    Raises:
        ConfigurationError: it is no index, or another version's.
        StoreError: it is damaged.
    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp()) / "acme.index"
        >>> create_index(folder, Shape(min_lines=2))
        >>> _ = add_documents(folder, [Document(path="x.py", text="a\\nb\\nc\\n", organization="acme")])
        >>> [(run.origin.path, run.first_line) for run in open_index(folder).find(["b", "c"])]
        [('x.py', 2)]
    """
    for attempt in range(RETRIES):
        manifest = read_manifest(folder)
        try:
            containers = _containers(folder, manifest)
        except FileNotFoundError as error:
            if attempt + 1 < RETRIES and read_manifest(folder) != manifest:
                continue  # an addition merged this segment away just now
            raise StoreError(f"{folder} is damaged: {error.filename} is gone; build it again") from error
        parts = tuple(OpenPart(segment=open_segment(container, manifest.shape)) for container in containers)
        digests = tuple(container.digest[:8] for container in containers)
        return CloneIndex(shape=manifest.shape, parts=parts, digests=digests)
    raise StoreError(f"{folder} is being changed too fast to be read; try again")


def documents_of(folder: Path) -> Iterator[Document]:
    """Yield every document of an index with its text, licence headers not separated.

    Raises:
        StoreError: one is damaged.
    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp()) / "acme.index"
        >>> create_index(folder, Shape())
        >>> list(documents_of(folder))
        []
    """
    manifest = read_manifest(folder)
    for container in _containers(folder, manifest):
        documents = DiskDocuments(container, manifest.shape.normalization)
        yield from map(documents.document, range(len(container.array("digests"))))


def verify_index(folder: Path, *, rebuild: bool = False) -> list[str]:
    """Compare everything with its checksums.

    Args:
        folder: of the index.
        rebuild: make damaged segments anew from the texts they hold, where those are sound.
    Returns:
        One sentence per damaged segment; empty if all is well, or was rebuilt.
    Raises:
        ConfigurationError: it is no index, or another version's.
    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp()) / "acme.index"
        >>> create_index(folder, Shape())
        >>> verify_index(folder)
        []
    """
    manifest = read_manifest(folder)
    with FileLock(folder / ".lock"):
        manifest = read_manifest(folder)
        segments, problems = [], []
        for entry in manifest.segments:
            problem, sound = _problem(folder, entry), entry
            if problem and rebuild:
                try:
                    sound = new_segment(folder, partial(_rebuild, folder / entry.file, shape=manifest.shape))
                    problem = ""
                except (StoreError, OSError) as error:
                    problem = f"{error}; its texts are lost too: remove the index and build it from the sources"
            segments.append(sound)
            problems += [problem] if problem else []
        if rebuild and tuple(segments) != manifest.segments:
            write_manifest(folder, Manifest(shape=manifest.shape, segments=tuple(segments)))
            _remove_leftovers(folder, read_manifest(folder))
        return problems


def _containers(folder: Path, manifest: Manifest) -> list[Container]:
    return [Container(folder / entry.file) for entry in manifest.segments]


def _new(
    documents: Iterable[Document], known: set[int], places: set[int], changed: Changed | None
) -> Iterator[Document]:
    for document in documents:
        digest = document_digest(document)
        if digest not in known:
            known.add(digest)
            if changed and place_digest(document.organization, document.path) in places:
                changed(document)
            yield document


def _remove_leftovers(folder: Path, manifest: Manifest) -> None:
    """Remove what no manifest names: segments merged away, and what a killed run left. Only under the lock."""
    wanted = {entry.file for entry in manifest.segments}
    for path in [*folder.glob("*.segment"), *folder.glob(".new-*")]:
        if path.name not in wanted:
            path.unlink(missing_ok=True)
    for path in folder.glob(f"{SPOOL}*"):
        shutil.rmtree(path, ignore_errors=True)


def _problem(folder: Path, entry: Entry) -> str:
    try:
        Container(folder / entry.file).verify()
    except FileNotFoundError:
        return f"{folder / entry.file} is gone"
    except (StoreError, OSError) as error:
        return str(error)
    return ""


def _rebuild(damaged: Path, target: Path, shape: Shape) -> None:
    container = Container(damaged)
    documents = DiskDocuments(container, shape.normalization)
    write_segment(target, [documents.document(i) for i in range(len(container.array("digests")))], shape)
