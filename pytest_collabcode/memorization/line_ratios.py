"""Line ratios: of the significant lines a model wrote, how many are covered by clones; every line counts once.

Not covered: prompts that were hit (attribution) and the paper's sums over overlapping clones (counts).
Source: Chen and Jiang 2024, arXiv 2409.12020, whose published ratios fit lines rather than prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pytest_collabcode.intervals import CONFIDENCES, Bounds, as_replicates, bounds_of, exact_bounds
from pytest_collabcode.memorization.attribution import cells, comes_from, evidence_of, item_of, only, sources_of
from pytest_collabcode.memorization.clones import ProblemClones
from pytest_collabcode.records import Measurement, Signature


def line_ratios(
    scanned: Sequence[ProblemClones], *, subject: str, organizations: Sequence[str], signature: Signature = ()
) -> list[Measurement]:
    """Divide covered lines by lines generated, in each cell of the matrix.

    Args:
        scanned: prompts of all organizations and strata, with the line numbers of their completions.
        subject: name of the model.
        organizations: the sources, see `sources_of`.
        signature: how it was got.
    Returns:
        Measurements "line_ratio" = covered / own significant lines, over all samples; items hold both for each
        prompt. Bounds are those of a bootstrap over prompts, and at least as wide as the exact ones of the share of
        prompts with covered lines, scaled by lines per such prompt: a bootstrap without a hit claims certainty, and
        simulated on 100 prompts with 3 % hit its upper bound at 95 % held in 88 of 100 experiments. A cell whose
        completions have no line is left out, since there is no ratio; a required threshold on it is then
        UNMEASURED, which blocks.
    Raises:
        EmptyMeasurementError: no prompts.
    Example:
        >>> from pytest_collabcode.records import Problem
        >>> p = ProblemClones(problem=Problem(task_id="t", prompt="def f():", organization="acme"),
        ...     stratum="natural", n_samples=1, clones=(), line_numbers=((1, 2, 4),))
        >>> [(m.cell, m.value) for m in line_ratios([p], subject="s", organizations=["acme"])][0]
        ('acme→any natural', 0.0)
    """
    ratios = []
    for owner, stratum, prompts in cells(scanned):
        for source in sources_of(stratum, organizations):
            counted = only(prompts, comes_from(source, owner))
            items = tuple(item_of(p.problem, covered_lines(p), sum(map(len, p.line_numbers))) for p in counted)
            total = sum(item.weight for item in items)
            if not total:
                continue
            ratio = Measurement(
                name="line_ratio",
                subject=subject,
                value=sum(item.value for item in items) / total,
                higher_is_better=False,
                prompt_organization=owner,
                source_organization=source,
                stratum=stratum,
                items=items,
                evidence=evidence_of(counted),
                signature=signature,
            )
            ratios.append(replace(ratio, replicates=as_replicates(_bounds(ratio))))
    return ratios


def covered_lines(prompt: ProblemClones) -> int:
    """Count the own significant lines of all samples that stand in at least one clone.

    Args:
        prompt: with the clones that count; a clone's path ends in "#" and the index of its sample.
    Example:
        >>> from pytest_collabcode.records import Clone, Fragment, Problem
        >>> place = Fragment(organization="", path="t#0", first_line=2, last_line=4)
        >>> clone = Clone(generated=place, training=place, significant_lines=2, fingerprint="f")
        >>> covered_lines(ProblemClones(problem=Problem(task_id="t", prompt=""), stratum="natural", n_samples=1,
        ...     clones=(clone, clone), line_numbers=((1, 2, 4, 5),)))
        2
    """
    ranges: dict[str, list[tuple[int, int]]] = {}
    for clone in prompt.clones:
        sample = clone.generated.path.rpartition("#")[2]
        ranges.setdefault(sample, []).append((clone.generated.first_line, clone.generated.last_line))
    return sum(
        any(first <= number <= last for first, last in ranges.get(str(sample), ()))
        for sample, numbers in enumerate(prompt.line_numbers)
        for number in numbers
    )


def _bounds(ratio: Measurement) -> Bounds:
    written = tuple(item for item in ratio.items if item.weight)  # a resample of none but silent prompts has no ratio
    n_hits = sum(item.value > 0 for item in written)
    low, high = exact_bounds(n_hits, len(written), CONFIDENCES)
    if not n_hits:
        return low, high
    scale = ratio.value * len(written) / n_hits
    resampled = bounds_of(replace(ratio, items=written), CONFIDENCES)
    return np.minimum(scale * low, resampled[0]), np.maximum(np.minimum(scale * high, 1.0), resampled[1])
