"""DuckDB: the fingerprint step in a process pool, and all windows of an addition sorted out of core.

DuckDB loads no extension and opens no connection; what its memory does not hold is spilled into the spool.
Not covered: joining (duckdb_join.py), several machines (ray_engine.py).
Source: DuckDB's external sort, https://duckdb.org/docs/stable/guides/performance/how_to_tune_workloads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import duckdb

from pytest_collabcode.clones.engines.pool_engine import mapped
from pytest_collabcode.clones.engines.sorted_segment import Windows, build_sorted
from pytest_collabcode.clones.engines.spool import Spool, fingerprint_file
from pytest_collabcode.clones.manifest import Entry
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.errors import StoreError
from pytest_collabcode.records import Document

LEAST_MEMORY_BYTES = 1 << 25
ROWS_AT_ONCE = 1 << 18
SORTED = """
    SELECT fingerprint, document, place FROM read_parquet(?)
    WHERE fingerprint IS NOT NULL ORDER BY fingerprint, document, place
"""


def build(
    folder: Path, batches: Iterator[list[Document]], shape: Shape, *, workers: int, memory_bytes: int
) -> Iterator[Entry]:
    """Write one segment of all batches; `memory_bytes` bounds the sort.

    Example:
        >>> from tempfile import mkdtemp
        >>> documents = [Document(path="x.py", text="a\\nb\\n", organization="acme")]
        >>> entries = build(Path(mkdtemp()), iter([documents]), Shape(min_lines=2), workers=1, memory_bytes=1 << 26)
        >>> [entry.windows for entry in entries]
        [1]
    """

    def fingerprint(spool: Spool) -> None:
        for _ in mapped(partial(fingerprint_file, shape=shape), spool.texts, workers=workers):
            pass

    sort = partial(sorted_windows, workers=workers, memory_bytes=memory_bytes)
    return build_sorted(folder, batches, shape, fingerprint=fingerprint, sort=sort)


def sorted_windows(spool: Spool, *, workers: int, memory_bytes: int) -> Windows:
    """Yield the windows of a spool's rows, sorted by (fingerprint, document, place).

    Raises:
        StoreError: the disk is full, or the memory too small.
    Example:
        >>> from tempfile import mkdtemp
        >>> spool = Spool(Path(mkdtemp()) / "0")
        >>> spool.add([Document(path="x.py", text="a\\nb\\na\\nb\\n", organization="acme")])
        >>> _ = fingerprint_file(spool.texts[0], shape=Shape(min_lines=2))
        >>> [sorted(table.column("place").to_pylist()) for table in sorted_windows(spool, workers=1, memory_bytes=0)]
        [[0, 1, 2]]
    """
    try:
        with connected(spool.folder / "sorting", workers=workers, memory_bytes=memory_bytes) as connection:
            files = [str(path) for path in spool.rows]
            yield from connection.sql(SORTED, params=[files]).to_arrow_reader(ROWS_AT_ONCE)
    except duckdb.Error as error:
        raise StoreError(f"{spool.folder}: sorting failed ({error}); free some space or allow more memory") from error


@contextmanager
def connected(scratch: Path, *, workers: int, memory_bytes: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """Hold a DuckDB of `workers` threads that takes so much memory and spills the rest into a folder.

    Example:
        >>> with connected(Path("spilled"), workers=1, memory_bytes=0) as connection:
        ...     connection.sql("SELECT 1").fetchall()
        [(1,)]
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{max(memory_bytes, LEAST_MEMORY_BYTES)}B",
        "temp_directory": str(scratch),
        "threads": workers,
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    with duckdb.connect(":memory:", config=settings) as connection:
        yield connection
