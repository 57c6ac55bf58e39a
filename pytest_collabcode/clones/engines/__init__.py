"""Engines: ways of adding documents to an index that use all cores, a bounded memory, or many machines.

- `local`: one process, sorting in memory, batch by batch (folder.py).
- `pool`: a process pool; every worker writes segments of its own.
- `duckdb`: batches.py in a process pool; DuckDB sorts all windows out of core; one large segment.
- `ray`: batches.py and the sort as Ray Data jobs, on this machine or a cluster; one large segment.

All write the same ordinary segments, and an index answers the same whichever engine filled it. The last two need the
extra: pip install 'pytest-collabcode[scale]'.
Not covered: a scheduler; that is Ray's.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from pytest_collabcode.clones.folder import SEGMENT_BYTES, Build, Progress, add_documents, build_here
from pytest_collabcode.errors import ConfigurationError, nearest
from pytest_collabcode.records import Document

ENGINES = ("local", "pool", "duckdb", "ray")
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
) -> int:
    """Add documents to an index, as folder.add_documents does, with an engine.

    Args:
        folder: of the index; for `ray` on several machines one that all of them see.
        documents: taken one batch at a time.
        engine: one of ENGINES.
        workers: processes, None for one per core; `local` has one, a Ray cluster its own.
        memory_bytes: what batches, or a sort, may take in all, beside what libraries take.
        progress: told how many bytes of text each finished segment has.
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
    n_workers = 1 if engine == "local" else workers or len(os.sched_getaffinity(0))
    n_batches = 1 if engine == "local" else n_workers + 1  # at once: one a worker, and the next
    build = build_here if engine == "local" else _loaded(engine, n_workers, memory_bytes)
    batch_bytes = max(memory_bytes // (MEMORY_PER_TEXT * n_batches), LEAST_BATCH_BYTES)
    return add_documents(folder, documents, progress=progress, build=build, batch_bytes=batch_bytes)


def _loaded(engine: str, workers: int, memory_bytes: int) -> Build:
    """Return how an engine builds segments; the only place that imports what may not be installed."""
    try:
        module = importlib.import_module(f"{__name__}.{engine}_engine")
    except ImportError as error:
        raise ConfigurationError(
            f"engine={engine!r} cannot be used ({error}); pip install 'pytest-collabcode[scale]'"
        ) from error
    return partial(module.build, workers=workers, memory_bytes=memory_bytes)
