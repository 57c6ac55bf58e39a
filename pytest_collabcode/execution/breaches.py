"""A sandbox attacked from inside: what a program could do here that it must not be able to do.

Runs inside the sandbox: imports the standard library and this room's `confine` only. Not covered: every attack of the
tests; these are the walls whose absence a kernel or container setting can cause.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable

from pytest_collabcode.execution.confine import confine


def main() -> None:
    """Write the names of the breaches, as a JSON list, to the pipe that argv names."""
    job = json.load(sys.stdin.buffer)
    confine(job["limits"])
    found = [*find_visible(job["paths"]), *_find_open(memory_bytes=job["limits"]["memory_bytes"])]
    os.write(int(sys.argv[1]), json.dumps(found).encode())


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
        "has no memory limit": lambda: bytearray(memory_bytes),
        "is root": lambda: os.setuid(0),
    }
    found = [name for name, attack in attacks.items() if _succeeds(attack)]
    if os.access("/", os.W_OK):
        found.append("can write outside its directory")
    if [name for _, name in socket.if_nameindex() if name != "lo"]:
        found.append("sees the network")
    return found


def _succeeds(attack: Callable[[], object]) -> bool:
    try:
        attack()
    except (OSError, MemoryError):
        return False
    return True


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)
