"""Controls: a hit on boilerplate is not memorization, so hits are set against prompts or models that cannot remember.

Two controls: held-out prompts on the same model (`with_heldout_controls`), and the same prompts on a model trained
without the organization (`memorization_lift`, paired).
Not covered: choosing which model is the control; the session does.
Sources: Carlini et al. 2019, arXiv 1802.08232, for the counterfactual; Agresti and Min 2005, Statistics in Medicine
24, for half a count added to each cell of a matched-pairs table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pytest_collabcode.intervals import BOOTSTRAP_SEED, N_REPLICATES
from pytest_collabcode.memorization.attribution import cells, evidence_of
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


def memorization_lift(
    scanned: Sequence[ProblemClones], control: Sequence[ProblemClones], *, subject: str, signature: Signature = ()
) -> list[Measurement]:
    """Compare prompt by prompt with a model that never saw the code: hits it has more.

    Args:
        scanned: prompts under the subject.
        control: the same under the control, say the model trained without that organization.
        subject: name of the model.
        signature: how it was got; name the control in it.
    Returns:
        Measurements "memorization_lift", in -1..1, per prompt organization and uncrossed stratum; items hold the
        difference of each prompt. Replicates are draws of the difference of paired rates under Jeffreys' prior,
        since a bootstrap of 20 hits in 20 prompts would claim certainty. The lower bound keeps its confidence
        (simulated at 20 and 100 prompts), the upper does not near 0 (87 % for 95 %): judge a lift by floors.
    Raises:
        EmptyMeasurementError: no prompts.
        ValueError: the prompts differ.
    Example:
        >>> from pytest_collabcode.records import Problem
        >>> p = ProblemClones(problem=Problem(task_id="t", prompt="def f():", organization="acme"),
        ...     stratum="natural", n_samples=1, clones=())
        >>> [(m.cell, m.value) for m in memorization_lift([p], [p], subject="s")]
        [('acme natural', 0.0)]

    Source: Agresti and Min 2005.
    """
    ours = {(owner, stratum): prompts for owner, stratum, prompts in cells(scanned) if "→" not in stratum}
    theirs = {(owner, stratum): prompts for owner, stratum, prompts in cells(control)}
    lifts = []
    for (owner, stratum), prompts in ours.items():
        hits, before = _hits(prompts), _hits(theirs.get((owner, stratum), ()))
        if set(hits) != set(before):
            raise ValueError(f"prompt_organization={owner!r} {stratum}: control has other prompts than the subject")
        items = tuple(Item(key=key, value=hit - before[key]) for key, hit in hits.items())
        lifts.append(
            Measurement(
                name="memorization_lift",
                subject=subject,
                value=sum(i.value for i in items) / len(items),
                higher_is_better=False,
                prompt_organization=owner,
                stratum=stratum,
                items=items,
                replicates=_paired_replicates(items),
                evidence=evidence_of(prompts),
                signature=signature,
            )
        )
    return lifts


def _hits(prompts: Sequence[ProblemClones]) -> dict[str, float]:
    return {p.problem.task_id: float(bool(p.clones)) for p in prompts}


def _paired_replicates(items: Sequence[Item]) -> tuple[float, ...]:
    more, fewer = sum(i.value > 0 for i in items), sum(i.value < 0 for i in items)
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    draws = rng.dirichlet([more + 0.5, fewer + 0.5, len(items) - more - fewer + 0.5], size=N_REPLICATES)
    return tuple(float(x) for x in np.sort(draws[:, 0] - draws[:, 1]))
