"""Hostile programs, run for real: each would pass if what it tries succeeded, and none does.

Afterwards nothing of them is left: test_memory.py looks into what a program can see of others, test_unsafe.py runs
some of them without namespaces.
"""

import os
import socket
import sys
import textwrap
import tracemalloc
from pathlib import Path

import pytest

from pytest_collabcode.execution.crew import Crew
from pytest_collabcode.execution.policy import Limits
from pytest_collabcode.execution.sandbox import open_sandbox
from pytest_collabcode.execution.trial import Ruling, try_program
from pytest_collabcode.records import Problem

PROBLEM = Problem(
    task_id="plus_one",
    prompt='def answer(x):\n    """Return x + 1, which is 2 in the test."""\n',
    test="def check(candidate):\n    assert candidate(1) == 2\n",
    entry_point="answer",
)
LIMITS = Limits(cpu_s=1, wall_s=4, memory_bytes=256 << 20, scratch_bytes=20 << 20)
TOKEN = "token-of-the-caller"

FRAME = "import os, struct; w = 4; frame = lambda b: os.write(w, struct.pack('>I', len(b)) + b)\n"
LIBC = "import ctypes; libc = ctypes.CDLL(None)\n"

# name: body of the function, expected outcomes, part of the expected detail
PROGRAMS: dict[str, tuple[str, str, str]] = {
    "exits with 0": ("import os; os._exit(0)", "failed", "ended before it answered"),
    "sys.exit": ("import sys; sys.exit(0)", "failed", "SystemExit raised"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "failed", "KeyboardInterrupt raised"),
    "own BaseException": ("raise type('E', (BaseException,), {})", "failed", "BaseException raised"),
    "skips the test": (
        "import unittest; raise unittest.SkipTest('x')",
        "failed",
        "Exception raised by the program at test line 2",
    ),
    "becomes another program": (
        "import os, sys; os.execv(sys.executable, ['python', '-c', ''])",
        "failed",
        "PermissionError",
    ),
    "exits in a thread": (
        "import os, threading, time; threading.Thread(target=os._exit, args=(0,)).start(); time.sleep(9)",
        "failed",
        "ended before it answered",
    ),
    "exits with 0 at exit": ("import atexit, os; atexit.register(os._exit, 0); raise SystemExit", "failed", ""),
    "exits in an excepthook": ("import os, sys; sys.excepthook = lambda *a: os._exit(0); 1 / 0", "failed", ""),
    "exits in __str__": (
        "import os; return type('S', (), {'__str__': lambda s: os._exit(0)})()",
        "failed",
        "not plain",
    ),
    "SystemExit in __del__": (
        "class D:\n    def __del__(self): raise SystemExit(0)\nd = D(); del d; return 0",
        "failed",
        "AssertionError",
    ),
    "always equal": ("return type('E', (), {'__eq__': lambda s, o: True})()", "failed", "not plain"),
    "always equal int": ("return type('E', (int,), {'__eq__': lambda s, o: True})(0)", "failed", "AssertionError"),
    "a generator of the answer": ("yield 2", "failed", "AssertionError"),
    "mock.ANY": ("from unittest.mock import ANY; return ANY", "failed", "not plain"),
    "prints a verdict": (
        'import sys\nfor s in (sys.stdout, sys.stderr): print(\'started\\n["passed", ""]\', file=s)\nreturn 0',
        "failed",
        "AssertionError",
    ),
    "writes a verdict everywhere": (
        'import os\nfor fd in range(64):\n    try: os.write(fd, b\'["passed", ""]\\n\')\n    except OSError: pass\n'
        "return 2",
        "tampered",
        "wire",
    ),
    "forges an answer": (FRAME + "frame(b'[\"passed\"]'); return 2", "tampered", "forged"),
    "forges a value": (
        FRAME + 'frame(b\'{"result": {"object": 1}}\'); return 2',
        "tampered",
        "forged",
    ),
    "forges an exception": (FRAME + 'frame(b\'{"raised": ["\\\\u001b[31m"]}\'); return 2', "tampered", "exception"),
    "announces 4 GB": (FRAME + "os.write(w, b'\\xff' * 8); return 2", "tampered", "wire"),
    "50 MB in a frame": (FRAME + "frame(bytes(50 << 20)); return 2", "tampered", "wire"),
    "50 MB in a frame that says less": (
        FRAME + "os.write(w, struct.pack('>I', 8 << 20) + bytes(50 << 20)); return 2",
        "tampered",
        "wire",
    ),
    "deep JSON": (FRAME + "frame(b'[' * 10**6); return 2", "tampered", "wire"),
    "closes every file": ("import os; os.closerange(0, 64); return 2", "failed", "ended"),
    "closes every file and stays": (
        "import os, time; os.closerange(0, 64); time.sleep(60)",
        "failed",
        "ended before it answered",
    ),
    "patches builtins": (
        "import builtins\nbuiltins.AssertionError = ValueError\nbuiltins.isinstance = lambda *a: True\nreturn 0",
        "failed",
        "",
    ),
    "patches unittest": (
        "import unittest\nfor name in dir(unittest.TestCase):\n"
        "    if name.startswith('assert'): setattr(unittest.TestCase, name, lambda *a: None)\nreturn 0",
        "failed",
        "AssertionError",
    ),
    "patches the check": (
        "import sys\nf = sys._getframe()\nwhile f:\n"
        "    f.f_globals['check'] = f.f_globals['candidate'] = lambda *a: 2\n    f = f.f_back\nreturn 0",
        "failed",
        "AssertionError",
    ),
    "jumps over lines": (
        "import sys\ndef trace(f, *a):\n    f.f_trace = trace; return trace\nsys.settrace(trace)\n"
        "f = sys._getframe()\nwhile f: f.f_trace = trace; f = f.f_back\nreturn 0",
        "failed",
        "AssertionError",
    ),
    "walks the stack for the test": (
        "import sys\nf = sys._getframe()\nwhile f:\n"
        "    if 'assert' + ' candidate' in repr(f.f_locals) + repr(f.f_globals): return 2\n"
        "    f = f.f_back\nreturn 0",
        "failed",
        "AssertionError",
    ),
    "patches its own wire": (
        "import pytest_collabcode.execution.values as v\nv.Heap.encode = lambda *a: 'passed'\nreturn 0",
        "tampered failed",
        "",
    ),
    "looks for the test": (
        "import gc; return 2 if any(getattr(o, '__name__', '') == 'check' for o in gc.get_objects()) else 0",
        "failed",
        "AssertionError",
    ),
    "pickle gadget": (
        "class G:\n    def __reduce__(self): return (print, ('x',))\nreturn G()",
        "failed",
        "not plain",
    ),
    "reads the password file": ("return 2 if open('/etc/passwd').read() else 0", "failed", "FileNotFoundError"),
    "reads the home directory": (
        "import os; return 2 if set(os.listdir(HOME)) - {OWN} else 0",
        "failed",
        "",
    ),
    "reads a corpus": ("return 2 if open(CORPUS).read() else 0", "failed", "FileNotFoundError"),
    "reads the checkpoint": ("return 2 if open(CHECKPOINT, 'rb').read() else 0", "failed", "FileNotFoundError"),
    "reads its environment": (
        "import os; return 2 if os.environ or os.getenv('COLLABCODE_TOKEN') else 0",
        "failed",
        "Assertion",
    ),
    "reads an inherited file": (
        "import os\ndef there(fd):\n    try: return bool(os.fstat(fd))\n    except OSError: return False\n"
        "return 2 if any(map(there, range(5, 1024))) else 0",
        "failed",
        "AssertionError",
    ),
    "reads others' environment": (
        "import glob; return 2 if any(open(p).read() for p in glob.glob('/proc/*/environ')) else 0",
        "failed",
        "AssertionError",
    ),
    "imports a foreign package": ("import pytest; return 2", "failed", "ModuleNotFoundError"),
    "writes into the root": ("open('/x', 'w'); return 2", "failed", "OSError"),
    "writes into the library": ("import os; open(os.__file__, 'a'); return 2", "failed", "Error raised"),
    "writes into site-packages": (
        "import os; open(os.path.dirname(os.__file__) + '/site-packages/x.pth', 'w'); return 2",
        "failed",
        "Error raised",
    ),
    "deletes a corpus": ("import os; os.remove(CORPUS); return 2", "failed", "FileNotFoundError"),
    "deletes all beside the corpus": (
        "import os, shutil; shutil.rmtree(os.path.dirname(CORPUS)); return 2",
        "failed",
        "FileNotFoundError",
    ),
    "deletes the library": (  # which has files in it, so nothing is lost should it be allowed
        "import errno, os\ntry: os.rmdir(os.path.dirname(os.__file__))\n"
        "except OSError as error: return 2 if error.errno == errno.ENOTEMPTY else 0",
        "failed",
        "AssertionError",
    ),
    "writes into this tool": (
        "import pytest_collabcode.execution.wire as w; open(w.__file__, 'a'); return 2",
        "failed",
        "Error raised",
    ),
    "TCP to the caller": (
        "import socket; socket.create_connection(('127.0.0.1', TCP), 2); return 2",
        "failed",
        "PermissionError",
    ),
    "UDP to the caller": (
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', UDP)); return 2",
        "failed",
        "PermissionError",
    ),
    "DNS": ("import socket; return 2 if socket.getaddrinfo('example.org', 80) else 0", "failed", "OSError"),
    "abstract socket": (
        "import socket; socket.socket(socket.AF_UNIX).connect('\\0' + ABSTRACT); return 2",
        "failed",
        "PermissionError",
    ),
    "a pair of sockets led elsewhere": (
        "import socket; a, b = socket.socketpair(type=socket.SOCK_DGRAM); a.sendto(b'x', '\\0' + ABSTRACT); return 2",
        "failed",
        "PermissionError",
    ),
    "fork bomb": ("import os\nwhile True: os.fork()", "failed", "PermissionError"),
    "child process": ("import subprocess; subprocess.Popen(['x']); return 2", "failed", "PermissionError"),
    "daemon left behind": (
        "import os\nif os.fork() == 0:\n    os.setsid()\n    while True: pass\nreturn 2",
        "failed",
        "PermissionError",
    ),
    "thread bomb": (
        "import threading, time\nthreading.stack_size(32768)\n"
        "while True: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "failed",
        "RuntimeError",  # how many it had is test_threads' matter
    ),
    "allocates 10 GB": ("bytearray(10 << 30); return 2", "out_of_memory", "MemoryError"),
    "allocates for ever": ("x = []\nwhile True: x.append(bytearray(1 << 20))", "out_of_memory", "MemoryError"),
    "memory file": ("import os; os.memfd_create('x'); return 2", "failed", "PermissionError"),
    "shared memory segment": (LIBC + "return 2 if libc.shmget(0, 4096, 0o1600) >= 0 else 0", "failed", "Assertion"),
    "new user namespace": (LIBC + "return 2 if libc.unshare(0x10000000) == 0 else 0", "failed", "AssertionError"),
    "traces its parent": (LIBC + "return 2 if libc.ptrace(16, 1, 0, 0) == 0 else 0", "failed", "AssertionError"),
    "traces anybody": (
        LIBC + "return 2 if any(libc.ptrace(16, i, 0, 0) == 0 for i in range(1, 999)) else 0",
        "failed",
        "AssertionError",
    ),
    "mounts": (LIBC + "return 2 if libc.mount(b'x', b'/tmp', b'tmpfs', 0, None) == 0 else 0", "failed", "Assert"),
    "unmounts": (LIBC + "return 2 if libc.umount2(b'/tmp', 2) == 0 else 0", "failed", "AssertionError"),
    "has a capability": (
        LIBC + "data = ctypes.create_string_buffer(24)\n"
        "libc.capget((ctypes.c_uint * 2)(0x20080522, 0), data); return 2 if any(data.raw) else 0",
        "failed",
        "AssertionError",
    ),
    "asks for a capability": (
        LIBC + "return 2 if libc.capset((ctypes.c_uint * 2)(0x20080522, 0), b'\\xff' * 24) == 0 else 0",
        "failed",
        "AssertionError",
    ),
    "becomes root": ("import os; os.setuid(0); return 2", "failed", "Error raised"),
    "raises its own limit": (
        "import resource; resource.setrlimit(resource.RLIMIT_CPU, (99, 99)); return 2",
        "failed",
        "ValueError",
    ),
    "raises the limits of others": (
        "import resource; resource.prlimit(1, resource.RLIMIT_CPU, (0, 0)); return 2",
        "failed",
        "PermissionError",
    ),
    "endless loop": ("while True: pass", "timeout", "more than"),
    "changes signal handlers and timers": (
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "for which in range(3): signal.setitimer(which, 0)\nwhile True: pass",
        "timeout",
        "more than",
    ),
    "blocks every signal": (
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass",
        "timeout",
        "more than",
    ),
    "asks to be dumped": (LIBC + "return 2 if libc.prctl(4, 1, 0, 0, 0) == 0 else 0", "failed", "AssertionError"),
    "has the kernel make a table": (  # of futexes: 90 MB that no limit counts
        LIBC + "return 2 if libc.prctl(78, 1, 1 << 20, 0, 0) == 0 else 0",
        "failed",
        "AssertionError",
    ),
    "locks memory": (
        "import mmap; mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x2000); return 2",
        "failed",
        "PermissionError",
    ),
    "queues signals": (
        "import os, signal; signal.pthread_sigmask(signal.SIG_BLOCK, [40])\n"
        "for _ in range(1000): os.kill(os.getpid(), 40)\nn = 0\n"
        "while signal.sigtimedwait([40], 0): n += 1\nreturn 2 if n > 100 else 0",
        "failed",
        "AssertionError",
    ),
    "outlives its parent": (
        LIBC + "return 2 if libc.prctl(1, 0, 0, 0, 0) == 0 else 0",
        "failed",
        "AssertionError",
    ),
    "ignores SIGXCPU": ("import signal; signal.signal(24, signal.SIG_IGN)\nwhile True: pass", "timeout", "more than"),
    "endless loop in C": ("import re; re.match('(a+)+$', 'a' * 50 + 'b')", "timeout", "more than"),
    "endless loop in __eq__ of a key": ("while True: {1: 1}.get(1)", "timeout", "more than"),
    "sleeps": ("import time; time.sleep(60); return 2", "timeout", "wall-clock"),
    "stops itself": ("import os, signal; os.kill(os.getpid(), signal.SIGSTOP); return 2", "timeout", "wall-clock"),
    "1 GB of output": ("for _ in range(1024): print('x' * (1 << 20))\nreturn 0", "failed timeout", ""),
    "1 GB of output past the interpreter": (
        "import os\nfor _ in range(1024): os.write(1, bytes(1 << 20))\nreturn 0",
        "failed",
        "AssertionError",
    ),
    "1 GB file": (
        "with open('x', 'wb') as f:\n    for _ in range(1024): f.write(bytes(1 << 20))\nreturn 2",
        "failed",
        "OSError",
    ),
    "sparse file": ("open('x', 'wb').truncate(1 << 30); return 2", "failed", "OSError"),
    "100,000 files": ("for i in range(10**5): open(str(i), 'w').close()\nreturn 2", "failed", "OSError"),
    "100,000 directories": ("import os\nfor i in range(10**5): os.mkdir(str(i))\nreturn 2", "failed", "OS"),
    "10,000 open files": ("x = [open('x', 'w') for _ in range(10**4)]; return 2", "failed", "OSError"),
    "fills the disk": (
        "for i in range(20): open(str(i), 'wb').write(bytes(10 << 20))\nreturn 2",
        "failed",
        "OSError",
    ),
    "deep recursion": ("return answer(x)", "failed", "RecursionError"),
    "bottomless recursion": (
        "import sys; sys.setrecursionlimit(10**9)\nclass A:\n    def __repr__(self): return repr(self)\nrepr(A())",
        "crashed out_of_memory",
        "",
    ),
    "kills its parent": ("import os; os.kill(os.getppid(), 9); return 0", "failed", ""),
    "kills everyone": ("import os; os.kill(-1, 9); return 0", "failed crashed", ""),
    "kills its group": ("import os; os.killpg(0, 9); return 2", "failed", "PermissionError"),
    "kills anybody": (
        "import os\nfor i in range(1, 999):\n    try:\n        if i != os.getpid(): os.kill(i, 9); return 2\n"
        "    except OSError: pass\nreturn 0",
        "failed",
        "AssertionError",
    ),
    "kills itself": ("import os; os.kill(os.getpid(), 9)", "crashed", "SIGKILL"),
    "has the kernel signal somebody": (
        "import fcntl, os; r, w = os.pipe(); fcntl.fcntl(r, fcntl.F_SETOWN, 1); return 2",
        "failed",
        "PermissionError",
    ),
    "alarm": ("import signal, time; signal.alarm(1); time.sleep(9)", "crashed", "SIGALRM"),
    "segmentation fault": (LIBC + "ctypes.string_at(0)", "crashed", "SIGSEGV"),
    "aborts": ("import os; os.abort()", "crashed", "SIGABRT"),
    "huge result": ("return 'x' * (20 << 20)", "failed", "too large"),
    "endless result": ("import itertools; return itertools.count()", "failed", "AssertionError"),
    "exploding result": ("y = (1,)\nfor _ in range(64): y = (y, y)\nreturn y", "timeout", "more than"),
    "exploding result of few lists": (
        "y = [1]\nfor _ in range(64): y = [y, y]\nreturn y",
        "failed",
        "AssertionError",
    ),
    "deep result": ("y = []\nfor _ in range(10**5): y = [y]\nreturn y", "failed", "too large"),
    "cyclic result": ("y = []; y.append(y); return y", "failed", "AssertionError"),
    "terminal escapes": (
        "raise type('\\x1b[31m::error::', (Exception,), {})('\\x1b]0;x')",
        "failed",
        "Exception raised",
    ),
    "5 MB of lines": ("y = x\n" * 10**6 + "return 2", "timeout out_of_memory", ""),
    "5 MB in one name": (f"{'y' * (5 << 20)} = 2; return 0", "failed", "AssertionError"),
    "1.5 million literals": (f"return {[*range(1_500_000)]}", "timeout out_of_memory failed", ""),
    "NUL in the source": ("'\0'", "failed", "raised while the program was loaded"),
    "lone surrogate in the source": ("return '\ud800'", "failed", "UnicodeError raised while the program was loaded"),
}

# The same of programs that do it while they are loaded: what stands behind a function that returns 2.
LOADED: dict[str, tuple[str, str, str]] = {
    "skips the test while it is loaded": (
        "import unittest; raise unittest.SkipTest('x')",
        "failed",
        "Exception raised while the program was loaded",
    ),
    "exits while it is loaded": ("raise SystemExit(0)", "failed", "SystemExit raised while the program was loaded"),
    "sleeps while it is loaded": ("import time; time.sleep(60)", "timeout", "wall-clock"),
    "says that it is loaded": (FRAME + "frame(b'{\"result\": 2}')", "tampered", "forged"),
}


@pytest.fixture(scope="module")
def listeners():
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        abstract.bind(f"\0collabcode-{os.getpid()}")
        abstract.listen()
        yield tcp, udp, abstract


@pytest.fixture(scope="module")
def crew():
    with Crew(open_sandbox(LIMITS), 2) as crew:
        # two at a time, so that both workers are there
        for future in [crew.submit(crew.try_program, PROBLEM, "    import time; time.sleep(1)\n") for _ in range(2)]:
            future.result()
        yield crew


@pytest.fixture(scope="module")
def before(crew) -> list[tuple[object, ...]]:
    return [state(worker) for worker in workers(crew)]


@pytest.fixture(scope="module")
def private(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("private")
    folder.joinpath("corpus.py").write_text("secret = 1\n")
    folder.joinpath("model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture(scope="module")
def left() -> list[str]:
    """What each hostile program had left running when its ruling came."""
    return []


@pytest.fixture(scope="module")
def ran(crew, before, listeners, private, left) -> dict[str, Ruling]:
    tcp, udp, _ = listeners
    own = Path(sys.base_prefix)  # the interpreter may live at home, and only the way to it is seen
    names = {"OWN": own.relative_to(Path.home()).parts[0] if own.is_relative_to(Path.home()) else ""}
    names |= {"HOME": str(Path.home()), "CORPUS": str(private / "corpus.py")}
    names |= {"CHECKPOINT": str(private / "model.safetensors")}
    names |= {"TCP": tcp.getsockname()[1], "UDP": udp.getsockname()[1], "ABSTRACT": f"collabcode-{os.getpid()}"}
    header = "".join(f"{name} = {value!r}\n" for name, value in names.items())

    def watched(worker, *trial):
        ruling = try_program(worker, *trial)
        left.append(children(worker))
        return ruling

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLLABCODE_TOKEN", TOKEN)
        patch.setattr("pytest_collabcode.execution.crew.try_program", watched)
        texts = {name: textwrap.indent(header + body, "    ") for name, (body, _, _) in PROGRAMS.items()}
        texts |= {name: f"    return 2\n{header}{body}\n" for name, (body, _, _) in LOADED.items()}
        futures = {name: crew.submit(crew.try_program, PROBLEM, text) for name, text in texts.items()}
        return {name: future.result() for name, future in futures.items()}


@pytest.mark.parametrize("name", PROGRAMS | LOADED)
def test_a_hostile_program_never_passes_and_is_labelled(ran, name):
    _, outcomes, detail = (PROGRAMS | LOADED)[name]
    assert ran[name].outcome in outcomes.split(), ran[name]
    assert detail in ran[name].detail


def test_directories_in_directories_end_at_the_bound_on_files():
    # The kernel looks at all that lie above, so this takes a good part of a second: more than LIMITS would promise.
    deep = "    import os\n    for i in range(10**5): os.mkdir('d'); os.chdir('d')\n    return 2\n"
    with Crew(open_sandbox(), 1) as crew:
        ruling = crew.submit(crew.try_program, PROBLEM, deep).result()
    assert (ruling.outcome, ruling.detail[:2]) == ("failed", "OS"), ruling


def test_details_are_short_and_printable(ran):
    assert all(ruling.detail.isprintable() and len(ruling.detail) <= 200 for ruling in ran.values())


def test_nothing_of_a_program_runs_once_there_is_a_ruling(ran, left):
    assert left == [""] * len(ran)


def test_a_program_that_waits_is_ended_at_its_limit(ran):
    waited = [ruling.duration_s for ruling in ran.values() if "wall-clock" in ruling.detail]
    assert len(waited) >= 3
    assert max(waited) <= LIMITS.wall_s + 1


def test_no_file_of_the_caller_is_gone(ran, private):
    assert sorted(path.name for path in private.iterdir()) == ["corpus.py", "model.safetensors"]


def test_what_a_program_sends_never_reaches_the_caller(crew):
    body, outcome, _ = PROGRAMS["50 MB in a frame that says less"]
    tracemalloc.start()
    try:
        assert crew.try_program(PROBLEM, textwrap.indent(body, "    ")).outcome == outcome
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_nothing_reaches_the_caller_by_network(ran, listeners):
    with pytest.raises(BlockingIOError):
        listeners[1].recv(1)


def test_a_thread_left_behind_ends_with_the_verdict(crew, before):
    leaves = "    import threading\n    def spin():\n        while True: pass\n"
    leaves += "    threading.Thread(target=spin, daemon=True).start()\n    return x + 1\n"
    assert crew.try_program(PROBLEM, leaves).outcome == "passed"
    assert [state(worker)[1] for worker in workers(crew)] == ["", ""]


def test_no_process_file_or_mount_is_left_and_memory_is_back(ran, crew, before):
    after = [state(worker) for worker in workers(crew)]
    assert [found[:-1] for found in after] == [found[:-1] for found in before]
    assert all(now[-1] <= then[-1] + (4 << 20) for now, then in zip(after, before, strict=True))


def test_the_next_program_passes(ran, crew):
    assert crew.try_program(PROBLEM, "    return x + 1\n").outcome == "passed"


def workers(crew):
    return sorted((seat._worker for seat in crew._all), key=lambda worker: worker.pid)


def children(worker) -> str:
    return Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text()


def state(worker) -> tuple[object, ...]:
    """The zygote's children, those of its own init, its mounts and open files; last its memory in bytes."""
    process = Path(f"/proc/{worker.pid}")
    parent = process.joinpath("stat").read_text().rpartition(")")[2].split()[1]
    siblings = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    mounts = process.joinpath("mountinfo").read_text()
    files = sorted(path.name for path in process.joinpath("fd").iterdir())
    resident = int(process.joinpath("statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return worker.pid, children(worker), siblings, mounts, tuple(files), sorted(Path().iterdir()), resident
