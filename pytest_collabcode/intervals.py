"""Intervals: Clopper-Pearson for counts, percentile bootstrap over items for everything else.

Not covered: bootstrap over samples of one problem (samples of one problem are not independent; resample problems),
corrections for several thresholds (all must pass, so a false green gets less likely with each).
Sources: Clopper and Pearson 1934; Efron 1979.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import betaincinv

from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.records import Item, Measurement

N_REPLICATES = 2000
BOOTSTRAP_SEED = 20240912


def clopper_pearson(count: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a binomial rate; each end is a one-sided bound at `confidence`.

    Args:
        count: successes, 0 <= count <= n.
        n: trials, >= 1.
        confidence: of each bound taken alone.
    Returns:
        (low, high), ratios in [0, 1].
    Raises:
        EmptyMeasurementError: n is 0.
        ValueError: count is not in 0..n.
    Example:
        >>> [round(x, 4) for x in clopper_pearson(10, 164)]
        [0.0335, 0.1012]
        >>> round(clopper_pearson(0, 299)[1], 3)
        0.01

    Source: Clopper and Pearson 1934, through the beta distribution of scipy.
    """
    if n == 0:
        raise EmptyMeasurementError("n=0: no trials, so there is no rate")
    if not 0 <= count <= n:
        raise ValueError(f"count={count!r} is not in 0..n={n!r}")
    low = 0.0 if count == 0 else float(betaincinv(count, n - count + 1, 1 - confidence))
    high = 1.0 if count == n else float(betaincinv(count + 1, n - count, confidence))
    return low, high


def prompts_needed(ceiling: float, *, confidence: float = 0.95) -> int:
    """Return how many prompts with no hit certify a ceiling.

    Args:
        ceiling: ratio in (0, 1).
        confidence: of the one-sided bound.
    Returns:
        The smallest n whose upper bound at 0 hits is at most the ceiling.
    Example:
        >>> prompts_needed(0.01), prompts_needed(0.001), prompts_needed(0.05)
        (299, 2995, 59)
    """
    if not 0 < ceiling < 1:
        raise ValueError(f"ceiling={ceiling!r} is not between 0 and 1")
    return math.ceil(math.log(1 - confidence) / math.log(1 - ceiling))


def bootstrap(items: Sequence[Item], *, exponential: bool = False) -> tuple[float, ...]:
    """Resample items with replacement and aggregate each replicate.

    Args:
        items: numerators and denominators, one per problem or document.
        exponential: return exp of the ratio, as perplexity wants.
    Returns:
        N_REPLICATES sorted values; the same items always give the same values.
    Raises:
        EmptyMeasurementError: there are no items.
    Example:
        >>> r = bootstrap([Item(key="a", value=1.0), Item(key="b", value=3.0)])
        >>> (r[0], r[-1], len(r))
        (1.0, 3.0, 2000)

    Source: Efron 1979; the percentile form.
    """
    if not items:
        raise EmptyMeasurementError("no items to resample")
    values = np.array([i.value for i in items])
    weights = np.array([i.weight for i in items])
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    counts = rng.multinomial(len(items), np.full(len(items), 1 / len(items)), size=N_REPLICATES)
    ratios = (counts @ values) / (counts @ weights)  # (N_REPLICATES,)
    return tuple(float(x) for x in np.sort(np.exp(ratios) if exponential else ratios))


def quantile_interval(replicates: Sequence[float], *, confidence: float) -> tuple[float, float]:
    """Return the (1 - confidence, confidence) quantiles of bootstrap replicates.

    Example:
        >>> [round(x, 6) for x in quantile_interval(range(101), confidence=0.95)]
        [5.0, 95.0]
    """
    low, high = np.quantile(np.asarray(replicates, dtype=float), [1 - confidence, confidence])
    return float(low), float(high)


def interval_of(measurement: Measurement, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the central interval of a measurement; its two ends are one-sided bounds at `confidence`.

    Args:
        measurement: with count and n, with replicates, or with items.
        confidence: of each bound taken alone; 0.95 gives the central 90 % interval.
    Returns:
        (low, high); Clopper-Pearson for counts, otherwise percentile bootstrap over items.
    Raises:
        EmptyMeasurementError: there is nothing to compute an interval from.
    Example:
        >>> m = Measurement(name="pass@1", subject="s", value=0.0, count=0, n=100)
        >>> [round(x, 3) for x in interval_of(m)]
        [0.0, 0.03]
    """
    if measurement.count is not None and measurement.n is not None:
        return clopper_pearson(measurement.count, measurement.n, confidence=confidence)
    replicates = measurement.replicates or bootstrap(measurement.items, exponential=measurement.exponential)
    return quantile_interval(replicates, confidence=confidence)


def mcnemar(worse: int, better: int) -> float:
    """Return the exact one-sided p-value that paired outcomes got worse.

    Args:
        worse: problems that passed before and fail now.
        better: problems that failed before and pass now.
    Returns:
        P(at least `worse` of the discordant problems are worse | both directions equally likely).
    Example:
        >>> mcnemar(0, 0), mcnemar(5, 0)
        (1.0, 0.03125)

    Source: McNemar 1947, the exact binomial form.
    """
    n = worse + better
    return sum(math.comb(n, k) for k in range(worse, n + 1)) / float(2**n)
