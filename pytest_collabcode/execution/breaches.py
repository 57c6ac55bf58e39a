"""A sandbox attacked from inside: what a program could do here that it must not be able to do.

Runs inside the sandbox, in the very process in which a program would run: imports the standard library and this
room only. Not covered: every attack of the tests; these are the walls whose absence a kernel or container setting
can cause.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from pytest_collabcode.execution.confine import confine
from pytest_collabcode.execution.walls import UNBOUNDED, Walls
from pytest_collabcode.execution.wire import read_json

FINDINGS, JOB, RULES = 3, 4, 5
"""The files of this process: where the findings go; paths that must not be seen; Landlock's rules."""

_THREAD = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000  # CLONE_VM, FS, FILES, SIGHAND, THREAD and SYSVSEM
_STACK_BYTES = 1 << 12  # of a thread that only sleeps


def main(walls: Walls) -> NoReturn:
    """Write the names of the breaches, as a JSON list, from a forked process that has these files only."""
    job = read_json(JOB)
    confine(walls, RULES)
    found = _find_open(walls)
    found += ["holds files of others"] if find_files(FINDINGS + 1, job["n_files"]) else []
    if walls.namespaced:
        found += find_visible(job["paths"])
        found += ["is root"] if _succeeds(lambda: os.setuid(0)) else []
        found += ["can write outside its directory"] if os.access("/", os.W_OK) else []
    os.write(FINDINGS, json.dumps(found).encode())
    os._exit(0)


def find_visible(paths: list[str]) -> list[str]:
    """Return a breach for each of the caller's paths that can be seen from here.

    Example:
        >>> find_visible(["/", "/no/such/path"])
        ['sees /']
    """
    return [f"sees {path}" for path in paths if os.path.lexists(path)]


def find_files(first: int, end: int) -> list[int]:
    """Return the numbers, from the first to before the end, under which this process has a file open.

    Example:
        >>> import subprocess, sys
        >>> program = f"import os; from {__name__} import find_files; os.dup2(1, 300); print(find_files(3, 999))"
        >>> subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE).stdout
        b'[300]\\n'
    """
    return [number for number in range(first, end) if _succeeds(partial(os.fstat, number))]


def _find_open(walls: Walls) -> list[str]:
    """Return a breach for each wall that lets an attack through."""
    attacks: dict[str, Callable[[], object]] = {
        "can start processes": _fork,
        "can make sockets": socket.socket,
        "can signal others": lambda: os.kill(os.getppid(), signal.SIGCONT),
        "has no memory limit": lambda: bytearray(walls.memory_bytes),
        UNBOUNDED: lambda: _start_threads(walls.n_processes),  # one of the allowed ones is this
    }
    return [name for name, attack in attacks.items() if _succeeds(attack)]


def _succeeds(attack: Callable[[], object]) -> bool:
    try:
        attack()
    except (OSError, MemoryError):
        return False
    return True


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _start_threads(number: int) -> None:
    """Start so many threads, which sleep in the kernel until this process ends, and never come back to their stacks.

    They are made by the kernel's call itself: a thread library needs memory as well, which could be what it lacks.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    sleep = ctypes.cast(libc.pause, ctypes.c_void_p)
    stacks = ctypes.create_string_buffer((number + 1) * _STACK_BYTES)
    first = ctypes.addressof(stacks) + _STACK_BYTES & ~15  # stacks grow down from an aligned address
    for place in range(number):
        if libc.clone(sleep, ctypes.c_void_p(first + place * _STACK_BYTES), _THREAD, None) < 0:
            raise OSError(ctypes.get_errno(), "no more threads")
