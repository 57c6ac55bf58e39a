"""A machine that is busy with others' work delays programs, and never fails one that works within its CPU time."""

import contextlib
import os
import subprocess
import sys

import pytest

from pytest_collabcode.execution.policy import Limits
from pytest_collabcode.execution.sandbox import open_sandbox
from pytest_collabcode.execution.trial import try_program
from pytest_collabcode.records import Problem

LIMITS = Limits(cpu_s=1, wall_s=1)
N_OTHERS = 5
SPIN = "import signal; signal.alarm(100)\nwhile True: pass"  # ends by itself should nobody be left to end it

# For two seconds by the clock, twice the limit. Of those it works a sixth, and were it alone it would run out of CPU
# time: it passes only where others have the core, and where what they take of the time is not counted.
WORK = "end = time.monotonic() + 2\n    while time.monotonic() < end: pass\n"


@pytest.fixture(scope="module")
def worker():
    """A worker on a core that is busy with other sessions' work."""
    sandbox = open_sandbox(LIMITS)
    cores = os.sched_getaffinity(0)
    with contextlib.ExitStack() as stack:
        os.sched_setaffinity(0, {min(cores)})  # for all that is started here
        try:
            worker = stack.enter_context(contextlib.closing(sandbox.start()))
            for _ in range(N_OTHERS):
                other = stack.enter_context(subprocess.Popen([sys.executable, "-c", SPIN], start_new_session=True))
                stack.callback(other.kill)
        finally:
            os.sched_setaffinity(0, cores)
        yield worker


@pytest.mark.parametrize(
    ("completion", "test", "outcome"),
    [
        (f"    import time\n    {WORK}    return 2\n", "assert f(1) == 2", "passed"),
        (
            f"    import threading, time\n    def work():\n        {WORK.replace('    ', '        ')}"
            "    thread = threading.Thread(target=work); thread.start(); thread.join()\n    return 2\n",
            "assert f(1) == 2",
            "passed",
        ),
        ("    return 2\n", f"import time; assert f(1) == 2\n    {WORK}", "passed"),
        (f"    import time\n    {WORK}    return 3\n", "assert f(1) == 2", "failed"),
        ("    import time; time.sleep(2); return 2\n", "assert f(1) == 2", "timeout"),
        ("    return 2\n", "import time; assert f(1) == 2; time.sleep(2)", "timeout"),
    ],
    ids=["program", "its thread", "test", "wrong program", "sleeping program", "sleeping test"],
)
def test_the_clock_ends_those_who_sleep_and_nobody_who_works(worker, completion, test, outcome):
    problem = Problem(task_id="t", prompt="def f(x):\n", test=f"def check(f):\n    {test}\n", entry_point="f")
    ruling = try_program(worker, LIMITS, problem, completion)
    assert ruling.outcome == outcome, ruling
