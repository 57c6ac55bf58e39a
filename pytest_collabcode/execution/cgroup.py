"""A control group for each worker: the one bound that counts the memory and the threads of a sample as a whole.

Made where a version-2 hierarchy with the memory and pids controllers is ours to write to: beside or below this
process's own group. Not covered: version 1; moving this process to make room (a group with processes in it cannot
hand controllers down, so a bare `systemd-run --scope` is no use, the session of a root login is).
Source: Documentation/admin-guide/cgroup-v2.rst of Linux 6.18, "Delegation" and "No Internal Process Constraint".
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from pathlib import Path

from pytest_collabcode.execution.policy import Limits
from pytest_collabcode.machine import CGROUPS, MEMBERSHIP, own_group

_OWN_BYTES = 128 << 20  # the zygote, the judge's own part, and the kernel's memory for all of them
_OWN_TASKS = 8  # bubblewrap, zygote, warden, judge and room for their ends
_END_S = 1.0
_numbers = itertools.count()


def find_parent(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> Path | None:
    """Return the group under which workers' groups can be made, or None.

    Args:
        root: where the hierarchy is mounted.
        membership: which groups this process is in.
    Example:
        >>> find_parent(Path("/no/such/root")) is None
        True
    """
    own = own_group(root, membership)
    if own is None:
        return None
    for group in [own] if own == root else [own, own.parent]:
        try:
            handed_down = (group / "cgroup.subtree_control").read_text().split()
        except OSError:
            continue
        writable = all(os.access(path, os.W_OK) for path in (group, group / "cgroup.procs"))
        if writable and {"memory", "pids"} <= set(handed_down):
            return group
    return None


class Group:
    """A group of its own for one worker.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as parent:
        ...     group = Group(Path(parent), Limits(n_processes=10))
        ...     (group.path / "pids.max").read_text()
        '18'
    """

    def __init__(self, parent: Path, limits: Limits) -> None:
        """Make the group.

        Raises:
            OSError: it cannot be made after all.
        """
        self.path = parent / f"collabcode-{os.getpid()}-{next(_numbers)}"
        self.path.mkdir()
        self._set("memory.max", limits.memory_bytes + limits.scratch_bytes + _OWN_BYTES)
        self._set("memory.swap.max", 0)
        self._set("pids.max", limits.n_processes + _OWN_TASKS)

    def add(self, process: int) -> None:
        """Move a process in; what it forks from now on is born there."""
        self._set("cgroup.procs", process)

    def n_killed(self) -> int:
        """Return how many processes the kernel has killed here for want of memory."""
        events = dict(line.split() for line in (self.path / "memory.events").read_text().splitlines())
        return int(events["oom_kill"])

    def close(self) -> None:
        """Remove the group once its last process has ended."""
        deadline = time.monotonic() + _END_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                self.path.rmdir()
                return
            time.sleep(0.01)

    def _set(self, name: str, value: int) -> None:
        with contextlib.suppress(FileNotFoundError):  # a kernel without swap has no limit for it
            (self.path / name).write_text(str(value))
