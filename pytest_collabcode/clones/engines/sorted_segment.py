"""One segment out of a spool and its sorted windows; memory does not grow with the number of windows.

Not covered: sorting them (duckdb_engine.py, ray_engine.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pytest_collabcode.clones.container import Array, create
from pytest_collabcode.clones.disk import BOUNDED, TABLE, layout
from pytest_collabcode.clones.engines.spool import Spool, most_lines, tables
from pytest_collabcode.clones.fingerprints import Integers
from pytest_collabcode.clones.folder import SPOOL, new_segment
from pytest_collabcode.clones.manifest import Entry
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.errors import StoreError
from pytest_collabcode.records import Document

MOST_LINES = (1 << 32) - 1  # of one segment

Windows = Iterable[pa.RecordBatch | pa.Table]  # columns document, place, fingerprint


def build_sorted(
    folder: Path,
    batches: Iterable[list[Document]],
    shape: Shape,
    *,
    fingerprint: Callable[[Spool], None],
    sort: Callable[[Spool], Windows],
) -> Iterator[Entry]:
    """Write one segment of all batches, or several where they could have too many lines for one.

    Args:
        folder: of the index.
        batches: of new documents.
        shape: which windows.
        fingerprint: makes a spool's rows of its texts.
        sort: yields a spool's windows in the order of (fingerprint, document, place).
    Raises:
        StoreError: the disk is full.
    Example:
        >>> from tempfile import mkdtemp
        >>> list(build_sorted(Path(mkdtemp()), [], Shape(), fingerprint=print, sort=lambda spool: []))
        []
    """
    try:
        with TemporaryDirectory(dir=folder, prefix=SPOOL) as scratch:
            for spool in _spools(Path(scratch), batches):
                fingerprint(spool)
                write = partial(write_sorted_segment, spool=spool, windows=sort(spool), shape=shape)
                yield new_segment(folder, write)
                shutil.rmtree(spool.folder)
    except OSError as error:
        raise StoreError(f"{folder} cannot be added to: {error.strerror or error}; free some space") from error


def write_sorted_segment(path: Path, *, spool: Spool, windows: Windows, shape: Shape) -> None:
    """Write a segment of a spool whose rows are there, bit for bit what disk.write_segment makes of one batch.

    Raises:
        StoreError: the disk is full, or the windows are not all there, or not in order.
    Example:
        >>> from tempfile import mkdtemp
        >>> from pytest_collabcode.clones.batches import ROWS, windows_of
        >>> from pytest_collabcode.clones.container import Container
        >>> from pytest_collabcode.clones.engines.spool import fingerprint_file
        >>> folder, shape = Path(mkdtemp()), Shape(min_lines=2)
        >>> spool = Spool(folder / "0")
        >>> spool.add([Document(path="x.py", text="a\\nb\\n", organization="acme")])
        >>> rows = fingerprint_file(spool.texts[0], shape=shape)
        >>> windows = [windows_of(table) for table in tables([rows], ROWS.names)]
        >>> write_sorted_segment(folder / "a.segment", spool=spool, windows=windows, shape=shape)
        >>> Container(folder / "a.segment").whole("places").tolist()
        [0]
    """
    bounds, text_bounds, path_bounds = _bounds(spool)
    n_windows = int((np.maximum(np.diff(bounds) - shape.width + shape.stride, 0) // shape.stride).sum())
    groups = _groups(spool, bounds)
    sizes = {"lines": int(bounds[-1]), "texts": int(text_bounds[-1]), "paths": int(path_bounds[-1])}
    names = {column: sorted(known) for column, known in spool.names.items()}
    with create(path, layout(spool.n_documents, n_windows, len(groups), sizes), names) as arrays:
        arrays["bounds"][:], arrays["groups"][:] = bounds, groups
        arrays["text_bounds"][:], arrays["path_bounds"][:] = text_bounds, path_bounds
        _fill_documents(arrays, spool)
        for table in tables(spool.rows, ["document", "place", "half"]):
            arrays["lines"][_places(table, bounds)] = np.asarray(table.column("half"))
        n_filled = _fill_windows(arrays, windows, bounds)
        if n_filled != n_windows:
            raise StoreError(f"{path}: {n_filled} of {n_windows} windows came back sorted; add again")


def _spools(scratch: Path, batches: Iterable[list[Document]]) -> Iterator[Spool]:
    """Yield spools, each of as many batches as one segment can hold."""
    number, spool = 0, Spool(scratch / "0")
    for batch in batches:
        if spool.n_documents and spool.most_lines + most_lines(batch) > MOST_LINES:
            yield spool
            number += 1
            spool = Spool(scratch / str(number))
        spool.add(batch)
    if spool.n_documents:
        yield spool


def _bounds(spool: Spool) -> tuple[Integers, Integers, Integers]:
    """Return where each document's lines, text and path begin, and the end of the last."""
    n_lines, n_text, n_path = (np.zeros(spool.n_documents + 1, dtype=np.int64) for _ in range(3))
    for table in tables(spool.rows, ["document"]):
        numbers, counts = np.unique(np.asarray(table.column("document")), return_counts=True)
        n_lines[numbers + 1] += counts  # a document's rows may lie in two tables
    for table in tables(spool.texts, ["document", "text", "path"]):
        numbers = np.asarray(table.column("document")) + 1
        n_text[numbers] = np.asarray(pc.binary_length(table.column("text")))
        n_path[numbers] = np.asarray(pc.binary_length(table.column("path")))
    return np.cumsum(n_lines), np.cumsum(n_text), np.cumsum(n_path)


def _groups(spool: Spool, bounds: Integers) -> Integers:
    """Return the place where each run of one (organization, planted) begins, and the end of the last.

    A batch begins its own, since paths are in order within a batch only.
    """
    firsts: list[int] = []
    for path in spool.texts:
        columns = list(tables([path], ["document", "organizations", "planted"]))
        numbers, organizations, planted = (
            np.concatenate([np.asarray(table.column(name)) for table in columns]) for name in columns[0].column_names
        )
        changed = (np.diff(organizations) != 0) | (np.diff(planted) != 0)
        firsts += numbers[np.append(True, changed)].tolist()
    return bounds[[*firsts, -1]]


def _fill_documents(arrays: dict[str, Array], spool: Spool) -> None:
    """Lay texts and paths end to end, and fill the table of documents."""
    ranks = {
        column: np.array([sorted(known).index(name) for name in known], dtype=np.uint16)
        for column, known in spool.names.items()
    }
    for table in tables(spool.texts, ["document", "text", "path", *TABLE]):
        numbers = np.asarray(table.column("document"))
        first, stop = int(numbers[0]), int(numbers[-1]) + 1
        for name, column in (("texts", "text"), ("paths", "path")):
            begin, end = arrays[BOUNDED[name]][[first, stop]]
            arrays[name][begin:end] = np.frombuffer(b"".join(table.column(column).to_pylist()), dtype=np.uint8)
        for name in TABLE:
            values = np.asarray(table.column(name))
            arrays[name][first:stop] = ranks[name][values] if name in ranks else values


def _fill_windows(arrays: dict[str, Array], windows: Windows, bounds: Integers) -> int:
    """Write the sorted windows; return how many there are."""
    first, last = 0, 0
    room = len(arrays["fingerprints"])
    for table in windows:
        fingerprints = np.asarray(table.column("fingerprint"))
        if not len(fingerprints):
            continue
        stop = first + len(fingerprints)
        if stop > room or int(fingerprints[0]) < last or (fingerprints[1:] < fingerprints[:-1]).any():
            raise StoreError(f"{len(fingerprints)} windows from {first} of {room} came back out of order; add again")
        arrays["fingerprints"][first:stop] = fingerprints
        arrays["places"][first:stop] = _places(table, bounds)
        first, last = stop, int(fingerprints[-1])
    return first


def _places(table: pa.RecordBatch | pa.Table, bounds: Integers) -> Integers:
    """Return where rows stand among the lines of all documents."""
    places: Integers = bounds[np.asarray(table.column("document"))] + np.asarray(table.column("place"))
    return places
