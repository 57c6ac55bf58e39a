"""The store: results on disk that survive kill -9, full disks and several runs at once.

Completions, executions and scores are journals. A directory (a checkpoint) is written aside, synced and renamed, so
it is there whole or not at all.
Not covered: network file systems without flock, sharing between machines.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.journal import Journal, writing

KINDS = ("models", "checkpoints", "generations", "executions", "scores", "downloads", "locks", "partial", "logs")


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
            with writing(target):
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
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        return path


def require_room(root: Path, *, n_bytes: int) -> None:
    """Refuse a store that could not be written, or whose disk is nearly full, before anything is measured.

    Raises:
        ConfigurationError: it names the option and the way out.
    Example:
        >>> require_room(Path("/dev/null/store"), n_bytes=1)
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: --collabcode-store=/dev/null/store: /dev/null is not a folder; \
choose another store
    """
    try:
        existing = next(p for p in (root.absolute(), *root.absolute().parents) if p.exists())
        free = shutil.disk_usage(existing).free
    except OSError as error:
        raise ConfigurationError(
            f"--collabcode-store={root} cannot be used: {error.strerror}; choose another store"
        ) from error
    if not existing.is_dir():
        raise ConfigurationError(f"--collabcode-store={root}: {existing} is not a folder; choose another store")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigurationError(f"--collabcode-store={root}: {existing} cannot be written; choose another store")
    if free < n_bytes:
        raise ConfigurationError(
            f"--collabcode-store={root}: {free / 1e6:,.0f} MB free, a run needs about {n_bytes / 1e6:,.0f} MB; "
            "free some space or choose another store"
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
