"""The system-call filter: no new process, no memory that the limits do not see, no hidden kernel doors.

A program may start threads but no process: RLIMIT_NPROC does not bind root, and one process makes RLIMIT_AS a bound
for the program as a whole. `execve` stays allowed since the interpreter itself is started under the filter; what it
could start sits in the same cage. Not covered: machines other than x86_64 and aarch64, a list of allowed calls only.
Sources: seccomp(2), linux/filter.h, the system-call tables of Linux 6.18; man clone3 on ENOSYS.
"""

from __future__ import annotations

import errno
import struct

from pytest_collabcode.errors import IsolationError

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # classic BPF: op | mode | size
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, low word on little endian
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_CLONE_THREAD = 0x00010000
_X32_BIT = 0x40000000  # the second, 32-bit table of x86_64 would walk around the numbers below

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # audit number, column below
_CLONE, _CLONE3 = (56, 220), 435
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "fork": (57, None),
    "vfork": (58, None),
    "ptrace": (101, 117),
    "unshare": (272, 97),  # new user namespaces: capabilities inside them, and kernel code behind those
    "setns": (308, 268),
    "add_key": (248, 217),  # the kernel's key rings are shared with the caller
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),  # would do other calls out of the filter's sight
    "memfd_create": (319, 279),  # memory that RLIMIT_AS does not count, as all of the following
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
}


def build_filter(machine: str) -> bytes:
    """Return the filter as the bytes that `bwrap --seccomp` reads.

    Args:
        machine: as `platform.machine()` says it.
    Returns:
        An array of struct sock_filter, 8 bytes each.
    Raises:
        IsolationError: the system-call numbers of this machine are not known here.
    Example:
        >>> len(build_filter("x86_64")) % 8
        0
    """
    if machine not in _ARCHITECTURES:
        raise IsolationError(
            f"machine={machine!r}: system calls can be filtered on {' and '.join(_ARCHITECTURES)} only"
        )
    audit, column = _ARCHITECTURES[machine]
    program = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, audit, skip_if_true=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        program += [_step(_AT_LEAST, _X32_BIT, skip_if_false=1), _step(_RETURN, _ERRNO | errno.ENOSYS)]
    for numbers in _DENIED.values():
        number = numbers[column]
        if number is not None:
            program += _refuse(number, errno.EPERM)
    program += _refuse(_CLONE3, errno.ENOSYS)  # its flags lie in memory; on ENOSYS the C library falls back to clone
    program += [
        _step(_EQUAL, _CLONE[column], skip_if_false=3),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(_ANY_BIT, _CLONE_THREAD, skip_if_true=1),
        _step(_RETURN, _ERRNO | errno.EPERM),
        _step(_RETURN, _ALLOW),
    ]
    return b"".join(program)


def _refuse(number: int, error: int) -> list[bytes]:
    return [_step(_EQUAL, number, skip_if_false=1), _step(_RETURN, _ERRNO | error)]


def _step(code: int, operand: int, *, skip_if_true: int = 0, skip_if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, skip_if_true, skip_if_false, operand)
