"""Threads: programs have some, no program has many, whoever starts the sandbox; where that fails it is said.

The kernel exempts root from the limit, so root's sandboxes run as somebody else: which is looked at from outside.
"""

import contextlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pytest_collabcode import doctor
from pytest_collabcode.execution import bubblewrap, sandbox
from pytest_collabcode.execution.crew import Crew
from pytest_collabcode.execution.policy import Limits
from pytest_collabcode.execution.walls import UNBOUNDED
from pytest_collabcode.records import Problem

PROBLEM = Problem(
    task_id="t", prompt="def answer(x):\n", test="def check(f):\n    assert f(1) == 2\n", entry_point="answer"
)
LIMITS = Limits(wall_s=10)
FAILS = "import sys; sys.exit('nobody to map')"
BOMB = """
import _thread, time
_thread.stack_size(32768)
n = 0
try:
    while n < {most}:
        _thread.start_new_thread(time.sleep, (60,))
        n += 1
except RuntimeError:
    time.sleep(0.5)
    return n
return 2
"""
POOL = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Timer
met, rung = Barrier(32), []
with ThreadPoolExecutor(32) as pool: list(pool.map(lambda _: met.wait(5), range(32)))
timer = Timer(0.01, rung.append, [x + 1])
timer.start(); timer.join()
return rung[0]
"""

needs_bound = pytest.mark.skipif(
    bool(sandbox.probe().available and sandbox.open_sandbox().unbounded), reason="root's threads are not bounded here"
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


def ruled(crew, body):
    return crew.submit(crew.try_program, PROBLEM, textwrap.indent(body, "    "))


def processes(top):
    """Yield a process and all below it; those that end meanwhile may be missing."""
    yield top
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{top}/task/{top}/children").read_text().split():
            yield from processes(int(child))


def n_threads(top):
    counts = [0]
    for process in processes(top):
        with contextlib.suppress(OSError):
            counts.append(len(list(Path(f"/proc/{process}/task").iterdir())))
    return sum(counts)


@needs_bound
def test_a_program_has_as_many_threads_as_allowed_and_none_is_left():
    with Crew(sandbox.open_sandbox(LIMITS), 1) as crew:
        assert ruled(crew, "return x + 1").result().outcome == "passed"
        top = crew._all[0]._worker.pid
        before, most = n_threads(top), 0
        bomb = ruled(crew, BOMB.format(most=1000))
        while not bomb.done():
            most = max(most, n_threads(top))
        assert bomb.result().outcome == "failed", bomb.result()
        assert LIMITS.n_processes // 2 < most <= LIMITS.n_processes
        assert n_threads(top) == before == 1


@needs_bound
def test_a_worker_s_threads_are_not_counted_against_another_s():
    with Crew(sandbox.open_sandbox(LIMITS), 2) as crew:
        pool = [ruled(crew, POOL) for _ in range(2)]  # 32 each
        assert [future.result().outcome for future in pool] == ["passed", "passed"]


def test_pools_and_timers_work():
    with Crew(sandbox.open_sandbox(LIMITS), 1) as crew:
        assert ruled(crew, POOL).result().outcome == "passed"


@needs_root
@needs_bound
def test_nothing_that_root_runs_is_root_s():
    with contextlib.closing(sandbox.open_sandbox().start()) as worker:
        users = Path(f"/proc/{worker.pid}/status").read_text().split("Uid:")[1].splitlines()[0].split()
        assert set(users) == {"65533"}
        assert Path(f"/proc/{worker.pid}/status").read_text().split("Groups:")[1].splitlines()[0].strip() == ""
        assert Path(f"/proc/{worker.pid}/uid_map").read_text().split() == ["65534", "65533", "1"]
        joins = "import ctypes, os, sys; namespace = os.open(f'/proc/{sys.argv[1]}/ns/user', os.O_RDONLY); "
        joins += "ctypes.CDLL(None).setns(namespace, 0); print(open('/proc/sys/user/max_user_namespaces').read())"
        run = subprocess.run([sys.executable, "-c", joins, str(worker.pid)], stdout=subprocess.PIPE, text=True)
        assert run.stdout.strip() == "0"


@needs_root
def test_where_nobody_can_be_mapped_programs_run_and_threads_are_said_to_be_unbounded(monkeypatch):
    monkeypatch.setattr(bubblewrap, "_NAMESPACES", FAILS)
    isolation = sandbox.probe()
    assert isolation.available
    assert "no further process, no bound on threads (it is root who starts it; " in isolation.bound
    assert isolation.bound.endswith("bwrap: nobody to map)")
    check = doctor._isolation(isolation)
    assert check.ok and ("cgroup" in isolation.level or check.text.endswith(doctor.BOUND_THREADS))
    with contextlib.closing(sandbox.open_sandbox().start()) as worker:
        assert sandbox.find_breaches(worker, []) == [UNBOUNDED]  # which is why


@needs_bound
def test_the_bound_is_told_and_was_tried():
    opened = sandbox.open_sandbox(Limits(n_processes=20))
    assert ", no further process, 20 threads" in opened.bound
    with contextlib.closing(opened.start()) as worker:
        assert sandbox.find_breaches(worker, []) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "no further process, 64 threads"),
        ({"groups": Path("/x")}, "64 threads; and a control group for all of it, threads included"),
        ({"namespaced": False}, "64 threads, all other processes of this user counted"),
        ({"unbounded": "why"}, "no further process, no bound on threads (why)"),
    ],
)
def test_bounds_on_threads_are_worded_as_they_are(change, said):
    assert sandbox.Sandbox(command=(), filters=(b"", b""), **change).bound.endswith(said)


@needs_root
def test_without_namespaces_root_s_threads_are_said_to_be_unbounded():
    assert sandbox.probe(unsafe=True).bound.endswith("no bound on threads (it is root who starts it)")


@pytest.mark.parametrize("hidden", ["folder", "file"])
def test_an_interpreter_for_its_owner_alone_is_found_out_by_name(tmp_path, hidden):
    tmp_path.chmod(0o755)
    library = tmp_path / "lib"
    library.mkdir()
    (library / "os.py").touch(mode=0)
    if hidden == "folder":
        library.chmod(0)
    program = "import os, sys; from pytest_collabcode.execution import zygote; os.chdir(sys.argv[1]); "
    program += "os.getuid() or os.setuid(65533); os.__file__ = 'lib/os.py'; zygote._look_for_library()"
    run = subprocess.run([sys.executable, "-c", program, tmp_path], stderr=subprocess.PIPE, text=True)
    library.chmod(0o755)
    assert run.stderr.splitlines()[-1].startswith("PermissionError: [Errno 13] ")
    assert run.stderr.splitlines()[-1].endswith("'lib'" if hidden == "folder" else "'lib/os.py'")
