"""The split: exact shares, decided by the seed alone, hardly moved by further files."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.corpus.split import split_documents
from pytest_collabcode.records import Document


def documents(n: int) -> list[Document]:
    return [Document(path=f"{number}.py", text="", organization="acme") for number in range(n)]


def heldout(files: list[Document], seed: int = 1, ratio: float = 0.2) -> set[str]:
    return {d.path for d in split_documents(files, seed=seed, heldout_ratio=ratio) if d.split == "heldout"}


@pytest.mark.parametrize(
    ("n", "ratio", "expected"), [(2, 0.2, 1), (2, 0.9, 1), (5, 0.2, 1), (100, 0.2, 20), (99, 0.2, 20), (10, 0.5, 5)]
)
def test_the_share_is_exact_and_neither_side_is_empty(n: int, ratio: float, expected: int) -> None:
    assert len(heldout(documents(n), ratio=ratio)) == expected


@given(st.integers(2, 60), st.randoms())
def test_the_order_of_documents_does_not_matter(n: int, generator: random.Random) -> None:
    shuffled = documents(n)
    generator.shuffle(shuffled)
    assert heldout(shuffled) == heldout(documents(n))


@given(st.integers(2, 200))
def test_one_further_file_moves_at_most_one_other(n: int) -> None:
    before, after = heldout(documents(n)), heldout(documents(n + 1)) - {f"{n}.py"}
    assert len(before ^ after) <= 1


def test_another_seed_holds_out_others() -> None:
    assert heldout(documents(100), seed=1) != heldout(documents(100), seed=2)


def test_a_single_document_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        split_documents(documents(1), seed=1, heldout_ratio=0.2)
