"""Copyleft: prompts that bring back code whose licence asks for the same licence on copies.

A clone's licence is that of the document it is attributed to, the first by path that holds its lines.
Not covered: whether the licence was kept to (the text would have to come with notice and licence), and documents of
unknown licence, which count as not copyleft; the signature says how many there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pytest_collabcode.licences import is_copyleft, is_known
from pytest_collabcode.memorization.attribution import cells, hits
from pytest_collabcode.memorization.clones import ProblemClones
from pytest_collabcode.records import Document, Measurement, Signature


def licence_signature(documents: Iterable[Document]) -> Signature:
    """Return how many training documents no licence is known of, so that a reader knows what 0 copyleft hits say.

    Example:
        >>> licence_signature([Document(path="x.py", text="", organization="acme", licence="Acme-1.0")])
        (('unknown_licences', '1'),)
    """
    licences = Counter(d.licence for d in documents)
    n_unknown = sum(count for licence, count in licences.items() if not is_known(licence))
    return (("unknown_licences", str(n_unknown)),)


def copyleft_clone_ratio(
    scanned: Sequence[ProblemClones], *, subject: str, signature: Signature = ()
) -> list[Measurement]:
    """Count prompts whose output holds natural code of a copyleft document.

    Args:
        scanned: prompts of all organizations and strata.
        subject: name of the model.
        signature: how it was got.
    Returns:
        Measurements "copyleft_clone_ratio" per prompt organization, stratum natural, with exact counts, one item per
        prompt, the clones as evidence, and the same count over held-out prompts as control where there are any.
    Raises:
        EmptyMeasurementError: no prompts.
    Example:
        >>> from pytest_collabcode.records import Problem
        >>> p = ProblemClones(problem=Problem(task_id="t", prompt="def f():", organization="acme"),
        ...     stratum="natural", n_samples=1, clones=())
        >>> [(m.cell, m.count, m.n) for m in copyleft_clone_ratio([p], subject="s")]
        [('acme natural', 0, 1)]
    """
    by_cell = {
        (owner, stratum): replace(
            hits(prompts, lambda clone: is_copyleft(clone.licence)),
            name="copyleft_clone_ratio",
            subject=subject,
            prompt_organization=owner,
            stratum=stratum,
            signature=signature,
        )
        for owner, stratum, prompts in cells(scanned)
        if stratum in ("natural", "heldout")
    }
    return [
        replace(ratio, control=by_cell.get((owner, "heldout")))
        for (owner, stratum), ratio in by_cell.items()
        if stratum == "natural"
    ]
