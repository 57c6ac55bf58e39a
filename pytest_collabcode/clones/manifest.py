"""The manifest of an index on disk: its shape and which segments count.

Not covered: the segments (disk.py) and how they come and go (folder.py).
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_collabcode.clones.normalize import NORMALIZER_VERSION
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.digests import digest_bytes
from pytest_collabcode.errors import ConfigurationError, StoreError

FORMAT = 1
MANIFEST = "collabcode-index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One segment in the manifest."""

    file: str
    bytes: int  # of the file
    documents: int
    lines: int
    windows: int
    text_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an index holds."""

    shape: Shape
    segments: tuple[Entry, ...] = ()


def read_manifest(folder: Path) -> Manifest:
    """Read what an index holds.

    Raises:
        ConfigurationError: it is no index, or made by another version.
        StoreError: the manifest is damaged.
    Example:
        >>> read_manifest(Path("/nonexistent"))
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: /nonexistent is no index: it has no collabcode-index.json; ...
    """
    path = folder / MANIFEST
    if folder.is_file():
        raise ConfigurationError(f"{folder} is a file, not an index; a sealed index can only be asked")
    try:
        table = json.loads(path.read_bytes())
        digest = table.pop("digest")
        intact = digest == _digest(table)
    except FileNotFoundError:
        raise no_index(folder) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({type(error).__name__}); build the index again") from error
    if not intact:
        raise StoreError(f"{path} is damaged: it differs from what was written; build the index again")
    made_by = (table["format"], table["normalizer_version"])
    if made_by != (FORMAT, NORMALIZER_VERSION):
        raise ConfigurationError(
            f"{folder}: format {made_by[0]}, normalizer {made_by[1]}; this version reads format {FORMAT}, normalizer "
            f"{NORMALIZER_VERSION}: build the index again"
        )
    return Manifest(shape=Shape(**table["shape"]), segments=tuple(Entry(**entry) for entry in table["segments"]))


def no_index(folder: Path) -> ConfigurationError:
    """Return the error of a folder that holds no index.

    Example:
        >>> raise no_index(Path("x"))
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: x is no index: it has no collabcode-index.json; ...
    """
    return ConfigurationError(
        f"{folder} is no index: it has no {MANIFEST}; make one with collabcode index build --index={folder}"
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest of an index, whole or not at all.

    Raises:
        StoreError: it cannot be written.
    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_manifest(folder, Manifest(shape=Shape(min_lines=8)))
        >>> read_manifest(folder).shape.min_lines
        8
    """
    table: dict[str, Any] = {
        "format": FORMAT,
        "normalizer_version": NORMALIZER_VERSION,
        "shape": asdict(manifest.shape),
        "segments": [asdict(entry) for entry in manifest.segments],
    }
    table["digest"] = _digest(table)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".new-")
        with os.fdopen(descriptor, "w") as stream:
            json.dump(table, stream, indent=1)
            stream.flush()
            os.fsync(descriptor)
        Path(name).rename(folder / MANIFEST)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror}; free some space or write elsewhere"
        ) from error


def _digest(table: dict[str, Any]) -> str:
    return digest_bytes(json.dumps(table, sort_keys=True).encode())
