"""Timing two callables against each other: alternating, paired, in CPU time or between synchronized GPU edges.

Not covered: kernels of microseconds (use triton's do_bench), means (one slow round would decide).
Sources: flashinfer-bench issue 195 and pytorch PR 75393 for what a missing synchronize costs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Timer = Callable[[], float]


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
        timer: seconds; CPU time by default, `synchronized(...)` for a GPU.
    Raises:
        ValueError: rounds < 1, or a callable took no measurable time.
    Example:
        >>> clock = iter([0.0, 1.0, 1.0, 3.0])
        >>> paired_ratio(int, int, rounds=1, warmup=0, timer=lambda: next(clock)).speedup
        2.0
    """
    if rounds < 1:
        raise ValueError(f"rounds={rounds!r} must be at least 1")
    for _ in range(warmup):
        ours()
        reference()
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for which in ((0, 1), (1, 0))[number % 2]:
            times[which].append(_seconds((ours, reference)[which], timer))
    return PairedTiming(
        ours_s=tuple(times[0]), reference_s=tuple(times[1]), timer=getattr(timer, "__name__", "timer")
    )


def synchronized(synchronize: Callable[[], Any], *, timer: Timer = time.perf_counter) -> Timer:
    """Return a clock that first waits for the device, so that queued work is inside the time.

    Args:
        synchronize: torch.cuda.synchronize for a GPU; called at the edges only, never inside a step.
        timer: wall clock in seconds.
    Example:
        >>> waits = []
        >>> clock = synchronized(lambda: waits.append(1), timer=lambda: 7.0)
        >>> clock(), len(waits), clock.__name__
        (7.0, 1, 'synchronized')
    """

    def read() -> float:
        synchronize()
        return timer()

    read.__name__ = "synchronized"
    return read


def _seconds(call: Callable[[], Any], timer: Timer) -> float:
    began = timer()
    call()
    seconds = timer() - began
    if seconds <= 0:
        raise ValueError(f"{call!r} took {seconds!r} s by this clock: give it more work")
    return seconds
