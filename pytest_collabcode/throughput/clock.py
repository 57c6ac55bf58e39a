"""Timing callables against each other: in turn, paired, each by a stopwatch that fits the device.

Not covered: kernels of microseconds (use triton's do_bench), means (one slow round would decide).
Sources: flashinfer-bench issue 195 and pytorch PR 75393 for what a missing synchronize costs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Timer = Callable[[], float]
"""Seconds, from any start."""

Stopwatch = Callable[[Callable[[], Any]], float]
"""Calls, and returns the seconds that took; models/probes has the one of a device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTiming:
    """Seconds of ours and of the reference, round by round."""

    ours_s: tuple[float, ...]
    reference_s: tuple[float, ...]
    timer: str  # name of the clock

    @property
    def speedups(self) -> tuple[float, ...]:
        """Reference over ours in each round; above 1 ours is faster."""
        return tuple(reference / ours for ours, reference in zip(self.ours_s, self.reference_s, strict=True))

    @property
    def speedup(self) -> float:
        """Median of the rounds' speedups.

        Example:
            >>> PairedTiming(ours_s=(1.0, 1.0, 2.0), reference_s=(3.0, 2.0, 2.0), timer="t").speedup
            2.0
        """
        return statistics.median(self.speedups)


def paired_ratio(
    ours: Callable[[], Any],
    reference: Callable[[], Any],
    *,
    rounds: int,
    warmup: int,
    timer: Timer = time.process_time,
) -> PairedTiming:
    """Time two callables in alternation, so that drift of the machine meets both alike.

    Args:
        ours: called without arguments; its result is dropped.
        reference: does the same work.
        rounds: pairs that count, at least 1; even rounds begin with ours, odd ones with the reference.
        warmup: pairs before, not timed.
        timer: seconds; CPU time by default.
    Raises:
        ValueError: rounds < 1, or a callable took no measurable time.
    Example:
        >>> clock = iter([0.0, 1.0, 1.0, 3.0])
        >>> paired_ratio(int, int, rounds=1, warmup=0, timer=lambda: next(clock)).speedup
        2.0
    """
    for _ in range(warmup):
        ours()
        reference()
    watch = stopwatch(timer)
    ours_s, reference_s = alternate((ours, reference), rounds=rounds, stopwatch=watch)
    return PairedTiming(ours_s=ours_s, reference_s=reference_s, timer=watch.__name__)


def alternate(
    calls: Sequence[Callable[[], Any]], *, rounds: int, stopwatch: Stopwatch
) -> tuple[tuple[float, ...], ...]:
    """Time callables in turn, each round beginning with the next of them.

    Args:
        calls: at least one; their results are dropped.
        rounds: at least 1.
        stopwatch: of the device.
    Returns:
        For each callable its seconds, round by round.
    Raises:
        ValueError: rounds < 1, or a callable took no measurable time.
    Example:
        >>> order = []
        >>> calls = [lambda: order.append("a"), lambda: order.append("b"), lambda: order.append("c")]
        >>> alternate(calls, rounds=2, stopwatch=lambda call: call() or 1.0)
        ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0))
        >>> "".join(order)
        'abcbca'
    """
    if rounds < 1:
        raise ValueError(f"rounds={rounds!r} must be at least 1")
    times: list[list[float]] = [[] for _ in calls]
    for number in range(rounds):
        for place in range(len(calls)):
            which = (number + place) % len(calls)
            seconds = stopwatch(calls[which])
            if seconds <= 0:
                raise ValueError(f"{calls[which]!r} took {seconds!r} s by this clock: give it more work")
            times[which].append(seconds)
    return tuple(map(tuple, times))


def stopwatch(timer: Timer) -> Stopwatch:
    """Return the stopwatch of a clock, of the same name.

    Example:
        >>> clock = iter([3.0, 5.0])
        >>> stopwatch(lambda: next(clock))(int), stopwatch(time.process_time).__name__
        (2.0, 'process_time')
    """

    def seconds(call: Callable[[], Any]) -> float:
        began = timer()
        call()
        return timer() - began

    seconds.__name__ = getattr(timer, "__name__", "timer")
    return seconds
