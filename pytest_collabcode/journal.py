"""A journal: results on disk, a line each, that survive kill -9 and full disks and are read when they are asked for.

Append-only JSON lines, each carrying its own digest, so a torn or altered line is redone instead of believed. What
was appended is the kernel's: no death of a process takes it. A loss of power takes at most what came after the last
sync, which is made every few seconds and at the end (measured: a line costs 0.03 ms so, 0.4 ms if each were synced).
Not covered: where journals lie and what they are named after (store.py).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar, overload

from filelock import FileLock

from pytest_collabcode.digests import digest_bytes
from pytest_collabcode.errors import StoreError

T = TypeVar("T")
SYNC_EVERY_S = 2.0
STORE = "--collabcode-store"


class Journal:
    """Append-only key-value lines in one file; the last line of a key wins.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> journal = Journal(folder / "journal", folder / "lock")
        >>> journal.append({"a": 1})
        >>> journal.append({"a": 2, "b": [3]})
        >>> dict(journal.read())
        {'a': 2, 'b': [3]}
    """

    def __init__(self, path: Path, lock: Path, *, option: str = STORE) -> None:
        self.path = path
        self._option = option  # that says where it lies
        self._lock = lock
        self._is_held = False
        self._stream: FileIO | None = None  # open from the first append of a hold to its end
        self._synced_s = 0.0

    def read(self, whole: Callable[[Any], bool] = lambda value: True) -> Records:
        """Return every intact record; lines that are torn, altered or foreign are passed over.

        Args:
            whole: of a value, whether it is what the caller takes; others are passed over too.
        Raises:
            StoreError: the file exists but cannot be read.
        """
        places, end = {}, 0
        try:
            with self.path.open("rb") as stream:
                for line in stream:
                    record = _intact(line)
                    if record is not None and whole(record[1]):
                        places[record[0]] = end
                    end += len(line)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StoreError(f"{self.path} cannot be read: {error.strerror}") from error
        return Records(self.path, places)

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Hold the journal alone while adding what is missing; others wait, and then find it added, on the disk.

        The kernel lets go when its holder dies. Reading needs no hold, and appending takes one for itself.

        Raises:
            StoreError: the journal cannot be written, or was deleted meanwhile.
        """
        if self._is_held:
            yield
            return
        lock = FileLock(self._lock)
        with writing(self.path, self._option):
            lock.acquire()
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            try:
                self._close()
            finally:
                lock.release()

    def append(self, records: Mapping[str, Any]) -> None:
        """Add records, written before this returns: they outlive this process, however it ends.

        On the disk they are before this returns as well, or within `filling` when that ends, and until then at most
        SYNC_EVERY_S before the latest append.

        Raises:
            StoreError: the disk is full or the file cannot be written; earlier records stay.
        """
        if not records:
            return
        lines = "".join(map(_line, records.items())).encode()
        with self.filling(), writing(self.path, self._option):
            if self._stream is None:
                self._stream = self.path.open("a+b", buffering=0)
                self._synced_s = time.monotonic()
                # A line torn by an earlier kill must not swallow the first of these.
                lines = b"\n" * (not _ends_with_newline(self._stream)) + lines
            try:
                unwritten = memoryview(lines)
                while unwritten:
                    unwritten = unwritten[self._stream.write(unwritten) :]
            except OSError:  # half a line may stand there
                self._stream.close()
                self._stream = None
                raise
            if time.monotonic() - self._synced_s >= SYNC_EVERY_S:
                os.fsync(self._stream.fileno())
                self._synced_s = time.monotonic()

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        with writing(self.path, self._option), stream:
            os.fsync(stream.fileno())
            is_deleted = os.fstat(stream.fileno()).st_nlink == 0
        if is_deleted:
            raise StoreError(f"{self.path} was deleted while this run wrote to it; run it again")


class Records(Mapping[str, Any]):
    """What a journal held when it was read; a value comes from the file when it is asked for, so memory stays small.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> journal = Journal(folder / "journal", folder / "lock")
        >>> journal.append({"a": [1], "b": [2]})
        >>> list(journal.read().ordered(["b", "a", "b"], make=tuple))
        [(2,), (1,), (2,)]
    """

    def __init__(self, path: Path, places: Mapping[str, int]) -> None:
        self._path, self._places = path, places

    def __getitem__(self, key: str) -> Any:
        """Return the value of a key.

        Raises:
            KeyError: there is none.
            StoreError: the file is gone or altered since it was read.
        """
        return _Ordered(self._path, array("q", [self._places[key]]), make=_as_it_is)[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def ordered(self, keys: Iterable[str], *, make: Callable[[Any], T]) -> Sequence[T]:
        """Return what `make` makes of the values of these keys, made anew whenever it is asked for; 8 bytes a key.

        Raises:
            KeyError: a key has no record.
        """
        return _Ordered(self._path, array("q", [self._places[key] for key in keys]), make=make)


class _Ordered(Sequence[T]):
    """Records of a journal in an order of their own."""

    def __init__(self, path: Path, places: Sequence[int], *, make: Callable[[Any], T]) -> None:
        self._path, self._places, self._make = path, places, make

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[T]:
        return self._values(self._places)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return _Ordered(self._path, self._places[index], make=self._make)
        return next(self._values([self._places[index]]))

    def _values(self, places: Iterable[int]) -> Iterator[T]:
        try:
            with self._path.open("rb") as stream:
                for place in places:
                    stream.seek(place)
                    record = _intact(stream.readline())
                    if record is None:
                        raise StoreError(f"{self._path} was altered while this run used it; run it again")
                    yield self._make(record[1])
        except OSError as error:
            raise StoreError(f"{self._path} cannot be read again: {error.strerror}; run it again") from error


@contextmanager
def writing(path: Path, option: str = STORE) -> Iterator[None]:
    """Turn an error of the disk while inside into one sentence.

    Raises:
        StoreError: it names the path, and the space that is free where that is the cause.
    Example:
        >>> with writing(Path("/dev/null/journal")):
        ...     Path("/dev/null/journal").touch()
        Traceback (most recent call last):
        pytest_collabcode.errors.StoreError: /dev/null/journal cannot be written: Not a directory; choose ...
    """
    try:
        yield
    except OSError as error:
        reason, way_out = error.strerror or str(error), ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            existing = next((p for p in (path, *path.parents) if p.exists()), Path("/"))
            reason += f" ({shutil.disk_usage(existing).free / 1e6:,.0f} MB free)"
            way_out = "free some space or "
        raise StoreError(
            f"{path} cannot be written: {reason}; {way_out}choose another {option}; what is stored stays"
        ) from error


def _as_it_is(value: Any) -> Any:
    return value


def _intact(line: bytes) -> tuple[str, Any] | None:
    check, _, body = line.rstrip(b"\n").partition(b" ")
    if not body or digest_bytes(body)[:8].encode() != check:
        return None
    key, value = json.loads(body)
    return str(key), value


def _line(record: tuple[str, Any]) -> str:
    body = json.dumps(record, ensure_ascii=True, separators=(",", ":"))
    return f"{digest_bytes(body.encode())[:8]} {body}\n"


def _ends_with_newline(stream: FileIO) -> bool:
    """Return whether a file's next line would begin as one."""
    if stream.seek(0, os.SEEK_END) == 0:
        return True
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"
