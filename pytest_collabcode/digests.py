"""Digests: one short name for exactly these bytes.

Every cached result is stored under the digest of all that it depends on, so that a changed input can never be
served an old answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path

DIGEST_CHARACTERS = 32


def digest_bytes(data: bytes) -> str:
    """Return the first 32 hex digits of SHA-256.

    Example:
        >>> digest_bytes(b"abc")
        'ba7816bf8f01cfea414140de5dae2223'
    """
    return hashlib.sha256(data).hexdigest()[:DIGEST_CHARACTERS]


def sha256_file(path: Path) -> str:
    """Return the full SHA-256 of a file in hex, read in 1 MiB blocks.

    Raises:
        OSError: the file cannot be read.
    Example:
        >>> from tempfile import NamedTemporaryFile
        >>> with NamedTemporaryFile() as file:
        ...     _ = Path(file.name).write_bytes(b"abc")
        ...     sha256_file(Path(file.name))
        'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of(*parts: object) -> str:
    """Return the digest of plain values, records, sequences and mappings, independent of key order.

    Args:
        parts: str, int, float, bool, None, Path, dataclasses, and sequences and mappings of these.
    Returns:
        32 hex digits.
    Raises:
        TypeError: a part has no canonical form.
    Example:
        >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
        True
        >>> digest_of("ab", "c") == digest_of("a", "bc")
        False
        >>> digest_of(chr(0x1F600)) == digest_of(chr(0xD83D) + chr(0xDE00))  # one character, two surrogates
        False
    """
    plain = _plain(parts)
    text = json.dumps(plain, sort_keys=True, ensure_ascii=True)
    if "\\ud" in text:  # an escape for each half of a character, or for a surrogate: where they meet they look alike
        raw = json.dumps(plain, sort_keys=True, ensure_ascii=False)
        try:
            raw.encode()
        except UnicodeEncodeError:
            return digest_bytes(raw.encode(errors="surrogatepass"))
    return digest_bytes(text.encode())


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {"": type(value).__name__, **{k: _plain(v) for k, v in asdict(value).items()}}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Sequence):
        return [_plain(v) for v in value]
    raise TypeError(f"value={value!r} of type {type(value).__name__} has no canonical form")
