"""The wire between a generated program and its judge: sized frames of JSON, the only thing that crosses.

Text crosses as it is, also such as is no Unicode text: two surrogates in a row stay two. Runs inside the sandbox:
imports the standard library only. Not covered: what the JSON means (values.py).
"""

from __future__ import annotations

import json
import os
import struct
from typing import Any

_BLOCK_BYTES = 1 << 16
_TEXT = "utf-8", "surrogatepass"  # JSON's own escapes would make one character of two surrogates
_write = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


class TooLargeError(Exception):
    """A message is larger than the channel's limit, or a value nested too deeply."""


class BrokenWireError(Exception):
    """What came over the wire is not what the other side's own code sends."""


def write_json(content: object) -> bytes:
    """Return plain data as JSON in the bytes that `read_json` and a channel read.

    Example:
        >>> write_json({"a": [1, "\\ud83d\\ude00"]})
        b'{"a":[1,"\\xed\\xa0\\xbd\\xed\\xb8\\x80"]}'
    """
    return _write(content).encode(*_TEXT)


def read_json(file: int) -> Any:
    """Return what a whole file, which is then closed, says as JSON.

    Example:
        >>> reader, writer = os.pipe()
        >>> os.write(writer, b"[1]"), os.close(writer), read_json(reader)
        (3, None, [1])
    """
    blocks = []
    while block := os.read(file, 1 << 20):
        blocks.append(block)
    os.close(file)
    return json.loads(b"".join(blocks).decode(*_TEXT))


class Channel:
    """Sized JSON messages over a pair of pipes.

    Example:
        >>> reader, writer = os.pipe()
        >>> channel = Channel(reader, writer, limit_bytes=100)
        >>> channel.send({"a": 1}); channel.receive()
        {'a': 1}
        >>> os.close(reader); os.close(writer)
    """

    def __init__(self, reader: int, writer: int, *, limit_bytes: int) -> None:
        self._reader = reader
        self._writer = writer
        self._limit_bytes = limit_bytes
        self._rest = b""  # read already, of the message to come

    def send(self, message: object) -> None:
        """Write one message; TooLargeError over the limit, OSError when nobody reads any more."""
        data = write_json(message)
        if len(data) > self._limit_bytes:
            raise TooLargeError
        rest = memoryview(struct.pack(">I", len(data)) + data)
        while rest:
            rest = rest[os.write(self._writer, rest) :]

    def receive(self) -> Any:
        """Read one message; EOFError when the other side is gone, BrokenWireError when it is no message."""
        (size,) = struct.unpack(">I", self._read(4))
        if size > self._limit_bytes:
            raise BrokenWireError
        try:
            return json.loads(self._read(size).decode(*_TEXT))
        except (ValueError, RecursionError) as error:
            raise BrokenWireError from error

    def _read(self, size: int) -> bytes:
        if len(self._rest) >= size:  # a small message comes whole, behind its size
            data, self._rest = self._rest[:size], self._rest[size:]
            return data
        blocks, missing = [self._rest], size - len(self._rest)
        while missing > 0:
            block = os.read(self._reader, _BLOCK_BYTES)
            if not block:
                raise EOFError
            blocks.append(block)
            missing -= len(block)
        data = b"".join(blocks)
        self._rest = data[size:]
        return data[:size]
