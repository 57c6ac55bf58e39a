"""User namespaces for a sandbox that root starts, in which its programs are somebody else's.

The kernel bounds the threads of every user but root, also of a root that is called otherwise in a namespace. bwrap
maps one user and so no other, but it can end in a namespace that is given to it. So root starts this in front of it:
it goes into a first namespace, in which root is still root and may look for the interpreter in any folder of its own;
bwrap builds the walls from there and ends in a second one, in which there is no root and nobody but a user who owns
nothing on this machine. No further user namespace can be made in that one. Threads are counted in it, and so for each
worker by itself, from Linux 5.14 on; before, all workers' together.
Runs on the host at the start of each worker: imports no more than it must, which is what it costs (15 ms).
Not covered: a root that has no right over users (a container without CAP_SETUID), or but one user to give (a rootless
container with a single one), or that finds /proc/sys read-only: this ends then, and says why.
Sources: user_namespaces(7); bwrap(1) 0.11 on --userns2; copy_process() in kernel/fork.c of Linux 6.18.
"""

from __future__ import annotations

import ctypes
import os
import sys

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWUSER, _PR_SET_PDEATHSIG, _SIGKILL = 0x10000000, 1, 9
_OUTSIDE = 65533  # whom no system and no package gives to anybody, unlike 65534, nobody


def main() -> None:
    """Become bwrap, in the first namespace and with a hold on the second.

    In argv: the user in the second one, bwrap, and its arguments.
    """
    user, bwrap, *walls = sys.argv[1:]
    enter(f"0 0 1\n1 {_OUTSIDE} 1\n")
    os.setgroups([])
    second = _make_second(user)
    os.execve(bwrap, [bwrap, "--userns2", str(second), *walls], {})  # its environment can be seen from inside


def enter(users: str) -> None:
    """Go into a new user namespace; groups are mapped as users are.

    Args:
        users: lines of number inside, number outside, how many.
    Raises:
        OSError: the kernel refused.
    Example:
        >>> import subprocess
        >>> program = f"import os; from {__name__} import enter; enter(f'7 {{os.getuid()}} 1'); print(os.getuid())"
        >>> run = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE)
        >>> run.stdout == b"7\\n" or os.getuid() != 0  # who is not root may not map groups so
        True
    """
    process = os.getpid()
    reader, writer = os.pipe()
    outside = os.fork()  # the one that stays may say who is who
    if outside == 0:
        os.close(writer)
        if os.read(reader, 1):
            for kind in ("uid_map", "gid_map"):
                _write(f"/proc/{process}/{kind}", users)
        os._exit(0)
    if _libc.unshare(_CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "no user namespace can be made")
    os.write(writer, b"x")
    _, status = os.waitpid(outside, 0)
    for end in (reader, writer):
        os.close(end)
    if status:  # and it has said why
        os._exit(1)


def _make_second(user: str) -> int:
    """Return an open file of a namespace in this one, which bwrap inherits."""
    reader, writer = os.pipe()
    inside = os.fork()
    if inside == 0:
        _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL)
        os.close(reader)
        enter(f"{user} 1 1\n")
        _write("/proc/sys/user/max_user_namespaces", "0")  # of the writer's namespace
        os.write(writer, b"x")
        _libc.pause()
    os.close(writer)
    if not os.read(reader, 1):  # it has said why
        os._exit(1)
    os.close(reader)
    namespace = os.open(f"/proc/{inside}/ns/user", os.O_RDONLY)
    os.set_inheritable(namespace, True)
    os.kill(inside, _SIGKILL)
    os.waitpid(inside, 0)
    return namespace


def _write(path: str, text: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, text.encode())
    except OSError as error:  # of the write itself, which does not know the path
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(file)
