"""The system-call filter: no new process, no socket, no memory that the limits do not see, no hidden kernel doors.

A program may start threads but no process: RLIMIT_NPROC does not bind root, and one process makes RLIMIT_AS a bound
for the program as a whole. It may signal itself and nobody else, also where it has no process namespace of its own.
Not covered: machines other than x86_64 and aarch64, a list of allowed calls only, a bound on threads.
Sources: seccomp(2), linux/filter.h, the system-call tables of Linux 6.18; man clone3 on ENOSYS.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping, Sequence

from pytest_collabcode.errors import IsolationError
from pytest_collabcode.execution.walls import OWN_PROCESS

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # classic BPF: op | mode | size
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; low words come first on both machines
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_CLONE_THREAD = 0x00010000
_X32_BIT = 0x40000000  # the second, 32-bit table of x86_64 would walk around the numbers below

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # audit number, column below
_CLONE, _CLONE3 = (56, 220), 435
_DENIED_TO_ALL: dict[str, tuple[int | None, int | None]] = {
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),  # other processes' memory, and handles on them
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "tkill": (200, 130),  # signals by ways that do not name the process
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "socket": (41, 198),  # a connected pair of local ones is what asyncio needs: see below
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "unshare": (272, 97),  # new user namespaces: capabilities inside them, and kernel code behind those
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),  # files by number instead of by path
    "open_by_handle_at": (304, 265),
    "add_key": (248, 217),  # the kernel's key rings are shared with the caller
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "fanotify_init": (300, 262),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),  # would do other calls out of the filter's sight
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "memfd_create": (319, 279),  # memory that RLIMIT_AS does not count, as all of the following
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
}
_DENIED_TO_PROGRAMS: dict[str, tuple[int | None, int | None]] = {  # the zygote needs these
    "fork": (57, None),
    "vfork": (58, None),
    "pidfd_open": (434, 434),
    "setns": (308, 268),
    "mount": (165, 40),
}
_DEMANDED: dict[str, tuple[tuple[int, int], int, tuple[int, ...]]] = {  # numbers, argument, the values it may have
    "kill": ((62, 129), 0, (OWN_PROCESS,)),
    "tgkill": ((234, 131), 0, (OWN_PROCESS,)),
    "prlimit64": ((302, 261), 0, (0, OWN_PROCESS)),
    "socketpair's family": ((53, 199), 0, (1,)),  # AF_UNIX
    "socketpair's type": ((53, 199), 1, (0x1, 0x801, 0x80001, 0x80801)),  # SOCK_STREAM: sends to its peer only
}
_REFUSED: dict[str, tuple[tuple[int, int], int, tuple[int, ...]]] = {  # numbers, argument, values it may not have
    "fcntl": ((72, 25), 1, (8, 10, 15)),  # F_SETOWN, F_SETSIG, F_SETOWN_EX: have the kernel signal somebody
    "ioctl": ((16, 29), 1, (0x8901, 0x8902, 0x5412)),  # FIOSETOWN, SIOCSPGRP: the same; TIOCSTI: type for the user
    "prctl": ((157, 167), 0, (1,)),  # PR_SET_PDEATHSIG: outlive the parent
}


def build_filters(machine: str) -> tuple[bytes, bytes]:
    """Return two filters: one for a zygote and all it forks, and one for each program and judge on top of it.

    What every process is denied is said once, since a filter costs most when it is put on: the kernel compiles it.

    Args:
        machine: as `platform.machine()` says it.
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
    _, column = _ARCHITECTURES[machine]
    allow = _step(_RETURN, _ALLOW)
    to_all = _deny_all(_DENIED_TO_ALL, column)
    to_programs = _deny_all(_DENIED_TO_PROGRAMS, column)
    to_programs += _deny(_CLONE3, errno.ENOSYS)  # its flags lie in memory; the C library falls back to clone then
    for known, argument, values in _DEMANDED.values():
        to_programs += _demand(known[column], argument, values)
    for known, argument, values in _REFUSED.values():
        to_programs += _refuse(known[column], argument, values)
    to_programs += [
        _step(_EQUAL, _CLONE[column], skip_if_false=3),
        _step(_LOAD, _ARGUMENTS),
        _step(_ANY_BIT, _CLONE_THREAD, skip_if_true=1),
        _step(_RETURN, _ERRNO | errno.EPERM),
    ]
    first, second = ([*_check_table(machine), *steps, allow] for steps in (to_all, to_programs))
    return b"".join(first), b"".join(second)


def _check_table(machine: str) -> list[bytes]:
    """Load the number of the call, after making sure that it is one of the table that the numbers here are from."""
    audit, _ = _ARCHITECTURES[machine]
    steps = [_step(_LOAD, _ARCHITECTURE), _step(_EQUAL, audit, skip_if_true=1), _step(_RETURN, _KILL)]
    steps.append(_step(_LOAD, _NUMBER))
    if machine == "x86_64":
        steps += [_step(_AT_LEAST, _X32_BIT, skip_if_false=1), _step(_RETURN, _ERRNO | errno.ENOSYS)]
    return steps


def _deny_all(table: Mapping[str, tuple[int | None, int | None]], column: int) -> list[bytes]:
    numbers = [numbers[column] for numbers in table.values()]
    return [step for number in numbers if number is not None for step in _deny(number, errno.EPERM)]


def _deny(number: int, error: int) -> list[bytes]:
    return [_step(_EQUAL, number, skip_if_false=1), _step(_RETURN, _ERRNO | error)]


def _demand(number: int, argument: int, values: Sequence[int]) -> list[bytes]:
    """Refuse a call unless an argument has one of these values, and go on."""
    left = range(len(values), 0, -1)  # steps to skip from each comparison to behind the refusal
    checks = [_step(_EQUAL, value, skip_if_true=steps) for value, steps in zip(values, left, strict=True)]
    return _on(number, argument, [*checks, _step(_RETURN, _ERRNO | errno.EPERM)])


def _refuse(number: int, argument: int, values: Sequence[int]) -> list[bytes]:
    """Refuse a call if an argument has one of these values, and go on."""
    return _on(number, argument, [step for value in values for step in _deny(value, errno.EPERM)])


def _on(number: int, argument: int, checks: list[bytes]) -> list[bytes]:
    """Run checks on the low word of an argument, the one that the kernel looks at, if this is the call."""
    look = _step(_LOAD, _ARGUMENTS + 8 * argument)
    return [_step(_EQUAL, number, skip_if_false=len(checks) + 2), look, *checks, _step(_LOAD, _NUMBER)]


def _step(code: int, operand: int, *, skip_if_true: int = 0, skip_if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, skip_if_true, skip_if_false, operand)
