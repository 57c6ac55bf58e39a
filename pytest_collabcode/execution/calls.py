"""The system calls that generated programs may make, by name, with their numbers on x86_64 and aarch64.

A list of what is allowed, since each hole found so far was a call that nobody had thought of: what CPython's standard
library, glibc and musl ask the kernel for in a process that starts threads but no process and has no network. Of
system calls of which the C library has a newer and an older form, both are here. The rest is answered like a call
that the kernel does not have, upon which libraries take the older way; what Python has a function for is refused as
not permitted, which programs understand better.
Left out for what they do to others, although Python or the C library has a use for them: sendfile, splice, tee and
vmsplice (a pipe or socket keeps whole pages, huge ones too, that no limit counts; shutil and pathlib copy without),
flock and fcntl's leases (they stop whoever else locks or opens a file of the shared library), sendmsg and recvmsg
(open files in flight are beyond the limit on open files; asyncio uses sendmsg for what does not fit a socket at once,
on its own sockets), inotify (shows what others open), timer_create (its signals are counted for all programs of a
user together), sync and fadvise (slow the whole machine down), setters of scheduling, its own too (a program that
puts itself last holds its worker, since the wall clock does not count waiting for the machine), extended attributes
and identity, locks on memory; and statmount, quotactl, aio, io_uring, keys, bpf and all that is not named here.
Not covered: what their arguments may be (seccomp.py).
Sources: linux/unistd.h of Linux 6.18 for both machines; strace of CPython's own tests, 3.11 and 3.13.
"""

from __future__ import annotations

Numbers = tuple[int | None, int | None]
"""Of a call, on x86_64 and on aarch64; None where the machine does not have it."""


def read_table(text: str) -> dict[str, Numbers]:
    """Return calls by name.

    Args:
        text: "name number number, ...", a dash for none.
    Example:
        >>> read_table("open 2 -, openat 257 56")
        {'open': (2, None), 'openat': (257, 56)}
    """
    entries = [entry.split() for entry in text.split(",")]
    return {name: (_number(first), _number(second)) for name, first, second in entries}


def _number(word: str) -> int | None:
    return None if word == "-" else int(word)


_DATA = """
    read 0 63, write 1 64, pread64 17 67, pwrite64 18 68, readv 19 65, writev 20 66, preadv 295 69, pwritev 296 70,
    preadv2 327 286, pwritev2 328 287, lseek 8 62, copy_file_range 326 285, ftruncate 77 46,
    fallocate 285 47, fsync 74 82, fdatasync 75 83
"""
_DESCRIPTORS = """
    open 2 -, creat 85 -, openat 257 56, close 3 57, close_range 436 436, dup 32 23, dup2 33 -, dup3 292 24,
    pipe 22 -, pipe2 293 59, fcntl 72 25, ioctl 16 29, eventfd 284 -, eventfd2 290 19, timerfd_create 283 85,
    timerfd_settime 286 86, timerfd_gettime 287 87, poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72,
    epoll_create 213 -, epoll_create1 291 20, epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22,
    epoll_pwait2 441 441
"""
_PATHS = """
    getdents 78 -, getdents64 217 61, getcwd 79 17, chdir 80 49, fchdir 81 50, mkdir 83 -, mkdirat 258 34,
    rmdir 84 -, mknod 133 -, mknodat 259 33, link 86 -, linkat 265 37, symlink 88 -, symlinkat 266 36, unlink 87 -,
    unlinkat 263 35, rename 82 -, renameat 264 38, renameat2 316 276, readlink 89 -, readlinkat 267 78, umask 95 166,
    stat 4 -, fstat 5 80, lstat 6 -, newfstatat 262 79, statx 332 291, statfs 137 43, fstatfs 138 44, access 21 -,
    faccessat 269 48, faccessat2 439 439, getxattr 191 8, lgetxattr 192 9, fgetxattr 193 10, listxattr 194 11,
    llistxattr 195 12, flistxattr 196 13
"""
_MEMORY_AND_THREADS = """
    mmap 9 222, munmap 11 215, mremap 25 216, mprotect 10 226, madvise 28 233, msync 26 227, brk 12 214,
    clone 56 220, exit 60 93, exit_group 231 94, futex 202 98, set_robust_list 273 99, set_tid_address 218 96,
    rseq 334 293, membarrier 324 283, sched_yield 24 124, gettid 186 178, getcpu 309 168
"""
_TIME_AND_SIGNALS = """
    nanosleep 35 101, clock_nanosleep 230 115, clock_gettime 228 113, clock_getres 229 114, gettimeofday 96 169,
    time 201 -, times 100 153, alarm 37 -, getitimer 36 102, setitimer 38 103, pause 34 -, rt_sigaction 13 134,
    rt_sigprocmask 14 135, rt_sigpending 127 136, rt_sigsuspend 130 133, rt_sigtimedwait 128 137,
    rt_sigreturn 15 139, restart_syscall 219 128, sigaltstack 131 132, kill 62 129, tgkill 234 131
"""
_ABOUT_ITSELF = """
    getpid 39 172, getppid 110 173, getpgid 121 155, getpgrp 111 -, getsid 124 156, getuid 102 174, geteuid 107 175,
    getgid 104 176, getegid 108 177, getresuid 118 148, getresgid 120 150, getgroups 115 158, capget 125 90,
    getrusage 98 165, getrlimit 97 163, setrlimit 160 164, prlimit64 302 261, prctl 157 167, getpriority 140 141,
    sched_getaffinity 204 123, sched_getscheduler 145 120, sched_getparam 143 121,
    sched_get_priority_max 146 125, sched_get_priority_min 147 126, sched_rr_get_interval 148 127, wait4 61 260,
    waitid 247 95, uname 63 160, sysinfo 99 179, getrandom 318 278
"""
_PAIRS_OF_SOCKETS = """
    socketpair 53 199, sendto 44 206, recvfrom 45 207, shutdown 48 210, getsockname 51 204, getpeername 52 205,
    getsockopt 55 209
"""
GUARDED_BY_MOUNTS = read_table("""
    truncate 76 45, chmod 90 -, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452, chown 92 -, fchown 93 55,
    lchown 94 -, fchownat 260 54, utime 132 -, utimes 235 -, futimesat 261 -, utimensat 280 88
""")
"""Calls that change files in ways that Landlock does not guard, or not since its first version: for programs that see
no file of the machine but those that are mounted to be read."""

ZYGOTES = read_table("""
    pidfd_open 434 434, setns 308 268, mount 165 40, sched_setaffinity 203 122, recvmsg 47 212, setsid 112 157,
    capset 126 91, landlock_create_ruleset 444 444, landlock_add_rule 445 445, landlock_restrict_self 446 446
""")
"""Calls that a zygote and the processes it forks make until they are confined, and no program."""

ALLOWED = {
    **GUARDED_BY_MOUNTS,
    **ZYGOTES,
    **read_table(
        ",".join(
            [_DATA, _DESCRIPTORS, _PATHS, _MEMORY_AND_THREADS, _TIME_AND_SIGNALS, _ABOUT_ITSELF, _PAIRS_OF_SOCKETS]
        )
    ),
}
"""Calls that all may make, the zygote's own among them."""

REFUSED = read_table("""
    fork 57 -, vfork 58 -, execve 59 221, execveat 322 281, unshare 272 97, chroot 161 51, ptrace 101 117,
    tkill 200 130, rt_sigqueueinfo 129 138, pidfd_send_signal 424 424, socket 41 198, connect 42 203, bind 49 200,
    listen 50 201, accept 43 202, accept4 288 242, setsockopt 54 208, sendmsg 46 211, memfd_create 319 279,
    sethostname 170 161, settimeofday 164 170, clock_settime 227 112, setxattr 188 5, lsetxattr 189 6,
    fsetxattr 190 7, removexattr 197 14, lremovexattr 198 15, fremovexattr 199 16, sched_setscheduler 144 119,
    sched_setparam 142 118, setpriority 141 140, setpgid 109 154, setuid 105 146, setgid 106 144, setreuid 113 145,
    setregid 114 143, setresuid 117 147, setresgid 119 149, setgroups 116 159, sendfile 40 71, flock 73 32
""")
"""Calls that Python has functions for, or that a program had better be told of: refused, instead of unknown."""
