"""Membership: whether a model's token scores tell functions it was trained on from functions it never saw.

The score of a function is Min-K%++: each token's log-probability, standardized by mean and deviation of the
log-probability over the vocabulary at its place, averaged over the lowest k of its tokens. The measure is the area
under the ROC curve, that is the probability that a training function scores above a held-out one: 0.5 is no leak.
Not covered: other attacks, thresholds for single functions, differences between the two groups other than training
(a model that never saw either is the control of that: it should be at 0.5).
Sources: Zhang et al. 2024, arXiv 2404.02936 (Min-K%++); Hanley and McNeil 1982 for area as probability.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pytest_collabcode.errors import EmptyMeasurementError, MeasurementError
from pytest_collabcode.intervals import BOOTSTRAP_SEED, N_REPLICATES
from pytest_collabcode.memorization.extraction import ScoredFunction
from pytest_collabcode.records import Item, Measurement, Signature, TokenScores

LOWEST_SHARE = 0.2  # of a function's tokens
MEMBERS = ("natural", "planted")
COUNTS_AT_ONCE = 1 << 20  # how often each function was drawn, held for some replicates


def min_k_plus_plus(scores: TokenScores, *, k: float = LOWEST_SHARE) -> float:
    """Return the Min-K%++ score of one text: higher speaks for its having been trained on.

    Args:
        scores: of its tokens.
        k: share of the tokens that count, the lowest; rounded down, at least one.
    Raises:
        MeasurementError: no token was scored.
        ValueError: k is not in (0, 1].
    Example:
        >>> scores = TokenScores(starts=(0, 1), log_probs=(-1.0, -5.0), scheme_log_probs=(0.0, 0.0),
        ...     means=(-2.0, -2.0), deviations=(1.0, 1.5))
        >>> min_k_plus_plus(scores, k=0.5), min_k_plus_plus(scores, k=1.0)
        (-2.0, -0.5)

    Source: Zhang et al. 2024, equations 3 and 4. A place of no deviation, where every token that the model deems
    possible is equally likely, says nothing and counts 0.
    """
    if not 0 < k <= 1:
        raise ValueError(f"k={k!r} is not in (0, 1]")
    if not scores.log_probs:
        raise MeasurementError("token_scores: no token of a body was scored, so it has no membership score")
    log_p, mean, deviation = (np.array(c) for c in (scores.log_probs, scores.means, scores.deviations))
    standardized = np.divide(log_p - mean, deviation, out=np.zeros_like(log_p), where=deviation > 0)
    lowest = np.sort(standardized)[: max(1, int(len(standardized) * k))]
    return float(lowest.mean())


def auroc(members: Sequence[float], others: Sequence[float]) -> float:
    """Return the probability that a member scores above one of the others; a tie counts half.

    Raises:
        EmptyMeasurementError: one of the two is empty.
    Example:
        >>> auroc([3.0, 2.0], [1.0, 2.0])
        0.875

    """
    return float(_placements(members, others).mean())


def membership_auroc(
    functions: Sequence[ScoredFunction], *, subject: str, k: float = LOWEST_SHARE, signature: Signature = ()
) -> list[Measurement]:
    """Return how well Min-K%++ tells training functions from held-out ones, pooled and per organization.

    Args:
        functions: of all organizations; natural and planted ones are members, held-out ones are not.
        subject: name of the model.
        k: share of a function's tokens that count.
        signature: how it was got.
    Returns:
        Measurements "membership_auroc" of the strata natural and planted, prompt_organization "" pooled. An item is
        a member with the share of held-out functions it scores above. Replicates resample members and held-out
        functions apart; where not one pair is in the wrong order they all are 1, which is no certainty.
    Raises:
        EmptyMeasurementError: no organization has members of a stratum and held-out functions.
    Example:
        >>> from pytest_collabcode.records import Problem
        >>> def function(number, stratum, log_p):
        ...     scores = TokenScores(starts=(0,), log_probs=(log_p,), scheme_log_probs=(0.0,), means=(-2.0,),
        ...         deviations=(1.0,))
        ...     problem = Problem(task_id=f"acme:x.py:{number}", prompt="def f():", organization="acme")
        ...     return ScoredFunction(problem=problem, stratum=stratum, scores=scores)
        >>> asked = [function(1, "natural", -1.0), function(2, "heldout", -3.0), function(3, "heldout", -0.5)]
        >>> [(m.prompt_organization, m.stratum, m.value) for m in membership_auroc(asked, subject="s")]
        [('', 'natural', 0.5), ('acme', 'natural', 0.5)]

    """
    scored = [(f, min_k_plus_plus(f.scores, k=k)) for f in functions]
    measured = []
    for owner in ("", *sorted({f.problem.organization for f in functions})):
        own = [(f, score) for f, score in scored if owner in ("", f.problem.organization)]
        others = [score for f, score in own if f.stratum == "heldout"]
        for stratum in MEMBERS:
            members = [(f, score) for f, score in own if f.stratum == stratum]
            if members and others:
                measured.append(
                    Measurement(
                        name="membership_auroc",
                        subject=subject,
                        value=auroc([score for _, score in members], others),
                        higher_is_better=False,
                        prompt_organization=owner,
                        stratum=stratum,
                        items=_items(members, others),
                        replicates=_replicates([score for _, score in members], others),
                        signature=(("score", "min-k%++"), ("k", f"{k:g}"), ("heldout", str(len(others))), *signature),
                    )
                )
    if not measured:
        raise EmptyMeasurementError("membership_auroc: needs functions of both the training and the held-out split")
    return measured


def _items(members: Sequence[tuple[ScoredFunction, float]], others: Sequence[float]) -> tuple[Item, ...]:
    shares = _placements([score for _, score in members], others)
    return tuple(
        Item(key=f.problem.task_id, value=float(share), cluster=f.problem.path)
        for (f, _), share in zip(members, shares, strict=True)
    )


def _placements(members: Sequence[float], others: Sequence[float]) -> NDArray[np.float64]:
    """Return the share of the others that each member scores above, a tie counting half."""
    if not len(members) or not len(others):
        raise EmptyMeasurementError("auroc: needs scores of members and of others")
    ordered = np.sort(others)
    below, up_to = (np.searchsorted(ordered, members, side=side) for side in ("left", "right"))
    return np.asarray((below + up_to) / (2 * len(ordered)), dtype=np.float64)


def _replicates(members: Sequence[float], others: Sequence[float]) -> tuple[float, ...]:
    """Resample both groups apart; the others are sorted once for all replicates."""
    n, m = len(members), len(others)
    ordered = np.sort(others)
    below, up_to = (np.searchsorted(ordered, members, side=side) for side in ("left", "right"))
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    at_once = max(1, COUNTS_AT_ONCE // max(n, m))
    values: list[float] = []
    for start in range(0, N_REPLICATES, at_once):
        size = min(at_once, N_REPLICATES - start)
        ours, theirs = (rng.multinomial(k, np.full(k, 1 / k), size=size) for k in (n, m))  # (size, n), (size, m)
        before = np.concatenate([np.zeros((size, 1), dtype=np.int64), theirs.cumsum(axis=1)], axis=1)
        values += ((before[:, below] + before[:, up_to]) * ours).sum(axis=1).tolist()
    return tuple(sorted(value / (2 * n * m) for value in values))
