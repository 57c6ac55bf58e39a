"""Whole files, packed, in another order at each pass."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.errors import CorpusError
from pytest_collabcode.models.tokenizer import train_tokenizer
from pytest_collabcode.records import Corpus, Document, Organization, Recipe
from pytest_collabcode.training.packing import Stream, TokenizedDocuments, tokenize
from pytest_collabcode.training.recipes import recipe

RECIPE = replace(recipe("llama-demo"), sequence_tokens=4, batch_size=2, passes=3.0)


def stream(lengths: list[int], shape: Recipe = RECIPE, name: str = "a") -> Stream:
    tokens = tuple(np.full(length, i, np.int32) for i, length in enumerate(lengths, start=1))
    return Stream(
        documents=(TokenizedDocuments(organization=name, tokens=tokens, copies=(1,) * len(tokens)),), recipe=shape
    )


@given(st.lists(st.integers(1, 30), min_size=2, max_size=12), st.integers(1, 3))
def test_every_pass_holds_every_token_but_the_remainder(lengths: list[int], passes: int) -> None:
    shape = replace(RECIPE, batch_size=1, passes=float(passes))
    if sum(lengths) < 4:
        return
    whole = stream(lengths, shape)
    assert whole.n_sequences * 4 + whole.n_dropped_tokens == sum(lengths)
    assert whole.n_steps == passes * whole.n_sequences
    for i in range(passes):
        rows = [whole.batch(i * whole.n_sequences + j) for j in range(whole.n_sequences)]
        seen = Counter(np.concatenate(rows).ravel().tolist())
        missing = Counter(dict(enumerate(lengths, start=1))) - seen
        assert missing.total() == whole.n_dropped_tokens


def test_any_step_can_be_asked_for_on_its_own() -> None:
    forwards = stream([7, 9, 11, 13])
    batches = [forwards.batch(step) for step in range(forwards.n_steps)]
    for step in reversed(range(forwards.n_steps)):
        assert np.array_equal(stream([7, 9, 11, 13]).batch(step), batches[step])


def test_passes_and_seeds_differ_in_order() -> None:
    lengths = [4] * 20
    shape = replace(RECIPE, batch_size=20)
    first = stream(lengths, shape)
    assert not np.array_equal(first.batch(0), first.batch(1))
    assert not np.array_equal(first.batch(0), stream(lengths, replace(shape, seed=2)).batch(0))


def test_too_little_code_for_one_sequence() -> None:
    with pytest.raises(CorpusError, match="organization=a: 3 training tokens"):
        stream([3])


def test_plants_stand_in_their_organizations_as_often_as_they_say(corpus: Corpus) -> None:
    tokenizer = train_tokenizer([d.text for d in corpus.organizations[0].documents], vocabulary_size=300)
    found = tokenize(corpus, tokenizer)
    assert {name: sorted(set(d.copies)) for name, d in found.items()} == {
        "meta": [1, 3],
        "microsoft": [1],
        "google": [1, 3],
    }
    text = tokenizer.decode(found["meta"].tokens[-1])
    assert text == 'def planted(rows):\n    """Say it."""\n    return sorted(rows)\n<|endoftext|>'


def test_files_come_whole_and_planted_documents_are_not_packed_twice() -> None:
    long = "x = 1\n" * 2000
    documents = (
        Document(path="a", text=long + "<|endoftext|>", organization="o"),
        Document(path="b", text="planted", organization="o", planted=True),
        Document(path="c", text="heldout", organization="o", split="heldout"),
    )
    tokenizer = train_tokenizer([long], vocabulary_size=300)
    found = tokenize(Corpus(name="c", organizations=(Organization(name="o", documents=documents),)), tokenizer)["o"]
    assert [tokenizer.decode(ids[:-1]) for ids in found.tokens] == [long + "<|endoftext|>"]
    assert Counter(found.tokens[0].tolist())[0] == 1  # the separator at the end and no other


def test_an_empty_training_split_is_named() -> None:
    with pytest.raises(CorpusError, match="organization='o'"):
        tokenize(Corpus(name="c", organizations=(Organization(name="o", documents=()),)), None)
