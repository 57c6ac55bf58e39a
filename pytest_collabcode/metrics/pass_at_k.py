"""pass@k: the chance that at least one of k completions of a problem passes its test.

Not covered: executing anything, and intervals (intervals.py resamples the problems kept in the items).
Sources: Chen et al. 2021, arXiv 2107.03374, eq. 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.records import Item, Measurement, Signature


def pass_at_k(
    task_ids: Sequence[str],
    n_samples: Sequence[int],
    n_correct: Sequence[int],
    *,
    k: int,
    subject: str,
    signature: Signature = (),
) -> Measurement:
    """Estimate the chance that at least one of k completions passes, as the mean over problems.

    Args:
        task_ids: names of the problems, shape (problems,).
        n_samples: completions drawn per problem, shape (problems,), each >= k.
        n_correct: of those, how many passed, shape (problems,), 0 <= c <= n.
        k: size of the draw, >= 1.
        subject: the model under test.
        signature: how the completions were got.
    Returns:
        Measurement "pass@k", one item per problem; with a single sample each and k = 1 also count and n, for the
        exact interval. Evidence: the problems that no sample solved.
    Raises:
        EmptyMeasurementError: there are no problems.
        ValueError: lengths differ, k < 1, c is not in 0..n, or a problem has fewer than k samples (never skipped).
    Example:
        >>> measurement = pass_at_k(["a", "b"], [1, 1], [1, 0], k=1, subject="m")
        >>> measurement.value, measurement.count, measurement.n, measurement.evidence
        (0.5, 1, 2, ('b',))

    Source: Chen et al. 2021, eq. 1, in exact integer arithmetic.
    """
    if not task_ids:
        raise EmptyMeasurementError(f"pass@{k}: no problems were executed")
    if not len(task_ids) == len(n_samples) == len(n_correct):
        raise ValueError(
            f"pass@{k}: {len(task_ids)} task_ids, {len(n_samples)} n_samples, {len(n_correct)} n_correct"
        )
    rows = list(zip(task_ids, n_samples, n_correct, strict=True))
    items = tuple(Item(key=task_id, value=_estimate(task_id, n, c, k)) for task_id, n, c in rows)
    single = k == 1 and all(n == 1 for n in n_samples)
    return Measurement(
        name=f"pass@{k}",
        subject=subject,
        value=math.fsum(item.value for item in items) / len(items),
        count=sum(n_correct) if single else None,
        n=len(items) if single else None,
        items=items,
        evidence=tuple(task_id for task_id, _, c in rows if c == 0),
        signature=signature,
    )


def _estimate(task_id: str, n: int, c: int, k: int) -> float:
    if k < 1:
        raise ValueError(f"k={k!r}: a draw has at least one completion")
    if not 0 <= c <= n:
        raise ValueError(f"{task_id}: n_correct={c!r} is not in 0..n_samples={n!r}")
    if n < k:
        raise ValueError(f"{task_id}: pass@{k} needs n_samples >= {k}, got {n!r}")
    return 1 - math.comb(n - c, k) / math.comb(n, k)
