import contextlib
from pathlib import Path

import pytest

from pytest_collabcode.execution import trial
from pytest_collabcode.execution.policy import Limits
from pytest_collabcode.execution.sandbox import open_sandbox
from pytest_collabcode.execution.worker import WorkerLostError
from pytest_collabcode.records import Problem

PROBLEM = Problem(task_id="t", prompt="def f(x):\n", test="def check(f): assert f(1) == 2\n", entry_point="f")
LIMITS = Limits(cpu_s=2)
ENDED = {"signal": 0, "status": 0, "cpu_s": 0.1}


class Silent:
    def complaint(self):
        return "so it said"


@pytest.mark.parametrize(
    ("said", "changes", "outcome", "detail"),
    [
        (b'["passed", ""]', {}, "passed", ""),
        (b'["passed", ""]', {"timed_out": True}, "timeout", "wall-clock"),
        (b"", {}, "internal_error", "without a verdict, exit status 0: so it said"),
        (b"", {"judge": {**ENDED, "signal": 9, "cpu_s": 1.99}}, "timeout", "on the program's answers"),
        (b"", {"judge": {**ENDED, "signal": 11}}, "crashed", "SIGSEGV in the test"),
        (b'["gone", ""]', {}, "failed", "ended before it answered"),
        (b'["gone", ""]', {"program": {**ENDED, "signal": 9, "cpu_s": 1.99}}, "timeout", "2 s of CPU time"),
        (b'["gone", ""]', {"program": {**ENDED, "signal": 9}}, "crashed", "SIGKILL"),
        (b'["gone", ""]', {"program": {**ENDED, "signal": 40}}, "crashed", "signal 40"),
        (b'["failed", "\\u001b[31m"]', {}, "failed", "\\x1b[31m"),
    ],
)
def test_a_ruling_follows_from_the_verdict_and_from_how_processes_ended(said, changes, outcome, detail):
    report = {"timed_out": False, "judge": ENDED, "program": ENDED, **changes}
    ruling = trial._rule(report, said, LIMITS, Silent())
    assert ruling.outcome == outcome
    assert detail in ruling.detail


def test_what_the_kernel_kills_for_want_of_memory_is_out_of_memory():
    class Group:
        counts = iter([3, 4, 4, 4])

        def n_killed(self):
            return next(self.counts)

        def close(self):
            pass

    with contextlib.closing(open_sandbox().start()) as worker:
        worker.group = Group()
        killed = "    import os; os.kill(os.getpid(), 9)\n"
        assert trial.try_program(worker, LIMITS, PROBLEM, killed).outcome == "out_of_memory"
        assert trial.try_program(worker, LIMITS, PROBLEM, killed).outcome == "crashed"
        worker.group = None


def test_a_worker_that_is_gone_is_said(monkeypatch):
    worker = open_sandbox().start()
    worker.kill()
    with contextlib.closing(worker), pytest.raises(WorkerLostError):
        trial.try_program(worker, LIMITS, PROBLEM, "    return 2\n")


def test_a_trial_leaves_the_caller_no_open_file():
    with contextlib.closing(open_sandbox().start()) as worker:
        before = open_files()
        trial.try_program(worker, LIMITS, PROBLEM, "    return 2\n")
        assert open_files() == before


def open_files():
    return [str(path) for path in sorted(Path("/proc/self/fd").iterdir()) if path.exists()]
