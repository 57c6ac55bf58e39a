"""Two callables meet the same machine, and only their own time counts."""

from __future__ import annotations

import pytest

from pytest_collabcode.throughput.clock import PairedTiming, alternate, paired_ratio, stopwatch


class Clock:
    """A clock that only work moves on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, seconds: float) -> None:
        self.calls.append(name)
        self.now += seconds


def test_rounds_alternate_and_swap_who_begins() -> None:
    clock = Clock()
    timing = paired_ratio(lambda: clock.work("a", 1.0), lambda: clock.work("b", 3.0), rounds=3, warmup=1, timer=clock)
    assert "".join(clock.calls) == "ab" + "ab" + "ba" + "ab"
    assert timing.ours_s == (1.0, 1.0, 1.0) and timing.reference_s == (3.0, 3.0, 3.0)
    assert timing.speedup == 3.0


def test_drift_of_the_machine_leaves_the_ratio_alone() -> None:
    clock, slowness = Clock(), [1.0]

    def work(name: str, seconds: float) -> None:
        clock.work(name, seconds * slowness[0])
        slowness[0] *= 1.3  # a machine that gets hotter with every call

    timing = paired_ratio(lambda: work("a", 1.0), lambda: work("b", 2.0), rounds=10, warmup=0, timer=clock)
    assert timing.speedup == pytest.approx(2.0, rel=0.05)
    assert sum(timing.reference_s) > 10 * timing.reference_s[0]


def test_the_warm_up_does_not_count() -> None:
    clock = Clock()
    costs = iter([100.0, 100.0, 1.0, 1.0])
    timing = paired_ratio(
        lambda: clock.work("a", next(costs)), lambda: clock.work("b", next(costs)), rounds=1, warmup=1, timer=clock
    )
    assert timing.ours_s == timing.reference_s == (1.0,)


@pytest.mark.parametrize(("rounds", "cost"), [(0, 1.0), (1, 0.0)])
def test_nothing_measured_is_an_error(rounds: int, cost: float) -> None:
    clock = Clock()
    with pytest.raises(ValueError):
        paired_ratio(
            lambda: clock.work("a", cost), lambda: clock.work("b", cost), rounds=rounds, warmup=0, timer=clock
        )


@pytest.mark.parametrize(("n_calls", "rounds", "order"), [(1, 2, "aa"), (2, 3, "abbaab"), (3, 4, "abcbcacababc")])
def test_each_round_begins_with_the_next_callable(n_calls: int, rounds: int, order: str) -> None:
    clock = Clock()
    calls = [lambda name=name: clock.work(name, 1.0 + "abc".index(name)) for name in "abc"[:n_calls]]  # type: ignore[misc]
    seconds = alternate(calls, rounds=rounds, stopwatch=stopwatch(clock))
    assert "".join(clock.calls) == order
    assert seconds == tuple((1.0 + which,) * rounds for which in range(n_calls))


def test_the_speedup_is_the_median_of_pairs() -> None:
    timing = PairedTiming(ours_s=(1.0, 1.0, 100.0), reference_s=(2.0, 2.0, 2.0), timer="t")
    assert timing.speedup == 2.0
