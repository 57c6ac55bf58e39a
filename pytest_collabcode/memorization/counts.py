"""Counts: distinct clones and their lines, the paper's own view.

Overlapping clones are distinct, as there, so a line may be counted twice; line_ratios counts every line once.
Not covered: ratios of prompts (attribution).
Source: Chen and Jiang 2024, arXiv 2409.12020.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pytest_collabcode.memorization.attribution import Cell, cells, evidence_of, item_of
from pytest_collabcode.memorization.clones import ProblemClones
from pytest_collabcode.records import Measurement, Signature


def clone_counts(scanned: Sequence[ProblemClones], *, subject: str, signature: Signature = ()) -> list[Measurement]:
    """Count distinct clones and sum their significant lines, per prompt organization and stratum.

    Args:
        scanned: prompts of all organizations and strata.
        subject: name of the model.
        signature: how it was got.
    Returns:
        Measurements, see `counts_of`.
    Raises:
        EmptyMeasurementError: no prompts.
    Example:
        >>> from pytest_collabcode.records import Problem
        >>> p = ProblemClones(problem=Problem(task_id="t", prompt="def f():", organization="acme"),
        ...     stratum="natural", n_samples=1, clones=())
        >>> [(m.name, m.value) for m in clone_counts([p], subject="s")][:2]
        [('distinct_clones', 0.0), ('clone_lines', 0.0)]
    """
    return counts_of(cells(scanned), subject=subject, signature=signature)


def counts_of(chosen: Iterable[Cell], *, subject: str, signature: Signature = ()) -> list[Measurement]:
    """Count distinct clones and sum their significant lines in some cells.

    Args:
        chosen: cells with the clones that count.
        subject: name of the model.
        signature: how it was got.
    Returns:
        Measurements "distinct_clones" and "clone_lines" of each cell. A fingerprint that several prompts gave back
        is shared equally between their items; item weights are 1/n, so that the sum of values over the sum of
        weights is the total, resampled or not.
    Example:
        >>> counts_of([], subject="s")
        []
    """
    return [
        replace(
            count,
            subject=subject,
            prompt_organization=prompt_organization,
            stratum=stratum,
            evidence=evidence_of(prompts),
            signature=signature,
        )
        for prompt_organization, stratum, prompts in chosen
        for count in _distinct(prompts)
    ]


def _distinct(prompts: Sequence[ProblemClones]) -> list[Measurement]:
    """Return the two counts of a cell, still without its names."""
    by_prompt = [{c.fingerprint: c.significant_lines for c in p.clones} for p in prompts]
    holders = Counter(fingerprint for found in by_prompt for fingerprint in found)
    lengths = {fingerprint: n_lines for found in by_prompt for fingerprint, n_lines in found.items()}
    ones = dict.fromkeys(lengths, 1)
    counts = []
    for name, unit, sizes in (("distinct_clones", "clones", ones), ("clone_lines", "lines", lengths)):
        shares = [sum(sizes[f] / holders[f] for f in found) for found in by_prompt]
        items = (item_of(p.problem, share, 1 / len(prompts)) for p, share in zip(prompts, shares, strict=True))
        total = float(sum(sizes.values()))
        counts.append(
            Measurement(name=name, subject="", value=total, unit=unit, higher_is_better=False, items=tuple(items))
        )
    return counts
