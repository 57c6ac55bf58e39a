"""The filter, run by a small model of the kernel's machine; that the kernel agrees is test_hostile's matter."""

import errno
import struct

import pytest

from pytest_collabcode.errors import IsolationError
from pytest_collabcode.execution.seccomp import build_filters
from pytest_collabcode.execution.walls import Walls

X86, ARM = 0xC000003E, 0xC00000B7
ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
THREAD = 0x10000
OWN, OTHER = 7, 8


def run(machine: str, audit: int, number: int, argument: int = 0, second: int = 0) -> int:
    """Return the verdict on a call of a program, on which both filters are: the kernel takes the strictest."""
    filters = tuple(program.hex() for program in build_filters(machine))
    walls = Walls(**dict.fromkeys(Walls._fields, 1) | {"filters": filters})
    data = {0: number, 4: audit, 16: argument, 24: second}
    verdicts = [interpret(program, data) for program in (bytes.fromhex(filters[0]), walls.filter_for(OWN))]
    return min(verdicts, key=[KILL, EPERM, ENOSYS, ALLOW].index)


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
        (72, 5, 4, ALLOW),  # F_SETFL
        (16, 5, 0x8901, EPERM),  # ioctl FIOSETOWN
        (16, 5, 0x5401, ALLOW),  # TCGETS, as isatty() does
    ],
)
def test_arguments_decide_where_the_call_alone_does_not(number, first, second, verdict):
    assert run("x86_64", X86, number, first, second) == verdict


def test_an_unknown_machine_is_said():
    with pytest.raises(IsolationError, match="machine='riscv64'"):
        build_filters("riscv64")
