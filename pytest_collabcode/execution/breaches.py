"""A sandbox attacked from inside: what a program could do here that it must not be able to do.

Runs inside the sandbox, in the very process in which a program would run: imports the standard library and this
room only. Not covered: every attack of the tests; these are the walls whose absence a kernel or container setting
can cause.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from pytest_collabcode.execution.confine import confine
from pytest_collabcode.execution.walls import Walls
from pytest_collabcode.execution.wire import read_json

FINDINGS, JOB, RULES = 3, 4, 5
"""The files of this process: where the findings go; paths that must not be seen; Landlock's rules."""


def main(walls: Walls) -> NoReturn:
    """Write the names of the breaches, as a JSON list, from a forked process that has these files only."""
    job = read_json(JOB)
    confine(walls, RULES)
    found = _find_open(memory_bytes=walls.memory_bytes)
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


def _find_open(*, memory_bytes: int) -> list[str]:
    """Return a breach for each wall that lets an attack through."""
    attacks: dict[str, Callable[[], object]] = {
        "can start processes": _fork,
        "can make sockets": socket.socket,
        "can signal others": lambda: os.kill(os.getppid(), signal.SIGCONT),
        "has no memory limit": lambda: bytearray(memory_bytes),
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
