"""Edit similarity against rapidfuzz's numbers and the plain table of edit distances."""

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.metrics.edit_similarity import edit_similarity, levenshtein_ratio

texts = st.text(alphabet="ab c\n(é🙂", max_size=20)


@pytest.mark.parametrize(
    "first, second, golden",  # rapidfuzz 3.14.6, fuzz.ratio / 100
    [
        ("Hello world!", "Holly grail!", 0.583333),
        ("Brian", "Jesus", 0.0),
        ("return a + b", "return a - b", 0.916667),
        ("kitten", "sitting", 0.615385),
        ("naïve 🙂", "naive", 0.666667),
        ("abc", "", 0.0),
        ("for i in range(n):", "for item in range(len(n)):", 0.818182),
    ],
)
def test_the_ratio_is_rapidfuzz_ratio(first, second, golden):
    assert levenshtein_ratio(first, second) == pytest.approx(golden, abs=1e-6)


@given(texts, texts)
def test_the_ratio_is_that_of_the_plain_table(first, second):
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        above, row = row, [i]
        for j, b in enumerate(second, start=1):
            row.append(above[j - 1] if a == b else 1 + min(above[j], row[-1]))
    size = len(first) + len(second)
    expected = (size - row[-1]) / size if size else 1.0
    assert levenshtein_ratio(first, second) == pytest.approx(expected)


@given(texts, texts)
def test_the_ratio_is_symmetric_and_1_for_equal_texts_only(first, second):
    ratio = levenshtein_ratio(first, second)
    assert ratio == levenshtein_ratio(second, first)
    assert (ratio == 1.0) == (first == second)


def test_difflib_is_another_number():
    assert levenshtein_ratio("tide", "diet") == 0.5
    assert difflib.SequenceMatcher(None, "tide", "diet").ratio() == 0.25


def test_the_measurement_is_the_mean_of_stripped_texts():
    measured = edit_similarity(["a", "b"], [" kitten\n", "x"], ["sitting", "x"], subject="s")
    assert measured.value == pytest.approx((0.615385 + 1) / 2, abs=1e-6)
    assert [i.key for i in measured.items] == ["a", "b"]


def test_no_problems_is_an_error_not_zero():
    with pytest.raises(EmptyMeasurementError):
        edit_similarity([], [], [], subject="s")
