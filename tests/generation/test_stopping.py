"""A completion ends where it should, and its text is never cut inside a character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from pytest_collabcode.generation.stopping import Stopper

EOS = 0
ALPHABET = "\n dfclasé漢🎉x`#"


def grow(stopper: Stopper, ids: list[int]) -> tuple[str, int]:
    """Feed tokens one by one; return the reason and how many were needed."""
    for n in range(1, len(ids) + 1):
        reason = stopper.reason(ids[:n])
        if reason:
            return reason, n
    return "", len(ids)


@given(st.text(ALPHABET, max_size=60), st.text(ALPHABET, min_size=1, max_size=6))
def test_a_stop_string_is_found_at_its_last_token_and_cut_before_its_first(
    tokenizer: PreTrainedTokenizerFast, text: str, stop: str
) -> None:
    ids = tokenizer(text).input_ids
    stopper = Stopper(tokenizer, [stop], [EOS])
    reason, n = grow(stopper, ids)
    assert reason == ("stop" if stop in text else "")
    assert stopper.text([], ids[:n]) == text.split(stop)[0]
    if reason:
        assert stop not in tokenizer.decode(ids[: n - 1])


@pytest.mark.parametrize("text", ["a漢", "🎉", "xé"])
def test_half_a_character_at_the_end_is_left_out(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = [i for byte in text.encode() for i in _byte_ids(tokenizer, byte)]
    stopper = Stopper(tokenizer, [], [EOS])
    assert stopper.text([], ids) == text
    assert stopper.text([], ids[:-1]) == text[:-1]


def test_a_character_spread_over_tokens_does_not_hide_a_stop(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = [i for byte in "a🎉\n#".encode() for i in _byte_ids(tokenizer, byte)]
    assert grow(Stopper(tokenizer, ["🎉\n"], [EOS]), ids) == ("stop", 6)


def test_a_stop_in_the_prompt_does_not_count(tokenizer: PreTrainedTokenizerFast) -> None:
    prompt, ids = tokenizer("x\nclass").input_ids, tokenizer(" B").input_ids
    stopper = Stopper(tokenizer, ["\nclass"], [EOS])
    assert grow(stopper, ids) == ("", len(ids))
    assert stopper.text(prompt, ids) == " B"


def test_end_of_text_is_cut_and_a_special_token_inside_is_kept(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = [*tokenizer("x").input_ids, EOS]
    stopper = Stopper(tokenizer, [], [EOS])
    assert grow(stopper, ids) == ("eos", 2)
    assert stopper.text([], ids) == "x"
    assert Stopper(tokenizer, [], [999]).text([], ids) == "x<eos>"


def test_what_an_encoder_decoder_writes_stands_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = [EOS, *tokenizer("x").input_ids, EOS]  # the first one is a start token that was written again
    stopper = Stopper(tokenizer, [], [999], continues=False)
    assert stopper.text(tokenizer("def").input_ids, ids) == "x"


def test_spaces_before_punctuation_stay(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "a , b . c 's ' x ' !"
    assert Stopper(tokenizer, [], []).text([], tokenizer(text).input_ids) == text


def test_only_the_tail_is_decoded(tokenizer: PreTrainedTokenizerFast) -> None:
    decoded: list[int] = []

    class Counting:
        def decode(self, ids: list[int], **options: bool) -> str:
            decoded.append(len(ids))
            return str(tokenizer.decode(ids, **options))

    stopper = Stopper(Counting(), ["\n#"], [EOS])
    ids = tokenizer("# x\n" * 300).input_ids
    for n in range(1, len(ids) + 1):
        stopper.reason(ids[:n])
    assert max(decoded) <= 8


def _byte_ids(tokenizer: PreTrainedTokenizerFast, byte: int) -> list[int]:
    """The token of a single byte in a byte-level vocabulary."""
    vocabulary = tokenizer.get_vocab()
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letter = chr(byte) if byte in kept else chr(256 + [b for b in range(256) if b not in kept].index(byte))
    return [vocabulary[letter]]
