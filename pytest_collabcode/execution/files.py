"""The open files of a zygote and its children: each process has those that it is given, and no other.

What a process holds decides what it can forge: whoever holds the host's socket can take orders and report, whoever
holds the end of a verdict's pipe can write a verdict. Nothing is closed by a list of what may be open, but all from
a number on. Runs inside the sandbox: imports the standard library and this room's `kernel` only.
Source: close_range(2), of Linux 5.9; os.closerange is a loop over all numbers where the interpreter was built
without it.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Sequence

from pytest_collabcode.execution.kernel import system_call

_FIRST = 3  # number after the standard streams
_CLOSE_RANGE, _LAST = 436, (1 << 32) - 1


def keep_only(socket_number: int) -> socket.socket:
    """Return the host's socket under the first number, and close all files but it and the standard streams.

    It comes under the number that it has in the host, which may be any, and a child's files take its place.

    Example:
        >>> import subprocess, sys
        >>> program = f"import os, socket; from {__name__} import keep_only; a, b = socket.socketpair(); "
        >>> program += "os.dup2(a.fileno(), 900); print(keep_only(900).fileno()); os.fstat(900)"
        >>> run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        >>> run.stdout, run.stderr.splitlines()[-1]
        ('3\\n', 'OSError: [Errno 9] Bad file descriptor')
    """
    if socket_number != _FIRST:
        os.dup2(socket_number, _FIRST)
    _close_from(_FIRST + 1)
    return socket.socket(fileno=_FIRST)


def have_only(files: Sequence[int]) -> None:
    """Renumber these files 3, 4 and so on, open standard input and output anew, and close all but standard error.

    Flags that are set on an open file hold for all who share it, so /dev/null is not shared with anybody.

    Example:
        >>> import subprocess, sys
        >>> program = f"import os; from {__name__} import have_only; r, w = os.pipe(); os.dup2(r, 900); "
        >>> program += "have_only([w, r]); os.write(3, b'x'); print(os.read(4, 1), file=sys.stderr); os.fstat(900)"
        >>> run = subprocess.run([sys.executable, "-c", "import sys; " + program], stderr=subprocess.PIPE)
        >>> run.stderr.splitlines()[0], run.stderr.splitlines()[-1]
        (b"b'x'", b'OSError: [Errno 9] Bad file descriptor')
    """
    spare = [fcntl.fcntl(file, fcntl.F_DUPFD, _FIRST + len(files)) for file in files]  # off the numbers to be given
    for number, file in enumerate(spare, start=_FIRST):
        os.dup2(file, number)
    os.close(0)
    os.dup2(os.open("/dev/null", os.O_RDWR), 1)  # which got the lowest number, that of standard input
    _close_from(_FIRST + len(files))


def _close_from(number: int) -> None:
    system_call(_CLOSE_RANGE, number, _LAST, 0)
