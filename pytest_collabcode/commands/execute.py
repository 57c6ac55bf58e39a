"""`collabcode execute`: a file of generated programs, run alone, so that one machine generates and another executes.

Each distinct program runs once for its problem, slow problems first, and its outcome is stored when it ends: the next
run, after a kill or with further generations, runs only what is not stored. Results are written at the end.
Not covered: generating; the files (samples.py, results.py).
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from pytest_collabcode.commands.results import Results
from pytest_collabcode.commands.samples import Sample, Samples, open_samples, read_problems
from pytest_collabcode.commands.wording import counted, shown
from pytest_collabcode.digests import digest_of
from pytest_collabcode.errors import ConfigurationError, InternalSampleError
from pytest_collabcode.execution.executor import execute_each, program_key
from pytest_collabcode.execution.oracle import FAULTS_OF_PROBLEM
from pytest_collabcode.executions import from_row, how_executed, is_unsafe, isolation_here, require_isolation, to_row
from pytest_collabcode.journal import Journal, Records
from pytest_collabcode.metrics.pass_at_k import pass_at_k
from pytest_collabcode.progress import Progress
from pytest_collabcode.records import Execution, Generation, Outcome, Problem, format_value

OPTION = "--unsafe-execution"
_LABEL = "collabcode execute"
_NAMED = 5  # samples, problems or kinds of errors in a message


def execute_file(
    problems: Path, generations: Path, out: Path, *, workers: int | None = None, unsafe: bool = False
) -> Iterator[str]:
    """Run the programs of one file and write what became of each to another; what an earlier run did is not repeated.

    Args:
        problems: JSON lines of task_id, prompt, test, entry_point; gzip when it ends in .gz.
        generations: JSON lines of task_id, completion, perhaps sample_index and further keys; every line is checked
            before any program runs.
        out: written at the end; the keys of each generation with outcome, passed, detail, duration_s and isolation.
            Outcomes are stored beside it meanwhile.
        workers: programs at a time; the number of usable cores by default.
        unsafe: run them even where nothing isolates them.
    Yields:
        What to print: what is run, and at the end what came of it.
    Raises:
        ConfigurationError: an input is wrong, or `out` is one, holds something else or is being written; it stays.
        IsolationError: programs cannot be confined here.
        InternalSampleError: the tool failed on samples, which are named; all the others are done, and the next run
            tries these again.
        StoreError: `out` cannot be written; what is stored stays.
    Example:
        >>> import json
        >>> from tempfile import TemporaryDirectory
        >>> problem = {"task_id": "t", "prompt": "def f(x):\\n", "entry_point": "f",
        ...            "test": "def check(f):\\n    assert f(1) == 2\\n"}
        >>> with TemporaryDirectory() as folder:
        ...     p, g, out = (Path(folder, name) for name in ("p.jsonl", "g.jsonl", "out.jsonl"))
        ...     _ = p.write_text(json.dumps(problem))
        ...     _ = g.write_text('{"task_id": "t", "completion": "    return x + 1", "by": "me"}')
        ...     said = list(execute_file(p, g, out))
        ...     out.read_text().partition(', "detail"')[0]
        '{"task_id": "t", "completion": "    return x + 1", "by": "me", "outcome": "passed", "passed": true'
    """
    if workers is not None and workers < 1:
        raise ConfigurationError(f"--workers={workers}: at least one is needed")
    results = Results(out)
    results.refuse_place({"--problems": problems, "--generations": generations})
    began = time.monotonic()
    isolation = isolation_here(allow_unsafe=unsafe)
    require_isolation(isolation, option=OPTION)
    known = read_problems(problems)
    made_from = {"problems": digest_of(known), **how_executed(isolation.level)}
    with results.alone(), open_samples(generations, known, folder=results.folder) as samples:
        outcomes = _Outcomes(results.journal, results.stored(made_from))
        survey = _survey(known, samples, outcomes.stored)
        if not survey.n_samples:
            raise ConfigurationError(f"--generations={generations} holds no generation")
        tally = _Tally(n_problems=len(known))
        n_standing = results.standing(tally.counting(samples, outcomes))
        yield f"{survey.text(known)}; isolation: {isolation.level}"
        yield from survey.warnings(known)
        if n_standing == survey.n_samples:
            yield f"{out} is complete and stays as it is"
        else:
            if survey.missing:
                results.begin(made_from, outcomes.stored)
                programs = _Programs(samples, survey.missing)
                outcomes.fill(known, programs, workers=workers, unsafe=is_unsafe(isolation.level))
            tally = _Tally(n_problems=len(known))
            results.write(tally.counting(samples, outcomes))
    yield f"{out}: {tally.text()}; isolation: {isolation.level}; {time.monotonic() - began:.0f} s"
    tally.refuse_internal_errors()


class _Programs:
    """The programs to run by the places of their lines, read when they are asked for."""

    def __init__(self, samples: Samples, keys: Mapping[int, str]) -> None:
        self._samples, self.keys = samples, keys

    def __getitem__(self, place: int, /) -> Generation:
        generation = self._samples[place]
        if program_key(generation) != self.keys[place]:
            raise ConfigurationError(f"{self._samples.path} was altered while it was executed; execute it again")
        return generation


class _Outcomes:
    """What became of programs: stored for good, or in this run only where the tool failed on one."""

    def __init__(self, journal: Journal, stored: Records) -> None:
        self.stored = stored
        self._journal = journal
        self._broken: dict[str, Execution] = {}

    def of(self, sample: Sample) -> Execution | None:
        generation = sample.generation
        key = program_key(generation)
        row = self.stored.get(key)
        return from_row(row, generation.task_id, generation.sample_index) if row else self._broken.get(key)

    def fill(
        self, problems: Mapping[str, Problem], programs: _Programs, *, workers: int | None, unsafe: bool
    ) -> None:
        """Run programs, and store what becomes of each as soon as it has ended."""
        progress, places = Progress(), list(programs.keys)
        ended = execute_each(problems, programs, places, workers=workers, unsafe=unsafe)
        with self._journal.filling(), closing(ended):
            for n_ended, (place, execution) in enumerate(ended, start=1):
                if execution.outcome is Outcome.INTERNAL_ERROR:
                    self._broken[programs.keys[place]] = execution
                else:
                    self._journal.append({programs.keys[place]: to_row(execution)})
                progress.update(_LABEL, n_ended, len(places), "executing")
        progress.close(_LABEL)
        self.stored = self._journal.read()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Survey:
    """What is known of the generations before any runs."""

    n_samples: int
    missing: Mapping[int, str]  # place and key of each distinct program that no run has stored
    n_stored: int  # samples of the others
    unanswered: tuple[str, ...]  # problems without a generation
    undefined: tuple[str, ...]  # problems whose entry point nothing names

    def text(self, problems: Mapping[str, Problem]) -> str:
        n_stored = "all" if self.n_stored == self.n_samples else f"{self.n_stored:,}"
        there = f", {n_stored} of them executed before" * bool(self.n_stored)
        return f"{counted(self.n_samples, 'generation')} of {counted(len(problems), 'problem')}{there}"

    def warnings(self, problems: Mapping[str, Problem]) -> Iterator[str]:
        if self.unanswered:
            whose = f"{counted(len(self.unanswered), 'problem')} without a generation ({_some(self.unanswered)})"
            yield f"warning: {whose}: pass@1 will be over {len(problems) - len(self.unanswered)} of {len(problems)}"
        if self.undefined:
            names = _some([f"{task_id}: {problems[task_id].entry_point}" for task_id in self.undefined])
            yield (
                f"warning: {counted(len(self.undefined), 'entry_point')} named by neither the prompt nor any of its "
                f"completions ({names}), so these fail; is it misspelt in --problems?"
            )


def _survey(problems: Mapping[str, Problem], samples: Iterable[Sample], stored: Records) -> _Survey:
    n_samples, n_stored, missing, asked, defined = 0, 0, dict[str, int](), set[str](), set[str]()
    for sample in samples:
        task_id, key = sample.generation.task_id, program_key(sample.generation)
        if task_id not in asked:
            asked.add(task_id)
            if _names(problems[task_id].prompt, problems[task_id]):
                defined.add(task_id)
        if task_id not in defined and _names(sample.generation.completion, problems[task_id]):
            defined.add(task_id)
        n_samples += 1
        if key in stored:
            n_stored += 1
        else:
            missing.setdefault(key, sample.place)
    return _Survey(
        n_samples=n_samples,
        missing={place: key for key, place in missing.items()},
        n_stored=n_stored,
        unanswered=tuple(task_id for task_id in problems if task_id not in asked),
        undefined=tuple(task_id for task_id in problems if task_id in asked - defined),
    )


def _names(text: str, problem: Problem) -> bool:
    return re.search(rf"(?<!\w){re.escape(problem.entry_point)}(?!\w)", text) is not None


def _some(names: Sequence[str]) -> str:
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return ", ".join([*map(shown, names[:_NAMED]), *more])


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What became of the samples so far."""

    n_problems: int  # that were asked, or might have been
    n_samples: Counter[str] = field(default_factory=Counter)  # by problem
    n_passed: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)  # internal errors by detail
    broken: dict[str, list[str]] = field(default_factory=dict)  # the first samples of the first of these details

    def counting(self, samples: Iterable[Sample], outcomes: _Outcomes) -> Iterator[tuple[Sample, Execution | None]]:
        """Yield each sample with what became of it, and count that."""
        for sample in samples:
            execution = outcomes.of(sample)
            if execution:
                self._add(sample, execution.outcome, execution.detail)
            yield sample, execution

    def _add(self, sample: Sample, outcome: Outcome, detail: str) -> None:
        generation = sample.generation
        self.outcomes[str(outcome)] += 1
        self.n_samples[generation.task_id] += 1
        self.n_passed[generation.task_id] += outcome == Outcome.PASSED
        if outcome == Outcome.INTERNAL_ERROR:
            if detail not in self.broken and len(self.broken) >= _NAMED:
                detail = "other reasons, which stand in their lines"
            self.faults[detail] += 1
            named = self.broken.setdefault(detail, [])
            if len(named) < _NAMED:
                named.append(f"{shown(generation.task_id)}#{generation.sample_index} ({sample.where})")

    def text(self) -> str:
        outcomes = ", ".join(f"{n} {outcome}" for outcome, n in self.outcomes.most_common())
        what = f"{counted(self.outcomes.total(), 'sample')} of {counted(len(self.n_samples), 'problem')}"
        return f"{what}: {outcomes}; {self._pass_at_1()}"

    def _pass_at_1(self) -> str:
        if self.broken:
            return "pass@1 is not measured"
        tasks = list(self.n_samples)
        measured = pass_at_k(tasks, list(self.n_samples.values()), [self.n_passed[t] for t in tasks], k=1, subject="")
        count = f" ({measured.count}/{measured.n})" if measured.count is not None else ""
        value = f"{format_value(measured.value, measured.unit)}{count}"
        if len(tasks) == self.n_problems:
            return f"{measured.name} = {value}"
        part = f"{len(tasks)} of {counted(self.n_problems, 'problem')}"
        return f"{measured.name} over {part} = {value}, {self.n_problems - len(tasks)} without a sample"

    def refuse_internal_errors(self) -> None:
        """Raise, with a line for each detail, what the tool failed on and what to do about it."""
        said = []
        for detail, named in self.broken.items():
            n_more = self.faults[detail] - len(named)
            samples = ", ".join(named) + (f" and {n_more} more" if n_more else "")
            is_faulty = detail.startswith(FAULTS_OF_PROBLEM)
            way_out = (
                "mend the problem, then execute into another --out" if is_faulty else "the same command tries again"
            )
            said.append(f"no verdict on {samples}, which says nothing about these programs: {detail}; {way_out}")
        if said:
            raise InternalSampleError("\n".join(said))
