"""MinHash: signatures are those of sets, and proposals come as often as the formula says."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.minhash import Banding, jaccard

SMALL = Banding(permutations=16, bands=4, rows=4)
sets = st.sets(st.binary(max_size=3))


@pytest.mark.parametrize("shared", [30, 50, 70, 90])  # of 100 elements in the union: Jaccard shared / 100
def test_pairs_are_proposed_as_often_as_the_formula_says(shared: int) -> None:
    generator, n_pairs = random.Random(shared), 500
    proposed = 0
    for _ in range(n_pairs):
        elements = [generator.randbytes(8) for _ in range(100)]
        left, right = elements[:shared], elements[:shared]
        for n, element in enumerate(elements[shared:]):
            (left, right)[n % 2].append(element)
        index = SMALL.index()
        one, other = SMALL.signatures([left, right])
        index.insert(0, one)
        proposed += bool(index.query(other))
    expected = SMALL.probability(shared / 100)
    deviation = (expected * (1 - expected) / n_pairs) ** 0.5
    assert abs(proposed / n_pairs - expected) <= 4 * deviation


@given(sets, st.randoms())
def test_a_signature_is_that_of_a_set(elements: set[bytes], generator: random.Random) -> None:
    shuffled = sorted(elements) + sorted(elements)
    generator.shuffle(shuffled)
    one, other = SMALL.signatures([sorted(elements), shuffled])
    assert one == other


@given(st.lists(st.lists(st.binary(max_size=3), max_size=4), max_size=5))
def test_a_growing_signature_is_that_of_all_parts_so_far(parts: list[list[bytes]]) -> None:
    wholes = SMALL.signatures([element for part in parts[: n + 1] for element in part] for n in range(len(parts)))
    for whole, so_far in zip(wholes, SMALL.growing(parts), strict=True):
        assert whole == so_far


def test_bands_take_no_more_permutations_than_there_are() -> None:
    with pytest.raises(ValueError, match="bands=5 of rows=4"):
        Banding(permutations=16, bands=5, rows=4)


@given(sets, sets)
def test_jaccard_is_symmetric_and_1_for_equal_sets_only(left: set[bytes], right: set[bytes]) -> None:
    assert jaccard(left, right) == jaccard(right, left)
    assert 0 <= jaccard(left, right) <= 1
    assert (jaccard(left, right) == 1) is (left == right)
