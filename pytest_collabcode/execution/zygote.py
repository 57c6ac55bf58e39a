"""The zygote: an interpreter, started once inside the walls, that forks the processes of each trial.

It takes orders from the host over a socket, with the files that an order needs: the program's and the judge's job,
and the end of a pipe for the verdict. It hands them on unread, so that no later program can find in its memory an
earlier program or any problem's test. Per trial it forks the judge, and the program as process 2 of a process
namespace and with mounts of its own; whatever is in there is gone before the answer is sent.
Runs inside the sandbox: imports the standard library and this room only.
Not covered: a verdict (the judge's), what an exit status means (the host's).
"""

from __future__ import annotations

import errno
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from pytest_collabcode.execution import breaches, candidate, landlock, oracle
from pytest_collabcode.execution.files import have_only, keep_only
from pytest_collabcode.execution.kernel import (
    NEW_MOUNTS,
    NEW_PROCESSES,
    Keeper,
    change_user,
    current_core,
    die_with_parent,
    forbid_new_privileges,
    fork,
    fork_into,
    install_filter,
    keep_mounts_private,
    mount_scratch,
)
from pytest_collabcode.execution.values import Heap
from pytest_collabcode.execution.walls import STOP, TRIAL, USER, Walls
from pytest_collabcode.execution.wire import Channel

_PRELOADED = (  # what most programs import, and no more: what is here is copied for every process
    "abc array bisect cmath collections contextlib copy ctypes decimal enum fractions functools hashlib heapq io "
    "itertools json math operator os random re string struct sys time types typing"
)
_MAX_FILES = 256  # of the zygote itself
_ORDER_BYTES = 4096
_BOUNDS = {  # of the zygote and, where a program has no closer one, of all that it forks
    resource.RLIMIT_NOFILE: _MAX_FILES,
    resource.RLIMIT_SIGPENDING: 64,  # timers and queued signals, which are kernel memory
    resource.RLIMIT_MEMLOCK: 0,  # memory that cannot be swapped out
    resource.RLIMIT_NICE: 0,  # turns before others'
}
_GARBAGE = 10_000, 10, 10  # collect after so many new objects: most programs end before
_STACK_BYTES = 1 << 14  # of a process that only sleeps
_END_S = 1.0  # for a program that has closed its files to end
_TOGETHER_S = 0.1  # in which most trials end: so long, program and judge share a core
_REHEARSALS = 20  # after eight runs the interpreter has specialized its instructions

Role = Callable[[Walls], NoReturn]
"""What a forked process is for; it confines itself before it does anything foreign."""


def main() -> NoReturn:
    """Start: the walls on standard input, the socket's number in argv."""
    walls = Walls.from_json(sys.stdin.buffer.read())
    control = keep_only(int(sys.argv.pop()))  # programs are not to see the number either
    if not walls.namespaced:
        die_with_parent()  # bubblewrap sees to it otherwise
        _serve(walls, control)
    change_user(USER)  # whom an unprivileged caller is mapped to already
    _look_for_library()
    # In a process namespace that belongs to the user namespace we have a say in, we can always come back to it.
    child = fork(NEW_PROCESSES | NEW_MOUNTS)
    if child == 0:
        keep_mounts_private()
        _serve(walls, control)
    control.close()
    os.waitpid(child, 0)
    os._exit(0)


def _look_for_library() -> None:
    """Make sure that the interpreter's own files are there for this user, as programs will want them.

    Raises:
        PermissionError: they are not: installed for their owner alone, as a umask of 077 has it.
    """
    for entry in os.scandir(os.__file__.rpartition("/")[0]):
        there = os.access(entry.path, os.F_OK)  # Debian has links to what is not mounted
        if there and not os.access(entry.path, os.R_OK):
            raise PermissionError(errno.EACCES, "users other than its owner may not read it", entry.path)


def _serve(walls: Walls, control: socket.socket) -> NoReturn:
    """Obey until the host hangs up."""
    for name in _PRELOADED.split():
        importlib.import_module(name)
    sys.path.remove(os.environ["PYTHONPATH"])  # programs have the standard library only
    os.environ.clear()
    os.chdir("/")
    for kind, bound in _BOUNDS.items():
        resource.setrlimit(kind, (bound, bound))
    os.dup2(1, 0)  # /dev/null; standard error is the host's ear until a child is confined
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # see kernel.Keeper
    interfaces = [name for _, name in socket.if_nameindex()]  # which is asked over a socket, so before the filter
    forbid_new_privileges()
    install_filter(bytes.fromhex(walls.filters[0]))
    version = landlock.version()
    zygote = _Zygote(walls._replace(landlocked=version > 0), control)
    _rehearse(walls.output_bytes)
    gc.collect()
    gc.freeze()  # no collection in a child touches, and so copies, what is there by now
    gc.set_threshold(*_GARBAGE)
    control.send(json.dumps({"landlock": version, "interfaces": interfaces}).encode())
    while True:
        message, files, _, _ = socket.recv_fds(control, _ORDER_BYTES, 3)
        if not message:
            os._exit(0)
        if message == STOP:  # which `_wait` has seen, or which came too late
            continue
        order, number, scratch = message.split(b" ", 2)
        if scratch:
            zygote.write_to(os.fsdecode(scratch))
        report = zygote.try_program(*files) if order == TRIAL else zygote.probe(*files)
        control.send(json.dumps({"order": int(number), **report}).encode())


def _rehearse(limit_bytes: int) -> None:
    """Do what program and judge will do, on a program of ours: what the interpreter writes at first, it writes here.

    In each child it would be written, and so its memory copied, once more.
    """
    prompt, rest = "from typing import List\n\ndef f(x: int) -> List[int]:\n", "    return [x for x in range(x)]\n"
    test = "def check(g):\n    assert g(2) == [0, 1]\n"
    job = {"prompt": prompt, "canonical_solution": rest, "test": test, "entry_point": "f"}
    for _ in range(_REHEARSALS):
        (calls, asked), (answers, told) = os.pipe(), os.pipe()
        function = candidate.load(prompt + rest, "f")
        program = Channel(calls, told, limit_bytes=limit_bytes)
        # One process plays both: the answer is written before it is asked for.
        for message in (
            "ready",
            {"loaded": True},
            candidate.answer(function, {"args": [2]}, Heap()),
        ):
            program.send(message)
        oracle.judge(job, Channel(answers, asked, limit_bytes=limit_bytes))
        program.receive()
        for end in (calls, asked, answers, told):
            os.close(end)
    del sys.modules["candidate"]


class _Zygote:
    def __init__(self, walls: Walls, control: socket.socket) -> None:
        self._walls = walls
        self._control = control
        self._stack = bytearray(_STACK_BYTES)
        self._judges_rules, self._programs_rules = (os.open("/dev/null", os.O_RDONLY) for _ in range(2))
        self._scratch = f"{walls.scratch}/tmp"
        if walls.landlocked:
            self._judges_rules = landlock.make_rules(self._readable(), ["/dev/null"])
            if walls.namespaced:
                self._programs_rules = landlock.make_rules(self._readable(), ["/dev/null", walls.scratch])

    def write_to(self, scratch: str) -> None:
        """Have the next program write to this directory, which the host has made for it, and to none else."""
        self._scratch = scratch
        if self._walls.landlocked:
            os.close(self._programs_rules)
            self._programs_rules = landlock.make_rules(self._readable(), ["/dev/null", scratch])

    def _readable(self) -> list[str]:
        return [*self._walls.readable, "/dev/urandom"]

    def try_program(self, program_job: int, judge_job: int, verdict: int) -> dict[str, object]:
        """Run a program and its judge; both are dead on return.

        Returns:
            wall_s from the fork to the verdict; timed_out; of judge and program how they ended, as `_reap` says it.
        """
        began = time.monotonic()
        keeper = self._open_namespace()
        (calls, asked), (answers, told) = os.pipe(), os.pipe()
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {current_core()})  # they take turns: a call costs half when no other core is woken
        judge = self._fork_judge([answers, asked, verdict, judge_job])
        program = self._fork_confined(candidate.main, [calls, told, program_job], keeper)
        os.sched_setaffinity(0, cores)
        for file in (program_job, judge_job, verdict, calls, asked, answers, told):
            os.close(file)
        judged = _wait(judge, began + _TOGETHER_S)
        if judged is None:  # it may be long, and the core may be somebody else's as well
            os.sched_setaffinity(judge, cores)
            os.sched_setaffinity(program, cores)
            judged = _wait(judge, None, self._control)
        took_s = time.monotonic() - began
        gone = judged is not None and judged["status"] == oracle.GONE
        ended = _wait(program, time.monotonic() + _END_S) if gone else None
        report = {
            "wall_s": took_s,
            "timed_out": judged is None,
            "judge": judged or _kill(judge),
            "program": ended or _kill(program),
        }
        if keeper is not None:
            keeper.end()
        return report

    def probe(self, findings: int, paths: int) -> dict[str, object]:
        """Attack the walls from where a program would stand."""
        keeper = self._open_namespace()
        attacker = self._fork_confined(breaches.main, [findings, paths], keeper)
        for file in (findings, paths):
            os.close(file)
        ended = _wait(attacker, time.monotonic() + self._walls.wall_s) or _kill(attacker)
        if keeper is not None:
            keeper.end()
        return {"program": ended}

    def _open_namespace(self) -> Keeper | None:
        return Keeper(self._stack) if self._walls.namespaced else None

    def _fork_judge(self, files: Sequence[int]) -> int:
        child = fork()
        if child == 0:
            _play([*files, self._judges_rules], lambda: oracle.main(self._walls))
        return child

    def _fork_confined(self, role: Role, files: Sequence[int], keeper: Keeper | None) -> int:
        """Fork a process with namespaces, if there are any, and a scratch directory of its own."""
        if keeper is not None:
            fork_into(keeper.process)
        child = fork(NEW_MOUNTS if keeper is not None else 0)
        if child == 0:
            _play([*files, self._programs_rules], lambda: self._enter(role))
        if keeper is not None:
            fork_into(os.getpid())
        return child

    def _enter(self, role: Role) -> NoReturn:
        walls = self._walls
        if walls.namespaced:  # else the host has made it for this program, and removes it
            mount_scratch(self._scratch, n_bytes=walls.scratch_bytes, n_files=walls.scratch_files)
        os.chdir(self._scratch)
        role(walls)


def _play(files: Sequence[int], act: Callable[[], NoReturn]) -> NoReturn:
    """Be a child to the end, with these files, renumbered 3, 4 and so on, and the standard streams."""
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()  # what is done to a group or session is not done to the zygote's
        have_only(files)
        act()
    except BaseException as error:  # before the walls stand it is heard by the host, behind them by nobody
        os.write(2, f"{type(error).__name__}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(1)


def _wait(process: int, deadline: float | None, host: socket.socket | None = None) -> dict[str, float] | None:
    """Return how a child ended, or None when it has not by then, or before the host says something or hangs up."""
    handle = os.pidfd_open(process)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        if host is not None:
            poll.register(host, select.POLLIN)
        left_ms = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ended = handle in dict(poll.poll(left_ms))
    finally:
        os.close(handle)
    return _reap(process) if ended else None


def _kill(process: int) -> dict[str, float]:
    os.kill(process, signal.SIGKILL)
    return {**_reap(process), "signal": 0}  # ours, which says nothing about the program


def _reap(process: int) -> dict[str, float]:
    """Return the signal and exit status a child ended with, and the CPU time of it and those it waited for."""
    _, status, usage = os.wait4(process, 0)
    signalled = os.WIFSIGNALED(status)
    return {
        "signal": os.WTERMSIG(status) if signalled else 0,
        "status": 0 if signalled else os.WEXITSTATUS(status),
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }
