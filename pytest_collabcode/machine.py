"""The machine: how many cores and how much memory this process may use, the limits of its container included.

Not covered: control groups of version 1; systems other than Linux tell their cores only.
Source: Documentation/admin-guide/cgroup-v2.rst of Linux 6.18, "CPU" and "Memory"; proc(5).
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")


def own_group(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> Path | None:
    """Return this process's control group, or None where there is no hierarchy of version 2.

    Args:
        root: where the hierarchy is mounted.
        membership: which groups the process is in.
    Example:
        >>> own_group(Path("/no/such/root"), Path("/no/such/file")) is None
        True
    """
    try:
        lines = [line for line in membership.read_text().splitlines() if line.startswith("0::/")]
        return root / lines[0].removeprefix("0::/")
    except (OSError, IndexError):
        return None


def usable_cores(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Return how many cores this process may use: those it may run on, or fewer where its time is limited.

    Args:
        root: where the hierarchy of control groups is mounted.
        membership: which groups the process is in.
    Example:
        >>> usable_cores() >= 1
        True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in _groups(root, membership):
        quota, _, period = _words(group / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit():
            cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(cores, 1)


def free_memory(root: Path = CGROUPS, membership: Path = MEMBERSHIP, meminfo: Path = MEMINFO) -> int | None:
    """Return the bytes that can still be had without swapping; None where the system does not tell.

    Args:
        root: where the hierarchy of control groups is mounted.
        membership: which groups the process is in.
        meminfo: what the kernel says of the whole machine, in kB.
    Example:
        >>> free = free_memory()
        >>> free is None or free > 0
        True
    """
    available = _table(meminfo).get("MemAvailable")
    if available is None:
        return None
    free = 1024 * available
    for group in _groups(root, membership):
        most, used = _words(group / "memory.max"), _words(group / "memory.current")
        if most.isdigit() and used.isdigit():  # files that are cached count as used, and are let go when needed
            cached = _table(group / "memory.stat").get("inactive_file", 0)
            free = min(free, int(most) - int(used) + cached)
    return max(free, 0)


def _groups(root: Path, membership: Path) -> list[Path]:
    """Return the process's own group and those that hold it: each may set a limit."""
    own = own_group(root, membership)
    return [own, *(parent for parent in own.parents if parent.is_relative_to(root))] if own is not None else []


def _words(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _table(path: Path) -> dict[str, int]:
    """Read lines of a name and a number, whatever follows."""
    rows = (line.replace(":", " ").split() for line in _words(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
