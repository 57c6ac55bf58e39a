"""Intervals: Clopper-Pearson for counts, percentile bootstrap over items for everything else, differences of rates.

Where several items share a cluster, say the file their prompts stand in, they may rise and fall together: then whole
clusters are resampled too, and the wider end decides.
Not covered: bootstrap over samples of one problem (samples of one problem are not independent; resample problems),
corrections for several thresholds (all must pass, so a false green gets less likely with each).
Sources: Clopper and Pearson 1934; Efron 1979; Newcombe 1998, Statistics in Medicine 17, and Zou and Donner 2008,
Statistics in Medicine 27, for differences from the bounds of their parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.records import Item, Measurement

N_REPLICATES = 2000
BOOTSTRAP_SEED = 20240912
CONFIDENCES = np.linspace(0.5, 1, N_REPLICATES // 2 + 1)
"""Where bounds are computed that are to be stored as replicates, see `as_replicates`."""

Array = NDArray[np.float64]
Bounds = tuple[Array, Array]  # low and high, each one-sided, one for each of some confidences


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
    low, high = exact_bounds(count, n, np.array([confidence]))
    return float(low[0]), float(high[0])


def exact_bounds(count: int, n: int, confidences: Array) -> Bounds:
    """Return Clopper-Pearson's bounds at several confidences.

    Raises:
        EmptyMeasurementError: n is 0.
        ValueError: count is not in 0..n.
    Example:
        >>> [bound.round(4).tolist() for bound in exact_bounds(10, 164, np.array([0.9, 0.95]))]
        [[0.0383, 0.0335], [0.0924, 0.1012]]
    """
    if n == 0:
        raise EmptyMeasurementError("n=0: no trials, so there is no rate")
    if not 0 <= count <= n:
        raise ValueError(f"count={count!r} is not in 0..n={n!r}")
    low = np.zeros(len(confidences)) if count == 0 else betaincinv(count, n - count + 1, 1 - confidences)
    high = np.ones(len(confidences)) if count == n else betaincinv(count + 1, n - count, confidences)
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
    low, high = _quantiles(replicates, np.array([confidence]))
    return float(low[0]), float(high[0])


def interval_of(measurement: Measurement, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the central interval of a measurement; its two ends are one-sided bounds at `confidence`.

    Args:
        measurement: with count and n, with replicates, or with items.
        confidence: of each bound taken alone; 0.95 gives the central 90 % interval.
    Returns:
        (low, high), see `bounds_of`.
    Raises:
        EmptyMeasurementError: there is nothing to compute an interval from.
    Example:
        >>> m = Measurement(name="pass@1", subject="s", value=0.0, count=0, n=100)
        >>> [round(x, 3) for x in interval_of(m)]
        [0.0, 0.03]
    """
    low, high = bounds_of(measurement, np.array([confidence]))
    return float(low[0]), float(high[0])


def bounds_of(measurement: Measurement, confidences: Array) -> Bounds:
    """Return a measurement's one-sided bounds at several confidences.

    Args:
        measurement: with count and n, with replicates, or with items. Items with clusters must add up to its value.
        confidences: of each bound taken alone, in [0.5, 1].
    Returns:
        Clopper-Pearson for counts, otherwise quantiles of the replicates or of a bootstrap over items; where items
        share clusters the wider of that and of a bootstrap over clusters.
    Raises:
        EmptyMeasurementError: there is nothing to compute an interval from.
    Example:
        >>> items = [Item(key=str(i), value=float(i < 9), cluster="x.py" if i < 9 else "") for i in range(20)]
        >>> together = Measurement(name="m", subject="s", value=0.45, count=9, n=20, items=tuple(items))
        >>> alone = replace(together, items=())
        >>> [[bound.round(2).tolist() for bound in bounds_of(m, np.array([0.95]))] for m in (alone, together)]
        [[[0.26], [0.65]], [[0.0], [0.75]]]
    """
    if measurement.count is not None and measurement.n is not None:
        low, high = exact_bounds(measurement.count, measurement.n, confidences)
    else:
        replicates = measurement.replicates or bootstrap(measurement.items, exponential=measurement.exponential)
        low, high = _quantiles(replicates, confidences)
    if n_clusters(measurement.items):
        grouped = [item for item in by_cluster(measurement.items) if item.weight]
        wide = _quantiles(bootstrap(grouped, exponential=measurement.exponential), confidences)
        low, high = np.minimum(low, wide[0]), np.maximum(high, wide[1])
    return low, high


def by_cluster(items: Sequence[Item]) -> list[Item]:
    """Add up the items of each cluster; an item without a cluster stands alone.

    Example:
        >>> items = [Item(key=key, value=1.0, cluster="x.py" * (key < "c")) for key in "abc"]
        >>> [(item.value, item.weight) for item in by_cluster(items)]
        [(2.0, 2.0), (1.0, 1.0)]
    """
    grouped: dict[tuple[str, str], Item] = {}
    for item in items:
        key = (item.cluster, "" if item.cluster else item.key)
        before = grouped.get(key)
        grouped[key] = (
            replace(before, value=before.value + item.value, weight=before.weight + item.weight) if before else item
        )
    return list(grouped.values())


def n_clusters(items: Sequence[Item]) -> int:
    """Return how many clusters there are to resample, or 0 where no two items share one.

    Example:
        >>> pair = [Item(key="a", value=1.0, cluster="x.py"), Item(key="b", value=0.0, cluster="x.py")]
        >>> n_clusters(pair), n_clusters(pair[:1])
        (1, 0)
    """
    named = [item.cluster for item in items if item.cluster]
    return len(items) - len(named) + len(set(named)) if len(set(named)) < len(named) else 0


def with_clusters(measurement: Measurement) -> Measurement:
    """Return the measurement with `clusters:N` in its signature where its interval resamples clusters too.

    Example:
        >>> pair = (Item(key="a", value=1.0, cluster="x.py"), Item(key="b", value=0.0, cluster="x.py"))
        >>> with_clusters(Measurement(name="m", subject="s", value=0.5, items=pair)).signature
        (('clusters', '1'),)
    """
    count = n_clusters(measurement.items)
    if not count or "clusters" in dict(measurement.signature):
        return measurement
    return replace(measurement, signature=(*measurement.signature, ("clusters", str(count))))


def difference_bounds(
    first: Bounds, second: Bounds, *, rates: tuple[float, float], correlation: float = 0.0
) -> Bounds:
    """Return bounds of the difference of two rates from the bounds of each.

    Args:
        first: bounds of the first rate.
        second: bounds of the rate that is subtracted, at the same confidences.
        rates: both, as estimated.
        correlation: of the two estimates; 0 for independent samples.
    Returns:
        Bounds in [-1, 1] at the same confidences.
    Example:
        >>> hits, none = (exact_bounds(k, 100, np.array([0.95])) for k in (10, 0))
        >>> [bound.round(3).tolist() for bound in difference_bounds(hits, none, rates=(0.1, 0.0))]
        [[0.046], [0.164]]

    Source: Zou and Donner 2008.
    """
    one, other = rates
    low = one - other - _joined(one - first[0], second[1] - other, correlation)
    high = one - other + _joined(first[1] - one, other - second[0], correlation)
    return np.maximum(low, -1.0), np.minimum(high, 1.0)


def as_replicates(bounds: Bounds) -> tuple[float, ...]:
    """Return values whose quantiles are given bounds, so that a measurement can carry them to any confidence.

    Args:
        bounds: at CONFIDENCES.
    Example:
        >>> replicates = as_replicates(exact_bounds(10, 164, CONFIDENCES))
        >>> [round(x, 4) for x in quantile_interval(replicates, confidence=0.95)]
        [0.0335, 0.1012]
    """
    low, high = bounds
    return tuple(float(x) for x in np.sort(np.concatenate([low, high[1:]])))


def _joined(one: Array, other: Array, correlation: float) -> Array:
    one, other = np.maximum(one, 0.0), np.maximum(other, 0.0)
    return np.asarray(np.sqrt(np.maximum(one * one + other * other - 2 * correlation * one * other, 0.0)))


def _quantiles(replicates: Sequence[float], confidences: Array) -> Bounds:
    values = np.asarray(replicates, dtype=float)
    return np.quantile(values, 1 - confidences), np.quantile(values, confidences)


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
