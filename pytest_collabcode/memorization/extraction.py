"""Extraction: how likely a function's true body is to be drawn, from one teacher-forced pass and no generation.

A completion z is (n, p)-discoverable when at least one of n samples is z with a probability of p or more:
1 - (1 - p_z)^n >= p, where p_z is the product of its tokens' probabilities under the sampling scheme itself. Here z
is the shortest text that makes a clone: the body as far as the end of its sixth significant line. One layout and one
tokenization of it are counted, so that p_z is a lower bound of the probability that a sample gives these lines back.
Not covered: other functions' code in the sample, and clones that begin later in the body.
Sources: Hayes et al. 2025, arXiv 2410.19482, equations 1 and 2.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from pytest_collabcode.errors import EmptyMeasurementError, MeasurementError
from pytest_collabcode.lines import significant_lines, split_lines
from pytest_collabcode.memorization.controls import against_control
from pytest_collabcode.records import Item, Measurement, Problem, Signature, TokenScores

Hit = tuple[Problem, str, bool]  # a prompt, its stratum ("natural", "planted" or "heldout"), and whether it is hit


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredFunction:
    """A function whose true body a model was asked about, token by token."""

    problem: Problem
    stratum: str  # "natural", "planted" or "heldout"
    scores: TokenScores  # of `continuation(problem)`, or of as much as a completion may hold


def continuation(problem: Problem) -> str:
    """Return the text that continues a prompt as its function does: the body on a new line.

    Example:
        >>> continuation(Problem(task_id="t", prompt="def f():", canonical_solution="    return 1"))
        '\\n    return 1'

    """
    return "\n" + problem.canonical_solution


def shortest_clone(text: str, *, min_lines: int) -> str:
    """Return a text as far as the end of its min_lines-th significant line.

    Raises:
        MeasurementError: it has fewer.
    Example:
        >>> shortest_clone("\\n    a = 1\\n\\n    return a \\n    # done", min_lines=2)
        '\\n    a = 1\\n\\n    return a'

    """
    numbers = [number for number, _ in significant_lines(text)]
    if len(numbers) < min_lines:
        raise MeasurementError(f"min_lines={min_lines!r}: a body of {len(numbers)} lines cannot be a clone")
    return "\n".join(split_lines(text)[: numbers[min_lines - 1]]).rstrip()


def log_probability(scores: TokenScores, n_characters: int) -> float:
    """Return ln p_z under the sampling scheme, for z the first characters of the scored continuation.

    Args:
        scores: of the continuation or of its beginning.
        n_characters: of z; where fewer were scored, all tokens that were count.
    Raises:
        MeasurementError: no token was scored.
    Example:
        >>> scores = TokenScores(starts=(0, 4, 9), log_probs=(0, 0, 0), scheme_log_probs=(-0.5, -0.25, -9.0),
        ...     means=(0, 0, 0), deviations=(0, 0, 0))
        >>> log_probability(scores, 9)
        -0.75

    """
    if not scores.starts:
        raise MeasurementError("token_scores: no token of a body was scored, so it has no probability")
    pairs = zip(scores.starts, scores.scheme_log_probs, strict=True)
    return math.fsum(log_p for start, log_p in pairs if start < n_characters)


def is_discoverable(log_p_z: float, *, n: int, p: float) -> bool:
    """Return whether at least one of n samples is z with a probability of p or more.

    Args:
        log_p_z: ln p_z, -inf for a text that is never drawn; p_z may be far below what a float holds.
        n: samples, >= 1.
        p: in (0, 1).
    Raises:
        ValueError: n or p is out of range.
    Example:
        >>> [is_discoverable(math.log(0.001), n=n, p=0.5) for n in (692, 693)]
        [False, True]

    Source: Hayes et al. 2025, equation 2, as n ln(1 - p_z) <= ln(1 - p).
    """
    if n < 1 or not 0 < p < 1:
        raise ValueError(f"n={n!r}, p={p!r}: n is at least 1 and p between 0 and 1")
    if log_p_z >= 0:
        return True
    # Whichever of 1 - p_z and p_z is small keeps its digits.
    missed = math.log1p(-math.exp(log_p_z)) if log_p_z < -1 else math.log(-math.expm1(log_p_z))
    return n * missed <= math.log1p(-p)


def discoverable_name(*, n: int, p: float) -> str:
    """Return the metric's name for n and p.

    Example:
        >>> discoverable_name(n=1000, p=0.5)
        'discoverable@n=1000,p=0.5'

    """
    return f"discoverable@n={n},p={p:g}"


def discoverable(
    functions: Sequence[ScoredFunction],
    *,
    n: int,
    p: float,
    min_lines: int,
    subject: str,
    stop: Collection[str] = (),
    signature: Signature = (),
) -> list[Measurement]:
    """Count functions whose shortest clone is (n, p)-discoverable, per prompt organization and stratum.

    Args:
        functions: of all organizations and strata, each once.
        n: samples.
        p: probability in (0, 1) that one of them is the text.
        min_lines: significant lines that make a clone.
        subject: name of the model.
        stop: strings that end a completion; a text that holds one is never drawn whole.
        signature: how it was got.
    Returns:
        Measurements "discoverable@n=...,p=..." as of `hit_ratios`.
    Raises:
        EmptyMeasurementError: no functions.
        MeasurementError: a body has fewer than min_lines lines, or no token of it was scored.
        ValueError: n or p is out of range.
    Example:
        >>> body = Problem(task_id="t", prompt="def f():", canonical_solution="    return 1", organization="acme")
        >>> sure = TokenScores(starts=(0, 5), log_probs=(-0.1, -0.1), scheme_log_probs=(-0.1, 0.0), means=(-1, -1),
        ...     deviations=(1, 1))
        >>> asked = [ScoredFunction(problem=body, stratum="natural", scores=sure)]
        >>> [m.count for m in discoverable(asked, n=10, p=0.5, min_lines=1, subject="s")]
        [1]

    """
    hits = []
    for function in functions:
        z = shortest_clone(continuation(function.problem), min_lines=min_lines)
        cut = any(s in z for s in stop if s)
        log_p_z = -math.inf if cut else log_probability(function.scores, len(z))
        hits.append((function.problem, function.stratum, is_discoverable(log_p_z, n=n, p=p)))
    own = (("z", f"{min_lines} lines"), ("n", str(n)), ("p", f"{p:g}"), ("counted", "one tokenization: lower bound"))
    return hit_ratios(discoverable_name(n=n, p=p), hits, subject=subject, signature=(*own, *signature))


def hit_ratios(name: str, hits: Sequence[Hit], *, subject: str, signature: Signature = ()) -> list[Measurement]:
    """Count hit prompts per prompt organization and stratum, held-out prompts being the control of the others.

    Args:
        name: of the metric.
        hits: of all organizations and strata.
        subject: name of the model.
        signature: how it was got.
    Returns:
        Measurements with exact counts, one item per prompt whose cluster is its file, and the task_ids of what was
        hit as evidence. A cell without prompts is left out.
    Raises:
        EmptyMeasurementError: no prompts.
    Example:
        >>> asked = Problem(task_id="acme:x.py:3", prompt="def f():", organization="acme", path="x.py")
        >>> [m] = hit_ratios("near_verbatim_ratio.bleu75", [(asked, "natural", True)], subject="s")
        >>> m.cell, m.count, m.n, m.evidence
        ('acme natural', 1, 1, ('acme:x.py:3',))

    """
    if not hits:
        raise EmptyMeasurementError(f"{name}: no prompts, so there is no ratio; are there eligible functions?")
    cells: dict[tuple[str, str], list[Hit]] = {}
    for hit in hits:
        cells.setdefault((hit[0].organization, hit[1]), []).append(hit)
    measured = {
        cell: replace(
            _ratio(own), name=name, subject=subject, prompt_organization=cell[0], stratum=cell[1], signature=signature
        )
        for cell, own in sorted(cells.items())
    }
    controls = {owner: m for (owner, stratum), m in measured.items() if stratum == "heldout"}
    return [
        against_control(m, controls[owner]) if stratum != "heldout" and owner in controls else m
        for (owner, stratum), m in measured.items()
    ]


def _ratio(hits: Sequence[Hit]) -> Measurement:
    """Return the ratio of one cell, still without its names."""
    count = sum(hit for _, _, hit in hits)
    return Measurement(
        name="",
        subject="",
        value=count / len(hits),
        higher_is_better=False,
        count=count,
        n=len(hits),
        items=tuple(Item(key=p.task_id, value=float(hit), cluster=p.path) for p, _, hit in hits),
        evidence=tuple(p.task_id for p, _, hit in hits if hit),
    )
