"""Mean reciprocal rank over a pool of fixed size, and how many times better than chance it is.

The number depends on the pool, so the pool's size is part of the name and chance is computed for it.
Not covered: several right answers per query, recall at k.
Source: Voorhees 1999; CodeSearchNet, arXiv 1909.09436, for the fixed pool.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.records import Item, Measurement, Signature


def chance_mrr(pool: int) -> float:
    """Return the mean reciprocal rank of a random order: the harmonic number H(pool) over pool.

    Raises:
        ValueError: pool is below 1.
    Example:
        >>> round(chance_mrr(200), 5), chance_mrr(1)
        (0.02939, 1.0)

    """
    if pool < 1:
        raise ValueError(f"pool={pool!r} is below 1")
    return sum(1 / rank for rank in range(1, pool + 1)) / pool


def mrr(
    keys: Sequence[str], ranks: Sequence[int], *, pool: int, subject: str, signature: Signature = ()
) -> Measurement:
    """Return the mean of 1/rank.

    Args:
        keys: of the queries.
        ranks: 1-based rank of each query's right answer, shape (queries,), each in 1..pool.
        pool: candidates ranked for each query, the right one included.
        subject: name of the model.
        signature: how the ranks were got.
    Returns:
        Measurement "mrr@pool=<pool>", a ratio, one item per query.
    Raises:
        EmptyMeasurementError: there are no queries.
        ValueError: a rank is not in 1..pool, or keys and ranks differ in length.
    Example:
        >>> m = mrr(["a", "b"], [1, 4], pool=200, subject="s")
        >>> m.name, m.value
        ('mrr@pool=200', 0.625)

    """
    items = _reciprocal(keys, ranks, pool, scale=1.0)
    return Measurement(name=f"mrr@pool={pool}", subject=subject, value=_mean(items), items=items, signature=signature)


def mrr_over_chance(
    keys: Sequence[str], ranks: Sequence[int], *, pool: int, subject: str, signature: Signature = ()
) -> Measurement:
    """Return the mean of 1/rank as a multiple of what a random order would score.

    Args:
        keys: of the queries.
        ranks: 1-based rank of each query's right answer, shape (queries,), each in 1..pool.
        pool: candidates ranked for each query, the right one included.
        subject: name of the model.
        signature: how the ranks were got.
    Returns:
        Measurement "mrr_over_chance@pool=<pool>", unit "x", one item per query.
    Raises:
        EmptyMeasurementError: there are no queries.
        ValueError: a rank is not in 1..pool, or keys and ranks differ in length.
    Example:
        >>> round(mrr_over_chance(["a"], [1], pool=200, subject="s").value, 1)
        34.0

    """
    items = _reciprocal(keys, ranks, pool, scale=1 / chance_mrr(pool))
    return Measurement(
        name=f"mrr_over_chance@pool={pool}",
        subject=subject,
        value=_mean(items),
        unit="x",
        items=items,
        signature=signature,
    )


def _reciprocal(keys: Sequence[str], ranks: Sequence[int], pool: int, *, scale: float) -> tuple[Item, ...]:
    if not keys:
        raise EmptyMeasurementError("mrr: there are no queries")
    for key, rank in zip(keys, ranks, strict=True):
        if not 1 <= rank <= pool:
            raise ValueError(f"rank={rank!r} of {key!r} is not in 1..pool={pool!r}")
    return tuple(Item(key=key, value=scale / rank) for key, rank in zip(keys, ranks, strict=True))


def _mean(items: Sequence[Item]) -> float:
    return sum(item.value for item in items) / len(items)
