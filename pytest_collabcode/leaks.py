"""Leaks: every question about what a model gives back of its training code, from the pipeline's stored results.

Not covered: finding clones (clones/) and what they mean (memorization/).
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_collabcode.answers import Answers, Measured
from pytest_collabcode.material import STRATA
from pytest_collabcode.memorization.attribution import memorization_signature
from pytest_collabcode.memorization.clones import ProblemClones, scan
from pytest_collabcode.memorization.controls import memorization_lift
from pytest_collabcode.records import Checkpoint, Measurement, Problem
from pytest_collabcode.tasks import memorization


class Leaks:
    """What the memorization fixtures hand out, each question asked once per subject.

    Example:
        >>> sorted(name for name in vars(Leaks) if not name.startswith("_"))
        ['everything', 'lift', 'matrix']
    """

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.pipeline = answers.pipeline

    def everything(self, subject: str) -> Measured:
        """Return everything measured of memorization; for regimes trained here with the lift over controls."""
        matrix = self.matrix(subject)
        return matrix + (self.lift(subject) if self.pipeline.bench.subjects[subject].regime else ())

    def matrix(self, subject: str) -> Measured:
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
            return self.answers.signed(measured, checkpoint)

        return self.answers.once(subject, "memorization", measure)

    def lift(self, subject: str) -> Measured:
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
            return self.answers.signed(lifts, checkpoint)

        return self.answers.once(subject, "controls", measure)

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

    def _strata(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        # A foreign checkpoint was never shown the plants; asking for them would say nothing.
        planted = bool(checkpoint.regime and self.pipeline.material.corpus.plants)
        return tuple(s for s in STRATA if planted or s != "planted")

    def _scanned(self, checkpoint: Checkpoint, stratum: str) -> list[ProblemClones]:
        problems = self.pipeline.material.prompts(stratum)
        generations = self.pipeline.memorization_generations(checkpoint, stratum)
        return scan(self.pipeline.material.clone_index, problems, generations, heldout=stratum == "heldout")
