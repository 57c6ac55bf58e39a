"""The filter, run by a small model of the kernel's machine; that the kernel agrees is test_hostile's matter."""

import errno
import struct

import pytest

from pytest_collabcode.errors import IsolationError
from pytest_collabcode.execution.seccomp import build_filter

X86, ARM = 0xC000003E, 0xC00000B7
ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
THREAD = 0x10000


def run(machine: str, audit: int, number: int, argument: int = 0) -> int:
    steps = list(struct.iter_unpack("=HBBI", build_filter(machine)))
    data = {0: number, 4: audit, 16: argument}
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
        ("x86_64", X86, 59, 0, ALLOW),  # execve
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
    ],
)
def test_calls_are_let_through_or_refused(machine, audit, number, argument, verdict):
    assert run(machine, audit, number, argument) == verdict


def test_an_unknown_machine_is_said():
    with pytest.raises(IsolationError, match="machine='riscv64'"):
        build_filter("riscv64")
