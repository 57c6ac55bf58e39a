"""Containers: named arrays in one file, memory-mapped, complete or not there, and damage never unnoticed.

Layout: a magic word, the arrays one after the other, a JSON footer that describes them, its length and digest, and
the magic word again. Every 64 KiB block of every array has a checksum, which is compared before the block's first
use, so that opening costs nothing however large the file is.
Not covered: what the arrays mean (disk.py, sealing.py).
Source: XXH3 for checksums; footers as in Apache Parquet.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64, xxh3_64_intdigest

from pytest_collabcode.errors import StoreError

MAGIC = b"COLLABC1"
BLOCK_BYTES = 1 << 16
_TAIL_BYTES = 16 + len(MAGIC)  # footer length, footer digest, magic

Array = npt.NDArray[Any]


class Container:
    """An open container: arrays by name, verified as they are touched.

    Example:
        >>> path = Path(tempfile.mkdtemp()) / "x.bin"
        >>> with create(path, {"a": (np.uint32, 3)}, {"version": 1}) as arrays:
        ...     arrays["a"][:] = [1, 2, 3]
        >>> container = Container(path)
        >>> container.whole("a").tolist(), container.about
        ([1, 2, 3], {'version': 1})
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        footer, self._data = _opened(path)
        self.about: dict[str, Any] = footer["about"]
        self.digest: str = footer["digest"]  # of all that the arrays hold
        self._table: dict[str, dict[str, Any]] = footer["arrays"]
        self._arrays = {name: self._view(entry) for name, entry in self._table.items()}
        self._unseen = {name: bytearray(b"\1") * self._n_blocks(name) for name in self._table}

    def array(self, name: str) -> Array:
        """Return an array; nothing of it is verified yet."""
        return self._arrays[name]

    def whole(self, name: str) -> Array:
        """Return an array, verified from end to end.

        Raises:
            StoreError: it is damaged.
        """
        self.check(name, 0, len(self._arrays[name]))
        return self._arrays[name]

    def check(self, name: str, first: int, stop: int) -> None:
        """Verify the elements first..stop of an array.

        Raises:
            StoreError: they are damaged.
        """
        size = self._arrays[name].itemsize
        first_block, stop_block = max(first, 0) * size // BLOCK_BYTES, -(-max(stop, 0) * size // BLOCK_BYTES)
        unseen = self._unseen[name][first_block:stop_block]
        if 1 in unseen:
            self._verify(name, np.flatnonzero(unseen) + first_block)

    def check_scattered(self, name: str, elements: npt.NDArray[np.int64]) -> None:
        """Verify elements anywhere in an array; those out of range are passed over.

        Raises:
            StoreError: they are damaged.
        """
        if 1 not in self._unseen[name]:
            return
        inside = elements[(elements >= 0) & (elements < len(self._arrays[name]))]
        touched = np.zeros(self._n_blocks(name), dtype=bool)
        touched[inside // (BLOCK_BYTES // self._arrays[name].itemsize)] = True
        self._verify(name, np.flatnonzero(touched & np.frombuffer(self._unseen[name], dtype=bool)))

    def verify(self) -> None:
        """Verify everything.

        Raises:
            StoreError: some array is damaged; the first is named.
        """
        for name in self._table:
            self.whole(name)

    def _view(self, entry: Mapping[str, Any]) -> Array:
        dtype = np.dtype(entry["dtype"])
        return self._data[entry["offset"] : entry["offset"] + entry["length"] * dtype.itemsize].view(dtype)

    def _n_blocks(self, name: str) -> int:
        return -(-self._arrays[name].nbytes // BLOCK_BYTES)

    def _verify(self, name: str, blocks: npt.NDArray[np.int64]) -> None:
        entry = self._table[name]
        checks = self._data[entry["checks"] : entry["checks"] + 8 * self._n_blocks(name)].view("<u8")
        end = entry["offset"] + self._arrays[name].nbytes
        for block in blocks.tolist():
            first = entry["offset"] + block * BLOCK_BYTES
            if xxh3_64_intdigest(self._data[first : min(first + BLOCK_BYTES, end)].data) != checks[block]:
                raise _damaged(self.path, f"{name}, block {block}, is not what was written")
            self._unseen[name][block] = 0


@contextmanager
def create(
    path: Path, arrays: Mapping[str, tuple[npt.DTypeLike, int]], about: Mapping[str, Any]
) -> Iterator[dict[str, Array]]:
    """Yield writable arrays; when the block ends well the file is complete, synced and in its place.

    Args:
        path: of the container; replaced if it is there.
        arrays: name -> (dtype, length).
        about: JSON-compatible facts that go with them.
    Raises:
        StoreError: the disk is full or cannot be written; nothing is left behind.
    Example:
        >>> with create(Path(tempfile.mkdtemp()) / "x.bin", {"a": (np.uint8, 0)}, {}) as arrays:
        ...     arrays["a"].shape
        (0,)
    """
    table, size = _laid_out(arrays)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    except OSError as error:
        raise _unwritable(path, error) from error
    partial = Path(name)
    try:
        try:
            os.posix_fallocate(descriptor, 0, size)  # a full disk is an error here, not a signal later
            mapped = np.memmap(partial, dtype=np.uint8, mode="r+", shape=(size,))
            data: Array = np.asarray(mapped)
            data[: len(MAGIC)] = np.frombuffer(MAGIC, dtype=np.uint8)
            yield {
                n: data[e["offset"] :][: e["length"] * np.dtype(e["dtype"]).itemsize].view(e["dtype"])
                for n, e in table.items()
            }
            digest = _fill_checks(data, table)
            mapped.flush()
            _finish(descriptor, {"about": dict(about), "arrays": table, "digest": digest})
            partial.rename(path)
            _sync_folder(path.parent)
        except OSError as error:
            raise _unwritable(path, error) from error
    finally:
        os.close(descriptor)
        partial.unlink(missing_ok=True)


def _laid_out(arrays: Mapping[str, tuple[npt.DTypeLike, int]]) -> tuple[dict[str, dict[str, Any]], int]:
    table: dict[str, dict[str, Any]] = {}
    size = len(MAGIC)  # at the beginning too, so that a file that lost its end is still known
    for name, (dtype, length) in arrays.items():
        kind = np.dtype(dtype).newbyteorder("<")
        n_bytes = length * kind.itemsize
        table[name] = {"dtype": kind.str, "length": length, "offset": size, "checks": _aligned(size + n_bytes)}
        size = table[name]["checks"] + 8 * -(-n_bytes // BLOCK_BYTES)
    return table, size


def _fill_checks(data: Array, table: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the checksums of all blocks; return a digest over them."""
    everything = xxh3_64()
    for entry in table.values():
        end = entry["offset"] + entry["length"] * np.dtype(entry["dtype"]).itemsize
        firsts = range(entry["offset"], end, BLOCK_BYTES)
        checks = [xxh3_64_intdigest(data[first : min(first + BLOCK_BYTES, end)].data) for first in firsts]
        data[entry["checks"] : entry["checks"] + 8 * len(checks)].view("<u8")[:] = checks
        everything.update(np.array(checks, dtype="<u8").tobytes())
    return everything.hexdigest()


def _finish(descriptor: int, footer: Mapping[str, Any]) -> None:
    body = json.dumps(footer).encode()
    tail = len(body).to_bytes(8, "little") + xxh3_64_intdigest(body).to_bytes(8, "little") + MAGIC
    os.lseek(descriptor, 0, os.SEEK_END)
    rest = memoryview(body + tail)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)


def _opened(path: Path) -> tuple[dict[str, Any], Array]:
    if path.stat().st_size < len(MAGIC) + _TAIL_BYTES:
        raise _damaged(path, "its end is missing")
    data = np.memmap(path, dtype=np.uint8, mode="r")
    tail = data[-_TAIL_BYTES:].tobytes()
    if data[: len(MAGIC)].tobytes() != MAGIC:
        raise _damaged(path, "its beginning is not what was written")
    if not tail.endswith(MAGIC):
        raise _damaged(path, "its end is missing")
    length = int.from_bytes(tail[:8], "little")
    body = data[max(len(data) - _TAIL_BYTES - length, 0) : len(data) - _TAIL_BYTES].tobytes()
    if xxh3_64_intdigest(body) != int.from_bytes(tail[8:16], "little"):
        raise _damaged(path, "its footer is not what was written")
    footer: dict[str, Any] = json.loads(body)
    return footer, np.asarray(data)


def _aligned(size: int) -> int:
    return -(-size // 8) * 8


def _damaged(path: Path, how: str) -> StoreError:
    return StoreError(f"{path} is damaged: {how}; make it again")


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path} cannot be written: {error.strerror}; free some space or write elsewhere")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
