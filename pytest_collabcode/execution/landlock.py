"""Landlock: a process gives up every file but those it names, TCP, and the reach of its signals and sockets.

Runs inside the sandbox: imports the standard library and this room's `kernel` only. The second wall where namespaces
stand, and the only one in front of files where they do not. A kernel without Landlock has version 0, which the
isolation level says; of an older one, what it knows is used (networks from version 4, signals and sockets from 6).
Why no package: PyPI's `landlock` is a pre-release (1.0.0.dev5) that could not be imported inside the sandbox, where
nothing outside the standard library is; three system calls are what there is to it.
Not covered: UDP and raw sockets, existence and metadata of files (Landlock does not hide them), versions' later
additions beyond 6.
Sources: landlock(7); linux/landlock.h of Linux 6.18.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Sequence

from pytest_collabcode.execution.kernel import system_call

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # these numbers are the same on every machine
_TELL_VERSION = 1  # a flag: tell the version, make no set of rules
_PATH_BENEATH = 1  # a kind of rule: this directory and all below it, or this file

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIRECTORY, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIRECTORY
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE  # the rights that a rule on a file may grant
_N_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # by version; 16 since 5
_NETWORK = 0b11  # bind and connect TCP
_SCOPES = 0b11  # abstract sockets and signals reach this process and its children only


def version() -> int:
    """Return the version of Landlock that the kernel has, 0 for none.

    Example:
        >>> version() >= 0
        True
    """
    try:
        return system_call(_CREATE_RULESET, 0, 0, _TELL_VERSION)
    except OSError:  # not built in, not switched on, or a container's filter
        return 0


def make_rules(readable: Sequence[str], writable: Sequence[str]) -> int:
    """Return an open file that holds rules for `enforce`, here and in processes forked from here.

    Args:
        readable: files and directories (with all below) to read, list and execute.
        writable: files and directories (with all below, also what is mounted there later) to do anything with.
    Raises:
        OSError: a path does not exist, or the kernel refused.
    Example:
        >>> os.close(make_rules(["/usr"], ["/tmp"])) if version() else None
    """
    known = version()
    every_right = (1 << _N_FILE_RIGHTS.get(known, 16)) - 1
    # struct landlock_ruleset_attr, as long as this version knows it: what is denied unless a rule allows it
    attributes = struct.pack("=QQQ", every_right, _NETWORK, _SCOPES)[: 8 if known < 4 else 16 if known < 6 else 24]
    rules = system_call(_CREATE_RULESET, attributes, len(attributes), 0)
    for path in readable:
        _allow(rules, path, _READ)
    for path in writable:
        _allow(rules, path, every_right)
    return rules


def enforce(rules: int) -> None:
    """Deny this process, for good, all files but those of the rules, TCP, and signals and sockets to others.

    Args:
        rules: of `make_rules`.
    Raises:
        OSError: the kernel refused; new privileges must have been forbidden before.
    Example:
        >>> import subprocess, sys
        >>> program = f"import sys; from {__name__} import *; from {__package__} import kernel; "
        >>> program += "rules = make_rules([sys.base_prefix], []); kernel.forbid_new_privileges(); enforce(rules); "
        >>> program += "open('/etc/passwd')"
        >>> run = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE)
        >>> b"PermissionError" in run.stderr or version() == 0
        True
    """
    system_call(_RESTRICT_SELF, rules, 0)


def _allow(rules: int, path: str, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)  # names the file without opening it
    if not stat.S_ISDIR(os.fstat(place).st_mode):
        rights &= _OF_FILES
    # struct landlock_path_beneath_attr, which is packed: the rights, and what they are for
    system_call(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    os.close(place)
