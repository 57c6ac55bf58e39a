"""Measures: from the pipeline's stored results to Measurements, one method for each question of the suites.

Every signature carries profile, seed, corpus, weights and versions beside what the metric itself says.
Not covered: throughput, which is timed rather than stored (timing.py).
"""

from __future__ import annotations

from collections.abc import Callable

from pytest_collabcode.answers import Answers, Measured
from pytest_collabcode.leaks import Leaks
from pytest_collabcode.pipeline import Pipeline
from pytest_collabcode.records import Execution, Measurement
from pytest_collabcode.tasks import completion, humaneval, perplexity, retrieval
from pytest_collabcode.workbench import NotStoredError

REFERENCE_REGIME = "centralized"


class Measures:
    """What the fixtures hand out, each question asked once per subject."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.answers = Answers(pipeline)
        self.leaks = Leaks(self.answers)

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
            self.pipeline.require_isolation()
            generations = self.pipeline.generations(checkpoint, "humaneval", problems, sampling)
            return self.pipeline.executions(problems, generations)

        signature = (
            ("problems", str(len(problems))),
            ("samples", str(sampling.n_samples)),
            ("T", f"{sampling.temperature:g}"),
            ("tokens", str(sampling.max_new_tokens)),
            ("isolation", self.pipeline.isolation.level),
        )
        executions = self.answers.once(subject, "humaneval", execute)
        measured = humaneval.measure(executions, k=k, subject=subject, signature=signature)
        return self.answers.signed([measured], checkpoint)[0]

    def completion(self, subject: str) -> Measured:
        """Return BLEU (two variants), exact match and edit similarity on held-out functions."""
        checkpoint = self.pipeline.checkpoint(subject)

        def measure() -> Measured:
            sampling = self.pipeline.material.completion_sampling
            problems = completion.problems(self.pipeline.material.completion_functions)
            generations = self.pipeline.generations(checkpoint, "completion", problems, sampling)
            measured = completion.measure(problems, generations, subject=subject, sampling=sampling)
            return self.answers.signed(measured, checkpoint)

        return self.answers.once(subject, "completion", measure)

    def retrieval(self, subject: str) -> Measured:
        """Return MRR and MRR over chance of docstring to code, BM25 on the same pool as their control."""
        checkpoint = self.pipeline.checkpoint(subject)

        def measure() -> Measured:
            pairs = self.pipeline.material.retrieval_pairs
            queries = self.pipeline.embeddings(checkpoint, [pair.query for pair in pairs])
            codes = self.pipeline.embeddings(checkpoint, [pair.code for pair in pairs])
            seed = self.pipeline.bench.consortium.seed
            measured = retrieval.measure(pairs, queries, codes, subject=subject, pooling="mean", seed=seed)
            return self.answers.signed(measured, checkpoint, scores=True)

        return self.answers.once(subject, "retrieval", measure)

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
            return self.answers.signed(measured, checkpoint)

        return self.answers.once(subject, "perplexity", measure)

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
        return self.answers.signed(measured, checkpoint)

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


WORKS: dict[str, Callable[[Measures, str], object]] = {
    "humaneval": Measures.pass_at_k,
    "completion": Measures.completion,
    "retrieval": Measures.retrieval,
    "perplexity": Measures.perplexity,
    "memorization": lambda measures, subject: measures.leaks.matrix(subject),
    "controls": lambda measures, subject: measures.leaks.lift(subject),
    "extraction": lambda measures, subject: measures.leaks.membership(subject),
    "canaries": lambda measures, subject: measures.leaks.canaries(subject),
}
