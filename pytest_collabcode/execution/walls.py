"""Walls: what a zygote puts around each process that it forks; the host decides it and sends it in.

Runs inside the sandbox as well: imports the standard library only, and no more of it than it must: every page of
memory that a zygote has is one more to copy for each process that it forks.
Not covered: why the limits are what they are (policy.py).
"""

from __future__ import annotations

import json
import struct
from typing import NamedTuple

TRIAL, PROBE, STOP = b"trial", b"probe", b"stop"
"""What a zygote can be asked: try a program, attack its walls from where a program would stand, end what it tries."""

USER = 65534
"""Who the zygote and all that it forks are, user and group, behind walls."""

UNBOUNDED = "can start any number of threads"
"""The one breach that a sandbox may have: it is said wherever bounds are."""

OWN_PROCESS = 0x5E1F5E1F
"""Stands in a filter for the number of the process that it is put on; far above any."""


class Walls(NamedTuple):
    """Limits, as policy.Limits has them, and the rest.

    Example:
        >>> limits = dict.fromkeys(Walls._fields[:9], 1)
        >>> walls = Walls(**limits, filters=("06", "00"), readable=["/usr/lib"], scratch="/x")
        >>> Walls.from_json(walls.to_json()) == walls
        True
    """

    cpu_s: int
    wall_s: float
    memory_bytes: int
    scratch_bytes: int
    scratch_files: int
    file_bytes: int
    n_processes: int
    n_files: int
    output_bytes: int
    filters: tuple[str, str]  # of system calls, in hex: the zygote's, then on top of it the programs'
    readable: list[str]  # what the interpreter is made of; Landlock denies the rest
    scratch: str  # below it the private temporary directory is mounted, or made where nothing can be mounted
    namespaced: bool = True  # False: without bubblewrap, and so without namespaces for each program
    landlocked: bool = True  # False, the zygote finds, where the kernel has no Landlock

    def filter_for(self, process: int) -> bytes:
        """Return the programs' filter, under which the process of this number may signal itself."""
        return bytes.fromhex(self.filters[1]).replace(struct.pack("=I", OWN_PROCESS), struct.pack("=I", process))

    def to_json(self) -> bytes:
        """Return the walls as JSON."""
        return json.dumps(self._asdict()).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Walls:
        """Return the walls that `to_json` was called on."""
        data = json.loads(text)
        return cls(**{**data, "filters": tuple(data["filters"])})
