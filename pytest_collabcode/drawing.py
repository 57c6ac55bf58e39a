"""Drawing: what a back end is asked for, and how it hands on what is finished.

A back end whose `draw` hands completions on keeps none of them, so that memory does not grow with their number.
Not covered: what is stored (generation/store.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from pytest_collabcode.progress import Report
from pytest_collabcode.records import Generation, Problem, Sampling

Request = tuple[Problem, int]
"""A problem and the sample_index to draw."""

OnBatch = Callable[[list[Generation]], None]


class Draw(Protocol):
    """Draws just these (problem, sample_index) pairs, in any order; `sampling.n_samples` is not read."""

    def __call__(
        self, requests: Sequence[Request], sampling: Sampling, *, on_batch: OnBatch, progress: Report | None = None
    ) -> None:
        """Give every completion to on_batch as soon as it is finished, and tell progress how many are done."""


def draw_all(draw: Draw, problems: Sequence[Problem], sampling: Sampling) -> list[Generation]:
    """Draw n_samples completions of each problem.

    Args:
        draw: of a back end.
        problems: with distinct task_ids.
        sampling: how.
    Returns:
        Ordered by problem, then sample_index.
    Example:
        >>> def draw(requests, sampling, *, on_batch, progress=None):
        ...     rest = {"completion": "pass", "n_tokens": 1, "duration_s": 0.1, "stop_reason": "eos"}
        ...     on_batch([Generation(task_id=p.task_id, sample_index=i, **rest) for p, i in reversed(requests)])
        >>> [g.sample_index for g in draw_all(draw, [Problem(task_id="t", prompt="x")], Sampling(n_samples=3))]
        [0, 1, 2]
    """
    requests = [(problem, index) for problem in problems for index in range(sampling.n_samples)]
    found: dict[tuple[str, int], Generation] = {}
    draw(requests, sampling, on_batch=lambda batch: found.update({(g.task_id, g.sample_index): g for g in batch}))
    return [found[problem.task_id, index] for problem, index in requests]


class Ledger:
    """How much is finished, and who is told about it.

    Args:
        total: completions that are wanted.
        progress: told how many are done.
        on_batch: given each completion when it is finished.
    Example:
        >>> told = []
        >>> ledger = Ledger(1, None, told.append)
        >>> ledger.finish(Generation(task_id="t", sample_index=0, completion="", n_tokens=0, duration_s=0,
        ...     stop_reason="eos"))
        >>> [len(batch) for batch in told]
        [1]
    """

    def __init__(self, total: int, progress: Report | None, on_batch: OnBatch) -> None:
        self._total, self._progress, self._on_batch = total, progress, on_batch
        self._n_done = 0

    def finish(self, generation: Generation) -> None:
        """Hand over a finished completion at once, so that a kill loses none, and count it."""
        self._on_batch([generation])
        self._n_done += 1
        if self._progress is not None:
            self._progress(self._n_done, self._total, "generating")
