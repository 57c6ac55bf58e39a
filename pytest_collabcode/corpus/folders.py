"""Python files out of a folder, however hostile: links, loops, pipes, devices and depth are met without following.

Not covered: links inside the folder that point to code outside it; name that folder as a source of its own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pytest_collabcode.corpus.reading import MAX_FILE_BYTES, Reading
from pytest_collabcode.errors import CorpusError

MAX_ENTRIES = 1_000_000
"""A folder with more entries than this, of any kind, is refused."""


def read_folder(root: Path, reading: Reading, *, prefix: str, licence: str) -> None:
    """Read every *.py file below a folder.

    Hidden folders and virtual environments are passed over. Symbolic links are never followed, only the root may
    be one.

    Args:
        root: the folder.
        reading: takes the files, and the reason for each that cannot be read.
        prefix: put before each relative path.
        licence: SPDX identifier of all files.
    Raises:
        CorpusError: it is no readable folder, or has too many entries.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     (Path(folder) / "loop.py").symlink_to(folder)
        ...     reading = Reading("dir:code")
        ...     read_folder(Path(folder), reading, prefix="code", licence="MIT")
        >>> reading.skipped
        [('code/loop.py', 'symbolic link, not followed')]
    """
    if not root.is_dir():
        raise CorpusError(f"{reading.source}: {'is not a folder' if root.exists() else 'no such folder'}")
    for entry, label in _entries(str(root), prefix, reading):
        reason = _obstacle(entry)
        if reason:
            reading.skip(label, reason)
            continue
        try:
            data = read_regular(Path(entry.path), MAX_FILE_BYTES + 1)
        except OSError as error:
            reading.skip(label, f"cannot be read ({error.strerror})")
            continue
        reading.add(label, data, licence=licence)


def read_regular(path: Path, limit: int) -> bytes:
    """Return at most `limit` bytes of a regular file, never following a link and never waiting for a pipe.

    Raises:
        OSError: it is not a regular file, or cannot be read.
    Example:
        >>> read_regular(Path("/dev/zero"), 10)
        Traceback (most recent call last):
        OSError: [Errno 0] not a regular file
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not a regular file")
        return stream.read(limit)


def _entries(root: str, prefix: str, reading: Reading) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Yield the *.py entries below root, depth by depth; os.walk recurses and would overflow the stack."""
    pending, n_entries = [(root, prefix)], 0
    while pending:
        folder, label = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            reading.skip(label, f"folder cannot be read ({error.strerror})")
            continue
        n_entries += len(entries)
        if n_entries > MAX_ENTRIES:
            raise CorpusError(f"{reading.source}: has more than {MAX_ENTRIES:,} entries; name a folder of code only")
        if folder != root and any(entry.name == "pyvenv.cfg" for entry in entries):
            reading.skip(label, "virtual environment")
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _enter(entry, label, pending)
            elif entry.name.endswith(".py") or _links_to_folder(entry):
                yield entry, f"{label}/{entry.name}"


def _enter(entry: os.DirEntry[str], label: str, pending: list[tuple[str, str]]) -> None:
    if not entry.name.startswith(".") and entry.name != "__pycache__":
        pending.append((entry.path, f"{label}/{entry.name}"))


def _links_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_symlink() and entry.is_dir()
    except OSError:  # a link in a circle
        return True


def _obstacle(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "symbolic link, not followed"
    return "" if entry.is_file(follow_symlinks=False) else "not a regular file"
