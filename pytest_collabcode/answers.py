"""Answers: each question asked once per subject, each number signed with what it depends on.

Not covered: the questions themselves (measures.py, leaks.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar, cast

from pytest_collabcode.intervals import with_clusters
from pytest_collabcode.pipeline import Pipeline
from pytest_collabcode.records import Checkpoint, Measurement

Measured = tuple[Measurement, ...]
T = TypeVar("T")


class Answers:
    """What a session has measured so far.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from pytest_collabcode.settings import make_settings
        >>> from pytest_collabcode.workbench import open_workbench
        >>> with TemporaryDirectory() as folder:
        ...     answers = Answers(Pipeline(open_workbench(make_settings(directory=Path(folder)))))
        >>> answers.once("a", "sum", lambda: 3), answers.once("a", "sum", lambda: 4)
        (3, 3)
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._known: dict[tuple[str, str], object] = {}

    def once(self, subject: str, work: str, compute: Callable[[], T]) -> T:
        """Return what compute returned the first time for this subject and work.

        Raises:
            WorkerError: a worker process already failed at it.
        """
        key = (subject, work)
        if key not in self._known:
            self.pipeline.refuse_failed(subject, work)
            self._known[key] = compute()
        return cast(T, self._known[key])

    def signed(self, measured: Iterable[Measurement], checkpoint: Checkpoint, *, scores: bool = False) -> Measured:
        """Return the measurements with clusters, profile, seed, corpus, weights and versions in their signatures.

        Args:
            measured: of one checkpoint.
            checkpoint: that was asked.
            scores: it was asked for token scores or embeddings, which the scorer gives.
        """
        settings = self.pipeline.settings
        shared = {
            "profile": settings.profile.name,
            "seed": str(settings.seed),
            "corpus": self.pipeline.material.corpus.digest[:8],
            "weights": checkpoint.weights_digest[:8],
            **dict(self.pipeline.opening.signature(checkpoint, scores=scores)),
        }
        return tuple(
            replace(m, signature=tuple({**dict(m.signature), **(shared | dict(m.signature))}.items()))
            for m in map(with_clusters, measured)
        )
