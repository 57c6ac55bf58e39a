"""Leaks: every question about what a model gives back of its training code, from the pipeline's stored results.

Not covered: finding clones (clones/) and what they mean (memorization/).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from pytest_collabcode.answers import Answers, Measured
from pytest_collabcode.material import STRATA
from pytest_collabcode.memorization import canaries
from pytest_collabcode.memorization.allowed import allowed_clones, allowed_signature, counted, mark_allowed
from pytest_collabcode.memorization.attribution import memorization_signature
from pytest_collabcode.memorization.clones import ProblemClones, scan
from pytest_collabcode.memorization.controls import against_control, memorization_lift
from pytest_collabcode.memorization.copyleft import copyleft_clone_ratio, licence_signature
from pytest_collabcode.memorization.extraction import ScoredFunction, discoverable
from pytest_collabcode.memorization.membership import membership_auroc
from pytest_collabcode.memorization.near import near_clone_ratio, near_scan
from pytest_collabcode.records import Checkpoint, Generation, Measurement, Problem, Signature
from pytest_collabcode.tasks import extraction, memorization


class Leaks:
    """What the memorization fixtures hand out, each question asked once per subject.

    Example:
        >>> sorted(name for name in vars(Leaks) if not name.startswith("_"))
        ['canaries', 'discoverable', 'everything', 'lift', 'matrix', 'membership', 'near', 'near_verbatim']
    """

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.pipeline = answers.pipeline

    def everything(self, subject: str) -> Measured:
        """Return everything measured of memorization, with the lift over other models where there are such."""
        return self.matrix(subject) + self.near(subject) + self.lift(subject)

    def matrix(self, subject: str) -> Measured:
        """Return ratios by prompt and source organization, crossings, held-out controls and the paper's counts."""
        checkpoint = self.pipeline.checkpoint(subject)

        def measure() -> Measured:
            marked = [s for stratum in self._strata(checkpoint) for s in self._scanned(checkpoint, stratum)]
            material, allowed = self.pipeline.material, self.pipeline.bench.allowed
            signature = (
                *memorization_signature(material.clone_index, material.memorization_sampling),
                ("prompt_characters", str(material.profile.max_prompt_characters)),
                *allowed_signature(marked, allowed),
            )
            names, scanned = material.source_organizations, counted(marked)
            measured = memorization.measure(scanned, subject=subject, organizations=names, signature=signature)
            licences = licence_signature(d for o in material.corpus.organizations for d in o.split("training"))
            ratios = copyleft_clone_ratio(scanned, subject=subject, signature=(*signature, *licences))
            if self.pipeline.settings.allow:
                ratios += allowed_clones(marked, subject=subject, signature=signature)
            return self.answers.signed([*measured, *ratios], checkpoint)

        return self.answers.once(subject, "memorization", measure)

    def near(self, subject: str) -> Measured:
        """Return ratios of prompts whose output begins with a near copy (type 3) of a training function's body."""
        checkpoint = self.pipeline.checkpoint(subject)

        def measure() -> Measured:
            material = self.pipeline.material
            near: list[ProblemClones] = []
            for stratum in self._strata(checkpoint):
                generations = self.pipeline.memorization_generations(checkpoint, stratum)
                found = near_scan(material.near_index, self._scanned(checkpoint, stratum), generations)
                near += self._marked(found, generations)
            signature = (
                *memorization_signature(material.near_index, material.memorization_sampling),
                ("prompt_characters", str(material.profile.max_prompt_characters)),
                *allowed_signature(near, self.pipeline.bench.allowed),
            )
            names = material.corpus.names
            measured = near_clone_ratio(counted(near), subject=subject, organizations=names, signature=signature)
            return self.answers.signed(measured, checkpoint)

        return self.answers.once(subject, "near", measure)

    def lift(self, subject: str) -> Measured:
        """Return how many more natural and planted prompts are hit than by models that cannot remember them.

        "memorization_lift", for regimes trained here: per organization, over a model trained without it. Plants that
        stand in two organizations are left out: such a model may have seen them at the other one.
        "memorization_over_base", when a base model is given: over that model, asked the same.
        """
        checkpoint = self.pipeline.checkpoint(subject)

        def measure() -> Measured:
            lifts = self._over_base(subject, checkpoint)
            names = self.pipeline.material.corpus.names
            if self.pipeline.bench.subjects[subject].regime and len(names) > 1:
                lifts += [lift for name in names for lift in self._over_others(subject, checkpoint, name)]
            return self.answers.signed(lifts, checkpoint)

        return self.answers.once(subject, "controls", measure)

    def canaries(self, subject: str) -> Measured:
        """Return the exposure of the declared canaries, none if none are; for regimes trained here with a control.

        The control asks the same canaries, each organization's of a model trained without its code. A checkpoint from
        elsewhere never saw them: its exposure is that of a uniform rank, about 1.44 bits.
        """
        declared, corpus = self.pipeline.material.consortium.canaries, self.pipeline.material.corpus
        if declared is None:
            return ()
        checkpoint = self.pipeline.checkpoint(subject)
        controlled = bool(self.pipeline.bench.subjects[subject].regime) and len(corpus.names) > 1

        def exposures(model: Checkpoint, organization: str) -> list[canaries.Exposure]:
            own = [canary for canary in corpus.canaries if canary.organization == organization]
            texts = [canaries.scored_texts(canary, declared.candidates) for canary in own]
            flat = [text for some in texts for text in some]
            scores = iter(self.pipeline.secret_scores(model, flat, max_tokens=canaries.MAX_TOKENS))
            return [canaries.exposure(c, list(islice(scores, len(t)))) for c, t in zip(own, texts, strict=True)]

        def measure() -> Measured:
            found = [e for name in corpus.names for e in exposures(checkpoint, name)]
            measured = canaries.canary_exposure(found, subject=subject)
            if controlled:
                models = {name: self.pipeline.trainings.control(name) for name in corpus.names}
                others = [e for name, model in models.items() for e in exposures(model, name)]
                signature = (("controls", " ".join(f"{name}:{model.name}" for name, model in models.items())),)
                controls = canaries.canary_exposure(others, subject=subject, signature=signature)
                measured = [against_control(m, control) for m, control in zip(measured, controls, strict=True)]
            return self.answers.signed(measured, checkpoint)

        return self.answers.once(subject, "canaries", measure)

    def discoverable(self, subject: str, *, n: int, p: float) -> Measured:
        """Return how many functions would come back, with probability p or more, in one of n samples."""
        checkpoint = self.pipeline.checkpoint(subject)
        sampling = self.pipeline.material.memorization_sampling
        measured = discoverable(
            self._scored(subject, checkpoint),
            n=n,
            p=p,
            min_lines=self.pipeline.material.clone_index.min_lines,
            subject=subject,
            stop=(*sampling.stop, *checkpoint.conventions.stop),
            signature=extraction.scheme_signature(sampling),
        )
        return self.answers.signed(measured, checkpoint, scores=True)

    def membership(self, subject: str) -> Measured:
        """Return how well token scores tell training functions from held-out ones."""
        checkpoint = self.pipeline.checkpoint(subject)
        tokens = (("tokens", str(self.pipeline.material.memorization_sampling.max_new_tokens)),)
        measured = membership_auroc(self._scored(subject, checkpoint), subject=subject, signature=tokens)
        return self.answers.signed(measured, checkpoint, scores=True)

    def near_verbatim(self, subject: str) -> Measured:
        """Return how many prompts' completions come close to the true body: the same completions as of the matrix."""
        checkpoint, material = self.pipeline.checkpoint(subject), self.pipeline.material
        strata = self._strata(checkpoint)
        sampling = material.memorization_sampling

        def measure() -> Measured:
            measured = extraction.near_verbatim(
                [p for stratum in strata if stratum != "heldout" for p in material.prompts(stratum)],
                [g for stratum in strata for g in self.pipeline.memorization_generations(checkpoint, stratum)],
                heldout=material.prompts("heldout"),
                min_lines=material.clone_index.min_lines,
                subject=subject,
                signature=(("samples", str(sampling.n_samples)), *extraction.scheme_signature(sampling)),
            )
            return self.answers.signed(measured, checkpoint)

        return self.answers.once(subject, "near_verbatim", measure)

    def _scored(self, subject: str, checkpoint: Checkpoint) -> list[ScoredFunction]:
        material = self.pipeline.material

        def score() -> list[ScoredFunction]:
            functions = []
            for stratum in self._strata(checkpoint):
                problems = material.extraction_prompts(stratum)
                pairs, sampling = extraction.pairs(problems), material.memorization_sampling
                scores = self.pipeline.token_scores(checkpoint, pairs, sampling)
                functions += extraction.scored(problems, scores, stratum=stratum)
            return functions

        return self.answers.once(subject, "extraction", score)

    def _over_base(self, subject: str, checkpoint: Checkpoint) -> list[Measurement]:
        base, material = self.pipeline.trainings.base, self.pipeline.material
        if base is None or base.weights_digest == checkpoint.weights_digest:
            return []
        strata = [stratum for stratum in self._strata(checkpoint) if stratum != "heldout"]
        problems = [problem for stratum in strata for problem in material.prompts(stratum)]
        return memorization_lift(
            counted(self._scan(checkpoint, problems)),
            counted(self._scan(base, problems)),
            subject=subject,
            name="memorization_over_base",
            signature=(("control", base.name), ("control_weights", base.weights_digest[:8]), *self._allow),
        )

    def _over_others(self, subject: str, checkpoint: Checkpoint, organization: str) -> list[Measurement]:
        material = self.pipeline.material
        natural = [p for p in material.prompts("natural") if p.organization == organization]
        problems = [*natural, *material.control_prompts(organization)]
        if not problems:
            return []
        control = self.pipeline.trainings.control(organization)
        return memorization_lift(
            counted(self._scan(checkpoint, problems)),
            counted(self._scan(control, problems)),
            subject=subject,
            signature=(("control", control.name), ("without", organization), *self._allow),
        )

    @property
    def _allow(self) -> Signature:
        return self.pipeline.bench.allowed.signature

    def _strata(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        # A foreign checkpoint was never shown the plants; asking for them would say nothing.
        planted = bool(checkpoint.regime and self.pipeline.material.corpus.plants)
        return tuple(s for s in STRATA if planted or s != "planted")

    def _scanned(self, checkpoint: Checkpoint, stratum: str) -> list[ProblemClones]:
        problems = self.pipeline.material.prompts(stratum)
        return self._scan(checkpoint, problems, heldout=stratum == "heldout")

    def _scan(
        self, checkpoint: Checkpoint, problems: Sequence[Problem], *, heldout: bool = False
    ) -> list[ProblemClones]:
        sampling = self.pipeline.material.memorization_sampling
        generations = self.pipeline.generations(checkpoint, "memorization", problems, sampling)
        found = scan(self.pipeline.material.clone_index, problems, generations, heldout=heldout)
        return self._marked(found, generations)

    def _marked(self, found: Sequence[ProblemClones], generations: Sequence[Generation]) -> list[ProblemClones]:
        normalization = self.pipeline.material.clone_index.normalization
        return mark_allowed(found, generations, self.pipeline.bench.allowed, normalization=normalization)
