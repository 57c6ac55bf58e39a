import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_collabcode.execution.wire import (
    MAX_DEPTH,
    BrokenWireError,
    Channel,
    NotPlainError,
    TooLargeError,
    decode,
    encode,
    update_in_place,
)

NUMBERS = st.integers() | st.floats(allow_nan=False) | st.fractions() | st.decimals(allow_nan=False)
KEYS = st.none() | st.booleans() | NUMBERS | st.text() | st.binary()
PLAIN = st.recursive(
    KEYS
    | st.just(float("nan"))
    | st.complex_numbers()
    | st.builds(range, st.integers(), st.integers())
    | st.builds(bytearray, st.binary()),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS, inner)
        | st.sets(st.integers())
        | st.frozensets(st.text())
    ),
)


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


@settings(max_examples=50, deadline=None)
@given(PLAIN)
def test_decode_undoes_encode_to_the_type_and_bit(value):
    assert canonical(decode(encode(value))) == canonical(value)


@settings(max_examples=50, deadline=None)
@given(PLAIN, PLAIN)
def test_update_in_place_gives_the_new_value(old, new):
    assert canonical(update_in_place([old], [new])) == canonical([new])


def canonical(value):
    """Types and exact content, sets in order, nan equal to itself."""
    if isinstance(value, set | frozenset):
        return type(value), sorted(map(repr, value))
    if isinstance(value, list | tuple):
        return type(value), [canonical(item) for item in value]
    if isinstance(value, dict):
        return dict, [(repr(key), canonical(item)) for key, item in value.items()]
    return repr(value)


@pytest.mark.parametrize("value", [object(), len, iter(()), int, Ellipsis, {1: object()}.items()])
def test_what_is_not_plain_data_does_not_cross(value):
    with pytest.raises(NotPlainError):
        encode([value])


def test_depth_is_bounded_so_a_cycle_ends():
    cycle: list = []
    cycle.append(cycle)
    with pytest.raises(TooLargeError):
        encode(cycle)
    nested: list = []
    for _ in range(MAX_DEPTH - 1):
        nested = [nested]
    assert decode(encode(nested)) == nested


@pytest.mark.parametrize(
    "data",
    [
        ["object", 1],
        ["list"],
        ["list", 1],
        ["set", [["list", []]]],
        ["int", "x"],
        [[], []],
        ["dict", [[1]]],
        {"a": 1},
        ["Fraction", ["0x1", "0x0"]],
        ["Decimal", "x"],
        ["range", ["0x0", "0x1", "0x0"]],
        ["bytes", "0"],
    ],
)
def test_forged_data_is_refused(data):
    with pytest.raises(BrokenWireError):
        decode(data)


@pytest.mark.parametrize("frame", [b"\xff" * 8, struct.pack(">I", 1) + b"{", struct.pack(">I", 2) + b"\xff\xff"])
def test_a_broken_frame_is_refused(pipe, frame):
    os.write(pipe[1], frame)
    with pytest.raises(BrokenWireError):
        Channel(*pipe, limit_bytes=1000).receive()


def test_a_message_over_the_limit_is_not_sent(pipe):
    with pytest.raises(TooLargeError):
        Channel(*pipe, limit_bytes=10).send("x" * 10)


def test_an_ended_writer_is_an_end_of_file():
    reader, writer = os.pipe()
    os.write(writer, b"\0\0")
    os.close(writer)
    with pytest.raises(EOFError):
        Channel(reader, writer, limit_bytes=10).receive()
    os.close(reader)
