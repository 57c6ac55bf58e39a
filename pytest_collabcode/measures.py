"""Measures: from the pipeline's stored results to Measurements, one method for each question of the suites.

Every signature carries profile, seed, corpus, weights and versions beside what the metric itself says.
Not covered: throughput, which is timed rather than stored (timing.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar, cast

import torch

from pytest_collabcode.execution.sandbox import probe
from pytest_collabcode.material import STRATA
from pytest_collabcode.memorization.attribution import memorization_signature
from pytest_collabcode.memorization.clones import ProblemClones, scan
from pytest_collabcode.memorization.controls import memorization_lift
from pytest_collabcode.pipeline import Pipeline
from pytest_collabcode.records import Checkpoint, Execution, Measurement, Problem
from pytest_collabcode.tasks import completion, humaneval, memorization, perplexity, retrieval
from pytest_collabcode.workbench import NotStoredError

REFERENCE_REGIME = "centralized"
Measured = tuple[Measurement, ...]
T = TypeVar("T")


class Measures:
    """What the fixtures hand out, each question asked once per subject."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._known: dict[tuple[str, str], object] = {}

    def pass_at_k(self, subject: str, k: int = 1) -> Measurement:
        """Return HumanEval pass@k.

        Raises:
            ConfigurationError: the profile draws fewer than k samples; said before anything is generated.
            IsolationError: generated programs cannot be confined here.
        Example:
            >>> from pathlib import Path
            >>> from tempfile import TemporaryDirectory
            >>> from pytest_collabcode.settings import make_settings
            >>> from pytest_collabcode.workbench import open_workbench
            >>> with TemporaryDirectory() as folder:
            ...     bench = open_workbench(make_settings(directory=Path(folder), options={"store": folder}))
            ...     Measures(Pipeline(bench)).pass_at_k("demo/fedavg", k=10)
            Traceback (most recent call last):
            pytest_collabcode.errors.ConfigurationError: pass@10 needs n_samples >= 10, got 1
        """
        sampling, problems = self.pipeline.material.humaneval_sampling, self.pipeline.material.humaneval_problems
        humaneval.require_samples(sampling.n_samples, k)
        checkpoint = self.pipeline.checkpoint(subject)

        def execute() -> list[Execution]:
            generations = self.pipeline.generations(checkpoint, "humaneval", problems, sampling)
            return self.pipeline.executions(problems, generations)

        signature = (
            ("problems", str(len(problems))),
            ("samples", str(sampling.n_samples)),
            ("T", f"{sampling.temperature:g}"),
            ("tokens", str(sampling.max_new_tokens)),
            ("isolation", probe().level),
        )
        executions = self._once(subject, "humaneval", execute)
        measured = humaneval.measure(executions, k=k, subject=subject, signature=signature)
        return self._signed([measured], checkpoint)[0]

    def completion(self, subject: str) -> Measured:
        """Return BLEU (two variants), exact match and edit similarity on held-out functions."""
        checkpoint = self.pipeline.checkpoint(subject)

        def measure() -> Measured:
            sampling = self.pipeline.material.completion_sampling
            problems = completion.problems(self.pipeline.material.completion_functions)
            generations = self.pipeline.generations(checkpoint, "completion", problems, sampling)
            measured = completion.measure(problems, generations, subject=subject, sampling=sampling)
            return self._signed(measured, checkpoint)

        return self._once(subject, "completion", measure)

    def retrieval(self, subject: str) -> Measured:
        """Return MRR and MRR over chance of docstring to code, BM25 on the same pool as their control."""
        checkpoint = self.pipeline.checkpoint(subject)

        def measure() -> Measured:
            pairs = self.pipeline.material.retrieval_pairs
            queries = self.pipeline.embeddings(checkpoint, [pair.query for pair in pairs])
            codes = self.pipeline.embeddings(checkpoint, [pair.code for pair in pairs])
            seed = self.pipeline.bench.consortium.seed
            measured = retrieval.measure(pairs, queries, codes, subject=subject, pooling="mean", seed=seed)
            return self._signed(measured, checkpoint)

        return self._once(subject, "retrieval", measure)

    def perplexity(self, subject: str) -> Measured:
        """Return perplexity, bits per byte and gain over a unigram model, pooled and per organization."""
        checkpoint = self.pipeline.checkpoint(subject)

        def measure() -> Measured:
            documents = self.pipeline.material.heldout_documents
            measured = perplexity.measure(
                documents,
                self.pipeline.text_scores(checkpoint, documents),
                subject=subject,
                max_tokens=self.pipeline.settings.profile.perplexity_max_tokens,
                train_token_counts=self.pipeline.token_counts(checkpoint),
            )
            return self._signed(measured, checkpoint)

        return self._once(subject, "perplexity", measure)

    def perplexity_relative(self, subject: str) -> Measured:
        """Return the subject's perplexity over the centralized regime's, paired by held-out document."""
        checkpoint = self.pipeline.checkpoint(subject)
        reference = self.pipeline.trained(REFERENCE_REGIME)
        documents = self.pipeline.material.heldout_documents
        measured = perplexity.relative(
            documents,
            self.pipeline.text_scores(checkpoint, documents),
            self.pipeline.text_scores(reference, documents),
            subject=subject,
            reference_subject=reference.name,
            max_tokens=self.pipeline.settings.profile.perplexity_max_tokens,
        )
        return self._signed(measured, checkpoint)

    def memorization(self, subject: str) -> Measured:
        """Return everything measured of memorization; for regimes trained here with the lift over controls."""
        matrix = self.memorization_matrix(subject)
        return matrix + (self.memorization_lift(subject) if self.pipeline.bench.subjects[subject].regime else ())

    def memorization_matrix(self, subject: str) -> Measured:
        """Return ratios by prompt and source organization, crossings, held-out controls and the paper's counts."""
        checkpoint = self.pipeline.checkpoint(subject)

        def measure() -> Measured:
            scanned = [s for stratum in self._strata(checkpoint) for s in self._scanned(checkpoint, stratum)]
            material = self.pipeline.material
            signature = (
                *memorization_signature(material.clone_index, material.memorization_sampling),
                ("prompt_characters", str(material.profile.max_prompt_characters)),
            )
            names = material.corpus.names
            measured = memorization.measure(scanned, subject=subject, organizations=names, signature=signature)
            return self._signed(measured, checkpoint)

        return self._once(subject, "memorization", measure)

    def memorization_lift(self, subject: str) -> Measured:
        """Return, per organization, how many more planted prompts are hit than by a model without its code.

        Plants that stand in two organizations are left out: such a model may have seen them at the other one.
        """
        checkpoint = self.pipeline.checkpoint(subject)

        def measure() -> Measured:
            lifts: list[Measurement] = []
            for organization in self.pipeline.material.corpus.names:
                problems = self.pipeline.material.control_prompts(organization)
                if problems and len(self.pipeline.material.corpus.names) > 1:
                    lifts += self._lift(subject, checkpoint, organization, problems)
            return self._signed(lifts, checkpoint)

        return self._once(subject, "controls", measure)

    def _lift(
        self, subject: str, checkpoint: Checkpoint, organization: str, problems: Sequence[Problem]
    ) -> list[Measurement]:
        ids = {problem.task_id for problem in problems}
        control = self.pipeline.trainings.control(organization)
        sampling = self.pipeline.material.memorization_sampling
        generations = self.pipeline.generations(control, "memorization", problems, sampling)
        return memorization_lift(
            [s for s in self._scanned(checkpoint, "planted") if s.problem.task_id in ids],
            scan(self.pipeline.material.clone_index, problems, generations),
            subject=subject,
            signature=(("control", control.name), ("without", organization)),
        )

    def do(self, subject: str, work: str) -> None:
        """Do one work of a subject, so that its results are stored.

        Args:
            subject: its name.
            work: "train" or a key of WORKS.
        """
        if work == "train":
            self.pipeline.checkpoint(subject)
        else:
            WORKS[work](self, subject)

    def is_stored(self, subject: str, work: str) -> bool:
        """Whether a work needs nothing that is not in the store; never trains or loads a model."""
        self.pipeline.bench.only_stored = True
        try:
            self.do(subject, work)
        except NotStoredError:
            return False
        finally:
            self.pipeline.bench.only_stored = False
        return True

    def _strata(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        # A foreign checkpoint was never shown the plants; asking for them would say nothing.
        planted = bool(checkpoint.regime and self.pipeline.material.corpus.plants)
        return tuple(s for s in STRATA if planted or s != "planted")

    def _scanned(self, checkpoint: Checkpoint, stratum: str) -> list[ProblemClones]:
        problems = self.pipeline.material.prompts(stratum)
        generations = self.pipeline.memorization_generations(checkpoint, stratum)
        return scan(self.pipeline.material.clone_index, problems, generations, heldout=stratum == "heldout")

    def _once(self, subject: str, work: str, compute: Callable[[], T]) -> T:
        key = (subject, work)
        if key not in self._known:
            self.pipeline.refuse_failed(subject, work)
            self._known[key] = compute()
        return cast(T, self._known[key])

    def _signed(self, measured: Iterable[Measurement], checkpoint: Checkpoint) -> Measured:
        settings = self.pipeline.settings
        shared = (
            ("profile", settings.profile.name),
            ("seed", str(settings.seed)),
            ("corpus", self.pipeline.material.corpus.digest[:8]),
            ("weights", checkpoint.weights_digest[:8]),
            ("torch", str(torch.__version__)),
        )
        return tuple(
            replace(m, signature=(*m.signature, *(pair for pair in shared if pair[0] not in dict(m.signature))))
            for m in measured
        )


WORKS: dict[str, Callable[[Measures, str], object]] = {
    "humaneval": Measures.pass_at_k,
    "completion": Measures.completion,
    "retrieval": Measures.retrieval,
    "perplexity": Measures.perplexity,
    "memorization": Measures.memorization_matrix,
    "controls": Measures.memorization_lift,
}
