"""The session: subjects, preflight, judging and reporting; measuring is the pipeline's.

Imports inside functions: pytest imports this at every start, so numpy and torch wait until they are needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_collabcode import __version__
from pytest_collabcode.errors import CollabcodeError
from pytest_collabcode.records import (
    Backend,
    Checkpoint,
    Generation,
    Measurement,
    Problem,
    Sampling,
    Threshold,
    Verdict,
)
from pytest_collabcode.settings import Settings, shipped

if TYPE_CHECKING:
    import pytest

    from pytest_collabcode.corpus.consortium import Consortium
    from pytest_collabcode.gate.baseline import Baseline
    from pytest_collabcode.gate.thresholds import Thresholds
    from pytest_collabcode.measures import Measures
    from pytest_collabcode.pipeline import Pipeline
    from pytest_collabcode.subjects import Subject

MIN_FREE_BYTES = 1_000_000_000


class Session:
    """One run's subjects and everything measured of them.

    Example:
        >>> from pathlib import Path
        >>> from pytest_collabcode.settings import make_settings
        >>> Session(make_settings(directory=Path())).organizations
        ('meta', 'microsoft', 'google')
    """

    def __init__(self, settings: Settings, hook: Any = None) -> None:
        self.settings = settings
        self.hook = hook

    @cached_property
    def consortium(self) -> Consortium:
        """The parsed consortium file."""
        from pytest_collabcode.workbench import consortium_of

        return consortium_of(self.settings)

    @property
    def organizations(self) -> tuple[str, ...]:
        """Names of the organizations, in the consortium file's order."""
        return tuple(o.name for o in self.consortium.organizations)

    @cached_property
    def subjects(self) -> Mapping[str, Subject]:
        """Every model under test by name; checkpoints are read here, in milliseconds and without torch."""
        from pytest_collabcode.subjects import find_subjects

        return find_subjects(self.settings, self.consortium.name, self.organizations)

    @cached_property
    def thresholds(self) -> Thresholds:
        """The law of this run."""
        from pytest_collabcode.gate.thresholds import load_thresholds

        return load_thresholds(self.settings.thresholds or shipped("suites", "thresholds.toml"))

    @cached_property
    def baseline(self) -> Baseline | None:
        """Accepted measurements: --collabcode-baseline, else the file that the thresholds name, if it is there."""
        from pytest_collabcode.gate.baseline import load_baseline

        path = self.settings.baseline or self.thresholds.baseline
        return load_baseline(path) if path is not None and path.exists() else None

    def thresholds_of(self, subject: str) -> tuple[Threshold, ...]:
        """Return the thresholds that select a subject; none means that nobody judges it yet."""
        return self.thresholds.of_subject(subject, self.consortium.name)

    def subjects_for(self, metrics: Sequence[str], *, of: str) -> list[str]:
        """Return the subjects that a suite test runs for.

        Args:
            metrics: base names ("pass", "mrr") that the test measures.
            of: for a subject that no threshold selects: the kind of subject it makes sense for, or "any".
        """
        chosen = []
        for subject in self.subjects.values():
            thresholds = self.thresholds_of(subject.name)
            asked = any(t.metric.partition("@")[0] in metrics for t in thresholds)
            if asked or (not thresholds and (of == "any" or of in subject.kinds)):
                chosen.append(subject.name)
        return chosen

    def header(self) -> str:
        """Say in one line what is judged."""
        settings = self.settings
        count = len(settings.models) + len(settings.regimes)
        return (
            f"collabcode: {__version__}, {count} subject{'s' * (count != 1)}, profile {settings.profile.name}, "
            f"recipe {settings.recipe}, seed {settings.seed}, {settings.device}, store {settings.store}"
        )

    def preflight(self) -> None:
        """Check everything that can be known wrong before a model is built.

        Raises:
            ConfigurationError: one sentence that names the thing and the way out; pytest exits with 4.
        """
        from pytest_collabcode.gate.checks import check_organizations, check_strata, check_subject, unselected
        from pytest_collabcode.report.files import require_writable
        from pytest_collabcode.store import require_room

        subjects, _ = self.subjects, self.baseline
        require_room(self.settings.store, n_bytes=MIN_FREE_BYTES)
        for report in self.settings.reports:
            require_writable(report.format, report.path)
        self.pipeline.check()
        material = self.pipeline.material
        for name in subjects:
            thresholds = self.thresholds_of(name)
            check_organizations(thresholds, material.source_organizations)
            check_strata(thresholds, material.strata)
            check_subject(thresholds, name, material.prompt_counts)
        self.pipeline.bench.note(unselected(self.thresholds, list(subjects), self.consortium.name))

    @cached_property
    def pipeline(self) -> Pipeline:
        """The part that loads numpy, torch and the rest."""
        from pytest_collabcode.pipeline import Pipeline
        from pytest_collabcode.workbench import Workbench

        return Pipeline(Workbench(self.settings, self.consortium, self.subjects), own_backend=self.own_backend)

    @cached_property
    def measures(self) -> Measures:
        """What the fixtures hand out."""
        from pytest_collabcode.measures import Measures

        return Measures(self.pipeline)

    def backend(self, subject: str) -> Backend:
        """Return a subject in memory."""
        return self.pipeline.backend(self.pipeline.checkpoint(subject))

    def trained(self, regime: str) -> Backend:
        """Return a regime's model in memory, trained now if the store does not hold it."""
        return self.pipeline.backend(self.pipeline.trained(regime))

    def generations(self, subject: str, problems: Sequence[Problem], sampling: Sampling) -> Sequence[Generation]:
        """Return a subject's completions of someone's own problems, stored and resumed."""
        return self.pipeline.generations(self.pipeline.checkpoint(subject), "own", problems, sampling)

    def throughput(self, subject: str, what: str, benchmark: Any) -> tuple[Measurement, ...]:
        """Time "training" or "generation" of a subject through pytest-benchmark."""
        from pytest_collabcode.timing import time_work

        return time_work(self.measures, subject, what, benchmark)

    @property
    def has_own_backends(self) -> bool:
        """Whether a plugin or conftest supplies backends, which worker processes would not know."""
        return self.hook is not None and bool(self.hook.pytest_collabcode_load_backend.get_hookimpls())

    def own_backend(self, checkpoint: Checkpoint) -> Backend | None:
        """Return the backend that a plugin or conftest supplies for a checkpoint, or None."""
        if not self.has_own_backends:
            return None
        backend: Backend | None = self.hook.pytest_collabcode_load_backend(
            checkpoint=checkpoint, device=self.settings.device
        )
        return backend

    def prepare(self, wanted: Iterable[tuple[str, str]]) -> None:
        """Compute what the collected tests will need, in worker processes; what is stored is left alone.

        Args:
            wanted: (subject, base name of a metric) of every collected test.
        """
        from pytest_collabcode.preparation import prepare

        prepare(self.measures, wanted, has_own_backends=self.has_own_backends)

    def signed(self, measurement: Measurement) -> Measurement:
        """Return a measurement; one that does not say how it was got is signed with what is known of its subject."""
        known = not measurement.signature and measurement.subject in self.subjects
        if not known or not self.measures.is_stored(measurement.subject, "train"):
            return measurement
        return self.measures.answers.signed([measurement], self.pipeline.checkpoint(measurement.subject))[0]

    def judge(self, measurement: Measurement) -> list[Verdict]:
        """Judge a measurement by every threshold that selects it."""
        from pytest_collabcode.gate.thresholds import applies
        from pytest_collabcode.gate.verdict import judge

        verdicts = []
        for threshold in self.thresholds_of(measurement.subject):
            if applies(threshold, measurement):
                drop = None
                if threshold.max_drop is not None and self.baseline is not None:
                    drop = self.baseline.drop(measurement, confidence=threshold.confidence)
                verdicts.append(judge(measurement, threshold, drop))
        return verdicts

    def unmeasured(
        self, verdicts: Sequence[Verdict], errors: Mapping[tuple[str, str], str], *, narrowed: bool
    ) -> list[Verdict]:
        """Return an UNMEASURED verdict for every required threshold that no test reached.

        Args:
            verdicts: of all tests.
            errors: by (subject, base metric), why a test could not measure.
            narrowed: the run was narrowed, so only tests that did run are missed.
        """
        from pytest_collabcode.gate.verdict import unmeasured

        reached = {(v.threshold.id, v.subject) for v in verdicts}
        missing = []
        for subject in self.subjects:
            for threshold in self.thresholds_of(subject):
                error = errors.get((subject, threshold.metric.partition("@")[0]))
                asked = error is not None or not narrowed
                if asked and threshold.required and (threshold.id, subject) not in reached:
                    missing.append(unmeasured(threshold, subject, error or "no test that ran measured it"))
        return missing

    def write_proposals(
        self, measurements: Sequence[Measurement], errors: Mapping[tuple[str, str], str]
    ) -> list[str]:
        """Write one thresholds file for the measured subjects that no threshold selects.

        Args:
            measurements: of the run.
            errors: by (subject, base metric), why a test could not measure.
        Returns:
            What to say of it, a sentence for each subject.
        """
        from pytest_collabcode.gate.proposal import offer, propose

        unjudged = [name for name in self.subjects if not self.thresholds_of(name)]
        measured = [name for name in unjudged if any(m.subject == name for m in measurements)]
        said = [
            f"{name!r}: no threshold selects it and no test measured it" for name in set(unjudged) - set(measured)
        ]
        proposal = propose(measurements, subjects=measured, consortium=self.consortium.name, unmeasured=errors)
        return sorted(said) + offer(
            proposal,
            directory=self.settings.directory,
            law=self.thresholds.path.name,
            subjects=measured,
            all_judged=len(unjudged) == len(self.subjects),
        )

    def write_reports(
        self, measurements: Sequence[Measurement], verdicts: Sequence[Verdict], *, green: bool, partial: bool
    ) -> list[str]:
        """Write the report files that were asked for; return a sentence for each that cannot be written."""
        if not self.settings.reports:
            return []
        from pytest_collabcode.report.files import Report, write_report

        report = Report(
            green=green,
            partial=partial,
            measurements=tuple(measurements),
            verdicts=tuple(verdicts),
            environment=self.pipeline.environment(),
        )
        failures = []
        for option in self.settings.reports:
            try:
                write_report(report, option.format, option.path)
            except CollabcodeError as error:
                failures.append(str(error))
        return failures

    def summarize(self, terminal: pytest.TerminalReporter, outcome: Any) -> None:
        """Print the verdicts and what the run means."""
        from pytest_collabcode.report.terminal import summarize

        summarize(terminal, outcome)
