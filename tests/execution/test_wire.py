import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_collabcode.execution.wire import BrokenWireError, Channel, TooLargeError, read_json, write_json

TEXT = st.text(st.characters(exclude_categories=()) | st.sampled_from("\ud83d\ude00"))  # surrogates as well
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_a_message_and_a_file_are_read_as_they_were_written(content):
    reader, writer = os.pipe()
    channel = Channel(reader, writer, limit_bytes=1 << 20)
    channel.send(content)
    assert repr(channel.receive()) == repr(content)
    os.write(writer, write_json(content))
    os.close(writer)
    assert repr(read_json(reader)) == repr(content)


def test_text_takes_no_more_bytes_than_it_has():
    assert len(write_json("é" * 1000)) == 2002


@pytest.mark.parametrize(
    "frame",
    [b"\xff" * 8, struct.pack(">I", 1) + b"{", struct.pack(">I", 2) + b"\xff\xff", struct.pack(">I", 3) + b'"\xff"'],
)
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
