"""Fingerprints: one 64-bit hash per significant line, one per window of consecutive lines.

A text becomes the hashes of its significant lines; a window's fingerprint is a polynomial of them modulo 2^64, so
equal lines always give equal fingerprints, on every machine. The reverse is checked on text by who uses them.
Not covered: keyed fingerprints (keys.py).
Sources: Karp and Rabin 1987 for the rolling form; XXH3 (its 64-bit output is frozen) for the lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from pytest_collabcode.clones.normalize import significant
from pytest_collabcode.lines import decode

Hashes = npt.NDArray[np.uint64]
Halves = npt.NDArray[np.uint32]
Integers = npt.NDArray[np.int64]

BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing
_SPACE_BEYOND_BYTES = (b"\x1c", b"\x1d", b"\x1e", b"\x1f")  # white space for str.strip, not for bytes.strip


def text_hashes(text: str | bytes, normalization: str = "verbatim") -> Hashes:
    """Return the hash of every significant line of a text, shape (n,).

    Args:
        text: a text, or the same encoded as UTF-8.
        normalization: one of normalize.NORMALIZATIONS.
    Raises:
        ConfigurationError: no such normalization.
    Example:
        >>> a, b = text_hashes("x = 1\\n\\n  y = 2\\n"), text_hashes(b"x = 1\\r\\ny = 2")
        >>> len(a), bool((a == b).all())
        (2, True)
    """
    if normalization == "verbatim":
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        with suppress(UnicodeDecodeError):  # lone surrogates, or no UTF-8 at all
            if not any(map(data.__contains__, _SPACE_BEYOND_BYTES)):
                return _hashes(filter(None, _stripped_lines(data)))
    return line_hashes(significant(_decoded(text) if isinstance(text, bytes) else text, normalization)[1])


def line_hashes(lines: Iterable[str]) -> Hashes:
    """Return the XXH3 hash of each normalized line, shape (n,).

    Example:
        >>> a, b, c = line_hashes(["return 1", "return 2", "return 1"])
        >>> bool(a == c), bool(a == b)
        (True, False)
    """
    return _hashes(map(str.encode, lines))


def low_halves(hashes: Hashes) -> Halves:
    """Return the low 32 bits of each hash: enough to extend a run that is then verified on text.

    Example:
        >>> low_halves(np.array([(7 << 32) + 3], dtype=np.uint64)).tolist()
        [3]
    """
    return hashes.astype(np.uint32)


def window_fingerprints(hashes: Hashes, width: int) -> Hashes:
    """Return the fingerprint of every window of `width` consecutive hashes.

    Args:
        hashes: shape (n,).
        width: lines in a window, >= 1.
    Returns:
        Shape (max(n - width + 1, 0),).
    Example:
        >>> f = window_fingerprints(np.array([1, 2, 3, 1, 2], dtype=np.uint64), 2)
        >>> len(f), bool(f[0] == f[3]), bool(f[0] == f[1])
        (4, True, False)
    """
    n_windows = max(len(hashes) - width + 1, 0)
    total = np.zeros(n_windows, dtype=np.uint64)
    done, size, power, part = 0, 1, int(BASE), hashes  # part: of all windows of `size`, a power of two
    while n_windows:
        if width & size:
            total *= np.uint64(power)
            total += part[done : done + n_windows]
            done += size
        if done == width:
            break
        part = part[:-size] * np.uint64(power) + part[size:]
        size, power = 2 * size, power * power % (1 << 64)
    return total


def window_starts(bounds: Integers, *, width: int, stride: int = 1) -> Integers:
    """Return where windows begin that lie inside one document each, every `stride` lines from its first.

    Args:
        bounds: position of each document's first line, and the end of the last, shape (D + 1,).
        width: lines in a window.
        stride: 1 takes every window.
    Example:
        >>> window_starts(np.array([0, 3, 7]), width=2).tolist()
        [0, 1, 3, 4, 5]
        >>> window_starts(np.array([0, 3, 7]), width=2, stride=2).tolist()
        [0, 3, 5]
    """
    sizes = np.diff(bounds)
    positions = np.arange(bounds[-1], dtype=np.int64)
    inside = positions + width <= np.repeat(bounds[1:], sizes)
    if stride > 1:
        inside &= (positions - np.repeat(bounds[:-1], sizes)) % stride == 0
    return np.flatnonzero(inside)


def stable_order(fingerprints: Hashes) -> Integers:
    """Return what a stable argsort would, several times faster: sorting one array of words needs no indirection.

    A word is a fingerprint with its low bits replaced by its position; the few that differ in low bits alone are then
    put right by a sort that takes next to no time on what is sorted already.

    Example:
        >>> stable_order(np.array([9, 3, 9, 1], dtype=np.uint64)).tolist()
        [3, 1, 0, 2]
    """
    bits = np.uint64(len(fingerprints).bit_length())
    words = fingerprints >> bits << bits | np.arange(len(fingerprints), dtype=np.uint64)
    words.sort()
    order = (words & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    return order[np.argsort(fingerprints[order], kind="stable")]


def _stripped_lines(data: bytes) -> Iterable[bytes]:
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    lines = map(bytes.strip, data.split(b"\n"))
    if data.isascii():
        return lines
    return [line if line.isascii() else line.decode().strip().encode() for line in lines]


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return decode(data)


def _hashes(lines: Iterable[bytes]) -> Hashes:
    return np.fromiter(map(xxh3_64_intdigest, lines), dtype=np.uint64)
