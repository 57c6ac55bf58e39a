"""Duplicates: exact ones ignore white space only; near ones are those whose word sets really overlap enough."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.corpus.deduplicate import NEAR_JACCARD, deduplicate, jaccard, words_of
from pytest_collabcode.records import Document


def documents(*texts: str) -> list[Document]:
    return [Document(path=f"{n:03}.py", text=text, organization="acme") for n, text in enumerate(texts)]


def vocabulary(n_words: int, n_changed: int = 0, tag: str = "a") -> str:
    """Words w0 w1 ..., the first n_changed of them replaced by words of their own."""
    return " ".join([f"{tag}{n}" for n in range(n_changed)] + [f"w{n}" for n in range(n_changed, n_words)])


@pytest.mark.parametrize(
    ("other", "is_copy"),
    [("a=1\nb=2", True), ("a = 1\r\n\n\tb = 2\x0c", True), ("a = 1\nb = 3\n", False), ("A = 1\nb = 2\n", False)],
)
def test_exact_copies_ignore_white_space_and_nothing_else(other: str, is_copy: bool) -> None:
    found = deduplicate(documents("a = 1\nb = 2\n", other))
    assert found.exact_ratio == (0.5 if is_copy else 0.0)
    assert len(found.kept) == 2 - is_copy


@pytest.mark.parametrize(("n_changed", "is_near"), [(0, True), (8, True), (9, False), (50, False)])
def test_near_copies_begin_at_the_threshold(n_changed: int, is_near: bool) -> None:
    # 100 words each, n changed: Jaccard (100 - n) / (100 + n), 0.852 for 8 and 0.835 for 9.
    found = deduplicate(documents(vocabulary(100), vocabulary(100, n_changed) + " +"))
    assert found.near_ratio == (0.5 if is_near else 0.0)


@pytest.mark.parametrize("remove", [False, True])
def test_near_copies_are_removed_only_on_request_and_always_counted(remove: bool) -> None:
    found = deduplicate(documents(vocabulary(100), vocabulary(100, 2)), remove_near_duplicates=remove)
    assert (len(found.kept), found.near_ratio) == (2 - remove, 0.5)


def test_short_files_are_no_near_copies() -> None:
    assert deduplicate(documents("a b c", "b c a")).near_ratio == 0.0


def test_an_exact_copy_is_not_counted_as_near_too() -> None:
    found = deduplicate(documents(vocabulary(50), vocabulary(50) + "\n"))
    assert (found.exact_ratio, found.near_ratio) == (0.5, 0.0)


def test_nothing_to_deduplicate_raises() -> None:
    with pytest.raises(ValueError, match="empty"):
        deduplicate([])


def test_lsh_misses_hardly_any_pair_that_brute_force_finds() -> None:
    generator = random.Random(1)
    texts = []
    for group in range(60):
        words = [f"g{group}_{n}" for n in range(120)]
        for _ in range(2):
            changed = generator.sample(range(120), generator.randint(2, 6))
            texts.append(
                " ".join(f"x{generator.getrandbits(64)}" if n in changed else w for n, w in enumerate(words))
            )
    found = deduplicate(documents(*texts))
    sets = [words_of(text) for text in texts]
    brute = {(b, a) for a, b in combinations(range(len(texts)), 2) if jaccard(sets[a], sets[b]) >= NEAR_JACCARD}
    pairs = {(int(copy.path[:3]), int(original.path[:3])) for copy, original in found.near}
    assert pairs <= brute and len(brute) > 20
    assert len(pairs) >= 0.95 * len(brute)


@given(
    st.lists(st.sampled_from(["a", " a", "b", "b\n", vocabulary(20), vocabulary(20, 1)]), min_size=1), st.randoms()
)
def test_the_result_does_not_depend_on_the_order(texts: list[str], generator: random.Random) -> None:
    ordered = documents(*texts)
    shuffled = ordered[:]
    generator.shuffle(shuffled)
    assert deduplicate(ordered) == deduplicate(shuffled)


@given(st.lists(st.text(alphabet="ab \n", max_size=4), min_size=1))
def test_deduplicating_twice_changes_nothing(texts: list[str]) -> None:
    kept = deduplicate(documents(*texts)).kept
    assert deduplicate(kept).kept == kept
