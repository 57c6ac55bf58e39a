"""`collabcode execute`: a file of generated programs, run alone, so that one machine generates and another executes.

One result line stands for each line of generations, in order, and begins with the very text of that line. Results are
appended as they come; a run that was killed goes on where its last whole line ends. OUT.inputs says what the results
were made from, OUT.lock keeps a second run away. Not covered: generating; several machines that write one file.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_collabcode.commands.samples import RESULT_KEYS, Sample, read_problems, read_samples
from pytest_collabcode.commands.wording import counted
from pytest_collabcode.digests import digest_of
from pytest_collabcode.errors import ConfigurationError, InternalSampleError, StoreError
from pytest_collabcode.execution.executor import execute_in_order
from pytest_collabcode.executions import how_executed, is_unsafe, isolation_here, require_isolation
from pytest_collabcode.metrics.pass_at_k import pass_at_k
from pytest_collabcode.progress import Progress
from pytest_collabcode.records import Execution, Generation, Outcome, Problem, format_value

OPTION = "--unsafe-execution"
_LABEL = "collabcode execute"
_NAMED = 5  # samples in a message
_WAY_OUT = "name another --out, or delete this one"


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
        ConfigurationError: an input is wrong, or `out` holds other results or is being written; it stays as it was.
        IsolationError: programs cannot be confined here.
        InternalSampleError: the tool failed on samples, which are named; all the others are done.
        StoreError: `out` cannot be written; what is written stays.
    Example:
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
    began = time.monotonic()
    isolation = isolation_here(allow_unsafe=unsafe)
    require_isolation(isolation, option=OPTION)
    known = read_problems(problems)
    n_samples = sum(1 for _ in read_samples(generations, known))
    if not n_samples:
        raise ConfigurationError(f"--generations={generations} holds no generation")
    tally = _Tally()
    with _alone(out):
        _claim(out, {"problems": digest_of(known), **how_executed(isolation.level)})
        samples = read_samples(generations, known)
        n_bytes = _keep(out, samples, tally)
        there = f", {tally.n} of them executed before" * bool(tally.n)
        what = f"{counted(n_samples, 'generation')} of {counted(len(known), 'problem')}"
        yield f"{what}{there}; isolation: {isolation.level}"
        progress = Progress()
        ended = _run(known, samples, workers=workers, unsafe=is_unsafe(isolation.level))
        with closing(ended), closing(_Results(out, n_bytes)) as results:
            for sample, execution in ended:
                results.append(result_line(sample, execution))
                tally.add(sample, execution.outcome)
                progress.update(_LABEL, tally.n, n_samples, "executing")
        progress.close(_LABEL)
    yield f"{out}: {tally.text()}; isolation: {isolation.level}; {time.monotonic() - began:.0f} s"
    tally.refuse_internal_errors()


def result_line(sample: Sample, execution: Execution) -> str:
    """Return the line of a generation with what became of it: the text as it was written, then the new keys.

    Example:
        >>> rest = {"completion": "", "n_tokens": 0, "duration_s": 0, "stop_reason": ""}
        >>> generation = Generation(task_id="t", sample_index=0, **rest)
        >>> sample = Sample(where="g.jsonl:1", text='{"task_id":"t", "completion":""}', generation=generation)
        >>> ended = Execution(task_id="t", sample_index=0, outcome=Outcome.TIMEOUT, duration_s=5, isolation="bwrap")
        >>> result_line(sample, ended).partition(', "outcome"')[0]
        '{"task_id":"t", "completion":""'
        >>> json.loads(result_line(sample, ended))["passed"]
        False
    """
    values = (
        execution.outcome,
        execution.passed,
        execution.detail,
        round(execution.duration_s, 6),
        execution.isolation,
    )
    return _head(sample) + json.dumps(dict(zip(RESULT_KEYS, values, strict=True)))[1:] + "\n"


@dataclass(slots=True)
class _Tally:
    """What became of the samples so far."""

    n_samples: Counter[str] = field(default_factory=Counter)  # by problem
    n_passed: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)  # the first samples that the tool failed on

    @property
    def n(self) -> int:
        return self.outcomes.total()

    def add(self, sample: Sample, outcome: str) -> None:
        generation = sample.generation
        self.outcomes[str(outcome)] += 1
        self.n_samples[generation.task_id] += 1
        self.n_passed[generation.task_id] += outcome == Outcome.PASSED
        if outcome == Outcome.INTERNAL_ERROR and len(self.broken) < _NAMED:
            self.broken.append(f"{generation.task_id}#{generation.sample_index} ({sample.where})")

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
        return f"{measured.name} = {format_value(measured.value, measured.unit)}{count}"

    def refuse_internal_errors(self) -> None:
        if self.broken:
            n_more = self.outcomes[Outcome.INTERNAL_ERROR] - len(self.broken)
            more = f" and {n_more} more" if n_more else ""
            raise InternalSampleError(
                f"the tool failed on {', '.join(self.broken)}{more}, which says nothing about these programs: "
                "see the detail in their lines, and execute them again into another file"
            )


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


def _head(sample: Sample) -> str:
    return sample.text[:-1].rstrip() + ", "  # at least task_id stands before the closing brace


class _Results:
    """The file of results behind the lines that stand: each line has left this process when append returns."""

    def __init__(self, out: Path, n_bytes: int) -> None:
        self._out = out
        with _writing(out):
            self._stream = out.open("ab", buffering=0)
            self._stream.truncate(n_bytes)

    def append(self, line: str) -> None:
        data = line.encode()
        with _writing(self._out):
            while data:  # a disk that fills up takes a part of a line
                data = data[self._stream.write(data) :]

    def close(self) -> None:
        with _writing(self._out), self._stream:
            os.fsync(self._stream.fileno())


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    lock = FileLock(f"{out}.lock", timeout=0)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ConfigurationError(
            f"--out={out} is being written by another run: wait for it, or name another --out"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"--out={out} cannot be written: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"--out={out} cannot be written: {error.strerror}; what is written stays, and the same command goes on"
        ) from error


def _claim(out: Path, inputs: Mapping[str, str]) -> None:
    """Write down what the results are made from, or refuse those that were made from something else."""
    path = out.with_name(f"{out.name}.inputs")
    if not out.exists() or out.stat().st_size == 0:
        with _writing(out), path.open("w", encoding="utf-8") as stream:
            stream.write(json.dumps(dict(inputs), indent=1) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        return
    try:
        stands = json.loads(path.read_text(encoding="utf-8"))
        other = [key for key in inputs if stands[key] != inputs[key]]
    except (OSError, ValueError, TypeError, KeyError):
        raise ConfigurationError(
            f"--out={out} is there, but {path.name} beside it does not say what it was made from: {_WAY_OUT}"
        ) from None
    if other:
        raise ConfigurationError(f"--out={out} was made with another value of {other[0]!r}, see {path}: {_WAY_OUT}")


def _keep(out: Path, samples: Iterator[Sample], tally: _Tally) -> int:
    """Take the whole lines that stand, each with its sample, and return their bytes; a torn last line is dropped."""
    n_bytes = 0
    if not out.exists():
        return n_bytes
    with out.open("rb") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                break
            sample = next(samples, None)
            outcome = _outcome(line, sample)
            if sample is None or outcome is None:
                of = f"of {sample.where}" if sample else "of any generation"
                raise ConfigurationError(f"--out={out}: line {tally.n + 1} is not the result {of}: {_WAY_OUT}")
            tally.add(sample, outcome)
            n_bytes += len(line)
    return n_bytes


def _outcome(line: bytes, sample: Sample | None) -> str | None:
    """Return the outcome that a line says of a sample, or None where it says nothing of it."""
    head = _head(sample).encode() if sample else b""
    if sample is None or not line.startswith(head):
        return None
    try:
        results = json.loads(b"{" + line[len(head) :])
        return Outcome(results[RESULT_KEYS[0]]).value if tuple(results) == RESULT_KEYS else None
    except ValueError:
        return None
