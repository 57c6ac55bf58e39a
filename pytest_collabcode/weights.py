"""Safetensors files read as bytes: what tensors a checkpoint holds, their digest, and whether all numbers are finite.

Headers are not trusted: lengths, offsets, shapes and types are checked against each other and against the file.
Not covered: whether the tensors fit the architecture (models/load), packed quantized formats.
Source: the safetensors format, https://github.com/huggingface/safetensors (8-byte length, JSON header, data).
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytest_collabcode.digests import DIGEST_CHARACTERS
from pytest_collabcode.errors import CheckpointError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
BLOCK_BYTES = 1 << 20  # stays in the cache between the hash and the scan
MAX_JSON_BYTES = 100 << 20

# dtype -> (bits, bits without the sign, smallest such pattern that is an infinity or a NaN); 0 = cannot hold one
DTYPES: dict[str, tuple[int, int, int]] = {
    "F64": (64, 0x7FFF_FFFF_FFFF_FFFF, 0x7FF0_0000_0000_0000),
    "F32": (32, 0x7FFF_FFFF, 0x7F80_0000),
    "F16": (16, 0x7FFF, 0x7C00),
    "BF16": (16, 0x7FFF, 0x7F80),
    "F8_E5M2": (8, 0x7F, 0x7C),
    "F8_E4M3": (8, 0x7F, 0x7F),
    **{f"{kind}{bits}": (bits, 0, 0) for kind in "IU" for bits in (8, 16, 32, 64)},
    "BOOL": (8, 0, 0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """Where one tensor lies."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int  # byte offsets in the file
    stop: int

    @property
    def n_elements(self) -> int:
        """Product of the shape, 1 for a scalar.

        Example:
            >>> TensorEntry(name="w", dtype="F32", shape=(2, 3), file=Path("w"), start=80, stop=104).n_elements
            6
        """
        return math.prod(self.shape)


def tensor_entries(directory: Path, *, weights: str = WEIGHTS) -> tuple[TensorEntry, ...]:
    """Return the tensors of a checkpoint directory, sorted by name, out of one file or of all shards of the index.

    Args:
        directory: of the checkpoint.
        weights: the one file's name.
    Raises:
        CheckpointError: a file is missing, cut off, or its header does not agree with itself.
    Example:
        >>> import safetensors.numpy
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     safetensors.numpy.save_file({"w": np.ones((2, 3), np.float16)}, Path(folder) / WEIGHTS)
        ...     [(entry.name, entry.dtype, entry.shape) for entry in tensor_entries(Path(folder))]
        [('w', 'F16', (2, 3))]
    """
    if (directory / weights).is_file():
        files, claimed = [directory / weights], None
    else:
        claimed = _weight_map(directory / INDEX)
        files = [directory / name for name in sorted(set(claimed.values()))]
    entries = sorted((e for file in files for e in _header_entries(file)), key=lambda e: e.name)
    held = {e.name: e.file.name for e in entries}
    if claimed is not None and (len(held) != len(entries) or held != claimed):
        wrong = sorted(set(held.items()) ^ set(claimed.items()))[:1] or [(entries[0].name, "twice")]
        raise CheckpointError(
            f"{directory / INDEX}: the shards hold other tensors than it lists, first {wrong[0][0]!r}"
        )
    if not entries:
        raise CheckpointError(f"{files[0]}: it holds no tensor; save the checkpoint again")
    return tuple(entries)


def scan(entries: Iterable[TensorEntry]) -> str:
    """Return the digest over names, types, shapes and bytes of all tensors, and check that every number is finite.

    The digest does not depend on how the tensors are spread over files. One pass, so 269 MB take well under a second.

    Args:
        entries: of `tensor_entries`, in its order.
    Raises:
        CheckpointError: a tensor holds NaN or an infinity; the message names it.
    Example:
        >>> import safetensors.numpy
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     safetensors.numpy.save_file({"w": np.array([1.0, np.nan])}, Path(folder) / WEIGHTS)
        ...     scan(tensor_entries(Path(folder)))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        pytest_collabcode.errors.CheckpointError: .../model.safetensors: tensor 'w' holds NaN or infinite numbers; ...
    """
    total = hashlib.sha256()
    maps: dict[Path, memoryview] = {}
    for entry in entries:
        total.update(json.dumps([entry.name, entry.dtype, entry.shape]).encode())
        if entry.file not in maps:
            maps[entry.file] = _mapped(entry.file)
        finite = True
        for block in _blocks(maps[entry.file], entry):
            total.update(block)
            finite = finite and _all_finite(block, entry.dtype)
        if not finite:
            raise CheckpointError(
                f"{entry.file}: tensor {entry.name!r} holds NaN or infinite numbers; "
                "outputs of such a model can still look normal, so it is refused: save the checkpoint again"
            )
    return total.hexdigest()[:DIGEST_CHARACTERS]


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object of a checkpoint.

    Raises:
        CheckpointError: it cannot be read, is not JSON, or is no object.
    Example:
        >>> read_json(Path("/no/such/config.json"))
        Traceback (most recent call last):
        pytest_collabcode.errors.CheckpointError: /no/such/config.json: cannot be read (No such file or directory)
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CheckpointError(f"{path}: larger than {MAX_JSON_BYTES >> 20} MB, which no such file is")
        return _json_object(path.read_bytes(), path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def _json_object(data: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: not valid JSON ({type(error).__name__}); save the checkpoint again"
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: a JSON object is expected, this is a {type(value).__name__}")
    return value


def _weight_map(index: Path) -> dict[str, str]:
    claimed = read_json(index).get("weight_map")
    if not isinstance(claimed, dict) or not claimed or not all(isinstance(v, str) for v in claimed.values()):
        raise CheckpointError(f"{index}: weight_map is missing, empty or not a mapping of tensor names to files")
    for name in claimed.values():
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{index}: shard {name!r} is not the plain name of a safetensors file beside it")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index}: shard {name!r} is missing; copy the whole checkpoint")
    return claimed


def _header_entries(file: Path) -> Iterator[TensorEntry]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 10 or length > min(size - 8, MAX_JSON_BYTES):
            raise CheckpointError(f"{file}: cut off or not a safetensors file ({size} bytes); copy it again")
        header = _json_object(stream.read(length), file)
    header.pop("__metadata__", None)
    position = 8 + length
    entries = [_entry(name, fields, file, 8 + length) for name, fields in header.items()]
    for entry in sorted(entries, key=lambda e: (e.start, e.stop)):
        if entry.start != position:
            raise CheckpointError(f"{file}: tensor {entry.name!r} overlaps another or leaves a gap; save it again")
        position = entry.stop
    if position != size:
        raise CheckpointError(f"{file}: the header describes {position} bytes, the file has {size}; copy it again")
    yield from entries


def _entry(name: str, fields: Any, file: Path, base: int) -> TensorEntry:
    try:
        dtype, shape, (start, stop) = fields["dtype"], fields["shape"], fields["data_offsets"]
        bits = DTYPES[dtype][0]
        honest = all(type(n) is int and n >= 0 for n in (*shape, start, stop))
        if not honest or (stop - start) * 8 != math.prod(shape) * bits:
            raise ValueError(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file}: the header's entry of tensor {name!r} is damaged (type, shape and offsets do not agree)"
        ) from error
    return TensorEntry(name=name, dtype=dtype, shape=tuple(shape), file=file, start=base + start, stop=base + stop)


def _mapped(file: Path) -> memoryview:
    with file.open("rb") as stream:
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def _blocks(data: memoryview, entry: TensorEntry) -> Iterator[memoryview]:
    for start in range(entry.start, entry.stop, BLOCK_BYTES):
        yield data[start : min(start + BLOCK_BYTES, entry.stop)]


def _all_finite(block: memoryview, dtype: str) -> bool:
    bits, magnitude, limit = DTYPES[dtype]
    if not limit:
        return True
    numbers = np.frombuffer(block, dtype=f"<u{bits // 8}")
    return int((numbers & numbers.dtype.type(magnitude)).max()) < limit
