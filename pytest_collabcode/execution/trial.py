"""One trial: a generated program and the test that judges it, run by a zygote, from the order to the ruling.

The verdict comes on a pipe that only the judge's process holds. Nothing a program prints, returns or exits with is a
verdict: the way it ended only names the way it failed.
Not covered: a zygote that is lost meanwhile (crew.py).
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from pytest_collabcode.execution.oracle import INNOCENT, STEP, UNCALLED
from pytest_collabcode.execution.policy import Limits
from pytest_collabcode.execution.walls import TRIAL
from pytest_collabcode.execution.wire import write_json
from pytest_collabcode.execution.worker import Worker, memory_file
from pytest_collabcode.lines import printable
from pytest_collabcode.records import Outcome, Problem

_DETAIL_CHARACTERS = 200
_MOST = 0.5  # of the CPU limit: the kernel enforces it by sampling, and on a busy machine strikes well before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What became of a program."""

    outcome: Outcome
    detail: str = ""
    duration_s: float = 0.0


def try_program(worker: Worker, limits: Limits, problem: Problem, completion: str) -> Ruling:
    """Run a program (prompt + completion) and its test; every process of either is dead on return.

    Args:
        worker: to run them.
        limits: that the worker enforces.
        problem: prompt, test and entry_point.
        completion: of the prompt.
    Returns:
        The ruling; INTERNAL_ERROR when the tool failed, whatever the program did.
    Raises:
        WorkerLostError: the worker is gone; nothing that a program can cause short of exhausting the machine.
    Example:
        >>> from pytest_collabcode.execution.policy import DEFAULT_LIMITS
        >>> from pytest_collabcode.execution.sandbox import open_sandbox
        >>> problem = Problem(task_id="t", prompt="def f(x):\\n", entry_point="f",
        ...                   test="def check(f):\\n    assert f(1) == 2\\n")
        >>> worker = open_sandbox().start()
        >>> try_program(worker, DEFAULT_LIMITS, problem, "    return x - 1\\n").detail
        'AssertionError at test line 2'
        >>> worker.close()
    """
    program = {"program": problem.prompt + completion, "entry_point": problem.entry_point}
    check = {
        "prompt": problem.prompt,
        "canonical_solution": problem.canonical_solution,
        "test": problem.test,
        "entry_point": problem.entry_point,
    }
    killed = worker.group.n_killed() if worker.group else 0
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as verdict:
        try:
            with _job(program) as first, _job(check) as second:
                report = worker.order(TRIAL, [first.fileno(), second.fileno(), writer])
        finally:
            os.close(writer)
        said = verdict.read()  # to the end: nobody is left to write
    ruling = _rule(report, said, limits, worker)
    if worker.group and worker.group.n_killed() > killed and ruling.outcome is Outcome.CRASHED:
        ruling = Ruling(outcome=Outcome.OUT_OF_MEMORY, detail="more memory than its control group may have")
    return replace(ruling, duration_s=report["wall_s"])


def _rule(report: Mapping[str, Any], said: bytes, limits: Limits, worker: Worker) -> Ruling:
    verdict = said.lstrip(STEP)
    innocent = len(said) - len(verdict) in INNOCENT
    if report["timed_out"]:
        way = f"more than {limits.wall_s:g} s of wall-clock time"
        return _internal(worker, f"{UNCALLED}: {way}") if innocent else Ruling(outcome=Outcome.TIMEOUT, detail=way)
    if not verdict:
        return _explain_lost_judge(report["judge"], limits, worker, innocent=innocent)
    word, detail = json.loads(verdict)
    if word == "gone":
        return _explain_exit(report["program"], limits)
    if word == Outcome.INTERNAL_ERROR:
        return _internal(worker, detail)
    return Ruling(outcome=Outcome(word), detail=_clean(detail))


def _explain_exit(program: Mapping[str, Any], limits: Limits) -> Ruling:
    """Name the way a program ended before it answered; none of them passes."""
    if not program["signal"]:
        return Ruling(outcome=Outcome.FAILED, detail="the program ended before it answered")
    if _ran_out(program, limits):
        return Ruling(outcome=Outcome.TIMEOUT, detail=f"more than {limits.cpu_s} s of CPU time")
    return Ruling(outcome=Outcome.CRASHED, detail=_name(program["signal"]))


def _explain_lost_judge(judge: Mapping[str, Any], limits: Limits, worker: Worker, *, innocent: bool) -> Ruling:
    """Name the way a test ended without a verdict: its own, one that the answers led to, or by a fault of ours."""
    if not judge["signal"]:
        return _internal(worker, f"the judge ended without a verdict, exit status {judge['status']}")
    ran_out = _ran_out(judge, limits)
    if innocent and (ran_out or judge["signal"] != signal.SIGKILL):  # that may be for memory that the program took
        way = f"more than {limits.cpu_s} s of CPU time" if ran_out else _name(judge["signal"])
        return _internal(worker, f"{UNCALLED}: {way}")
    if ran_out:
        return Ruling(outcome=Outcome.TIMEOUT, detail="the test ran out of CPU time on the program's answers")
    detail = f"{_name(judge['signal'])} in the test on the program's answers"
    return Ruling(outcome=Outcome.CRASHED, detail=detail)


def _ran_out(ended: Mapping[str, Any], limits: Limits) -> bool:
    return bool(ended["signal"] == signal.SIGKILL and ended["cpu_s"] >= _MOST * limits.cpu_s)


def _name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _internal(worker: Worker, detail: str) -> Ruling:
    said = ": ".join(filter(None, [detail, worker.complaint()]))
    return Ruling(outcome=Outcome.INTERNAL_ERROR, detail=_clean(said))


def _clean(detail: str) -> str:
    """Bound a detail and escape what a terminal or a log could take for an order."""
    return printable(detail[:_DETAIL_CHARACTERS])[:_DETAIL_CHARACTERS]


def _job(content: Mapping[str, str]) -> BinaryIO:
    return memory_file(write_json(content))
