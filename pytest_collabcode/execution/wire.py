"""The wire between a generated program and its judge: plain data in sized frames, the only thing that crosses.

Values are JSON where JSON says them exactly, else a tagged list; a subclass of a builtin crosses as its builtin
content, so that an overridden `__eq__` or `__hash__` stays where it was written. Runs inside the sandbox: imports the
standard library only. Not covered: iterators, classes, functions (not plain), identity between values.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

MAX_DEPTH = 100
_SAFE_INTEGER = 1 << 53
_BLOCK_BYTES = 1 << 16


class NotPlainError(Exception):
    """A value cannot cross: it is no plain data."""


class TooLargeError(Exception):
    """A message is larger than the channel's limit, or a value nested deeper than MAX_DEPTH (or in itself)."""


class BrokenWireError(Exception):
    """What came over the wire is not what the other side's own code sends."""


def encode(value: object, depth: int = 0) -> Any:
    """Return a value as JSON-ready data that `decode` turns back exactly.

    Args:
        value: None, bool, int, float, complex, str, bytes, bytearray, range, Decimal, Fraction, and lists, tuples,
            sets, frozensets and dicts of these; subclasses count as their builtin.
        depth: of the value in what is being encoded.
    Raises:
        NotPlainError: the value, or something in it, is of another type.
        TooLargeError: it is nested too deeply, or in itself.
    Example:
        >>> encode((1, [2.5, {"a": {3}}]))
        ['tuple', [1, ['list', [2.5, ['dict', [['a', ['set', [3]]]]]]]]]
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        exact = int.__int__(value)
        return exact if -_SAFE_INTEGER < exact < _SAFE_INTEGER else ["int", hex(exact)]
    if isinstance(value, float):
        return float.__float__(value)
    if depth >= MAX_DEPTH:
        raise TooLargeError
    return _encode_tagged(value, depth + 1)


def _encode_tagged(value: object, depth: int) -> list[Any]:
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return [kind.__name__, [encode(item, depth) for item in value]]
    if isinstance(value, dict):
        return ["dict", [[encode(key, depth), encode(item, depth)] for key, item in value.items()]]
    for writable, write in _WRITERS.items():
        if isinstance(value, writable):
            return [writable.__name__, write(value)]
    raise NotPlainError


def decode(data: Any) -> Any:
    """Return the value that `encode` was given.

    Raises:
        BrokenWireError: the data is not `encode`'s.
    Example:
        >>> decode(encode({(1, 2): [b"x", 10**30]})) == {(1, 2): [b"x", 10**30]}
        True
    """
    if data is None or isinstance(data, str | int | float):
        return data
    try:
        tag, payload = data
        return _READERS[tag](payload)
    except (TypeError, ValueError, KeyError, ArithmeticError, AttributeError, RecursionError) as error:
        raise BrokenWireError from error


def _decode_list(payload: list[Any]) -> list[Any]:
    return [decode(item) for item in payload]


_WRITERS: dict[type, Callable[[Any], Any]] = {
    bytes: lambda value: value.hex(),
    bytearray: lambda value: value.hex(),
    complex: lambda value: [value.real, value.imag],
    range: lambda value: [hex(part) for part in (value.start, value.stop, value.step)],
    Decimal: str,
    Fraction: lambda value: [hex(value.numerator), hex(value.denominator)],
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda payload: int(payload, 16),  # hexadecimal: linear, and without the limit on decimal digits
    "list": _decode_list,
    "tuple": lambda payload: tuple(_decode_list(payload)),
    "set": lambda payload: set(_decode_list(payload)),
    "frozenset": lambda payload: frozenset(_decode_list(payload)),
    "dict": lambda payload: {decode(key): decode(item) for key, item in payload},
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "complex": lambda payload: complex(*payload),
    "range": lambda payload: range(*(int(part, 16) for part in payload)),
    "Decimal": Decimal,
    "Fraction": lambda payload: Fraction(*(int(part, 16) for part in payload)),
}


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
    return json.loads(b"".join(blocks))


def update_in_place(old: Any, new: Any) -> Any:
    """Give `old` the content of `new` where both are the same mutable builtin; return what stands for the new value.

    Example:
        >>> values = [3, [1]]; inner = values[1]
        >>> update_in_place(values, [[1, 2], [1, 2]]) is values, values, inner
        (True, [[1, 2], [1, 2]], [1, 2])
    """
    if type(old) is not type(new):
        return new
    if isinstance(old, list):
        old[:] = [update_in_place(*pair) for pair in zip(old, new, strict=False)] + new[len(old) :]
    elif isinstance(old, dict):
        items = {key: update_in_place(old[key], item) if key in old else item for key, item in new.items()}
        old.clear()
        old.update(items)
    elif isinstance(old, set):
        old.clear()
        old.update(new)
    elif isinstance(old, bytearray):
        old[:] = new
    elif isinstance(old, tuple) and len(old) == len(new):
        return tuple(update_in_place(*pair) for pair in zip(old, new, strict=True))
    else:
        return new
    return old


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
        data = json.dumps(message).encode()
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
            return json.loads(self._read(size))
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
