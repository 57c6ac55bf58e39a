"""Verdicts: Measurement x Threshold -> PASS, FAIL, UNDECIDED or UNMEASURED.

Ceilings: the upper bound must be under the ceiling, else FAIL. Floors: the lower bound above the floor is PASS, the
upper bound under it FAIL, else UNDECIDED with what would decide. Drops: the same rule as floors, on the paired
difference to the baseline; a device without a baseline of its own is never failed by another's.
Not covered: corrections for several thresholds; all must pass, so they only make a false green rarer.
"""

from __future__ import annotations

import math
from dataclasses import replace

from pytest_collabcode.gate.baseline import PairedDrop, measured_on
from pytest_collabcode.intervals import clopper_pearson, interval_of, prompts_needed
from pytest_collabcode.records import Measurement, Ruling, Threshold, Verdict

MAX_MORE = 1_000_000


def judge(measurement: Measurement, threshold: Threshold, drop: PairedDrop | None = None) -> Verdict:
    """Judge one measurement by one threshold.

    Args:
        measurement: what was measured.
        threshold: a threshold that selects it.
        drop: the paired difference to the baseline, for a threshold with max_drop.
    Returns:
        The verdict; NaN is never a PASS. What no baseline of its device is known for is UNDECIDED and does not block.
    Raises:
        EmptyMeasurementError: the measurement has nothing to compute an interval from.
    Example:
        >>> m = Measurement(name="memorization_ratio", subject="s", value=0.0, count=0, n=100,
        ...     higher_is_better=False)
        >>> judge(m, Threshold(id="c", metric="memorization_ratio", at_most=0.05)).outcome
        <Ruling.PASS: 'PASS'>
        >>> judge(m, Threshold(id="c", metric="memorization_ratio", at_most=0.02)).reason
        'to certify <= 0.02 takes 0 hits in 149 prompts'
    """
    low, high = interval_of(measurement, confidence=threshold.confidence)
    rulings: list[tuple[Ruling, str]] = []
    if threshold.at_least is not None:
        rulings.append(_floor(measurement, threshold.at_least, low, high))
    if threshold.at_most is not None:
        rulings.append(_ceiling(measurement, threshold, high))
    unknown = threshold.max_drop is not None and drop is None and measured_on(measurement)
    if unknown and not rulings:
        threshold = replace(threshold, undecided="accept")
        rulings.append((Ruling.UNDECIDED, ""))
    elif threshold.max_drop is not None and not unknown:
        rulings.append(_drop(threshold.max_drop, drop))
    order = (Ruling.FAIL, Ruling.UNMEASURED, Ruling.UNDECIDED, Ruling.PASS)
    outcome = min((ruling for ruling, _ in rulings), key=order.index)
    reasons = [reason for ruling, reason in rulings if reason and (ruling is outcome or outcome is Ruling.PASS)]
    if unknown:
        reasons.append(f"no baseline of {unknown} yet, recorded only; make one with: collabcode accept REPORT.json")
    return Verdict(
        threshold=threshold,
        outcome=outcome,
        subject=measurement.subject,
        measurement=measurement,
        low=low,
        high=high,
        reason="; ".join(reasons),
    )


def unmeasured(threshold: Threshold, subject: str, reason: str) -> Verdict:
    """Return the verdict of a threshold that nothing was measured for.

    Example:
        >>> unmeasured(Threshold(id="a", metric="pass@1"), "s", "no isolation").line()
        'UNMEASURED a pass@1 [s] no isolation'
    """
    return Verdict(threshold=threshold, outcome=Ruling.UNMEASURED, subject=subject, reason=reason)


def _floor(measurement: Measurement, floor: float, low: float, high: float) -> tuple[Ruling, str]:
    if low >= floor:
        return Ruling.PASS, ""
    if high < floor or math.isnan(measurement.value):
        return Ruling.FAIL, ""
    return Ruling.UNDECIDED, _more_to_decide(measurement, floor)


def _ceiling(measurement: Measurement, threshold: Threshold, high: float) -> tuple[Ruling, str]:
    assert threshold.at_most is not None
    if high <= threshold.at_most:
        return Ruling.PASS, ""
    if measurement.count is None or measurement.value > threshold.at_most:
        return Ruling.FAIL, ""
    needed = prompts_needed(threshold.at_most, confidence=threshold.confidence)
    return Ruling.FAIL, f"to certify <= {threshold.at_most:g} takes 0 hits in {needed} prompts"


def _drop(max_drop: float, drop: PairedDrop | None) -> tuple[Ruling, str]:
    if drop is None:
        return Ruling.UNMEASURED, "no baseline of this subject; make one with: collabcode accept REPORT.json"
    if drop.problem:
        return Ruling.UNMEASURED, f"not comparable with the baseline: {drop.problem}"
    text = f"drop {drop.value:.3g} [{drop.low:.3g}, {drop.high:.3g}] over {drop.n} {drop.unit}{drop.detail}"
    if drop.high <= max_drop:
        return Ruling.PASS, text
    return (Ruling.FAIL if drop.low > max_drop else Ruling.UNDECIDED), text


def _more_to_decide(measurement: Measurement, floor: float) -> str:
    """Say how large the sample would have to be, at the observed rate, for the bound to clear the floor."""
    if measurement.count is None or not measurement.n:
        return "the interval holds the floor; more problems would decide"
    rate = measurement.count / measurement.n
    if rate <= floor:
        return "the interval holds the floor and the value is under it"
    n = measurement.n
    while n < MAX_MORE:
        n = math.ceil(n * 1.25)
        if clopper_pearson(int(rate * n), n)[0] >= floor:
            return f"the interval holds the floor; about {n} problems at this rate would decide"
    return "the interval holds the floor"
