"""Python files out of a pinned release wheel, read as the zip archive it is: nothing is installed or imported.

Not covered: downloading (fetch.py) and source distributions, whose metadata can only be had by running their build.
"""

from __future__ import annotations

import lzma
import re
import stat
import zipfile
import zlib
from pathlib import Path
from typing import IO

from pytest_collabcode.corpus.reading import MAX_FILE_BYTES, MAX_FILES, Reading
from pytest_collabcode.digests import sha256_file
from pytest_collabcode.errors import CorpusError

_BROKEN = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, zlib.error, lzma.LZMAError)


def find_wheel(requirement: str, directory: Path) -> Path | None:
    """Return the wheel of a pinned requirement in a folder, or None.

    Args:
        requirement: "name==version".
        directory: may be missing.
    Returns:
        The path; of several builds the first in name order.
    Example:
        >>> find_wheel("absl-py==2.5.0", Path("/nowhere")) is None
        True
    """
    wanted = [_normal(part) for part in requirement.split("==")]
    for path in sorted(directory.glob("*.whl")):
        if [_normal(part) for part in path.name.split("-")[:2]] == wanted:
            return path
    return None


def verify(path: Path, sha256: str) -> None:
    """Check that a file is the pinned one.

    Raises:
        CorpusError: the SHA-256 differs; names file, expected and got.
    Example:
        >>> verify(Path("/nowhere/acme.whl"), "0" * 64)
        Traceback (most recent call last):
        pytest_collabcode.errors.CorpusError: /nowhere/acme.whl: cannot be read (No such file or directory)
    """
    try:
        got = sha256_file(path)
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from error
    if got != sha256:
        raise CorpusError(f"{path}: sha256 is {got}, expected {sha256}; delete the file and fetch it again")


def read_wheel(path: Path | IO[bytes], reading: Reading, *, prefix: str, licence: str) -> None:
    """Read every .py member of a wheel.

    Args:
        path: of the archive, or the archive opened for reading.
        reading: takes the files, and the reason for each member that cannot be read.
        prefix: put before each member's name: "etils-1.14.0".
        licence: SPDX identifier of all members.
    Raises:
        CorpusError: it is no zip archive, or has too many members.
    Example:
        >>> from io import BytesIO
        >>> archive = BytesIO()
        >>> with zipfile.ZipFile(archive, "w") as wheel:
        ...     wheel.writestr("acme/a.py", "x = 1\\n")
        >>> reading = Reading("wheel:acme==1.0")
        >>> read_wheel(archive, reading, prefix="acme-1.0", licence="MIT")
        >>> [file.path for file in reading.files]
        ['acme-1.0/acme/a.py']
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MAX_FILES:
                raise CorpusError(f"{path}: has {len(members)} members, more than {MAX_FILES}; is it a wheel?")
            for member in members:
                if member.filename.endswith(".py"):
                    _read_member(archive, member, reading, f"{prefix}/{member.filename}", licence)
    except (zipfile.BadZipFile, OSError, UnicodeDecodeError, ValueError) as error:
        raise CorpusError(f"{path}: is not a readable wheel ({error}); fetch it again") from error


def _read_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, reading: Reading, label: str, licence: str
) -> None:
    if stat.S_ISLNK(member.external_attr >> 16):
        reading.skip(label, "symbolic link, not followed")
        return
    try:
        # One byte more than allowed, whatever size the archive claims: a bomb is cut there.
        with archive.open(member) as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except _BROKEN as error:
        reading.skip(label, f"broken archive member ({type(error).__name__})")
        return
    reading.add(label, data, licence=licence)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
