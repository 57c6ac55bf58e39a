"""`collabcode execute`: a file of generated programs, run alone, so that one machine generates and another executes.

Results are appended as they come; a run that was killed goes on where its last whole line ends.
Not covered: generating; the files (samples.py, results.py).
"""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from pytest_collabcode.commands.results import Results, alone, claim, refuse_place, result_line, standing
from pytest_collabcode.commands.samples import Sample, read_problems, read_samples
from pytest_collabcode.commands.wording import counted
from pytest_collabcode.digests import digest_of
from pytest_collabcode.errors import ConfigurationError, InternalSampleError
from pytest_collabcode.execution.executor import execute_in_order
from pytest_collabcode.execution.oracle import FAULTS_OF_PROBLEM
from pytest_collabcode.executions import how_executed, is_unsafe, isolation_here, require_isolation
from pytest_collabcode.metrics.pass_at_k import pass_at_k
from pytest_collabcode.progress import Progress
from pytest_collabcode.records import Execution, Generation, Outcome, Problem, format_value

OPTION = "--unsafe-execution"
_LABEL = "collabcode execute"
_NAMED = 5  # samples, problems or kinds of errors in a message


def execute_file(
    problems: Path, generations: Path, out: Path, *, workers: int | None = None, unsafe: bool = False
) -> Iterator[str]:
    """Run the programs of one file and write what became of each to another; go on where an earlier run was killed.

    Args:
        problems: JSON lines of task_id, prompt, test, entry_point; gzip when it ends in .gz.
        generations: JSON lines of task_id, completion, perhaps sample_index and further keys; every line is checked
            before any program runs.
        out: written; the keys of each generation with outcome, passed, detail, duration_s and isolation.
        workers: programs at a time; the number of usable cores by default.
        unsafe: run them even where nothing isolates them.
    Yields:
        What to print: what is run, and at the end what came of it.
    Raises:
        ConfigurationError: an input is wrong, or `out` is one, holds something else or is being written; it stays.
        IsolationError: programs cannot be confined here.
        InternalSampleError: the tool failed on samples, which are named; all the others are done.
        StoreError: `out` cannot be written; what is written stays.
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
    refuse_place(out, {"--problems": problems, "--generations": generations})
    began = time.monotonic()
    isolation = isolation_here(allow_unsafe=unsafe)
    require_isolation(isolation, option=OPTION)
    known = read_problems(problems)
    survey = _survey(known, read_samples(generations, known))
    if not survey.n_samples:
        raise ConfigurationError(f"--generations={generations} holds no generation")
    tally = _Tally(n_problems=len(known))
    with alone(out):
        claim(out, {"problems": digest_of(known), **how_executed(isolation.level)})
        samples, end = read_samples(generations, known), 0
        for stands in standing(out, samples):
            tally.add(stands.sample, stands.outcome, stands.detail)
            end = stands.end
        there = f", {tally.n} of them executed before" * bool(tally.n)
        what = f"{counted(survey.n_samples, 'generation')} of {counted(len(known), 'problem')}"
        yield f"{what}{there}; isolation: {isolation.level}"
        yield from survey.warnings(known)
        progress = Progress()
        ended = _run(known, samples, workers=workers, unsafe=is_unsafe(isolation.level))
        with closing(ended), closing(Results(out, end)) as results:
            for sample, execution in ended:
                results.append(result_line(sample, execution))
                tally.add(sample, execution.outcome, execution.detail)
                progress.update(_LABEL, tally.n, survey.n_samples, "executing")
        progress.close(_LABEL)
    yield f"{out}: {tally.text()}; isolation: {isolation.level}; {time.monotonic() - began:.0f} s"
    tally.refuse_internal_errors()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Survey:
    """What is known of the generations before any runs."""

    n_samples: int
    unanswered: tuple[str, ...]  # problems without a generation
    undefined: tuple[str, ...]  # problems whose entry point nothing names

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


def _survey(problems: Mapping[str, Problem], samples: Iterable[Sample]) -> _Survey:
    n_samples, asked, defined = 0, set[str](), set[str]()
    for sample in samples:
        task_id = sample.generation.task_id
        if task_id not in asked:
            asked.add(task_id)
            if _names(problems[task_id].prompt, problems[task_id]):
                defined.add(task_id)
        if task_id not in defined and _names(sample.generation.completion, problems[task_id]):
            defined.add(task_id)
        n_samples += 1
    return _Survey(
        n_samples=n_samples,
        unanswered=tuple(task_id for task_id in problems if task_id not in asked),
        undefined=tuple(task_id for task_id in problems if task_id in asked - defined),
    )


def _names(text: str, problem: Problem) -> bool:
    return re.search(rf"(?<!\w){re.escape(problem.entry_point)}(?!\w)", text) is not None


def _some(names: Sequence[str]) -> str:
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return ", ".join([*names[:_NAMED], *more])


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What became of the samples so far."""

    n_problems: int  # that were asked, or might have been
    n_samples: Counter[str] = field(default_factory=Counter)  # by problem
    n_passed: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)  # internal errors by detail
    broken: dict[str, list[str]] = field(default_factory=dict)  # the first samples of the first of these details

    @property
    def n(self) -> int:
        return self.outcomes.total()

    def add(self, sample: Sample, outcome: Outcome, detail: str) -> None:
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
                named.append(f"{generation.task_id}#{generation.sample_index} ({sample.where})")

    def text(self) -> str:
        outcomes = ", ".join(f"{n} {outcome}" for outcome, n in self.outcomes.most_common())
        what = f"{counted(self.n, 'sample')} of {counted(len(self.n_samples), 'problem')}"
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
            way_out = "mend the problem, then execute" if detail.startswith(FAULTS_OF_PROBLEM) else "execute again"
            said.append(f"no verdict on {samples}, which says nothing about these programs: {detail}; {way_out}")
        if said:
            raise InternalSampleError("\n".join(f"{line} into another --out" for line in said))


def _run(
    problems: Mapping[str, Problem], samples: Iterator[Sample], *, workers: int | None, unsafe: bool
) -> Generator[tuple[Sample, Execution], None, None]:
    """Yield samples with what became of them; only those that are being run are in memory."""
    begun: deque[Sample] = deque()

    def generations() -> Iterator[Generation]:
        for sample in samples:
            begun.append(sample)
            yield sample.generation

    for execution in execute_in_order(problems, generations(), workers=workers, unsafe=unsafe):
        yield begun.popleft(), execution
