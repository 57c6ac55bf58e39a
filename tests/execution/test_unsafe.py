"""Without namespaces, when the caller insists: what the filter, Landlock and limits still stop, run for real."""

import os
import socket
import tempfile
import textwrap
from pathlib import Path

import pytest

from pytest_collabcode.execution import landlock
from pytest_collabcode.execution.executor import execute
from pytest_collabcode.execution.policy import Limits
from pytest_collabcode.records import Generation, Problem

PROBLEM = Problem(
    task_id="t", prompt="def answer(x):\n", test="def check(f):\n    assert f(1) == 2\n", entry_point="answer"
)
LIMITS = Limits(cpu_s=1, wall_s=4, memory_bytes=256 << 20)
LIBC = "import ctypes; libc = ctypes.CDLL(None)\n"

# name: body, outcome, part of the detail
PROGRAMS = {
    "honest": (
        "import tempfile; tempfile.TemporaryFile().write(b'x'); open('y', 'w').write('z'); return 2",
        "passed",
        "",
    ),
    "fork bomb": ("import os\nwhile True: os.fork()", "failed", "PermissionError"),
    "TCP": ("import socket; socket.create_connection(('127.0.0.1', TCP), 2); return 2", "failed", "PermissionError"),
    "UDP": ("import socket; socket.socket(type=socket.SOCK_DGRAM); return 2", "failed", "PermissionError"),
    "kills the caller": ("import os; os.kill(CALLER, 9); return 2", "failed", "PermissionError"),
    "kills everyone": ("import os; os.kill(-1, 9); return 2", "failed", "PermissionError"),
    "limits the caller": (
        "import resource; resource.prlimit(CALLER, resource.RLIMIT_CPU, (1, 1)); return 2",
        "failed",
        "PermissionError",
    ),
    "traces the caller": (LIBC + "return 2 if libc.ptrace(16, CALLER, 0, 0) == 0 else 0", "failed", "AssertionError"),
    "outlives its parent": (LIBC + "return 2 if libc.prctl(1, 0, 0, 0, 0) == 0 else 0", "failed", "AssertionError"),
    "environment": ("import os; return 2 if os.environ else 0", "failed", "AssertionError"),
    "foreign package": ("import pytest; return 2", "failed", "ModuleNotFoundError"),
    "10 GB": ("bytearray(10 << 30); return 2", "out_of_memory", "MemoryError"),
    "endless loop": ("while True: pass", "timeout", "more than"),
    "sleeps": ("import time; time.sleep(60)", "timeout", "wall-clock"),
    "aborts": ("import os; os.abort()", "crashed", "SIGABRT"),
    "exits": ("import os; os._exit(0)", "failed", "ended before it answered"),
}
FILES = {
    "password file": ("open('/etc/passwd'); return 2", "failed", "PermissionError"),
    "environment of the caller": ("open(f'/proc/{CALLER}/environ'); return 2", "failed", "PermissionError"),
    "private file": ("open(PRIVATE); return 2", "failed", "PermissionError"),
    "writes beside it": ("open(PRIVATE + '2', 'w'); return 2", "failed", "PermissionError"),
    "writes into the temporary directory": ("open('/tmp/collabcode-x', 'w'); return 2", "failed", "PermissionError"),
    "writes into the library": ("import os; open(os.__file__, 'a'); return 2", "failed", "PermissionError"),
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    private = tmp_path_factory.mktemp("private") / "file"
    private.write_text("x")
    programs = PROGRAMS | FILES
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(private.parent))
        names = {"TCP": server.getsockname()[1], "CALLER": os.getpid(), "PRIVATE": str(private)}
        header = "".join(f"{name} = {value!r}\n" for name, value in names.items())
        texts = [textwrap.indent(header + body, "    ") for body, _, _ in programs.values()]
        generations = [
            Generation(task_id="t", sample_index=i, completion=text, n_tokens=0, duration_s=0, stop_reason="eos")
            for i, text in enumerate(texts)
        ]
        executions = execute({"t": PROBLEM}, generations, limits=LIMITS, unsafe=True)
        assert list(private.parent.iterdir()) == [private]  # every scratch directory is gone
    return dict(zip(programs, executions, strict=True))


@pytest.mark.parametrize("name", PROGRAMS)
def test_much_is_stopped_without_namespaces(ran, name):
    _, outcome, detail = PROGRAMS[name]
    assert ran[name].outcome == outcome, ran[name]
    assert detail in ran[name].detail


@pytest.mark.skipif(
    landlock.version() == 0, reason="this kernel has no Landlock, so files stand open without namespaces"
)
@pytest.mark.parametrize("name", FILES)
def test_landlock_alone_guards_files(ran, name):
    _, outcome, detail = FILES[name]
    assert ran[name].outcome == outcome, ran[name]
    assert detail in ran[name].detail


def test_every_execution_says_that_it_was_unsafe(ran):
    assert {execution.isolation.split(":")[0] for execution in ran.values()} == {"unsafe"}


def test_no_process_is_left(ran):
    code = b"execution.zygote import main"
    here = [path for path in Path("/proc").glob("[0-9]*") if parent(path) == os.getpid()]
    assert [path for path in here if code in path.joinpath("cmdline").read_bytes()] == []


def parent(path):
    try:
        return int(path.joinpath("stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
