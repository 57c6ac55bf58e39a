"""Keys of sealed indexes: a secret in a file that only its owner can read, and the digests made with it.

BLAKE2 in its keyed mode is a message authentication code: without the key nobody can tell what a digest stands for,
nor test a guess. Lines, windows, runs, documents and the check of the key itself are told apart by personalization.
Not covered: how a key reaches the partner, which is neither this tool's business nor the sealed file's way.
Source: RFC 7693 and the BLAKE2 specification.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from stat import S_IMODE

from pytest_collabcode.errors import ConfigurationError

DIGEST_BYTES = 16
KEY_BYTES = 32  # of a new key
MAX_KEY_BYTES = 64  # that BLAKE2 takes
_LINE, _WINDOW, _RUN, _DOCUMENT, _CHECK = b"line", b"window", b"run", b"document", b"check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A secret and the file it came from; printing it shows only the file.

    Example:
        >>> key = Key(secret=b"k" * 32, source="acme.key")
        >>> key, len(key.windows(["a = 1", "b = 2", "c = 3"], 2))
        (Key(source='acme.key'), 2)
    """

    secret: bytes = field(repr=False)
    source: str  # for messages

    def lines(self, lines: Iterable[str]) -> list[bytes]:
        """Return the digest of each normalized line."""
        return self._digests(_LINE, map(str.encode, lines))

    def joined(self, digests: Iterable[bytes]) -> list[bytes]:
        """Return the fingerprint of each window, given as the digests of its lines end to end."""
        return self._digests(_WINDOW, digests)

    def windows(self, lines: Sequence[str], width: int) -> list[bytes]:
        """Return the fingerprint of every window of `width` consecutive normalized lines."""
        digests = b"".join(self.lines(lines))
        last = len(digests) - width * DIGEST_BYTES
        return self.joined([digests[i : i + width * DIGEST_BYTES] for i in range(0, last + 1, DIGEST_BYTES)])

    def run(self, digests: bytes) -> bytes:
        """Return the digest of a run, given as the digests of its lines end to end."""
        return self._digests(_RUN, [digests])[0]

    def document(self, description: bytes) -> bytes:
        """Return the digest by which documents are numbered."""
        return self._digests(_DOCUMENT, [description])[0]

    @property
    def check(self) -> str:
        """What tells a wrong key at once."""
        return self._digests(_CHECK, [b""])[0].hex()

    def _digests(self, purpose: bytes, blobs: Iterable[bytes]) -> list[bytes]:
        begun = blake2b(digest_size=DIGEST_BYTES, key=self.secret, person=purpose).copy
        digests = []
        for blob in blobs:
            state = begun()
            state.update(blob)
            digests.append(state.digest())
        return digests


def make_key(path: Path) -> Key:
    """Draw a new key and write it, in hex, where only its owner can read it.

    Raises:
        ConfigurationError: there is a file already, which is never overwritten, or none can be written.
    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "acme.key"
        >>> make_key(path) == read_key(path), oct(S_IMODE(path.stat().st_mode))
        (True, '0o600')
    """
    secret = secrets.token_bytes(KEY_BYTES)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secret.hex() + "\n")
            stream.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise ConfigurationError(
            f"--key-file={path}: no key can be written there: {error.strerror}; name a new file"
        ) from error
    return Key(secret=secret, source=str(path))


def read_key(path: Path) -> Key:
    """Read a key.

    Raises:
        ConfigurationError: it cannot be read, others can read it too, or it is no key of at least 32 bytes in hex.
    Example:
        >>> read_key(Path("/nonexistent.key"))
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: --key-file=/nonexistent.key cannot be read: No such file or ...
    """
    try:
        mode, text = S_IMODE(path.stat().st_mode), path.read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(
            f"--key-file={path} cannot be read: {error.strerror}; make it with collabcode index seal, or ask the "
            "organization that sealed"
        ) from error
    if mode & 0o077:
        raise ConfigurationError(f"--key-file={path} can be read by others (mode {mode:04o}); run: chmod 600 {path}")
    try:
        secret = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        secret = b""
    if not KEY_BYTES <= len(secret) <= MAX_KEY_BYTES:
        raise ConfigurationError(
            f"--key-file={path} is no key: {2 * KEY_BYTES} to {2 * MAX_KEY_BYTES} hex digits are expected; make one "
            "with collabcode index seal --key-file=NEW"
        )
    return Key(secret=secret, source=str(path))
