"""The filter, run by a small model of the kernel's machine; that the kernel agrees is test_hostile's matter."""

import errno
import struct

import pytest

from pytest_collabcode.errors import IsolationError
from pytest_collabcode.execution.calls import ALLOWED, GUARDED_BY_MOUNTS, REFUSED, ZYGOTES
from pytest_collabcode.execution.seccomp import build_filters
from pytest_collabcode.execution.walls import Walls

X86, ARM = 0xC000003E, 0xC00000B7
ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS, ENOTTY, ENOTSOCK, ENOLCK = (
    0x50000 | error for error in (errno.EPERM, errno.ENOSYS, errno.ENOTTY, errno.ENOTSOCK, errno.ENOLCK)
)
THREAD = 0x10000
OWN, OTHER = 7, 8


def run(machine: str, audit: int, number: int, *arguments: int, mounted: bool = True) -> int:
    """Return the verdict on a call of a program, on which both filters are: the kernel takes the strictest."""
    filters = tuple(program.hex() for program in build_filters(machine, mounted=mounted))
    walls = Walls(**dict.fromkeys(Walls._fields, 1) | {"filters": filters})
    data = {0: number, 4: audit} | dict.fromkeys(range(16, 64, 8), 0)
    data |= {16 + 8 * position: value for position, value in enumerate(arguments)}
    verdicts = [interpret(program, data) for program in (bytes.fromhex(filters[0]), walls.filter_for(OWN))]
    return min(verdicts, key=[KILL, EPERM, ENOLCK, ENOTTY, ENOTSOCK, ENOSYS, ALLOW].index)


def interpret(program: bytes, data: dict[int, int]) -> int:
    steps = list(struct.iter_unpack("=HBBI", program))
    accumulator = at = 0
    while True:
        code, if_true, if_false, operand = steps[at]
        if code == 0x06:
            return operand
        if code == 0x20:
            accumulator, jump = data[operand], 0
        else:
            truth = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: accumulator & operand}[code]
            jump = if_true if truth else if_false
        at += 1 + jump


@pytest.mark.parametrize(
    ("machine", "audit", "number", "argument", "verdict"),
    [
        ("x86_64", X86, 0, 0, ALLOW),  # read
        ("x86_64", X86, 59, 0, EPERM),  # execve
        ("x86_64", X86, 41, 1, EPERM),  # socket
        ("x86_64", X86, 62, OWN, ALLOW),  # kill
        ("x86_64", X86, 62, OTHER, EPERM),
        ("x86_64", X86, 62, 0, EPERM),  # its group
        ("x86_64", X86, 62, 0xFFFFFFFF, EPERM),  # everybody
        ("x86_64", X86, 234, OWN, ALLOW),  # tgkill, as abort() does
        ("x86_64", X86, 234, OTHER, EPERM),
        ("x86_64", X86, 302, 0, ALLOW),  # prlimit64 of itself
        ("x86_64", X86, 302, OTHER, EPERM),
        ("x86_64", X86, 157, 1, EPERM),  # prctl PR_SET_PDEATHSIG
        ("x86_64", X86, 157, 15, ALLOW),  # PR_SET_NAME
        ("x86_64", X86, 165, 0, EPERM),  # mount
        ("x86_64", X86, 57, 0, EPERM),  # fork
        ("x86_64", X86, 56, 17, EPERM),  # clone as fork does
        ("x86_64", X86, 56, THREAD | 0xF00, ALLOW),  # clone as a thread library does
        ("x86_64", X86, 435, 0, ENOSYS),  # clone3
        ("x86_64", X86, 272, 0, EPERM),  # unshare
        ("x86_64", X86, 0x40000000 + 57, 0, ENOSYS),  # fork of the x32 table
        ("x86_64", 0x40000003, 2, 0, KILL),  # fork of the i386 table
        ("aarch64", ARM, 63, 0, ALLOW),  # read
        ("aarch64", ARM, 220, 17, EPERM),  # clone as fork does
        ("aarch64", ARM, 220, THREAD, ALLOW),
        ("aarch64", ARM, 117, 0, EPERM),  # ptrace
        ("aarch64", ARM, 129, OWN, ALLOW),  # kill
        ("aarch64", ARM, 129, OTHER, EPERM),
        ("aarch64", ARM, 221, 0, EPERM),  # execve
        ("aarch64", ARM, 198, 1, EPERM),  # socket
        ("x86_64", X86, 278, 0, ENOSYS),  # vmsplice
        ("aarch64", ARM, 75, 0, ENOSYS),
        ("x86_64", X86, 275, 0, ENOSYS),  # splice
        ("x86_64", X86, 276, 0, ENOSYS),  # tee
        ("x86_64", X86, 40, 0, ENOTSOCK),  # sendfile
        ("x86_64", X86, 46, 0, EPERM),  # sendmsg
        ("x86_64", X86, 47, 0, EPERM),  # recvmsg
        ("x86_64", X86, 73, 0, ENOLCK),  # flock
        ("x86_64", X86, 206, 0, ENOSYS),  # io_setup
        ("x86_64", X86, 253, 0, ENOSYS),  # inotify_init
        ("x86_64", X86, 294, 0, ENOSYS),  # inotify_init1
        ("x86_64", X86, 222, 0, ENOSYS),  # timer_create
        ("x86_64", X86, 317, 0, ENOSYS),  # seccomp
        ("x86_64", X86, 443, 0, ENOSYS),  # quotactl_fd
        ("x86_64", X86, 457, 0, ENOSYS),  # statmount
        ("aarch64", ARM, 458, 0, ENOSYS),  # listmount
        ("x86_64", X86, 467, 0, ENOSYS),  # open_tree_attr
        ("x86_64", X86, 203, 0, EPERM),  # sched_setaffinity
        ("x86_64", X86, 144, 0, EPERM),  # sched_setscheduler
        ("x86_64", X86, 314, 0, ENOSYS),  # sched_setattr
        ("x86_64", X86, 251, 0, ENOSYS),  # ioprio_set
        ("x86_64", X86, 105, 0, EPERM),  # setuid
        ("x86_64", X86, 112, 0, EPERM),  # setsid
        ("x86_64", X86, 444, 0, EPERM),  # landlock_create_ruleset
        ("x86_64", X86, 90, 0, ALLOW),  # chmod
        ("x86_64", X86, 500, 0, ENOSYS),  # of a kernel to come
        ("aarch64", ARM, 500, 0, ENOSYS),
        ("x86_64", X86, 0x3FFFFFFF, 0, ENOSYS),
        ("x86_64", X86, 0xFFFFFFFF, 0, ENOSYS),
    ],
)
def test_calls_are_let_through_or_refused(machine, audit, number, argument, verdict):
    assert run(machine, audit, number, argument) == verdict


@pytest.mark.parametrize(
    ("number", "first", "second", "verdict"),
    [
        (53, 1, 1, ALLOW),  # socketpair of local streams
        (53, 1, 0x80001, ALLOW),  # closed on exec, as Python makes it
        (53, 1, 2, EPERM),  # of datagrams, which could be sent elsewhere
        (53, 30, 1, EPERM),  # of another family
        (72, 5, 8, EPERM),  # fcntl F_SETOWN
        (72, 5, 1024, EPERM),  # F_SETLEASE
        (72, 5, 1031, EPERM),  # F_SETPIPE_SZ
        (72, 5, 1036, EPERM),  # F_SET_RW_HINT
        (72, 5, 1099, EPERM),  # of a kernel to come
        (72, 5, 4, ALLOW),  # F_SETFL
        (72, 5, 6, ALLOW),  # F_SETLK, as sqlite3 does
        (72, 5, 1030, ALLOW),  # F_DUPFD_CLOEXEC
        (16, 5, 0x8901, ENOTTY),  # ioctl FIOSETOWN
        (16, 5, 0x8912, ENOTTY),  # SIOCGIFCONF
        (16, 5, 0x40049409, ALLOW),  # FICLONE, as pathlib does
        (16, 5, 0x5401, ALLOW),  # TCGETS, as isatty() does
        (141, 0, OWN, EPERM),  # setpriority, also of itself
    ],
)
def test_arguments_decide_where_the_call_alone_does_not(number, first, second, verdict):
    assert run("x86_64", X86, number, first, second) == verdict


@pytest.mark.parametrize(
    ("number", "arguments", "verdict"),
    [
        (44, (3, 0, 1, 0), ALLOW),  # sendto
        (44, (3, 0, 1, 0x4000), ALLOW),  # MSG_NOSIGNAL
        (44, (3, 0, 1, 0x1), EPERM),  # MSG_OOB
        (45, (3, 0, 1, 0x1), EPERM),  # recvfrom
        (45, (3, 0, 1, 0x2), ALLOW),  # MSG_PEEK
        (55, (3, 1, 3), ALLOW),  # getsockopt SO_TYPE
        (55, (3, 1, 77), EPERM),  # SO_PEERPIDFD
        (55, (3, 6, 3), EPERM),  # of TCP
    ],
)
def test_sockets_send_and_tell_no_more_than_streams_need(number, arguments, verdict):
    assert run("x86_64", X86, number, *arguments) == verdict


@pytest.mark.parametrize(
    ("machine", "audit", "number"),
    [
        ("x86_64", X86, 90),  # chmod
        ("x86_64", X86, 91),  # fchmod
        ("x86_64", X86, 92),  # chown
        ("x86_64", X86, 280),  # utimensat
        ("x86_64", X86, 76),  # truncate
        ("aarch64", ARM, 53),  # fchmodat
        ("aarch64", ARM, 452),  # fchmodat2
    ],
)
def test_what_landlock_does_not_guard_is_refused_where_files_are_not_mounted_to_be_read(machine, audit, number):
    assert run(machine, audit, number) == ALLOW
    assert run(machine, audit, number, mounted=False) == EPERM


def test_no_call_is_in_two_tables_and_no_number_has_two_names():
    for column in (0, 1):
        numbers = [both[column] for both in (ALLOWED | REFUSED).values() if both[column] is not None]
        assert len(numbers) == len(set(numbers))
    assert not set(ALLOWED) & set(REFUSED)
    assert set(ZYGOTES) | set(GUARDED_BY_MOUNTS) <= set(ALLOWED)


def test_an_unknown_machine_is_said():
    with pytest.raises(IsolationError, match="machine='riscv64'"):
        build_filters("riscv64")
