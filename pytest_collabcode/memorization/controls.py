"""Controls: a hit on boilerplate is not memorization, so hits are set against prompts or models that cannot remember.

Two kinds: held-out prompts on the same model (`with_heldout_controls`, `over_heldout`), and the same prompts on
another model, the one before training or one trained without the organization (`memorization_lift`, paired).
Not covered: choosing which model is the control; leaks does.
Sources: Carlini et al. 2019, arXiv 1802.08232, for the counterfactual; Newcombe 1998, Statistics in Medicine 17, for
differences of independent and of paired rates from the bounds of their parts, here exact ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from pytest_collabcode.intervals import CONFIDENCES, as_replicates, bounds_of, difference_bounds, exact_bounds
from pytest_collabcode.memorization.attribution import ANY, cells, evidence_of, item_of
from pytest_collabcode.memorization.clones import ProblemClones
from pytest_collabcode.records import Item, Measurement, Signature


def against_control(measurement: Measurement, control: Measurement) -> Measurement:
    """Return the measurement with its control: held-out prompts, or a model that never saw the code.

    Raises:
        ValueError: the two are different metrics.
    Example:
        >>> m = Measurement(name="memorization_ratio", subject="s", value=0.4, count=8, n=20, stratum="planted")
        >>> against_control(m, replace(m, value=0.0, count=0, stratum="heldout→planted")).control.count
        0

    """
    if measurement.name != control.name:
        raise ValueError(f"control={control.name!r} cannot be a control of {measurement.name!r}")
    return replace(measurement, control=control)


def with_heldout_controls(matrix: Sequence[Measurement]) -> list[Measurement]:
    """Give every natural and planted cell the held-out cell of its organizations as control, where there is one.

    Example:
        >>> m = Measurement(name="memorization_ratio", subject="s", value=0.4, count=8, n=20, stratum="natural")
        >>> [c.control is not None for c in with_heldout_controls([m, replace(m, stratum="heldout")])]
        [True, False]

    """
    pairs = {"natural": "heldout", "planted": "heldout→planted"}
    controls = {(m.name, m.prompt_organization, m.source_organization, m.stratum): m for m in matrix}
    controlled = []
    for m in matrix:
        key = (m.name, m.prompt_organization, m.source_organization, pairs.get(m.stratum, ""))
        controlled.append(against_control(m, controls[key]) if key in controls else m)
    return controlled


def over_heldout(matrix: Sequence[Measurement]) -> list[Measurement]:
    """Return how much more often training prompts hit than held-out ones: what boilerplate and chance leave over.

    Args:
        matrix: with its held-out controls, see `with_heldout_controls`.
    Returns:
        Measurements "memorization_over_heldout", in -1..1, of every "memorization_ratio" from any organization that
        has a control: the difference of two independent rates, whose bounds come from the intervals of both (clusters
        included). Computed over all outcomes of 100 and 34 prompts, each bound holds in 95 of 100 experiments or more
        for rates up to 0.1, in 94 for any. Items hold hit - rate of the control.
    Example:
        >>> m = Measurement(name="memorization_ratio", subject="s", value=0.4, count=8, n=20, stratum="planted",
        ...     source_organization="any")
        >>> [(o.name, o.value) for o in over_heldout([replace(m, control=replace(m, value=0.1, count=2))])]
        [('memorization_over_heldout', 0.30000000000000004)]

    Source: Newcombe 1998.
    """
    differences = []
    for m in matrix:
        if m.control is None or (m.name, m.source_organization) != ("memorization_ratio", ANY):
            continue
        rate = m.control.value
        first, second = bounds_of(m, CONFIDENCES), bounds_of(m.control, CONFIDENCES)
        bounds = difference_bounds(first, second, rates=(m.value, rate))
        differences.append(
            replace(
                m,
                name="memorization_over_heldout",
                value=m.value - rate,
                count=None,
                n=None,
                items=tuple(replace(item, value=item.value - rate) for item in m.items),
                replicates=as_replicates(bounds),
                signature=(*m.signature, ("heldout_prompts", str(m.control.n))),
            )
        )
    return differences


def memorization_lift(
    scanned: Sequence[ProblemClones],
    control: Sequence[ProblemClones],
    *,
    subject: str,
    name: str = "memorization_lift",
    signature: Signature = (),
) -> list[Measurement]:
    """Compare prompt by prompt with a model that never saw the code: hits it has more.

    Args:
        scanned: prompts under the subject.
        control: the same under the control, say the model trained without that organization.
        subject: name of the model.
        name: of the measurements; another for another kind of control.
        signature: how it was got; name the control in it.
    Returns:
        Measurements, in -1..1, per prompt organization and uncrossed stratum; items hold the difference of each
        prompt. Bounds are joined from the exact ones of the shares of prompts that only the subject, and only the
        control hits: 20 hits in 20 prompts are no certainty, and where the control has none the upper bound is the
        exact one of the hits. Computed over all outcomes of 20, 34 and 100 prompts, both bounds hold in 95 of 100
        experiments or more, so floors and ceilings may judge a lift.
    Raises:
        EmptyMeasurementError: no prompts.
        ValueError: the prompts differ.
    Example:
        >>> from pytest_collabcode.records import Problem
        >>> p = ProblemClones(problem=Problem(task_id="t", prompt="def f():", organization="acme"),
        ...     stratum="natural", n_samples=1, clones=())
        >>> [(m.cell, m.value) for m in memorization_lift([p], [p], subject="s")]
        [('acme natural', 0.0)]

    Source: Newcombe 1998.
    """
    ours = {(owner, stratum): prompts for owner, stratum, prompts in cells(scanned) if "→" not in stratum}
    theirs = {(owner, stratum): prompts for owner, stratum, prompts in cells(control)}
    lifts = []
    for (owner, stratum), prompts in ours.items():
        hits, before = _hits(prompts), _hits(theirs.get((owner, stratum), ()))
        if set(hits) != set(before):
            raise ValueError(f"prompt_organization={owner!r} {stratum}: control has other prompts than the subject")
        items = tuple(item_of(p.problem, hits[p.problem.task_id] - before[p.problem.task_id]) for p in prompts)
        lifts.append(
            Measurement(
                name=name,
                subject=subject,
                value=sum(i.value for i in items) / len(items),
                higher_is_better=False,
                prompt_organization=owner,
                stratum=stratum,
                items=items,
                replicates=_paired(items),
                evidence=evidence_of(prompts),
                signature=signature,
            )
        )
    return lifts


def _hits(prompts: Sequence[ProblemClones]) -> dict[str, float]:
    return {p.problem.task_id: float(bool(p.clones)) for p in prompts}


def _paired(items: Sequence[Item]) -> tuple[float, ...]:
    n = len(items)
    more, fewer = sum(i.value > 0 for i in items), sum(i.value < 0 for i in items)
    rates = (more / n, fewer / n)
    # Of one prompt only one can be: the two shares are negatively correlated, as cells of a multinomial are.
    rest = (1 - rates[0]) * (1 - rates[1])
    bounds = difference_bounds(
        exact_bounds(more, n, CONFIDENCES),
        exact_bounds(fewer, n, CONFIDENCES),
        rates=rates,
        correlation=-math.sqrt(rates[0] * rates[1] / rest) if rest else 0.0,
    )
    return as_replicates(bounds)
