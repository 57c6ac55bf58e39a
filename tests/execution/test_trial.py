import contextlib
from pathlib import Path

import pytest

from pytest_collabcode.execution import trial
from pytest_collabcode.execution.policy import Limits
from pytest_collabcode.execution.sandbox import open_sandbox
from pytest_collabcode.execution.walls import STOP
from pytest_collabcode.execution.worker import WorkerLostError
from pytest_collabcode.records import Problem

PROBLEM = Problem(task_id="t", prompt="def f(x):\n", test="def check(f): assert f(1) == 2\n", entry_point="f")
LIMITS = Limits(cpu_s=2)
ENDED = {"signal": 0, "status": 0, "cpu_s": 0.1}
RAN_OUT = {"signal": 9, "status": 0, "cpu_s": 1.99}


class Silent:
    def complaint(self):
        return "so it said"


@pytest.mark.parametrize(
    ("said", "changes", "outcome", "detail"),
    [
        (b'   ["passed", ""]', {}, "passed", ""),
        (b'   ["passed", ""]', {"timed_out": True}, "timeout", "wall-clock"),
        (b"   ", {"timed_out": True}, "timeout", "wall-clock"),
        (b"  ", {"timed_out": True}, "internal_error", "before it called the program: more than 15 s of wall-clock"),
        (b" ", {"timed_out": True}, "timeout", "wall-clock"),
        (b"", {"timed_out": True}, "internal_error", "before it called the program: more than 15 s of wall-clock"),
        (b"", {}, "internal_error", "without a verdict, exit status 0: so it said"),
        (b"   ", {}, "internal_error", "without a verdict, exit status 0: so it said"),
        (b"   ", {"judge": RAN_OUT}, "timeout", "on the program's answers"),
        (b"  ", {"judge": RAN_OUT}, "internal_error", "before it called the program: more than 2 s of CPU time"),
        (b"   ", {"judge": {**ENDED, "signal": 11}}, "crashed", "SIGSEGV in the test"),
        (b"  ", {"judge": {**ENDED, "signal": 11}}, "internal_error", "before it called the program: SIGSEGV"),
        (b"", {"judge": {**ENDED, "signal": 11}}, "internal_error", "before it called the program: SIGSEGV"),
        (b"  ", {"judge": {**ENDED, "signal": 9}}, "crashed", "SIGKILL in the test"),  # for want of memory, it may be
        (b' ["gone", ""]', {}, "failed", "ended before it answered"),
        (b'   ["gone", ""]', {"program": RAN_OUT}, "timeout", "2 s of CPU time"),
        (b'   ["gone", ""]', {"program": {**ENDED, "signal": 9}}, "crashed", "SIGKILL"),
        (b'   ["gone", ""]', {"program": {**ENDED, "signal": 40}}, "crashed", "signal 40"),
        (b'   ["failed", "\\u001b[31m"]', {}, "failed", "\\x1b[31m"),
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


def test_an_order_to_stop_that_comes_too_late_stops_nothing():
    with contextlib.closing(open_sandbox().start()) as worker:
        worker._control.send(STOP)
        assert trial.try_program(worker, LIMITS, PROBLEM, "    return 2\n").outcome == "passed"


def test_a_program_that_waits_is_stopped_also_where_the_kernel_tells_nothing_of_it():
    limits = Limits(cpu_s=1, wall_s=1)
    with contextlib.closing(open_sandbox(limits).start()) as worker:
        worker.pid = 1 << 30  # of no process
        assert trial.try_program(worker, limits, PROBLEM, "    import time; time.sleep(60)\n").outcome == "timeout"
        assert trial.try_program(worker, limits, PROBLEM, "    return 2\n").outcome == "passed"


def test_a_trial_leaves_the_caller_no_open_file():
    with contextlib.closing(open_sandbox().start()) as worker:
        before = open_files()
        trial.try_program(worker, LIMITS, PROBLEM, "    return 2\n")
        assert open_files() == before


def open_files():
    return [str(path) for path in sorted(Path("/proc/self/fd").iterdir()) if path.exists()]
