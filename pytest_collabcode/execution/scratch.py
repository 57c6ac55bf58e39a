"""The private directory of one program where nothing can be mounted: made by the host before, removed by it after.

Not covered: what bounds it (single files have a limit, all together have none).
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from pathlib import Path


def make_scratch() -> Path:
    """Return the path of a new directory, which is its owner's alone.

    Example:
        >>> scratch = make_scratch()
        >>> list(scratch.iterdir()), remove_scratch(scratch)
        ([], None)
    """
    return Path(tempfile.mkdtemp(prefix="collabcode-"))


def remove_scratch(path: Path) -> None:
    """Remove a directory with all that a program has left there, however deep and whatever rights it has set.

    Raises:
        OSError: it is still there; the message says so.
    Example:
        >>> scratch = make_scratch()
        >>> scratch.joinpath("a", "b").mkdir(parents=True), scratch.joinpath("a").chmod(0), scratch.chmod(0)
        (None, None, None)
        >>> remove_scratch(scratch), scratch.exists()
        (None, False)
    """
    with contextlib.suppress(OSError):  # most programs leave nothing
        path.rmdir()
        return
    for command in (["rm", "-rf"], ["chmod", "-R", "u+rwx"], ["rm", "-rf"]):  # no link is followed
        if not _is_gone(path):
            subprocess.run([*command, "--", path], check=False, stderr=subprocess.DEVNULL)
    if not _is_gone(path):
        raise OSError(f"what a program left in {path} cannot be removed: remove that directory")


def _is_gone(path: Path) -> bool:
    try:
        path.lstat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False
