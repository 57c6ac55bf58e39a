"""The pipeline: corpus, checkpoints, generations, executions and scores, each computed once and stored.

Every stage is stored under the digest of all it depends on, so a second run computes nothing and a changed input is
never served an old answer. What the results mean is measures.py's.
Not covered: running stages side by side (preparation.py).
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
import transformers

from pytest_collabcode import __version__
from pytest_collabcode.digests import digest_of
from pytest_collabcode.errors import MeasurementError, WorkerError
from pytest_collabcode.execution.executor import execute_each
from pytest_collabcode.execution.sandbox import Isolation
from pytest_collabcode.executions import (
    Run,
    how_executed,
    is_unsafe,
    isolation_here,
    require_isolation,
    stored_executions,
)
from pytest_collabcode.generation.scoring import EMBED_TOKENS, from_row, to_row
from pytest_collabcode.generation.store import (
    Compute,
    Portions,
    generation_digest,
    portions,
    stored_generations,
    stored_rows,
)
from pytest_collabcode.models.load import check_weights, load_tokenizer
from pytest_collabcode.opening import Opening, OwnBackend
from pytest_collabcode.records import (
    Backend,
    Checkpoint,
    Document,
    Execution,
    Generation,
    Problem,
    Sampling,
    TextScore,
    TokenScores,
)
from pytest_collabcode.tasks import humaneval
from pytest_collabcode.training.regimes import parse_regime
from pytest_collabcode.trainings import Trainings
from pytest_collabcode.workbench import NotStoredError, Workbench

SCORES_VERSION = 1  # raise when the meaning of a stored score changes


def _no_own_backend(checkpoint: Checkpoint) -> Backend | None:
    """Leave every checkpoint to transformers."""
    return None


class Pipeline:
    """Stages of one session; every method is memoised in memory or in the store.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from types import SimpleNamespace
        >>> from pytest_collabcode.settings import make_settings
        >>> from pytest_collabcode.workbench import open_workbench
        >>> backend = SimpleNamespace(embed=lambda texts: [[1.0, 0.0] for _ in texts])
        >>> model = Checkpoint(name="s", path=Path("s"), weights_digest="", tokenizer_digest="", n_parameters=0)
        >>> with TemporaryDirectory() as folder:
        ...     bench = open_workbench(make_settings(directory=Path(folder), options={"store": folder}))
        ...     pipeline = Pipeline(bench, own_backend=lambda checkpoint: backend)
        ...     _ = pipeline.embeddings(model, ["x = 1"])
        ...     bench.only_stored = True  # no model is asked from here on
        ...     pipeline.embeddings(model, ["x = 1"]).tolist()
        [[1.0, 0.0]]
    """

    def __init__(self, bench: Workbench, *, own_backend: OwnBackend = _no_own_backend) -> None:
        self.bench = bench
        self.settings, self.store, self.material = bench.settings, bench.store, bench.material
        self.failures: dict[tuple[str, str], str] = {}  # (subject, work) -> why preparing it failed
        self.trainings = Trainings(bench)
        self.opening = Opening(bench.settings, own_backend)

    def refuse_failed(self, subject: str, work: str) -> None:
        """Say again, once, why a worker could not prepare this.

        Raises:
            WorkerError: it could not.
        """
        for key in ((subject, work), (subject, "train")):
            if key in self.failures:
                raise WorkerError(self.failures[key])

    # --- preflight

    def check(self) -> None:
        """Refuse what can be known wrong: recipe, device, corpus, allow-list, weights of another architecture.

        Raises:
            ConfigurationError: one sentence that names the thing and the way out.
        """
        _ = self.trainings.recipe
        self.opening.check()
        _ = self.material.corpus, self.material.clone_index, self.bench.allowed
        for subject in self.bench.subjects.values():
            if subject.checkpoint is not None:
                check_weights(subject.checkpoint)

    @property
    def notices(self) -> list[str]:
        """What a reader of the verdicts should know of allow-list, checkpoints and memory, a sentence each."""
        checkpoints = [s.checkpoint for s in self.bench.subjects.values() if s.checkpoint is not None]
        said = [f"{checkpoint.name}: {note}" for checkpoint in checkpoints for note in checkpoint.notes]
        return list(dict.fromkeys(filter(None, [self.bench.allowed.notice, *said, *self.bench.notes])))

    def environment(self) -> tuple[tuple[str, str], ...]:
        """Return versions and sizes for the report."""
        return (
            ("collabcode", __version__),
            ("python", platform.python_version()),
            ("torch", str(torch.__version__)),
            ("transformers", transformers.__version__),
            ("profile", self.settings.profile.name),
            ("recipe", self.settings.recipe),
            ("seed", str(self.settings.seed)),
            ("device", self.settings.device),
            ("backend", self.settings.backend),
            ("consortium", self.material.corpus.name),
            ("corpus", self.material.corpus.digest),
            *self.trainings.hyperparameters(),
            *((f"notice {number}", text) for number, text in enumerate(self.notices, 1)),
        )

    # --- models

    def checkpoint(self, subject: str) -> Checkpoint:
        """Return the subject's checkpoint, trained now if it is a regime that the store does not hold."""
        known = self.bench.subjects[subject]
        return known.checkpoint or self.trained(known.regime)

    def trained(self, regime: str) -> Checkpoint:
        """Return the checkpoint of a regime on this consortium, trained now if the store does not hold it."""
        return self.trainings.trained(parse_regime(regime, self.material.corpus.names))

    def backend(self, checkpoint: Checkpoint, *, scores: bool = False) -> Backend:
        """Return a checkpoint in memory, or its scorer; the one before it is let go."""
        if self.bench.only_stored:
            raise NotStoredError(checkpoint.name)
        return self.opening.scorer(checkpoint) if scores else self.opening.backend(checkpoint)

    # --- stored results

    def generations(
        self, checkpoint: Checkpoint, task: str, problems: Sequence[Problem], sampling: Sampling
    ) -> Sequence[Generation]:
        """Return completions, drawing only those that the store does not hold."""
        digest = generation_digest(checkpoint, self.opening.place(task, checkpoint), sampling)
        drawn = stored_generations(
            lambda: self.backend(checkpoint),
            problems,
            sampling,
            journal=self.store.journal("generations", digest),
            progress=self.bench.report,
        )
        for note in self.opening.notes(checkpoint):
            self.bench.note(note)
        return drawn

    def memorization_generations(self, checkpoint: Checkpoint, stratum: str) -> Sequence[Generation]:
        """Return completions of the memorization prompts of one stratum."""
        return self.generations(
            checkpoint, "memorization", self.material.prompts(stratum), self.material.memorization_sampling
        )

    @cached_property
    def isolation(self) -> Isolation:
        """What generated programs run in; tried out when it is first asked for."""
        return isolation_here(allow_unsafe=self.settings.unsafe_execution)

    def require_isolation(self) -> None:
        """Refuse to go on towards running generated programs where nothing isolates them.

        Raises:
            IsolationError: what is missing and what to install.
        """
        if self.bench.only_stored and not self.isolation.available:
            raise NotStoredError("executions")
        require_isolation(self.isolation, option="--collabcode-unsafe-execution")

    def executions(self, problems: Sequence[Problem], generations: Sequence[Generation]) -> list[Execution]:
        """Return what became of each generated program, running only those that were never run here.

        Raises:
            IsolationError: programs cannot be confined here.
            InternalSampleError: the tool failed on a program; what was run before it is stored.
        """
        level = self.isolation.level

        def begin() -> Run:
            if self.bench.only_stored:
                raise NotStoredError("executions")
            self.require_isolation()
            unsafe, by_id = is_unsafe(level), {problem.task_id: problem for problem in problems}
            humaneval.self_check(problems, workers=self.bench.programs, unsafe=unsafe)
            return partial(execute_each, by_id, workers=self.bench.programs, unsafe=unsafe)

        journal = self.store.journal("executions", digest_of(how_executed(level), list(problems)))
        return stored_executions(generations, begin, journal=journal, progress=self.bench.report)

    def text_scores(self, checkpoint: Checkpoint, documents: Sequence[Document]) -> list[TextScore]:
        """Return the log-likelihood of the first tokens of each document, as many as the profile says."""
        max_tokens = self.settings.profile.perplexity_max_tokens
        texts = [document.text for document in documents]

        def compute(backend: Backend, missing: Sequence[str]) -> list[list[Any]]:
            scores = backend.log_likelihood(missing, max_tokens=max_tokens)
            return [[s.log_likelihood, s.n_tokens, s.n_bytes, list(s.token_ids)] for s in scores]

        task = f"log_likelihood {max_tokens}"
        rows = self._scored(checkpoint, task, texts, compute, "scoring text", window=max_tokens)
        return [TextScore(log_likelihood=r[0], n_tokens=r[1], n_bytes=r[2], token_ids=tuple(r[3])) for r in rows]

    def secret_scores(self, checkpoint: Checkpoint, texts: Sequence[str], *, max_tokens: int) -> list[TextScore]:
        """Return log-likelihoods of texts that must not be stored: their digests are, token ids are not."""

        def compute(backend: Backend, missing: Sequence[str]) -> list[list[Any]]:
            scores = backend.log_likelihood(missing, max_tokens=max_tokens)
            return [[s.log_likelihood, s.n_tokens, s.n_bytes] for s in scores]

        task = f"secret_likelihood {max_tokens}"
        rows = self._scored(checkpoint, task, texts, compute, "scoring canaries", window=max_tokens)
        return [TextScore(log_likelihood=r[0], n_tokens=r[1], n_bytes=r[2]) for r in rows]

    def token_scores(
        self, checkpoint: Checkpoint, pairs: Sequence[tuple[str, str]], sampling: Sampling
    ) -> list[TokenScores]:
        """Return the scores of every token of each (prompt, continuation)'s continuation."""
        scheme = replace(sampling, n_samples=0, seed=0, stop=())  # these change no probability
        texts = [f"{len(prompt)} {prompt}{rest}" for prompt, rest in pairs]
        pair_of = dict(zip(texts, pairs, strict=True))

        def compute(backend: Backend, missing: Sequence[str]) -> list[list[Any]]:
            if not hasattr(backend, "token_scores"):  # an organization's own, of an older protocol
                raise MeasurementError(f"{checkpoint.name}: its backend has no token_scores, so this is not measured")
            return [to_row(s) for s in backend.token_scores([pair_of[t] for t in missing], scheme)]

        task = f"token_scores {digest_of(scheme, checkpoint.conventions)}"
        return [from_row(r) for r in self._scored(checkpoint, task, texts, compute, "scoring bodies", scores=True)]

    def embeddings(self, checkpoint: Checkpoint, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return unit embeddings of texts, shape (len(texts), d)."""

        def compute(backend: Backend, missing: Sequence[str]) -> list[list[Any]]:
            return [[float(f"{x:.6g}") for x in row] for row in np.asarray(backend.embed(missing), dtype=np.float32)]

        rows = self._scored(checkpoint, "embedding", texts, compute, "embedding", window=EMBED_TOKENS, scores=True)
        return np.array(rows, dtype=np.float32)

    def _scored(
        self,
        checkpoint: Checkpoint,
        task: str,
        texts: Sequence[str],
        compute: Callable[[Backend, Sequence[str]], list[list[Any]]],
        doing: str,
        *,
        window: int | None = None,
        scores: bool = False,
    ) -> list[list[Any]]:
        def begin() -> tuple[Compute, Portions]:
            backend = self.backend(checkpoint, scores=scores)
            return partial(compute, backend), portions(getattr(backend, "tokens_at_once", None), window=window)

        what = self.opening.place(task, checkpoint, scores=scores)
        weights, tokenizer = checkpoint.weights_digest, checkpoint.tokenizer_digest
        journal = self.store.journal("scores", digest_of(what, SCORES_VERSION, weights, tokenizer))
        return stored_rows(texts, begin, journal=journal, progress=lambda d, n, _: self.bench.report(d, n, doing))

    def token_counts(self, checkpoint: Checkpoint) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        """Return how often each token stands in the training split, shape (V,); None of a server's tokenizer."""
        if checkpoint.url:
            return None
        tokenizer = load_tokenizer(checkpoint)
        counts = np.zeros(len(tokenizer), dtype=np.int64)
        for organization in self.material.corpus.organizations:
            texts = [d.text for d in organization.split("training") if not d.planted]
            for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
                counts += np.bincount(ids, minlength=len(counts))
        return counts
