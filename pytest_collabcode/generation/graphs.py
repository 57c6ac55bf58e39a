"""CUDA graphs of a step: recorded once per bucket of rows and columns, then replayed without any launch from Python.

A step of a small model on a GPU is a few hundred kernels of microseconds each: launching them one by one is most of
its time. Buckets are powers of two of rows and multiples of 128 columns, so a handful of graphs serve a whole run.
Not covered: CPUs, where nothing is launched.
Source: torch.cuda.CUDAGraph; gpt-fast for static buffers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

COLUMNS = 128


class Graphs:
    """A step (rows, columns) -> logits that depends on device tensors alone, replayed from graphs.

    Args:
        step: reads and writes buffers that stay where they are; running it twice must do no harm.
        device: a GPU, which need not be torch's current one.
    Example:
        >>> Graphs(lambda rows, columns: torch.zeros(rows, 2), torch.device("cuda")).n_recorded
        0
    """

    def __init__(self, step: Callable[[int, int], torch.Tensor], device: torch.device) -> None:
        self._step, self._device = step, device
        self._recorded: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}
        self._pool: Any = None  # of memory, shared: one graph runs at a time

    @property
    def n_recorded(self) -> int:
        """Graphs so far."""
        return len(self._recorded)

    def __call__(self, rows: int, columns: int, *, limits: tuple[int, int]) -> torch.Tensor:
        """Run the step for at least so many rows and columns; the result is overwritten by the next call."""
        key = bucket(rows, columns, limits=limits)
        if key not in self._recorded:
            self._recorded[key] = self._record(*key)
        graph, logits = self._recorded[key]
        graph.replay()
        return logits

    def _record(self, rows: int, columns: int) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):
            aside = _aside(self._device)
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):  # libraries set themselves up outside of the recording
                self._step(rows, columns)
            torch.cuda.current_stream().wait_stream(aside)
            with torch.cuda.graph(graph, pool=self._pool, stream=aside):
                logits = self._step(rows, columns)
        self._pool = graph.pool()
        return graph, logits


@cache
def _aside(device: torch.device) -> torch.cuda.Stream:
    """Return the stream to record on, one a device: libraries keep a workspace for every stream they have seen."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def bucket(rows: int, columns: int, *, limits: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns of the graph that serves so many, never beyond the limits.

    Example:
        >>> bucket(5, 130, limits=(64, 1000)), bucket(33, 990, limits=(40, 1000))
        ((8, 256), (40, 1000))
    """
    return min(1 << (rows - 1).bit_length(), limits[0]), min(-(-columns // COLUMNS) * COLUMNS, limits[1])
