"""What every kind of source fills: the files that can be used, and the reason for each that cannot.

The limits bound time and memory on hostile input. Not covered: judging the code itself (curate.py).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pytest_collabcode.errors import CorpusError
from pytest_collabcode.licences import tagged_licence
from pytest_collabcode.lines import decode

MAX_FILE_BYTES = 2 * 2**20
"""A larger file is skipped: it is data or generated, and its lines would be too."""
MAX_TOTAL_BYTES = 512 * 2**20
"""A source with more usable text than this is refused; it is held in memory whole."""
MAX_FILES = 200_000
"""A wheel or JSON lines file with more entries than this is refused."""

NOT_UTF8 = "not UTF-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One readable file: its label, its text with "\\n" newlines and without BOM, its SPDX licence."""

    path: str
    text: str = field(repr=False)
    licence: str


@dataclass(slots=True)
class Reading:
    """The growing result of reading one source.

    Example:
        >>> reading = Reading("dir:/srv/code")
        >>> reading.add("code/a.py", b"\\xef\\xbb\\xbfx = 1\\r\\n", licence="MIT")
        >>> reading.add("code/b.py", b"\\xff\\xfe", licence="MIT")
        >>> [file.text for file in reading.files], reading.skipped
        (['x = 1\\n'], [('code/b.py', 'not UTF-8')])
    """

    source: str  # as the consortium file names it, for messages
    files: list[SourceFile] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)  # (what, why)
    n_bytes: int = 0

    def skip(self, what: str, why: str) -> None:
        """Note that something was passed over; unprintable characters of its name are escaped."""
        self.skipped.append((what if what.isprintable() else ascii(what), why))

    def add(self, path: str, data: bytes, *, licence: str) -> None:
        """Take a file in, or note why not.

        Args:
            path: its label; it will stand in reports, so only printable names pass.
            data: its bytes, at most MAX_FILE_BYTES + 1 of them.
            licence: SPDX identifier of its source; a licence tag in the file itself goes before it.
        Raises:
            CorpusError: the source holds more than MAX_TOTAL_BYTES.
        """
        reason = refusal(path, data)
        if reason:
            self.skip(path, reason)
            return
        self.n_bytes += len(data)
        if self.n_bytes > MAX_TOTAL_BYTES:
            raise CorpusError(
                f"{self.source}: holds more than {MAX_TOTAL_BYTES >> 20} MiB of code; name fewer folders"
            )
        text = decode(data)
        self.files.append(SourceFile(path=path, text=text, licence=tagged_licence(text) or licence))

    def check(self) -> None:
        """Raise CorpusError when nothing is usable, or when most files are not UTF-8."""
        reasons = Counter(why for _, why in self.skipped)
        if not self.files:
            counts = ", ".join(f"{n} {why}" for why, n in reasons.most_common(3))
            raise CorpusError(
                f"{self.source}: has no usable .py file ({counts or 'none found'}); name another source"
            )
        if reasons[NOT_UTF8] > len(self.files):
            share = f"{reasons[NOT_UTF8]} of {reasons[NOT_UTF8] + len(self.files)} files"
            raise CorpusError(f"{self.source}: {share} are not UTF-8; convert them or name another source")


def refusal(path: str, data: bytes) -> str:
    """Return why a file cannot be read as Python text, or "".

    Example:
        >>> refusal("a.py", b"x = 1"), refusal("../a.py", b"x = 1"), refusal("a.py", b"x\\0")
        ('', 'path leaves its folder', 'binary (NUL byte)')
    """
    if not path.isprintable():
        return "name has unprintable characters"
    if "\\" in path or not {"", ".."}.isdisjoint(path.split("/")):
        return "path leaves its folder"
    if len(data) > MAX_FILE_BYTES:
        return f"larger than {MAX_FILE_BYTES >> 20} MiB"
    if b"\0" in data:
        return "binary (NUL byte)"
    return "" if _is_utf8(data) else NOT_UTF8


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
