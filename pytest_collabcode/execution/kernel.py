"""The few system calls that Python has no function for: new namespaces, a scratch mount, fewer rights, a filter.

Runs inside the sandbox: imports the standard library only. Each call is made through the C library that the
interpreter is linked with; a call that fails raises OSError, so that no wall can be missing unnoticed.
Why no package: PyPI's `pyseccomp` needs the system's libseccomp, and nothing outside the standard library can be
imported inside the sandbox; a filter that is known beforehand is installed by one prctl.
Not covered: machines other than x86_64 and aarch64, kernels older than 5.9.
Sources: clone(2), setns(2), pid_namespaces(7), mount(2), tmpfs(5), capabilities(7), capget(2), prctl(2), seccomp(2).
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

NEW_MOUNTS, NEW_PROCESSES = 0x00020000, 0x20000000
"""Namespaces for `fork`: CLONE_NEWNS and CLONE_NEWPID."""

_CLONE = {"x86_64": 56, "aarch64": 220}  # number of clone(2)
_CLONE_VM, _CLONE_FILES = 0x00000100, 0x00000400  # share the memory, the table of open files
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x8, 0x4000, 0x40000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522  # 64 capabilities, in two sets of words
_CAP_SYS_ADMIN = 1 << 21


def system_call(number: int, *arguments: int | bytes) -> int:
    """Make a system call by its number.

    Args:
        number: of the call on this machine.
        arguments: integers, or bytes whose address is passed.
    Returns:
        What the kernel returned.
    Raises:
        OSError: it refused.
    Example:
        >>> try:
        ...     system_call(1 << 20)
        ... except OSError as error:
        ...     print(error.strerror)
        Function not implemented
    """
    words = [ctypes.c_char_p(a) if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments]
    return _checked(f"system call {number}", _libc.syscall(ctypes.c_long(number), *words))


def fork(new: int = 0) -> int:
    """Fork a process of one thread.

    Unlike os.fork it runs none of the interpreter's hooks, which seed random anew and rid the child of other threads'
    locks: the zygote has no other threads.

    Args:
        new: NEW_PROCESSES makes the child process 1 of a process namespace of its own, NEW_MOUNTS gives it a copy of
            the mounts of its own; either needs CAP_SYS_ADMIN in this user namespace.
    Returns:
        The child's number, or 0 in the child.
    Raises:
        OSError: the kernel refused.
    Example:
        >>> import subprocess, sys
        >>> program = f"import ctypes, os; from {__name__} import *; "
        >>> program += "ctypes.CDLL(None).unshare(0x10000000); "  # a user namespace, for the capability
        >>> program += "os.waitpid(child, 0) if (child := fork(NEW_PROCESSES)) else print(os.getpid())"
        >>> subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE).stdout
        b'1\\n'
    """
    # SIGCHLD at its end makes it a child that can be waited for; no stack of its own makes it a fork
    return system_call(_CLONE[os.uname().machine], new | signal.SIGCHLD, 0, 0, 0, 0)


class Keeper:
    """Process 1 of a new process namespace, which does nothing: when it ends, everybody in there is killed.

    It sleeps in this process's own memory, with a stack of its own, which costs a twentieth of a fork, and has this
    process's table of files, so that it holds none open itself. Signals must be blocked when it is made, since their
    handlers would run in that memory. Programs are forked as process 2: the kernel does not let process 1 be killed
    by signals it sends itself, which would tell the ends of programs wrong.

    Example:
        >>> import subprocess, sys
        >>> program = f"import ctypes, os; from {__name__} import *; "
        >>> program += "ctypes.CDLL(None).unshare(0x10000000); "  # a user namespace, for the capability
        >>> program += "keeper = Keeper(bytearray(1 << 14)); fork_into(keeper.process); "
        >>> program += "(os.waitpid(child, 0), keeper.end()) if (child := fork()) else print(os.getpid())"
        >>> subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE).stdout
        b'2\\n'
    """

    def __init__(self, stack: bytearray) -> None:
        """Make the namespace and its first process.

        Args:
            stack: for the process; to be kept as long as it lives.
        Raises:
            OSError: the kernel refused.
        """
        room = (ctypes.c_char * len(stack)).from_buffer(stack)
        top = (ctypes.addressof(room) + len(stack)) & ~15  # stacks grow down from an aligned address
        sleep = ctypes.cast(_libc.pause, ctypes.c_void_p)  # what it runs, and never comes back from
        flags = _CLONE_VM | _CLONE_FILES | NEW_PROCESSES | signal.SIGCHLD
        self.process = _checked("clone", _libc.clone(sleep, ctypes.c_void_p(top), flags, None))

    def end(self) -> None:
        """Kill it, and with it everybody in its namespace; our children among them must have been waited for."""
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)


def fork_into(process: int) -> None:
    """Have the next children of this process be born in another process's process namespace.

    Args:
        process: in a namespace below this one, or in this one.
    Raises:
        OSError: the kernel refused; CAP_SYS_ADMIN is needed over that namespace.
    Example:
        >>> try:
        ...     fork_into(1 << 30)
        ... except ProcessLookupError as error:
        ...     print(error.strerror)
        No such process
    """
    handle = os.pidfd_open(process)
    try:
        _checked("setns", _libc.setns(handle, NEW_PROCESSES))
    finally:
        os.close(handle)


def keep_mounts_private() -> None:
    """Have what is mounted here from now on, and in copies of this mount namespace, be seen nowhere else.

    Raises:
        OSError: the kernel refused.
    Example:
        >>> import subprocess, sys
        >>> program = f"import ctypes; from {__name__} import keep_mounts_private; "
        >>> program += "ctypes.CDLL(None).unshare(0x10020000); keep_mounts_private(); "
        >>> program += "print('shared:' in open('/proc/self/mountinfo').read())"
        >>> subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE).stdout
        b'False\\n'
    """
    _mount(b"none", b"/", b"none", _MS_REC | _MS_PRIVATE, b"")


def mount_scratch(path: str, *, n_bytes: int, n_files: int) -> None:
    """Mount an empty private file system that lives in memory and vanishes with the last process that sees it.

    Args:
        path: of a directory.
        n_bytes: that its files may hold together.
        n_files: files and directories that it may hold, itself included.
    Raises:
        OSError: the kernel refused.
    Example:
        >>> import subprocess, sys
        >>> program = f"import ctypes, os; from {__name__} import mount_scratch; "
        >>> program += "ctypes.CDLL(None).unshare(0x10020000); "  # a user namespace, and a mount namespace in it
        >>> program += "mount_scratch('/tmp', n_bytes=1 << 16, n_files=2); "
        >>> program += "s = os.statvfs('/tmp'); print(s.f_blocks * s.f_frsize, s.f_files)"
        >>> subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE).stdout
        b'65536 2\\n'
    """
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC  # its files give no rights, are no devices and are not run
    options = f"size={n_bytes},nr_inodes={n_files},mode=0700"
    _mount(b"scratch", os.fsencode(path), b"tmpfs", flags, options.encode())


def current_core() -> int:
    """Return the number of the core that this process runs on at this moment.

    Example:
        >>> import os
        >>> current_core() in os.sched_getaffinity(0) or len(os.sched_getaffinity(0)) > 1
        True
    """
    return _checked("sched_getcpu", _libc.sched_getcpu())


def drop_capabilities(*, kept: int = 0) -> None:
    """Give up every capability, but for a set of bits, for good; only a file that grants some could give one back.

    Raises:
        OSError: the kernel refused.
    Example:
        >>> import subprocess, sys
        >>> program = f"import ctypes, os; from {__name__} import drop_capabilities as drop; "
        >>> program += "ctypes.CDLL(None).unshare(0x10000000); os.chroot('/'); drop(); os.chroot('/')"
        >>> subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE).stderr.splitlines()[-1]
        b"PermissionError: [Errno 1] Operation not permitted: '/'"
    """
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)  # 0: of the calling thread
    # effective, permitted, inheritable, of the first 32 and of the rest; the ambient set cannot exceed these
    _checked("capset", _libc.capset(header, struct.pack("=6I", kept, kept, 0, 0, 0, 0)))


def change_user(number: int) -> None:
    """Become another user and group of this user namespace, and keep no capability but CAP_SYS_ADMIN.

    Raises:
        OSError: the kernel refused: nobody has this number here, or who asks may not become somebody else.
    Example:
        >>> import subprocess, sys
        >>> program = f"import ctypes, os; from {__name__} import change_user; ids = os.getuid(), os.getgid(); "
        >>> program += "ctypes.CDLL(None).unshare(0x10000000); "  # a user namespace, whose users we say
        >>> program += "tell = lambda name, text: open(f'/proc/self/{name}', 'w').write(text); "
        >>> program += "tell('setgroups', 'deny'), tell('uid_map', f'7 {ids[0]} 1'); "
        >>> program += "tell('gid_map', f'7 {ids[1]} 1'); change_user(7); print(os.getresuid())"
        >>> subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE).stdout
        b'(7, 7, 7)\\n'
    """
    os.setresgid(number, number, number)
    os.setresuid(number, number, number)
    drop_capabilities(kept=_CAP_SYS_ADMIN)
    _prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(1))  # the change forbade dumps, and so to reach a Keeper, in this memory


def forbid_dumps() -> None:
    """Have the kernel write no core of this process, nor pass one to a program of the machine, however it ends.

    A limit of 0 bytes does not bind a kernel.core_pattern that is a pipe.

    Example:
        >>> import subprocess, sys
        >>> program = f"import ctypes; from {__name__} import *; forbid_dumps(); print(ctypes.CDLL(None).prctl(3))"
        >>> subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE).stdout
        b'0\\n'
    """
    _prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0))


def forbid_new_privileges() -> None:
    """Make sure that no file this process executes can give it rights; Landlock and seccomp ask for it.

    Example:
        >>> import subprocess, sys
        >>> program = f"from {__name__} import forbid_new_privileges as forbid; forbid(); "
        >>> program += "print(open('/proc/self/status').read())"
        >>> b"NoNewPrivs:\\t1" in subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE).stdout
        True
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1))


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, in whatever way.

    Example:
        >>> import subprocess, sys
        >>> program = f"import os, time; from {__name__} import die_with_parent as die; r, w = os.pipe(); "
        >>> program += "os.fork() or (die(), os.write(w, b'x'), time.sleep(600)); os.read(r, 1)"
        >>> subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE).stdout  # the child holds it open
        b''
    """
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))


def install_filter(program: bytes) -> None:
    """Put a filter of system calls on this process, for good.

    Args:
        program: an array of struct sock_filter, as `seccomp.build_filters` makes them.
    Raises:
        OSError: the kernel refused, or has no filters.
    Example:
        >>> import subprocess, sys
        >>> program = f"import os, socket; from {__name__} import *; forbid_new_privileges(); "
        >>> program += f"from {__package__}.seccomp import build_filters; "
        >>> program += "install_filter(build_filters(os.uname().machine)[0]); socket.socket()"
        >>> subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE).stderr.splitlines()[-1]
        b'PermissionError: [Errno 1] Operation not permitted'
    """
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of 8-byte steps and, aligned as the machine aligns pointers, their address
    description = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    _prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.c_char_p(description))


def _mount(source: bytes, target: bytes, kind: bytes, flags: int, options: bytes) -> None:
    _checked("mount", _libc.mount(source, target, kind, ctypes.c_ulong(flags), options))


def _prctl(option: int, *arguments: ctypes.c_ulong | ctypes.c_char_p) -> None:
    zeros = [ctypes.c_ulong(0)] * (4 - len(arguments))  # full words: the kernel wants the unused ones to be zero
    _checked(f"prctl {option}", _libc.prctl(option, *arguments, *zeros))


def _checked(what: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result
