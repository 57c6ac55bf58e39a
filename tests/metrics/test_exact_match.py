"""Exact match: a table, and what is refused."""

import pytest

from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.metrics.exact_match import exact_match


@pytest.mark.parametrize(
    "prediction, reference, count",
    [
        ("a = 1", "a = 1", 1),
        ("\n  a = 1 \n", "a = 1", 1),
        ("a  = 1", "a = 1", 0),
        ("A = 1", "a = 1", 0),
        ("", "a", 0),
    ],
)
def test_only_surrounding_white_space_is_forgiven(prediction, reference, count):
    measured = exact_match(["k"], [prediction], [reference], subject="s")
    assert (measured.count, measured.n, measured.value) == (count, 1, count)


def test_no_problems_is_an_error_not_zero():
    with pytest.raises(EmptyMeasurementError):
        exact_match([], [], [], subject="s")


def test_unequal_numbers_are_refused():
    with pytest.raises(ValueError):
        exact_match(["a", "b"], ["x"], ["x"], subject="s")
