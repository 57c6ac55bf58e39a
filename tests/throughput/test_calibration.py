"""Nothing counts that was measured while the machine changed its speed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.throughput.calibration import steady


def script(*rates: float) -> tuple[Callable[[], int], Callable[[], float], list[str]]:
    """A machine of these rates; what is measured is which try it was."""
    calls: list[str] = []
    left = iter(rates)

    def rate() -> float:
        calls.append("rate")
        return next(left)

    def measure() -> int:
        calls.append("measure")
        return calls.count("measure")

    return measure, rate, calls


@pytest.mark.parametrize(
    ("rates", "taken"),
    [
        ((100.0, 100.0), 1),
        ((100.0, 87.0), 1),  # 14.9 % more than the smaller
        ((87.0, 100.0), 1),
        ((100.0, 86.9, 87.0), 2),  # 15.1 %
        ((100.0, 60.0, 60.0), 2),  # slower from then on: the second try was even
        ((60.0, 100.0, 99.0), 2),
    ],
)
def test_a_try_counts_when_both_sides_agree(rates: tuple[float, ...], taken: int) -> None:
    measure, rate, calls = script(*rates)
    assert steady(measure, rate, what="speed of s") == taken
    assert calls == ["rate"] + ["measure", "rate"] * taken


def test_two_uneven_tries_are_void_and_there_is_no_third() -> None:
    measure, rate, calls = script(90e9, 60e9, 90e9, 90e9)
    with pytest.raises(MeasurementError, match=r"speed of s: .* 90\.0, 60\.0, 90\.0 GFLOP/s .*more than 15 % apart"):
        steady(measure, rate, what="speed of s")
    assert calls.count("measure") == 2


def test_what_measuring_raises_is_not_tried_again() -> None:
    calls = []

    def broken() -> None:
        calls.append(1)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        steady(broken, lambda: 1.0, what="s")
    assert calls == [1]
