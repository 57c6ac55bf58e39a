"""The manifest `collabcode.json`: what a checkpoint says about itself, optional for foreign ones.

Not covered: believing it. Its claims of origin hold only for the weights whose digest it names (checkpoint.py).
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pytest_collabcode.errors import CheckpointError, nearest
from pytest_collabcode.records import PromptConventions
from pytest_collabcode.weights import read_json, scan, tensor_entries

MANIFEST = "collabcode.json"
NO_CONVENTIONS = PromptConventions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of `collabcode.json`; every key is optional."""

    name: str = ""
    regime: str = ""
    organizations: tuple[str, ...] = ()  # whose code it was trained on, in order
    corpus_digest: str = ""
    weights_digest: str = ""
    conventions: PromptConventions = NO_CONVENTIONS


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest of a checkpoint directory, an empty one where there is no file.

    Raises:
        CheckpointError: the file is not JSON, or has an unknown key or a value of another type.
    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / MANIFEST).write_text('{"conventions": {"stop": ["\\\\n\\\\n"]}}')
        ...     read_manifest(Path(folder)).conventions.stop
        ('\\n\\n',)
    """
    path = directory / MANIFEST
    if not path.exists():
        return Manifest()
    values = _known(read_json(path), Manifest, path)
    conventions = values.pop("conventions", {})
    if not isinstance(conventions, dict):
        raise CheckpointError(f"{path}: conventions={conventions!r} is not an object")
    conventions = PromptConventions(**_known(conventions, PromptConventions, path))
    return Manifest(**values, conventions=conventions)


def write_manifest(
    directory: Path,
    *,
    name: str = "",
    regime: str = "",
    organizations: tuple[str, ...] = (),
    corpus_digest: str = "",
    conventions: PromptConventions = NO_CONVENTIONS,
) -> Path:
    """Write `collabcode.json` for the weights that lie in the directory, whole or not at all.

    Returns:
        The path of the manifest.
    Raises:
        CheckpointError: the weights are missing, damaged or not finite.
    Example:
        >>> import numpy, safetensors.numpy
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     safetensors.numpy.save_file({"w": numpy.ones(3)}, Path(folder) / "model.safetensors")
        ...     write_manifest(Path(folder), regime="fedavg").name
        ...     read_manifest(Path(folder)).regime
        'collabcode.json'
        'fedavg'
    """
    manifest = Manifest(
        name=name,
        regime=regime,
        organizations=organizations,
        corpus_digest=corpus_digest,
        weights_digest=scan(tensor_entries(directory)),
        conventions=conventions,
    )
    with tempfile.NamedTemporaryFile("w", dir=directory, prefix=MANIFEST, delete=False) as stream:
        json.dump(asdict(manifest), stream, indent=2)
        stream.flush()
        os.fsync(stream.fileno())
    Path(stream.name).chmod(0o644)
    return Path(stream.name).replace(directory / MANIFEST)


def _known(values: dict[str, Any], record: type, path: Path) -> dict[str, Any]:
    """Return the values with lists as tuples, each key known to the record and of its default's type."""
    defaults = {f.name: f.default for f in fields(record)}
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in defaults:
            raise CheckpointError(f"{path}: unknown key {key!r}; {nearest(key, tuple(defaults))}")
        expected = type(defaults[key])
        if expected is tuple and isinstance(value, list) and all(isinstance(v, str) for v in value):
            value = tuple(value)
        if key != "conventions" and not isinstance(value, expected):
            raise CheckpointError(f"{path}: {key}={value!r} is a {type(value).__name__}, not a {expected.__name__}")
        checked[key] = value
    return checked
