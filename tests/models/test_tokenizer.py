"""Our own byte-level BPE gives every text back."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from pytest_collabcode.errors import CorpusError
from pytest_collabcode.models.tokenizer import train_tokenizer

TEXTS = [Path(__file__).read_text(encoding="utf-8"), "def f(x):\n    return x\n" * 5, "äöü ☃ \x00\t\r\n" * 3]
TOKENIZER = train_tokenizer(TEXTS, vocabulary_size=500)


@settings(max_examples=200)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_every_text_comes_back_exactly(text: str) -> None:
    ids = TOKENIZER(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert TOKENIZER.decode(ids) == text
    assert 0 not in ids


def test_a_separator_written_out_in_a_text_is_ordinary_text() -> None:
    assert 0 not in TOKENIZER("a <|endoftext|> b", split_special_tokens=True)["input_ids"]
    assert TOKENIZER("<|endoftext|>")["input_ids"] == [0]


def vocabulary(tokenizer):
    return tokenizer.backend_tokenizer.to_str()


def test_the_order_of_texts_does_not_matter() -> None:
    again = train_tokenizer(reversed(TEXTS), vocabulary_size=500)
    assert vocabulary(again) == vocabulary(TOKENIZER)


def test_transformers_finds_it_again(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    found = AutoTokenizer.from_pretrained(str(tmp_path), local_files_only=True)
    assert vocabulary(found) == vocabulary(TOKENIZER)
    assert (found.eos_token_id, found.pad_token_id, len(found)) == (0, 0, len(TOKENIZER))
    assert found.decode(found.encode(TEXTS[0])) == TEXTS[0]


def test_nothing_to_train_on() -> None:
    with pytest.raises(CorpusError):
        train_tokenizer(["", ""], vocabulary_size=500)


def test_a_vocabulary_too_small_for_all_bytes() -> None:
    with pytest.raises(ValueError, match="256"):
        train_tokenizer(TEXTS, vocabulary_size=256)
