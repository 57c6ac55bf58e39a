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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from pytest_collabcode.digests import digest_bytes
from pytest_collabcode.errors import StoreError

KINDS = ("models", "checkpoints", "generations", "executions", "scores", "downloads", "locks", "partial", "logs")


class Journal:
    """Append-only key-value lines in one file; the last line of a key wins.

    Example:
        >>> import tempfile
        >>> journal = Store(Path(tempfile.mkdtemp())).journal("scores", "abc")
        >>> journal.append({"a": 1})
        >>> journal.append({"a": 2, "b": [3]})
        >>> journal.read()
        {'a': 2, 'b': [3]}
    """

    def __init__(self, path: Path, lock: Path) -> None:
        self.path = path
        self._lock = lock

    def read(self) -> dict[str, Any]:
        """Return every intact record; lines that are torn, altered or foreign are passed over.

        Raises:
            StoreError: the file exists but cannot be read.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StoreError(f"{self.path} cannot be read: {error.strerror}") from error
        records: dict[str, Any] = {}
        for line in data.split(b"\n"):
            record = _intact(line)
            if record is not None:
                records[record[0]] = record[1]
        return records

    @contextmanager
    def filling(self) -> Iterator[dict[str, Any]]:
        """Yield every intact record, held alone by whoever adds what is missing; others wait, then find it added.

        The kernel lets go when its holder dies. Reading and appending need no hold.
        """
        lock = FileLock(self._lock.with_suffix(".filling"))
        with _writing(self.path):
            lock.acquire()
        try:
            yield self.read()
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


def _intact(line: bytes) -> tuple[str, Any] | None:
    check, _, body = line.partition(b" ")
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
