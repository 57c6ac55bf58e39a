"""Engines: ways of filling and comparing indexes that use all cores, a bounded memory, or many machines.

- `local`: one process, sorting in memory, batch by batch (folder.py).
- `pool`: a process pool; every worker writes segments of its own.
- `duckdb`: batches.py in a process pool; DuckDB sorts all windows out of core; one large segment. It also joins the
  windows of organizations, so that only documents that share some are compared.
- `ray`: batches.py and the sort as Ray Data jobs, on this machine or a cluster; one large segment.

All write the same ordinary segments, and an index answers the same whichever engine filled it. The last two need the
extra: pip install 'pytest-collabcode[scale]'.
Not covered: a scheduler; that is Ray's.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import ModuleType

from pytest_collabcode.clones.comparing import Screen, all_but_the_last
from pytest_collabcode.clones.folder import SEGMENT_BYTES, Changed, Progress, add_documents, build_here
from pytest_collabcode.errors import ConfigurationError, nearest
from pytest_collabcode.machine import usable_cores
from pytest_collabcode.records import Document

ENGINES = ("local", "pool", "duckdb", "ray")
COMPARING = ("local", "duckdb")
MEMORY_PER_TEXT = 6  # bytes in memory per byte of a batch, while it is indexed
LEAST_BATCH_BYTES = 1 << 20
DEFAULT_MEMORY_BYTES = MEMORY_PER_TEXT * SEGMENT_BYTES


def add_with_engine(
    folder: Path,
    documents: Iterable[Document],
    *,
    engine: str = "local",
    workers: int | None = None,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    progress: Progress = lambda n_bytes: None,
    changed: Changed | None = None,
) -> int:
    """Add documents to an index, as folder.add_documents does, with an engine.

    Args:
        folder: of the index; for `ray` on several machines one that all of them see.
        documents: taken one batch at a time.
        engine: one of ENGINES.
        workers: processes, None for one per core; `local` has one, a Ray cluster its own.
        memory_bytes: what batches, or a sort, may take in all, beside what libraries take.
        progress: told how many bytes of text each finished segment has.
        changed: told of new versions, as in folder.add_documents.
    Returns:
        How many documents were added.
    Raises:
        ConfigurationError: no such engine, or what it needs is not installed; it is no index.
        StoreError: the disk is full; what was there before is unharmed.
        WorkerError: a worker was killed; what was there before is unharmed.
    Example:
        >>> from tempfile import mkdtemp
        >>> from pytest_collabcode.clones.folder import create_index
        >>> from pytest_collabcode.clones.segment import Shape
        >>> folder = Path(mkdtemp()) / "acme.index"
        >>> create_index(folder, Shape(min_lines=2))
        >>> add_with_engine(folder, [Document(path="x.py", text="a\\nb\\n", organization="acme")])
        1
    """
    if engine not in ENGINES:
        raise ConfigurationError(f"engine={engine!r} is unknown; {nearest(engine, ENGINES)}")
    n_workers = 1 if engine == "local" else _n_workers(workers)
    n_batches = 1 if engine == "local" else n_workers + 1  # at once: one a worker, and the next
    build = build_here
    if engine != "local":
        build = partial(_loaded(engine, f"{engine}_engine").build, workers=n_workers, memory_bytes=memory_bytes)
    batch_bytes = max(memory_bytes // (MEMORY_PER_TEXT * n_batches), LEAST_BATCH_BYTES)
    return add_documents(folder, documents, progress=progress, changed=changed, build=build, batch_bytes=batch_bytes)


def screen_with_engine(
    engine: str = "local", *, workers: int | None = None, memory_bytes: int = DEFAULT_MEMORY_BYTES
) -> Screen:
    """Return what says which documents comparing.shared_code asks.

    Args:
        engine: one of COMPARING.
        workers: threads and processes, None for one per core; `local` has one.
        memory_bytes: what a join may take.
    Raises:
        ConfigurationError: no such engine, or what it needs is not installed.
    Example:
        >>> screen_with_engine("local")([])
        []
    """
    if engine not in COMPARING:
        raise ConfigurationError(f"engine={engine!r} does not compare; {nearest(engine, COMPARING)}")
    if engine == "local":
        return all_but_the_last
    screen: Screen = partial(
        _loaded(engine, f"{engine}_join").screen, workers=_n_workers(workers), memory_bytes=memory_bytes
    )
    return screen


def _n_workers(workers: int | None) -> int:
    return workers or usable_cores()


def _loaded(engine: str, name: str) -> ModuleType:
    """Return a module of an engine; the only place that imports what may not be installed."""
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ImportError as error:
        raise ConfigurationError(
            f"engine={engine!r} cannot be used ({error}); pip install 'pytest-collabcode[scale]'"
        ) from error
