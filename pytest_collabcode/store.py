"""The store: results on disk that survive kill -9, full disks and several runs at once.

A journal is append-only JSON lines, each carrying its own digest, so a torn or altered line is redone instead of
believed. A directory (a checkpoint) is written aside, synced and renamed, so it is there whole or not at all.
Not covered: network file systems without flock, sharing between machines.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, overload

from filelock import FileLock

from pytest_collabcode.digests import digest_bytes
from pytest_collabcode.errors import StoreError

T = TypeVar("T")
KINDS = ("models", "checkpoints", "generations", "executions", "scores", "downloads", "locks", "partial", "logs")


class Journal:
    """Append-only key-value lines in one file; the last line of a key wins.

    Example:
        >>> import tempfile
        >>> journal = Store(Path(tempfile.mkdtemp())).journal("scores", "abc")
        >>> journal.append({"a": 1})
        >>> journal.append({"a": 2, "b": [3]})
        >>> dict(journal.read())
        {'a': 2, 'b': [3]}
    """

    def __init__(self, path: Path, lock: Path) -> None:
        self.path = path
        self._lock = lock

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
        """Hold the journal alone while adding what is missing; others wait, and then find it added.

        The kernel lets go when its holder dies. Reading and appending need no hold.
        """
        lock = FileLock(self._lock.with_suffix(".filling"))
        with _writing(self.path):
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def append(self, records: Mapping[str, Any]) -> None:
        """Add records, flushed and synced before this returns.

        Raises:
            StoreError: the disk is full or the file cannot be written; earlier records stay.
        """
        if not records:
            return
        lines = []
        for key, value in records.items():
            body = json.dumps([key, value], ensure_ascii=True, separators=(",", ":"))
            lines.append(f"{digest_bytes(body.encode())[:8]} {body}\n")
        with _writing(self.path), FileLock(self._lock), self.path.open("ab") as stream:
            # A line torn by an earlier kill must not swallow the first line of this batch.
            torn = stream.tell() > 0 and not _ends_with_newline(self.path)
            stream.write((b"\n" if torn else b"") + "".join(lines).encode())
            stream.flush()
            os.fsync(stream.fileno())


class Records(Mapping[str, Any]):
    """What a journal held when it was read; a value comes from the file when it is asked for, so memory stays small.

    Example:
        >>> import tempfile
        >>> journal = Store(Path(tempfile.mkdtemp())).journal("scores", "abc")
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


class Store:
    """A directory of results, addressed by digests of all that they depend on.

    Example:
        >>> import tempfile
        >>> store = Store(Path(tempfile.mkdtemp()))
        >>> with store.publish(store.checkpoint("abc")) as directory:
        ...     _ = (directory / "config.json").write_text("{}")
        >>> sorted(p.name for p in store.checkpoint("abc").iterdir())
        ['config.json']
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def downloads(self) -> Path:
        """Directory of downloaded wheels."""
        return self._directory("downloads")

    def journal(self, kind: str, digest: str) -> Journal:
        """Return the journal of one digest; kind is "generations", "executions" or "scores"."""
        return Journal(self._directory(kind) / f"{digest}.jsonl", self._directory("locks") / f"{digest}.lock")

    def checkpoint(self, digest: str) -> Path:
        """Return the directory of a trained or converted checkpoint; it may not exist yet."""
        return self.root / "checkpoints" / digest

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a lock between processes; the kernel releases it when its holder dies."""
        with FileLock(self._directory("locks") / f"{name}.lock"):
            yield

    @contextmanager
    def publish(self, target: Path) -> Iterator[Path]:
        """Yield a fresh directory; on success it is synced and becomes `target`, on error it is removed.

        Raises:
            StoreError: the disk is full or cannot be written.
        """
        partial = Path(tempfile.mkdtemp(dir=self._directory("partial")))
        try:
            with _writing(target):
                yield partial
                for path in partial.rglob("*"):
                    if path.is_file():
                        _sync(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists():  # another run was first, or an older copy is being replaced
                    shutil.rmtree(target)
                partial.rename(target)
                _sync(target.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def sizes(self) -> dict[str, int]:
        """Return the bytes that each kind of result takes."""
        return {
            kind: sum(p.stat().st_size for p in (self.root / kind).rglob("*") if p.is_file())
            for kind in KINDS
            if (self.root / kind).is_dir()
        }

    def contents(self) -> list[str]:
        """Return one line for each result: its kind, name and size."""
        lines = []
        for kind in KINDS:
            for path in sorted((self.root / kind).glob("*")) if (self.root / kind).is_dir() else ():
                files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
                lines.append(f"{sum(f.stat().st_size for f in files) / 1e6:10,.2f} MB  {kind}/{path.name}")
        return lines

    def clean(self, kinds: tuple[str, ...]) -> int:
        """Delete the results of these kinds and return the bytes freed."""
        sizes = self.sizes()
        for kind in kinds:
            shutil.rmtree(self.root / kind, ignore_errors=True)
        return sum(sizes.get(kind, 0) for kind in kinds)

    def _directory(self, kind: str) -> Path:
        path = self.root / kind
        with _writing(path):
            path.mkdir(parents=True, exist_ok=True)
        return path


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        existing = next((p for p in (path, *path.parents) if p.exists()), Path("/"))
        free = shutil.disk_usage(existing).free
        raise StoreError(
            f"{path} cannot be written: {error.strerror} ({free / 1e6:,.0f} MB free); "
            "free some space or choose another --collabcode-store"
        ) from error


def _as_it_is(value: Any) -> Any:
    return value


def _intact(line: bytes) -> tuple[str, Any] | None:
    check, _, body = line.rstrip(b"\n").partition(b" ")
    if not body or digest_bytes(body)[:8].encode() != check:
        return None
    key, value = json.loads(body)
    return str(key), value


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
