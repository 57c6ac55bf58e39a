"""Whether the machine stayed the same while something was timed on it.

Not covered: what slows both the calibration and the work alike; a ratio to a reference in the same run cancels that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pytest_collabcode.errors import MeasurementError

TOLERANCE = 0.15
TRIES = 2

T = TypeVar("T")


def steady(measure: Callable[[], T], rate: Callable[[], float], *, what: str, tolerance: float = TOLERANCE) -> T:
    """Return what was measured between two calibrations that agree; if they do not, measure once more.

    Args:
        measure: does the timing.
        rate: how fast the machine is at something fixed, say matrix products; asked before and after.
        what: for the message.
        tolerance: by how much the larger rate may exceed the smaller.
    Raises:
        MeasurementError: the machine changed its speed both times; nothing was measured.
    Example:
        >>> rates = iter([90.0, 60.0, 62.0])
        >>> steady(lambda: "the second try", lambda: next(rates), what="speed")
        'the second try'
    """
    seen = [rate()]
    for _ in range(TRIES):
        measured = measure()
        seen.append(rate())
        if max(seen[-2:]) <= (1 + tolerance) * min(seen[-2:]):
            return measured
    raise MeasurementError(
        f"{what}: the machine did not keep its speed, matrix products ran at "
        f"{', '.join(f'{r / 1e9:.1f}' for r in seen)} GFLOP/s before, between and after {TRIES} tries, which is more "
        f"than {tolerance * 100:.0f} % apart; run it again while the machine does nothing else"
    )
