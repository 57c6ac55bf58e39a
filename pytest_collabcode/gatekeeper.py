"""The gatekeeper: pytest's hooks on one side, Session on the other; verdicts in, exit code out.

Exit codes: 0 all required gates measured and passed; 1 a gate failed, is undecided or unmeasured; 4 wrong
configuration, corpus or checkpoint; 6 a narrowed run whose selected gates passed (DESIGN 5).
Not covered: judging (gate/verdict) and measuring (session). Imports nothing heavy: it is part of every pytest start.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from operator import itemgetter
from typing import Any

import pytest

from pytest_collabcode.errors import CollabcodeError, ConfigurationError
from pytest_collabcode.records import Corpus, Measurement, Verdict
from pytest_collabcode.report.plain import record_from_plain, record_to_plain
from pytest_collabcode.session import Session
from pytest_collabcode.settings import Settings

GATEKEEPER = pytest.StashKey["Gatekeeper"]()
_RECORDED = pytest.StashKey[list[dict[str, Any]]]()
EXIT_PARTIAL = 6
_STATUS = {1: "a test failed", 5: "no test ran"}


class GateError(AssertionError):
    """A gate did not pass; the message is the verdict lines."""


class Gatekeeper:
    """One per pytest run, registered as a plugin."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.config = config
        self.settings = settings
        self.session = Session(settings, config.hook)
        self._reported: list[dict[str, Any]] = []  # what tests recorded, in the order in which they ended
        self.measurements: list[Measurement] = []
        self.verdicts: list[Verdict] = []
        self.errors: dict[tuple[str, str], str] = {}  # (subject, metric) -> why it was not measured
        self.narrowed = False
        self.proposals: list[str] = []  # a sentence for each subject that nobody judges
        self.broken: list[str] = []  # what beside verdicts keeps the run from being green
        self.used = False  # some collected test asks for one of our fixtures
        self.judged = False
        self.green = False

    @property
    def corpus(self) -> Corpus:
        """The consortium's code, for the summary."""
        return self.session.pipeline.material.corpus

    @property
    def notice(self) -> str:
        """What a reader of the verdicts should know, for the summary."""
        return "\n".join(self.session.pipeline.notices)

    # --- before the tests

    @property
    def active(self) -> bool:
        """Whether there is something to judge on this side of xdist."""
        worker = hasattr(self.config, "workerinput")
        return bool(self.settings.models or self.settings.regimes) and not worker

    def pytest_report_header(self) -> list[str]:
        """Say what is judged, and what generated programs run in, only when something is judged."""
        if not self.active:
            return []
        if self.config.option.collectonly:
            return [self.session.header()]
        return [self.session.header(), f"collabcode: isolation: {self.session.pipeline.isolation.level}"]

    def pytest_sessionstart(self) -> None:
        """Check models, thresholds and corpora before anything is measured: exit 4."""
        if self.active and not self.config.option.collectonly:
            try:
                self.session.preflight()
            except CollabcodeError as error:
                raise pytest.UsageError(str(error)) from None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Fan out over subjects and organizations."""
        try:
            if "subject" in metafunc.fixturenames:
                names = self._subjects_for(metafunc.definition)
                metafunc.parametrize("subject", names, ids=names, indirect=True, scope="session")
            if "organization" in metafunc.fixturenames:
                names = list(self.session.organizations)
                metafunc.parametrize("organization", names, ids=names, indirect=True, scope="session")
        except CollabcodeError as error:
            raise pytest.UsageError(str(error)) from None

    def _subjects_for(self, definition: pytest.Item) -> list[str]:
        self.used = True
        marker = definition.get_closest_marker("measures")
        if marker is None:
            return list(self.session.subjects)
        return self.session.subjects_for(tuple(marker.args), of=marker.kwargs.get("of", "any"))

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Drop suite tests that no subject asks for: they were never part of this run."""
        if self.settings.models or self.settings.regimes:
            items[:] = [item for item in items if not _without_subject(item)]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Refuse to run suites with nothing to judge, or generated programs with nothing to keep them in: exit 4."""
        nothing = not (self.settings.models or self.settings.regimes)
        if self.used and nothing and not self.config.option.collectonly:
            raise pytest.UsageError(
                "no subject to judge: give a checkpoint with --model=PATH, or train one with "
                "--collabcode-regime=NAME (centralized, fedavg, fedyogi, incremental:A>B>C)"
            )
        if self.active and not self.config.option.collectonly and any(map(_executes, session.items)):
            try:
                self.session.pipeline.require_isolation()
            except CollabcodeError as error:
                raise pytest.UsageError(str(error)) from None
        arguments = self.config.invocation_params.args
        if any("::" in str(a) or str(a).endswith(".py") for a in arguments):
            self.narrowed = True

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Remember that the run was narrowed."""
        self.narrowed = self.narrowed or bool(items)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Prepare results in parallel before the tests; after them, see whether every required gate was measured."""
        if self.active and self.used and not self.config.option.collectonly:
            self._prepare(session.items)
        result = yield
        if self.active and not self.config.option.collectonly:
            self._complete(session)
        return result

    def _prepare(self, items: Sequence[pytest.Item]) -> None:
        capture = self.config.pluginmanager.getplugin("capturemanager")
        wanted = {(subject, metric) for item in items if (subject := _subject(item)) for metric in _metrics(item)}
        try:
            with capture.global_and_fixture_disabled() if capture else nullcontext():  # -p no:capture
                self.session.prepare(wanted)
        except ConfigurationError as error:
            raise pytest.UsageError(str(error)) from None
        except CollabcodeError as error:  # the tests that need the results meet it again
            self.session.pipeline.bench.note(str(error))

    # --- around each test

    def gate_of(self, item: pytest.Item) -> Callable[..., None]:
        """Return the `gate` function of one test."""

        def gate(*measurements: Measurement) -> None:
            __tracebackhide__ = True
            signed = [self.session.signed(m) for m in measurements]
            verdicts = [v for m in signed for v in self.session.judge(m)]
            record = record_to_plain(signed, verdicts)
            item.stash.setdefault(_RECORDED, []).append(record)
            item.user_properties.extend((f"collabcode.{v.threshold.id}", v.line()) for v in verdicts)
            blocking = [v.line() for v in verdicts if v.blocks]
            if blocking:
                raise GateError("\n".join(blocking))

        return gate

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach verdicts to the report as plain data (they survive xdist); show our errors as one sentence."""
        report = yield
        error = call.excinfo.value if call.excinfo else None
        if isinstance(error, CollabcodeError | GateError):
            report.longrepr = str(error)
        records = item.stash.get(_RECORDED, []) if call.when == "call" else []
        metrics = _metrics(item) if isinstance(error, CollabcodeError) else ()
        if records or metrics:
            errors = [[_subject(item), metric, str(error)] for metric in metrics]
            vars(report)["collabcode"] = {
                "place": item.session.items.index(item),
                "records": records,
                "errors": errors,
                "narrowed": self.narrowed,
                "trainings": self.session.pipeline.trainings.known,
                "notes": list(self.session.pipeline.bench.notes),
            }
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a test recorded on the side that decides the exit code."""
        if hasattr(report, "collabcode"):
            self._reported.append(report.collabcode)

    # --- after the tests

    def _collect(self, recorded: dict[str, Any]) -> None:
        """Take over what one test measured, and what its process, perhaps a worker of xdist, knows of the run."""
        for plain in recorded["records"]:
            measurements, verdicts = record_from_plain(plain)
            self.measurements += measurements
            self.verdicts += verdicts
        self.errors |= {(subject, metric): text for subject, metric, text in recorded["errors"]}
        self.narrowed = self.narrowed or recorded["narrowed"]
        self.session.pipeline.trainings.learn_of(recorded["trainings"])
        for note in recorded["notes"]:
            if note not in self.session.pipeline.bench.notes:
                self.session.pipeline.bench.note(note)

    def _complete(self, session: pytest.Session) -> None:
        self.judged = True
        for recorded in sorted(self._reported, key=itemgetter("place")):  # whichever worker of xdist was first
            self._collect(recorded)
        self.verdicts += self.session.unmeasured(self.verdicts, self.errors, narrowed=self.narrowed)
        self.proposals = self.session.write_proposals(self.measurements, self.errors)
        # A verdict blocks whatever became of its test: xfail, a swallowed exception, or no test at all.
        if (any(v.blocks for v in self.verdicts) or self.proposals) and not session.testsfailed:
            session.testsfailed += 1

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Turn a passed but narrowed run into exit 6; write the report files."""
        if not self.judged:
            return
        if session.exitstatus == 0 and self.narrowed and not self.settings.accept_partial:
            session.exitstatus = EXIT_PARTIAL
        self.green = session.exitstatus in (0, EXIT_PARTIAL)
        self.pytest_session = session
        self.broken = self._write_reports()
        if self.broken:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            if self.green:  # what could be written must not say so
                self.green = False
                self._write_reports()

    def _write_reports(self) -> list[str]:
        return self.session.write_reports(self.measurements, self.verdicts, green=self.green, partial=self.narrowed)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the verdicts, blocking ones last, then the one line that says what the run means."""
        if not self.judged:
            return
        status = int(self.pytest_session.exitstatus)  # another plugin may have changed it
        self.green = self.green and status in (0, EXIT_PARTIAL)
        if not self.green and not (self.broken or self.proposals or any(v.blocks for v in self.verdicts)):
            self.broken = [_STATUS.get(status, f"pytest ended with {status}")]
        self.session.summarize(terminalreporter, self)


def _metrics(item: pytest.Item) -> tuple[str, ...]:
    marker = item.get_closest_marker("measures")
    return tuple(marker.args) if marker else ()


def _executes(item: pytest.Item) -> bool:
    return "pass" in _metrics(item) or "pass_at_k" in getattr(item, "fixturenames", ())


def _subject(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    subject = callspec.params.get("subject") if callspec else None
    return subject if isinstance(subject, str) else ""


def _without_subject(item: pytest.Item) -> bool:
    return "subject" in getattr(item, "fixturenames", ()) and not _subject(item)
