"""Hostile programs, run for real: each would pass if what it tries succeeded, and none does.

Not covered: a row for what issue 4 adds (cgroups, 10^5 files).
"""

import os
import socket
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pytest_collabcode.execution.executor import execute
from pytest_collabcode.execution.policy import Limits
from pytest_collabcode.records import Execution, Generation, Problem

PROBLEM = Problem(
    task_id="plus_one",
    prompt='def answer(x):\n    """Return x + 1, which is 2 in the test."""\n',
    test="def check(candidate):\n    assert candidate(1) == 2\n",
    entry_point="answer",
)
# the sandboxes of this run are told from others' by a size that nobody else uses
LIMITS = Limits(cpu_s=1, wall_s=4, memory_bytes=256 << 20, scratch_bytes=(20 << 20) + os.getpid())
TOKEN = "token-of-the-caller"

FRAME = "import os, struct, sys; w = int(sys.argv[2]); frame = lambda b: os.write(w, struct.pack('>I', len(b)) + b)\n"
LIBC = "import ctypes; libc = ctypes.CDLL(None)\n"

# name: body of the function, expected outcomes, part of the expected detail
PROGRAMS: dict[str, tuple[str, str, str]] = {
    "exits with 0": ("import os; os._exit(0)", "failed", "ended before it answered"),
    "sys.exit": ("import sys; sys.exit(0)", "failed", "SystemExit raised"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "failed", "KeyboardInterrupt raised"),
    "own BaseException": ("raise type('E', (BaseException,), {})", "failed", "BaseException raised"),
    "becomes another program": ("import os, sys; os.execv(sys.executable, ['python', '-c', ''])", "failed", "ended"),
    "SystemExit in __del__": (
        "class D:\n    def __del__(self): raise SystemExit(0)\nd = D(); del d; return 0",
        "failed",
        "AssertionError",
    ),
    "always equal": ("return type('E', (), {'__eq__': lambda s, o: True})()", "failed", "not plain"),
    "always equal int": ("return type('E', (int,), {'__eq__': lambda s, o: True})(0)", "failed", "AssertionError"),
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
        FRAME + 'frame(b\'{"args": 1, "kwargs": 1, "result": ["object", 1]}\'); return 2',
        "tampered",
        "forged",
    ),
    "forges an exception": (FRAME + 'frame(b\'{"raised": ["\\\\u001b[31m"]}\'); return 2', "tampered", "exception"),
    "announces 4 GB": (FRAME + "os.write(w, b'\\xff' * 8); return 2", "tampered", "wire"),
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
    "patches its own wire": (
        "import pytest_collabcode.execution.candidate as c\nc.encode = lambda v, d=0: 'passed'\nreturn 0",
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
    "reads its environment": (
        "import os; return 2 if 'COLLABCODE_TOKEN' in os.environ else 0",
        "failed",
        "Assertion",
    ),
    "reads others' environment": (
        "import glob; return 2 if any(open(p).read() for p in glob.glob('/proc/*/environ')) else 0",
        "failed",
        "AssertionError",
    ),
    "imports a foreign package": ("import pytest; return 2", "failed", "ModuleNotFoundError"),
    "writes into the root": ("open('/x', 'w'); return 2", "failed", "OSError"),
    "writes into the library": ("import os; open(os.__file__, 'a'); return 2", "failed", "Error raised"),
    "writes into this tool": (
        "import pytest_collabcode.execution.wire as w; open(w.__file__, 'a'); return 2",
        "failed",
        "Error raised",
    ),
    "TCP to the caller": (
        "import socket; socket.create_connection(('127.0.0.1', TCP), 2); return 2",
        "failed",
        "ConnectionRefusedError",
    ),
    "UDP to the caller": (
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', UDP)); return 0",
        "failed",
        "AssertionError",
    ),
    "abstract socket": (
        "import socket; socket.socket(socket.AF_UNIX).connect('\\0' + ABSTRACT); return 2",
        "failed",
        "ConnectionRefusedError",
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
        "failed out_of_memory timeout",
        "",
    ),
    "allocates 2 GB": ("bytearray(2 << 30); return 2", "out_of_memory", "MemoryError"),
    "allocates for ever": ("x = []\nwhile True: x.append(bytearray(1 << 20))", "out_of_memory", "MemoryError"),
    "memory file": ("import os; os.memfd_create('x'); return 2", "failed", "PermissionError"),
    "shared memory segment": (LIBC + "return 2 if libc.shmget(0, 4096, 0o1600) >= 0 else 0", "failed", "Assertion"),
    "new user namespace": (LIBC + "return 2 if libc.unshare(0x10000000) == 0 else 0", "failed", "AssertionError"),
    "traces its parent": (LIBC + "return 2 if libc.ptrace(16, 1, 0, 0) == 0 else 0", "failed", "AssertionError"),
    "raises its own limit": (
        "import resource; resource.setrlimit(resource.RLIMIT_CPU, (99, 99)); return 2",
        "failed",
        "ValueError",
    ),
    "endless loop": ("while True: pass", "timeout", "more than"),
    "ignores SIGXCPU": ("import signal; signal.signal(24, signal.SIG_IGN)\nwhile True: pass", "timeout", "more than"),
    "endless loop in C": ("import re; re.match('(a+)+$', 'a' * 50 + 'b')", "timeout", "more than"),
    "endless loop in __eq__ of a key": ("while True: {1: 1}.get(1)", "timeout", "more than"),
    "sleeps": ("import time; time.sleep(60); return 2", "timeout", "wall-clock"),
    "stops itself": ("import os, signal; os.kill(os.getpid(), signal.SIGSTOP); return 2", "timeout", "wall-clock"),
    "1 GB of output": ("for _ in range(1024): print('x' * (1 << 20))\nreturn 0", "failed timeout", ""),
    "large file": ("open('x', 'wb').write(bytes(17 << 20)); return 2", "failed", "OSError"),
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
    "kills its group": ("import os; os.killpg(0, 9); return 2", "crashed", "SIGKILL"),
    "segmentation fault": (LIBC + "ctypes.string_at(0)", "crashed", "SIGSEGV"),
    "aborts": ("import os; os.abort()", "crashed", "SIGABRT"),
    "huge result": ("return 'x' * (20 << 20)", "failed", "too large"),
    "endless result": ("import itertools; return itertools.count()", "failed", "not plain"),
    "exploding result": ("y = [1]\nfor _ in range(64): y = [y, y]\nreturn y", "timeout", "more than"),
    "deep result": ("y = []\nfor _ in range(10**5): y = [y]\nreturn y", "failed", "too large"),
    "cyclic result": ("y = []; y.append(y); return y", "failed", "too large"),
    "terminal escapes": (
        "raise type('\\x1b[31m::error::', (Exception,), {})('\\x1b]0;x')",
        "failed",
        "Exception raised",
    ),
    "NUL in the source": ("'\0'", "failed", "raised while the program was loaded"),
    "lone surrogate in the source": ("return '\ud800'", "failed", "UnicodeError raised while the program was loaded"),
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
def ran(listeners, tmp_path_factory) -> dict[str, Execution]:
    corpus = tmp_path_factory.mktemp("corpus") / "private.py"
    corpus.write_text("secret = 1\n")
    tcp, udp, _ = listeners
    own = Path(sys.base_prefix)  # the interpreter may live at home, and only the way to it is seen
    names = {"OWN": own.relative_to(Path.home()).parts[0] if own.is_relative_to(Path.home()) else ""}
    names |= {"HOME": str(Path.home()), "CORPUS": str(corpus), "ABSTRACT": f"collabcode-{os.getpid()}"}
    names |= {"TCP": tcp.getsockname()[1], "UDP": udp.getsockname()[1]}
    header = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    texts = [textwrap.indent(header + body, "    ") for body, _, _ in PROGRAMS.values()]
    generations = [generation(text, i) for i, text in enumerate(texts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLLABCODE_TOKEN", TOKEN)
        executions = execute({PROBLEM.task_id: PROBLEM}, generations, limits=LIMITS)
    return dict(zip(PROGRAMS, executions, strict=True))


def generation(completion: str, sample_index: int = 0) -> Generation:
    return Generation(
        task_id=PROBLEM.task_id,
        sample_index=sample_index,
        completion=completion,
        n_tokens=0,
        duration_s=0,
        stop_reason="eos",
    )


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_program_never_passes_and_is_labelled(ran, name):
    _, outcomes, detail = PROGRAMS[name]
    assert ran[name].outcome in outcomes.split(), ran[name]
    assert detail in ran[name].detail


def test_details_are_short_and_printable(ran):
    assert all(execution.detail.isprintable() and len(execution.detail) <= 200 for execution in ran.values())


def test_a_program_is_ended_at_its_limit(ran):
    assert max(execution.duration_s for execution in ran.values()) <= LIMITS.wall_s + 1


def test_nothing_reaches_the_caller_by_network(ran, listeners):
    with pytest.raises(BlockingIOError):
        listeners[1].recv(1)


def test_no_process_is_left(ran):
    deadline = time.monotonic() + 5
    while sandboxes() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sandboxes() == []


def test_the_next_program_passes(ran):
    (execution,) = execute({PROBLEM.task_id: PROBLEM}, [generation("    return x + 1\n")], limits=LIMITS)
    assert execution.passed


def sandboxes() -> list[str]:
    """Processes of bubblewrap started with this module's limits; its first process inside is the last to die."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(LIMITS.scratch_bytes).encode() in arguments:
            found.append(path.parent.name)
    return found
