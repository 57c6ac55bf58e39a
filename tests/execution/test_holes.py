"""Holes that were found once, each tried for real: what a program could do then, and what honest ones still must."""

import contextlib
import json
import os
import stat
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_collabcode.execution import landlock
from pytest_collabcode.execution import worker as workers
from pytest_collabcode.execution.breaches import find_files
from pytest_collabcode.execution.crew import Crew
from pytest_collabcode.execution.policy import Limits
from pytest_collabcode.execution.sandbox import find_breaches, open_sandbox
from pytest_collabcode.execution.scratch import make_scratch, remove_scratch
from pytest_collabcode.execution.trial import Ruling, try_program
from pytest_collabcode.execution.walls import TRIAL, Walls
from pytest_collabcode.execution.worker import Worker, WorkerLostError
from pytest_collabcode.records import Problem

LIMITS = Limits(cpu_s=3, wall_s=8, memory_bytes=512 << 20)
PROBLEM = Problem(
    task_id="t", prompt="def answer(x):\n", test="def check(f):\n    assert f(1) == 2\n", entry_point="answer"
)
N_HELD = 300  # open files of the host: more than a zygote may have
NOBODY = 65534

LIBC = "import ctypes, fcntl, os, socket; libc = ctypes.CDLL(None, use_errno=True)\n"
FIND = (
    "import json, os, socket\nfound = []\nfor number in range(5, 4096):\n"
    "    try: os.fstat(number); found.append(number)\n    except OSError: pass\n"
)
END = '{"signal": 0, "status": 0, "cpu_s": 0.1}'
LIE = (
    FIND + f"END = {END}\nfor number in found:\n    s = socket.socket(fileno=number)\n"
    "    for order in range(20):\n        for timed_out in (True, False):\n"
    "            report = dict(order=order, wall_s=0.1, timed_out=timed_out, judge=END, program=END)\n"
    "            s.send(json.dumps(report).encode())\n"
    "return 0"
)


@pytest.fixture(scope="module", params=[False, True], ids=["confined", "unsafe"])
def crew(request):
    """One worker of a host that had many files open when it started it."""
    with contextlib.ExitStack() as held:
        for _ in range(N_HELD):
            held.enter_context(Path(os.devnull).open())
        with Crew(open_sandbox(LIMITS, unsafe=request.param), 1) as crew:
            assert run(crew, "return x + 1").outcome == "passed"
            assert crew._all[0]._worker.socket_number >= N_HELD
            yield crew


def run(crew: Crew, body: str) -> Ruling:
    return crew.try_program(PROBLEM, textwrap.indent(body, "    "))


# name: body of a program that succeeds if it does what it must not; part of the detail
DENIED = {
    "sees open files of the host": (FIND + "return 2 if found else 0", "AssertionError"),
    "sees the number of the host's socket": ("import sys; return 2 if len(sys.argv) > 1 else 0", "AssertionError"),
    "puts huge pages into a pipe": (
        LIBC + "r, w = os.pipe(); text = ctypes.create_string_buffer(1)\n"
        "return 2 if libc.vmsplice(w, (ctypes.c_void_p * 2)(ctypes.addressof(text), 1), 1, 0) >= 0 else 0",
        "AssertionError",
    ),
    "splices a file into a pipe": (
        "import os; f = open(os.__file__, 'rb'); r, w = os.pipe(); os.splice(f.fileno(), w, 10); return 2",
        "OSError",
    ),
    "makes a pipe larger": (LIBC + "r, w = os.pipe(); fcntl.fcntl(w, 1031, 1 << 20); return 2", "PermissionError"),
    "has files in flight": (
        LIBC + "a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [1] * 9); return 2",
        "PermissionError",
    ),
    "takes the events of all": (
        LIBC + "return 2 if libc.syscall(206, 60000, ctypes.byref(ctypes.c_ulong())) >= 0 else 0",
        "AssertionError",
    ),
    "leases a file of the library": (
        LIBC + "f = open(os.__file__); fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK); return 2",
        "PermissionError",
    ),
    "leaves a hint at a file of the library": (
        LIBC + "f = open(os.__file__); fcntl.fcntl(f, 1036, b'\\3' + bytes(7)); return 2",
        "PermissionError",
    ),
    "locks a file of the library": (LIBC + "fcntl.flock(open(os.__file__), fcntl.LOCK_EX); return 2", "OSError"),
    "watches the library": (LIBC + "return 2 if libc.inotify_init1(0) >= 0 else 0", "AssertionError"),
    "lists mounts": (
        LIBC + "import struct; mounts = (ctypes.c_uint64 * 99)()\n"
        "return 2 if libc.syscall(458, struct.pack('=IIQQ', 24, 0, 2**64 - 1, 0), mounts, 99, 0) > 0 else 0",
        "AssertionError",
    ),
    "asks for networks": (
        LIBC + "a, b = socket.socketpair(); fcntl.ioctl(a, 0x8912, bytes(40)); return 2",
        "OSError",
    ),
    "pins itself": ("import os; os.sched_setaffinity(0, {0}); return 2", "PermissionError"),
    "slows its group down": ("import os; os.setpriority(os.PRIO_PGRP, 0, 9); return 2", "PermissionError"),
    "is last in line": ("import os; os.nice(19); return 2", "PermissionError"),
    "slows another process down": ("import os; os.setpriority(0, os.getppid() or 1, 9); return 2", "PermissionError"),
    "is of the zygote's session": ("import os; return 0 if os.getsid(0) == os.getpid() else 2", "AssertionError"),
}


@pytest.mark.parametrize("name", DENIED)
def test_a_hole_is_closed(crew, name):
    body, detail = DENIED[name]
    ruling = run(crew, body)
    assert (ruling.outcome, ruling.detail.startswith(detail)) == ("failed", True), ruling


def test_a_program_cannot_answer_for_the_zygote(crew):
    rulings = [run(crew, body) for body in (LIE, "return x + 1", "return x + 9", "return 2")]
    assert [ruling.outcome for ruling in rulings] == ["failed", "passed", "failed", "passed"]


def test_flags_of_the_standard_streams_end_with_a_program(crew):
    sets = (
        "import fcntl, os\nfor number in range(3):\n"
        "    fcntl.fcntl(number, fcntl.F_SETFL, fcntl.fcntl(number, fcntl.F_GETFL) | os.O_NONBLOCK | os.O_APPEND)\n"
        "return x + 1"
    )
    sees = (
        "import fcntl, os\nflags = [fcntl.fcntl(number, fcntl.F_GETFL) for number in range(3)]\n"
        "return 0 if any(f & (os.O_NONBLOCK | os.O_APPEND) for f in flags) else x + 1"
    )
    assert [run(crew, body).outcome for body in (sets, sees)] == ["passed", "passed"]


def test_the_next_program_finds_nothing_of_the_one_before(crew):
    if not crew._sandbox.namespaced and landlock.version() == 0:
        pytest.skip("this kernel has no Landlock, so files stand open without namespaces")
    leaves = (
        "import os\nos.mkdir('d')\nfor path in ('d/kept', 'kept', '../kept', '../../kept', '/tmp/kept'):\n"
        "    try: open(path, 'w')\n    except OSError: pass\nreturn x + 1"
    )
    finds = (
        "import os\nfor path in ('d', 'kept', '../kept', '../../kept', '/tmp/kept'):\n"
        "    if os.path.lexists(path): return 0\nreturn x + 1"
    )
    assert [run(crew, body).outcome for body in (leaves, finds)] == ["passed", "passed"]


# name: body that returns 2
HONEST = {
    "database in a file": (
        "import sqlite3\nwith sqlite3.connect('d') as d:\n    d.execute('create table t (v)')\n"
        "    d.execute('insert into t values (2)')\n    return d.execute('select v from t').fetchone()[0]"
    ),
    "asyncio": (
        "import asyncio\nasync def late(v):\n    await asyncio.sleep(0.01); return v\n"
        "async def main():\n    loop = asyncio.get_running_loop()\n    loop.add_signal_handler(10, print)\n"
        "    a, b = await asyncio.gather(late(1), asyncio.to_thread(abs, -1))\n    return a + b\n"
        "return asyncio.run(main())"
    ),
    "streams over a pair of sockets": (
        "import asyncio, socket\nasync def main():\n    a, b = socket.socketpair()\n"
        "    r, w = await asyncio.open_connection(sock=a)\n    w.write(b'1\\n'); await w.drain()\n"
        "    return 1 + int(await asyncio.get_running_loop().sock_recv(b.setblocking(False) or b, 9))\n"
        "return asyncio.run(main())"
    ),
    "pool of threads": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(4) as pool: return sum(pool.map(int, '11'))"
    ),
    "temporary files": (
        "import os, tempfile\nwith tempfile.TemporaryDirectory() as d, tempfile.NamedTemporaryFile(dir=d) as f:\n"
        "    f.write(b'x' * x); f.flush(); os.fsync(f.fileno()); return os.path.getsize(f.name) + 1"
    ),
    "archives": (
        "import gzip, io, tarfile, zipfile\nopen('a', 'w').write('1')\n"
        "with zipfile.ZipFile('z', 'w') as z: z.write('a')\nwith tarfile.open('t', 'w:gz') as t: t.add('a')\n"
        "return int(zipfile.ZipFile('z').read('a')) + int(tarfile.open('t').extractfile('a').read())"
    ),
    "mapped file": (
        "import mmap\nwith open('m', 'w+b') as f:\n    f.truncate(4096)\n"
        "    with mmap.mmap(f.fileno(), 0) as m:\n        m[0] = x + 1; m.flush(); m.madvise(mmap.MADV_DONTNEED)\n"
        "    return f.read(1)[0]"
    ),
    "waits for files": (
        "import os, select, selectors\nr, w = os.pipe(); os.write(w, b'x')\nwith select.epoll() as e:\n"
        "    e.register(r, select.EPOLLIN)\n    n = len(e.poll(1))\np = select.poll(); p.register(r)\n"
        "with selectors.DefaultSelector() as s: s.register(r, 1); n += len(s.select(1)) * len(p.poll(9))\n"
        "return n if select.select([r], [], [], 1)[0] and os.eventfd_write(os.eventfd(0), 1) is None else 0"
    ),
    "timers and signals": (
        "import signal, time\nseen = []\nsignal.signal(signal.SIGALRM, lambda *a: seen.append(1))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.01); time.sleep(0.03)\nsignal.raise_signal(signal.SIGALRM)\n"
        "return len(seen)"
    ),
    "names and times of files": (
        "import os, pathlib\np = pathlib.Path('p'); p.touch(); q = p.rename('q'); os.link('q', 'l')\n"
        "os.symlink('q', 's'); os.mkfifo('f'); return pathlib.Path('s').resolve().stat().st_nlink"
    ),
    "copies a file of the library": (
        "import os, shutil\nshutil.copyfile(os.__file__, 'c'); shutil.copyfileobj(open('c', 'rb'), open('e', 'wb'))\n"
        "os.copy_file_range(os.open('c', 0), os.open('g', 65), 9)\n"
        "return 2 if open('c').read() == open(os.__file__).read() == open('e').read() else 0"
    ),
    "what the machine is": (
        "import locale, os, platform, resource, shutil, ssl, sys, time, uuid, zoneinfo\n"
        "os.cpu_count(), os.sysconf('SC_PHYS_PAGES'), os.uname(), os.times(), os.getrandom(8), uuid.uuid4()\n"
        "resource.getrusage(resource.RUSAGE_SELF), resource.getrlimit(resource.RLIMIT_AS), time.process_time()\n"
        "shutil.disk_usage('.'), shutil.get_terminal_size(), sys.stdin.read(), sys.stdin.isatty()\n"
        "return x + 1"
    ),
    "C of the library": (
        "import ctypes\nP = ctypes.POINTER(ctypes.c_int)\nF = ctypes.CFUNCTYPE(ctypes.c_int, P, P)\n"
        "v = (ctypes.c_int * 3)(3, 2, 1)\n"
        "ctypes.CDLL(None).qsort(v, 3, 4, F(lambda a, b: a[0] - b[0])); return v[1]"
    ),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_program_passes(crew, name):
    assert run(crew, HONEST[name]).outcome == "passed", run(crew, HONEST[name])


def test_modes_of_files_can_be_changed_by_programs_with_mounts_of_their_own_only(crew, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # what a program without mounts has above its directory
    tmp_path.chmod(0o711)
    own = "import os, shutil\nopen('a', 'w').close(); os.chmod('a', 0o600); shutil.copy2('a', 'b'); return x + 1"
    above = "import os; os.chmod('..', 0o700); return x + 1"
    rulings = [run(crew, body) for body in (own, above)]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o711
    if crew._sandbox.namespaced:
        assert rulings[0].outcome == "passed", rulings
    else:
        assert [ruling.detail.split()[0] for ruling in rulings] == ["PermissionError"] * 2, rulings


def test_a_file_left_open_is_found_out():
    with Path(os.devnull).open() as file:
        number = os.dup(file.fileno())
        try:
            assert number in find_files(3, number + 1)
            assert number not in find_files(3, number)
        finally:
            os.close(number)
    with contextlib.closing(open_sandbox().start()) as worker:
        assert find_breaches(worker, []) == []


REPORT = {"order": 1, "wall_s": 0.5, "timed_out": False, "judge": json.loads(END), "program": json.loads(END)}
FAKE = """
import json, socket, sys
control = socket.socket(fileno=int(sys.argv[1]))
control.send(json.dumps({"landlock": 0, "interfaces": []}).encode())
control.recv(4096)
control.send(bytes.fromhex("%s"))
control.recv(1)
"""


def answered(answer: bytes) -> dict[str, object]:
    """What a worker makes of a zygote that answers this."""
    bounds = dict.fromkeys(Walls._fields[:9], 1)
    walls = Walls(**bounds, filters=("", ""), readable=[], scratch="")
    fake = (sys.executable, "-S", "-c", FAKE % answer.hex())
    with contextlib.closing(Worker(fake, walls)) as worker:
        return worker.order(TRIAL, [])


def test_a_report_on_the_order_is_taken():
    assert answered(json.dumps(REPORT).encode()) == REPORT


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"{",
        b"[" * 4000,
        *(
            json.dumps(REPORT | change).encode()
            for change in (
                {"order": 0},
                {"order": 2},
                {"order": True},
                {"wall_s": "0.5"},
                {"wall_s": -0.5},
                {"wall_s": float("nan")},
                {"wall_s": float("inf")},
                {"timed_out": 1},
                {"judge": None},
                {"judge": {}},
                {"program": json.loads(END) | {"signal": "9"}},
                {"program": json.loads(END) | {"more": 1}},
                {"more": 1},
            )
        ),
    ],
)
def test_any_other_report_loses_the_worker_and_nothing_else(answer):
    with pytest.raises(WorkerLostError, match="no report on what it was asked for"):
        answered(answer)


def test_what_cannot_be_removed_loses_the_worker_and_is_said(monkeypatch, tmp_path):
    def fail(path: Path) -> None:
        raise OSError(f"what a program left in {path} cannot be removed: remove that directory")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with contextlib.closing(open_sandbox(unsafe=True).start()) as worker:
        monkeypatch.setattr(workers, "remove_scratch", fail)
        with pytest.raises(WorkerLostError, match=rf"{tmp_path}/collabcode-\w+ cannot be removed: remove that"):
            try_program(worker, LIMITS, PROBLEM, "    return x + 1\n")


def test_an_ordinary_user_removes_what_has_no_rights(tmp_path):
    def leave_and_remove() -> None:
        scratch = make_scratch()
        for folder in ("a", "a/b", "c", "c/d"):
            (scratch / folder).mkdir()
            (scratch / folder / "file").touch()
            (scratch / folder / "link").symlink_to(tmp_path / "kept")
        for folder, mode in (("a/b", 0o300), ("a", 0), ("c/d", 0), ("c", 0o400), (".", 0)):
            (scratch / folder).chmod(mode)
        remove_scratch(scratch)
        assert not scratch.exists()

    (tmp_path / "kept").mkdir(mode=0o755)
    (tmp_path / "kept" / "file").touch()
    assert as_ordinary_user(leave_and_remove) == ""
    assert (tmp_path / "kept" / "file").exists()


def test_a_directory_that_stays_is_said():
    with tempfile.TemporaryDirectory() as above:  # which others reach, unlike tmp_path
        scratch = Path(above, "scratch")
        scratch.mkdir()
        scratch.chmod(0o777)
        scratch.joinpath("file").touch()
        Path(above).chmod(0o555)  # nothing can be removed from it
        said = as_ordinary_user(lambda: remove_scratch(scratch))
        Path(above).chmod(0o755)
    assert said == f"what a program left in {scratch} cannot be removed: remove that directory"


def as_ordinary_user(act: Callable[[], None]) -> str:
    """Do something in a process of a user that has no rights but its own; return what went wrong."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
            act()
        except BaseException as error:
            said = str(error) or repr(error)
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as file:
        return file.read()
