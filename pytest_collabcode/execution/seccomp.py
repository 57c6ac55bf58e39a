"""The system-call filter: a list of allowed calls, and of what may be asked of those that can do too much.

A program may start threads but no process: with one process RLIMIT_AS is a bound for the program as a whole. It may
signal itself and nobody else, also where it has no process namespace of its own.
Not covered: machines other than x86_64 and aarch64; how many threads there are (namespaces.py); memory that the
kernel needs for what is allowed, such as page tables and what pipes hold: only a control group counts it.
Sources: seccomp(2), linux/filter.h, man clone3 on ENOSYS; kernel/seccomp.c on the calls that are always allowed,
which the kernel finds out when a filter is put on, so that a filter costs them nothing.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Mapping, Sequence

from pytest_collabcode.errors import IsolationError
from pytest_collabcode.execution.calls import ALLOWED, GUARDED_BY_MOUNTS, REFUSED, ZYGOTES
from pytest_collabcode.execution.walls import OWN_PROCESS

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # classic BPF: op | mode | size
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; low words come first on both machines
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_CLONE_THREAD = 0x00010000

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # audit number, column of the tables

_REASONS = {  # else it is not permitted
    "sendfile": errno.ENOTSOCK,  # upon which shutil and pathlib copy in another way
    "flock": errno.ENOLCK,
}

_Demands = Mapping[str, tuple[int, Mapping[int, Sequence[int]]]]
"""By call: the error if it is refused, and by position the values that an argument may have."""

_DEMANDS_ON_ALL: _Demands = {
    "fcntl": (  # not F_SETLEASE, F_NOTIFY, F_SETOWN, F_SETSIG, F_SETPIPE_SZ, F_SET_RW_HINT and what is to come
        errno.EPERM,
        {1: (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1032)},  # F_DUPFD to F_SETLKW, F_DUPFD_CLOEXEC, F_GETPIPE_SZ
    ),
    "ioctl": (  # not FIOSETOWN, TIOCSTI, those of networks and of file systems
        errno.ENOTTY,
        # TCGETS, TCGETS2, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX; FICLONE, which copying asks for first
        {1: (0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x40049409)},
    ),
    "socketpair": (  # of local streams, which asyncio needs, and which send to their peer only
        errno.EPERM,
        {0: (1,), 1: (0x1, 0x801, 0x80001, 0x80801)},  # AF_UNIX, SOCK_STREAM
    ),
    "sendto": (errno.EPERM, {3: (0, 0x40, 0x4000, 0x4040)}),  # MSG_DONTWAIT, MSG_NOSIGNAL; not MSG_OOB
    "recvfrom": (errno.EPERM, {3: (0, 0x2, 0x40, 0x42, 0x100)}),  # MSG_PEEK, MSG_DONTWAIT, MSG_WAITALL
    "getsockopt": (errno.EPERM, {1: (1,), 2: (3, 4, 7, 8, 30, 38, 39)}),  # what it is; not who has the other end
}
_DEMANDS_ON_PROGRAMS: _Demands = {
    "kill": (errno.EPERM, {0: (OWN_PROCESS,)}),
    "tgkill": (errno.EPERM, {0: (OWN_PROCESS,)}),
    "prlimit64": (errno.EPERM, {0: (0, OWN_PROCESS)}),
    "prctl": (errno.EPERM, {0: (15, 16)}),  # PR_SET_NAME, PR_GET_NAME; not PR_SET_PDEATHSIG: outlive the parent
}


def build_filters(machine: str, *, mounted: bool = True) -> tuple[bytes, bytes]:
    """Return two filters: one for a zygote and all it forks, and one for each program and judge on top of it.

    What every process is denied is said once, since a filter costs most when it is put on: the kernel compiles it,
    and runs it for each call there is to find out which ones are always allowed. Hence the second is short, and both
    find a call by halving.

    Args:
        machine: as `platform.machine()` says it.
        mounted: the files of the machine are out of sight, or mounted to be read only; else what changes their
            modes, owners and times is refused, those of a program's own files too.
    Returns:
        Arrays of struct sock_filter, 8 bytes each; `Walls.filter_for` makes the second one process's own.
    Raises:
        IsolationError: the system-call numbers of this machine are not known here.
    Example:
        >>> [len(program) % 8 for program in build_filters("x86_64")]
        [0, 0]
    """
    if machine not in _ARCHITECTURES:
        raise IsolationError(
            f"machine={machine!r}: system calls can be filtered on {' and '.join(_ARCHITECTURES)} only"
        )
    audit, column = _ARCHITECTURES[machine]
    allow, refuse = [_step(_RETURN, _ALLOW)], [_step(_RETURN, _ERRNO | errno.EPERM)]
    refused = {name: [_step(_RETURN, _ERRNO | _REASONS.get(name, errno.EPERM))] for name in REFUSED}
    to_all = dict.fromkeys(ALLOWED, allow) | refused | _checks(_DEMANDS_ON_ALL)
    to_all |= {} if mounted else dict.fromkeys(GUARDED_BY_MOUNTS, refuse)
    to_programs = dict.fromkeys(ZYGOTES, refuse) | _checks(_DEMANDS_ON_PROGRAMS)
    to_programs["clone"] = [
        _step(_LOAD, _ARGUMENTS),
        _step(_ANY_BIT, _CLONE_THREAD, skip_if_false=1),
        *allow,
        *refuse,
    ]
    tables = ((to_all, [_step(_RETURN, _ERRNO | errno.ENOSYS)]), (to_programs, allow))
    first, second = (b"".join(_filter(audit, column, steps, otherwise)) for steps, otherwise in tables)
    return first, second


def _filter(audit: int, column: int, steps: Mapping[str, list[bytes]], otherwise: list[bytes]) -> list[bytes]:
    """Return a filter that does something with some calls and something else with all others, unknown ones too."""
    known = ALLOWED | REFUSED
    by_number = {number: what for name, what in steps.items() if (number := known[name][column]) is not None}
    spans = [(0, by_number.get(0, otherwise))]  # each to the beginning of the next
    for number in range(1, max(by_number) + 2):
        what = by_number.get(number, otherwise)
        if what != spans[-1][1]:
            spans.append((number, what))
    table = [_step(_LOAD, _ARCHITECTURE), _step(_EQUAL, audit, skip_if_true=1), _step(_RETURN, _KILL)]
    return [*table, _step(_LOAD, _NUMBER), *_halve(spans)]  # x86_64's second table, of x32, has numbers above all


def _halve(spans: Sequence[tuple[int, list[bytes]]]) -> list[bytes]:
    """Find the span of a number, and do what is to be done there."""
    if len(spans) == 1:
        return spans[0][1]
    middle = len(spans) // 2
    below = _halve(spans[:middle])
    return [_step(_AT_LEAST, spans[middle][0], skip_if_true=len(below)), *below, *_halve(spans[middle:])]


def _checks(demands: _Demands) -> dict[str, list[bytes]]:
    return {
        name: [step for each in arguments.items() for step in _demand(*each, error)] + [_step(_RETURN, _ALLOW)]
        for name, (error, arguments) in demands.items()
    }


def _demand(argument: int, values: Iterable[int], error: int) -> list[bytes]:
    """Refuse a call unless the low word of an argument, the one that the kernel looks at, has one of these values."""
    known = list(values)
    left = range(len(known), 0, -1)  # steps to skip from each comparison to behind the refusal
    checks = [_step(_EQUAL, value, skip_if_true=steps) for value, steps in zip(known, left, strict=True)]
    return [_step(_LOAD, _ARGUMENTS + 8 * argument), *checks, _step(_RETURN, _ERRNO | error)]


def _step(code: int, operand: int, *, skip_if_true: int = 0, skip_if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, skip_if_true, skip_if_false, operand)
