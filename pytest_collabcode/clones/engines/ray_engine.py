"""Ray Data: the fingerprint step and the sort as jobs, on this machine or on a cluster.

A Ray that is running already (ray.init) is used and left running; else the cluster that RAY_ADDRESS names; else one
of its own on the loopback interface, without dashboard and usage statistics, which ends with the job. On a cluster
every node has this package installed and sees the index's folder. Fingerprints are spread evenly, so the sort is told
its boundaries: equal ranges of the top bits.
Not covered: anything that Ray schedules, retries or spills by itself.
Source: https://docs.ray.io/en/latest/data/data.html.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import ray
import ray.data
from ray._private import ray_constants
from ray.exceptions import RayError

from pytest_collabcode.clones.batches import fingerprint_batch, windows_of
from pytest_collabcode.clones.engines.sorted_segment import Windows, build_sorted
from pytest_collabcode.clones.engines.spool import ROWS, TEXTS, Spool
from pytest_collabcode.clones.manifest import Entry
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.errors import IsolationError, WorkerError
from pytest_collabcode.records import Document

LOOPBACK = "127.0.0.1"
LEAST_STORE_BYTES = 80 << 20  # of shared memory, which Ray asks for
ROWS_AT_ONCE = 1 << 22  # that one task sorts


def build(
    folder: Path, batches: Iterator[list[Document]], shape: Shape, *, workers: int, memory_bytes: int
) -> Iterator[Entry]:
    """Write one segment of all batches; a Ray of our own has `workers` CPUs and shared memory of a third of it.

    Raises:
        WorkerError: a Ray job failed.
    Example:
        >>> list(build(Path("x.index"), iter([]), Shape(), workers=1, memory_bytes=1 << 28))  # doctest: +SKIP
        []
    """
    try:
        with session(workers=workers, memory_bytes=memory_bytes):
            yield from build_sorted(
                folder, batches, shape, fingerprint=partial(fingerprint, shape=shape), sort=sorted_windows
            )
    except RayError as error:
        raise WorkerError(
            f"a Ray job failed ({_reason(error)}), so nothing was added; the engine local shows where"
        ) from error


def fingerprint(spool: Spool, *, shape: Shape) -> None:
    """Make a spool's rows of its texts, in a Ray Data job.

    Example:
        >>> fingerprint(Spool(Path("spool")), shape=Shape())  # doctest: +SKIP
    """
    step = partial(
        fingerprint_batch, min_lines=shape.min_lines, normalization=shape.normalization, sparse=shape.sparse
    )
    # Folders: files named one by one are resolved in threads that race for an import (Ray 2.60, no aiohttp).
    texts = ray.data.read_parquet(str(spool.folder / TEXTS), columns=["document", "text"])
    texts.map_batches(step, batch_format="pyarrow", batch_size=None).write_parquet(str(spool.folder / ROWS))


def sorted_windows(spool: Spool) -> Windows:
    """Yield the windows of a spool's rows, sorted by (fingerprint, document, place), in a Ray Data job.

    Example:
        >>> list(sorted_windows(Spool(Path("spool"))))  # doctest: +SKIP
        []
    """
    n_rows = sum(pq.read_metadata(path).num_rows for path in spool.rows)
    n_ranges = max(-(-n_rows // ROWS_AT_ONCE), 2)
    boundaries = [(1 << 64) * i // n_ranges for i in range(1, n_ranges)]
    rows = ray.data.read_parquet(str(spool.folder / ROWS), columns=["document", "place", "fingerprint"])
    windows = rows.map_batches(windows_of, batch_format="pyarrow", batch_size=None)
    ordered = windows.sort(["fingerprint", "document", "place"], boundaries=boundaries)
    yield from ordered.iter_batches(batch_format="pyarrow", batch_size=None)


def _reason(error: RayError) -> str:
    """Return the names of the errors that a remote traceback tells of; their messages may hold what is private."""
    names = re.findall(r"^([\w.]+(?:Error|Exception))\b", str(error), re.MULTILINE)
    return ", ".join(dict.fromkeys(names)) or type(error).__name__


@contextmanager
def session(*, workers: int, memory_bytes: int) -> Iterator[None]:
    """Hold a Ray: the one that is running, the cluster of RAY_ADDRESS, or one of our own, which ends with the block.

    Example:
        >>> with session(workers=2, memory_bytes=1 << 28):  # doctest: +SKIP
        ...     ray.data.range(3).count()
        3
    """
    if ray.is_initialized():
        yield
        return
    with TemporaryDirectory(prefix="ray-") as scratch:  # a short path: sockets lie in it
        try:
            _start(workers, max(memory_bytes // 3, LEAST_STORE_BYTES), scratch)
            yield
        finally:
            ray.shutdown()


def _start(workers: int, store_bytes: int, scratch: str) -> None:
    if "RAY_ADDRESS" in os.environ:
        ray.init()
        return
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False  # else it listens on every interface, whatever address it is given
    ray.init(
        address="local",
        num_cpus=workers,
        object_store_memory=store_bytes,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address=LOOPBACK,
        _temp_dir=scratch,
    )
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.use_datasource_v2 = False  # it starts three processes more for every folder it reads
    if ray.util.get_node_ip_address() != LOOPBACK:
        raise IsolationError(
            f"Ray {ray.__version__} does not keep to {LOOPBACK}: start one yourself and name it by RAY_ADDRESS"
        )
