"""A process pool: every worker indexes whole batches and writes a segment for each.

Not covered: sorting more than one batch at once (folder.py merges segments later).
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from pytest_collabcode.clones.disk import write_segment
from pytest_collabcode.clones.folder import new_segment
from pytest_collabcode.clones.manifest import Entry
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.errors import WorkerError
from pytest_collabcode.records import Document

Item = TypeVar("Item")
Result = TypeVar("Result")


def build(
    folder: Path, batches: Iterator[list[Document]], shape: Shape, *, workers: int, memory_bytes: int
) -> Iterator[Entry]:
    """Write one segment per batch, several at once; memory is bounded by the size of the batches.

    Example:
        >>> from tempfile import mkdtemp
        >>> documents = [Document(path="x.py", text="a\\nb\\n", organization="acme")]
        >>> entries = build(Path(mkdtemp()), iter([documents]), Shape(min_lines=2), workers=1, memory_bytes=1 << 20)
        >>> [entry.windows for entry in entries]
        [1]
    """
    return mapped(partial(_segment, folder, shape), batches, workers=workers)


def mapped(function: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> Iterator[Result]:
    """Yield function(item) of each item in order, computed in processes; at most one item more than those is held.

    Args:
        function: can be pickled, as can items and results.
        items: taken when a process is free.
        workers: processes; 1 is this one.
    Raises:
        WorkerError: a process was killed.
    Example:
        >>> list(mapped(abs, [-1, 2], workers=1))
        [1, 2]
    """
    if workers == 1:
        yield from map(function, items)
        return
    spawned = multiprocessing.get_context("spawn")  # forking a process with threads may hang it
    with ProcessPoolExecutor(max_workers=workers, mp_context=spawned) as pool:
        running: deque[Future[Result]] = deque()
        try:
            for item in items:
                with _deaf_children():
                    running.append(pool.submit(function, item))
                if len(running) > workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except BrokenProcessPool as error:
            raise WorkerError(
                "a worker process was killed, perhaps for want of memory, so nothing was added; use fewer workers or "
                "less memory"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Start processes to which Ctrl-C says nothing: this one ends them, and they have nothing to say of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _segment(folder: Path, shape: Shape, documents: list[Document]) -> Entry:
    return new_segment(folder, partial(write_segment, documents=documents, shape=shape))
