"""One trial: a generated program and the test that judges it, in two sandboxes, from start to the last process's end.

The two are joined by two pipes; the verdict comes on a third, which only the judge's sandbox holds. Nothing a program
prints, returns or exits with is a verdict: its exit status only names the way it failed.
Not covered: a pool of started interpreters.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from pytest_collabcode.execution.policy import Limits
from pytest_collabcode.execution.sandbox import Sandbox
from pytest_collabcode.records import Outcome, Problem

_START_S = 60.0  # for two interpreters; beyond it the machine is at fault, not the program
_END_S = 1.0  # for a process that has closed its pipes to end
_TICK_S = 0.25  # how soon a stopped run ends
_DETAIL_CHARACTERS = 200
_SIGNALLED = 128  # a shell's and bubblewrap's way to report death by a signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What became of a program."""

    outcome: Outcome
    detail: str = ""
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Court:
    """The processes of one trial and the pipe of its verdict."""

    candidate: subprocess.Popen[bytes]
    oracle: subprocess.Popen[bytes]
    verdicts: _Lines


def try_program(sandbox: Sandbox, problem: Problem, completion: str, stop: threading.Event) -> Ruling:
    """Run a program (prompt + completion) and its test; every process of either is dead or dying on return.

    Args:
        sandbox: with the limits of both.
        problem: prompt, test and entry_point.
        completion: of the prompt.
        stop: when set, the trial ends as an internal error.
    Returns:
        The ruling; INTERNAL_ERROR when the tool failed, whatever the program did.
    Raises:
        Nothing that a program could cause.
    Example:
        >>> from pytest_collabcode.execution.sandbox import open_sandbox
        >>> problem = Problem(task_id="t", prompt="def f(x):\\n", entry_point="f",
        ...                   test="def check(f):\\n    assert f(1) == 2\\n")
        >>> try_program(open_sandbox(), problem, "    return x - 1\\n", threading.Event()).detail
        'AssertionError at test line 2'
    """
    try:
        with _open_court(sandbox, problem, completion) as court:
            return _preside(court, sandbox.limits, stop)
    except OSError as error:
        return Ruling(outcome=Outcome.INTERNAL_ERROR, detail=f"no process could be run: {error.strerror}")


@contextmanager
def _open_court(sandbox: Sandbox, problem: Problem, completion: str) -> Iterator[_Court]:
    program = {"program": problem.prompt + completion, "entry_point": problem.entry_point}
    check = {
        "prompt": problem.prompt,
        "canonical_solution": problem.canonical_solution,
        "test": problem.test,
        "entry_point": problem.entry_point,
    }
    with ExitStack() as ours:
        with ExitStack() as theirs:  # our copies of their ends must go, or no end of file would ever be seen
            calls, answers = _pipe(theirs, theirs), _pipe(theirs, theirs)
            verdicts = _pipe(ours, theirs)
            candidate = sandbox.start("candidate", program, [calls[0], answers[1]])
            ours.callback(_end, candidate)
            oracle = sandbox.start("oracle", check, [answers[0], calls[1], verdicts[1]])
            ours.callback(_end, oracle)
        yield _Court(candidate, oracle, _Lines(verdicts[0]))


def _pipe(readers: ExitStack, writers: ExitStack) -> tuple[int, int]:
    reader, writer = os.pipe()
    readers.callback(os.close, reader)
    writers.callback(os.close, writer)
    return reader, writer


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a sandbox: its first process dies with bubblewrap's outer one, and the kernel kills the rest with it."""
    process.kill()
    process.wait()
    if process.stderr is not None:
        process.stderr.close()


def _preside(court: _Court, limits: Limits, stop: threading.Event) -> Ruling:
    try:
        word, detail, started = court.verdicts.next(time.monotonic() + _START_S, stop)
    except (EOFError, TimeoutError):
        return _internal(court, "the sandboxes did not start")
    if word != "started":
        return _internal(court, detail)
    try:
        word, detail, ended = court.verdicts.next(started + limits.wall_s, stop)
        ruling = _read(court, word, detail, ended - started, limits)
    except TimeoutError:
        ended = started + limits.wall_s
        ruling = Ruling(outcome=Outcome.TIMEOUT, detail=f"more than {limits.wall_s:g} s of wall-clock time")
    except EOFError:
        ended = time.monotonic()
        ruling = _explain_lost_judge(court)
    return replace(ruling, duration_s=ended - started)


def _read(court: _Court, word: str, detail: str, elapsed_s: float, limits: Limits) -> Ruling:
    if word == "gone":
        return _explain_exit(_exit_status(court.candidate), elapsed_s, limits)
    if word == Outcome.INTERNAL_ERROR:
        return _internal(court, detail)
    return Ruling(outcome=Outcome(word), detail=_clean(detail))


def _exit_status(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(_END_S)
    except subprocess.TimeoutExpired:  # it has closed its pipes and lives on; the caller kills it
        return None


def _explain_exit(status: int | None, elapsed_s: float, limits: Limits) -> Ruling:
    """Name the way a program ended before it answered; none of them passes."""
    number = (status or 0) - _SIGNALLED
    out_of_time = number == signal.SIGXCPU or (number == signal.SIGKILL and elapsed_s >= limits.cpu_s)
    if out_of_time:
        return Ruling(outcome=Outcome.TIMEOUT, detail=f"more than {limits.cpu_s} s of CPU time")
    if number in set(signal.Signals):
        return Ruling(outcome=Outcome.CRASHED, detail=signal.Signals(number).name)
    return Ruling(outcome=Outcome.FAILED, detail="the program ended before it answered")


def _explain_lost_judge(court: _Court) -> Ruling:
    """Name the way a test ended without a verdict: by a signal that the answers led to, or by a fault of ours."""
    status = _exit_status(court.oracle)
    number = (status or 0) - _SIGNALLED
    if number in (signal.SIGXCPU, signal.SIGKILL):
        return Ruling(outcome=Outcome.TIMEOUT, detail="the test ran out of CPU time on the program's answers")
    if number in set(signal.Signals):
        detail = f"{signal.Signals(number).name} in the test on the program's answers"
        return Ruling(outcome=Outcome.CRASHED, detail=detail)
    return _internal(court, f"the judge ended without a verdict, exit status {status}")


def _internal(court: _Court, detail: str) -> Ruling:
    said = []
    for process in (court.candidate, court.oracle):
        process.kill()
        if process.stderr is not None:
            os.set_blocking(process.stderr.fileno(), False)
            said.append((process.stderr.read() or b"").decode(errors="replace").strip())
    return Ruling(outcome=Outcome.INTERNAL_ERROR, detail=_clean(": ".join([detail, *filter(None, said)])))


def _clean(detail: str) -> str:
    """Bound a detail and escape what a terminal or a log could take for an order."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in detail)[:_DETAIL_CHARACTERS]


class _Lines:
    """The judge's lines, read against a deadline."""

    def __init__(self, reader: int) -> None:
        self._reader = reader
        self._data = b""

    def next(self, deadline: float, stop: threading.Event) -> tuple[str, str, float]:
        """Return a word, a detail and when they were written.

        Raises:
            TimeoutError: the deadline is reached.
            EOFError: nobody is left to write.
            InterruptedError: stop is set.
        """
        while b"\n" not in self._data:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            if stop.is_set():
                raise InterruptedError(errno.EINTR, "the run was stopped")
            if _is_readable(self._reader, min(left_s, _TICK_S)):
                block = os.read(self._reader, 4096)
                if not block:
                    raise EOFError
                self._data += block
        line, _, self._data = self._data.partition(b"\n")
        word, detail, written = json.loads(line)
        return word, detail, written


def _is_readable(reader: int, timeout_s: float) -> bool:
    poll = select.poll()  # select() fails on file numbers over 1023
    poll.register(reader, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
