"""Tokens are found in the text that they spell, however a server shows parts of characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.backends.spelling import token_places


@given(st.lists(st.text(st.characters(exclude_characters="\ufffd"), min_size=1, max_size=5), min_size=1, max_size=20))
def test_tokens_that_are_pieces_of_the_text_stand_where_they_were_cut(pieces):
    pieces = [piece for piece in pieces if not piece.startswith("bytes:")]
    places = token_places("".join(pieces), pieces)
    assert places == [len("".join(pieces[:number])) for number in range(len(pieces))]


@pytest.mark.parametrize(
    ("text", "tokens", "places"),
    [
        ("def f", ["<s>", "def", " f"], [0, 0, 3]),
        ("def f", ["<s>", "def", "f"], [0, 0, 3]),  # decoded one by one, a word loses its space
        ("a漢b", ["a", "\ufffd", "\ufffd", "\ufffd", "b"], [0, 1, 1, 1, 2]),
        ("a漢b", ["a", "", "", "漢", "b"], [0, 1, 1, 1, 2]),
        ("a漢字", ["a", "bytes:\\xe6\\xbc", "bytes:\\xa2", "字"], [0, 1, 1, 2]),
        ("漢", ["\ufffd", "\ufffd", "\ufffd"], [0, 0, 0]),
        ("漢字", ["\ufffd", "\ufffd", "\ufffd", "\ufffd"], [0, 0, 1, 1]),
    ],
)
def test_parts_of_a_character_begin_where_it_does(text, tokens, places):
    assert token_places(text, tokens) == places


@pytest.mark.parametrize(("text", "tokens"), [("ab", ["a", "c"]), ("ab", ["a"]), ("a b", ["a", "c", "b"])])
def test_tokens_of_another_text_are_refused(text, tokens):
    with pytest.raises(ValueError, match=r"token|text"):
        token_places(text, tokens)
