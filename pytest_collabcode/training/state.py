"""The state of an interrupted training on disk: whole or not at all, and none is better than a damaged one.

Not covered: the result (store.py publishes that).
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from pytest_collabcode.journal import writing

SAVE_EVERY_S = 30.0
_CHECK_BYTES = hashlib.sha256().digest_size


class StateFile:
    """One file that is replaced at most every `every_s` seconds.

    Example:
        >>> state = StateFile(Path(tempfile.mkdtemp()) / "a.state", every_s=0.0)
        >>> state.load() is None
        True
        >>> state.save({"step": 3, "weight": torch.ones(2)})
        >>> state.load()["step"]
        3
    """

    def __init__(self, path: Path, *, every_s: float = SAVE_EVERY_S) -> None:
        self._path = path
        self._every_s = every_s
        self._saved_at = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last save is so long ago that another is worth its time."""
        return time.monotonic() - self._saved_at >= self._every_s

    def save(self, values: dict[str, Any]) -> None:
        """Replace the file; values are tensors, numbers, texts, and lists and dictionaries of these.

        Raises:
            StoreError: the disk is full or cannot be written; the file stays as it was.
        """
        buffer = io.BytesIO()
        torch.save(values, buffer)
        content = buffer.getbuffer()
        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._path.parent, prefix=self._path.name, delete=False) as stream:
                temporary = Path(stream.name)
                try:
                    stream.write(hashlib.sha256(content).digest())
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                    temporary.replace(self._path)
                finally:
                    temporary.unlink(missing_ok=True)  # unless it took the place
        self._saved_at = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Return what was saved last, or None where there is nothing or it is damaged."""
        try:
            data = self._path.read_bytes()
        except OSError:
            return None
        check, content = data[:_CHECK_BYTES], data[_CHECK_BYTES:]
        if hashlib.sha256(content).digest() != check:
            return None
        try:
            values = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        except (RuntimeError, pickle.UnpicklingError, EOFError):  # written by another torch
            return None
        return values if isinstance(values, dict) else None

    def remove(self) -> None:
        """Delete the file, and what a killed save left beside it."""
        for path in self._path.parent.glob(f"{self._path.name}*"):
            path.unlink(missing_ok=True)
