"""Near copies: the same prompts asked for near-miss clones (type 3) of whole function bodies.

Where code was changed here and there a run of equal lines breaks off; here a completion that begins with a near copy
of a body counts. The function asked for is a body like any other: giving it back is what is measured.
Not covered: finding them (clones/near.py), copies of only the beginning of a body.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pytest_collabcode.clones.near import NearIndex, NearMatch
from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.memorization.attribution import memorization_matrix
from pytest_collabcode.memorization.clones import ProblemClones, own_lines
from pytest_collabcode.memorization.controls import with_heldout_controls
from pytest_collabcode.records import Clone, Fragment, Generation, Measurement, Signature


def near_clones(
    index: NearIndex, completion: str, *, task_id: str, sample_index: int, prompt: str = ""
) -> list[Clone]:
    """Find what a completion nearly begins with.

    Args:
        index: of the training documents' function bodies.
        completion: continuation text, without the prompt.
        task_id: of the problem; names the generated fragment together with sample_index.
        sample_index: of the completion.
        prompt: what the completion continues; only its last line matters.
    Returns:
        For each organization its body most alike, by path among equally alike ones. `organizations` are all that
        have one, `copies` counts all bodies alike enough. If one of these is planted all clones are: whatever else
        is like this completion is then like the plant.
    Example:
        >>> from pytest_collabcode.clones.bodies import Body
        >>> place = Fragment(organization="acme", path="x.py", first_line=4, last_line=6)
        >>> index = NearIndex.build([Body(place=place, text="a = f(1, 2, 3)\\nb = a + 2\\nreturn b\\n")], min_lines=3)
        >>> text = "\\n    a = f(1, 2, 3)\\n    b = a + 2\\n    return b\\n"
        >>> [clone] = near_clones(index, text, task_id="t", sample_index=0, prompt="def f():")
        >>> str(clone.generated), str(clone.training), clone.significant_lines
        ('t#0:2-4', 'acme:x.py:4-6', 3)
    """
    numbers, lines = own_lines(completion, prompt=prompt)
    matches = index.find("\n".join(lines))
    best: dict[str, NearMatch] = {}
    for match in matches:
        best.setdefault(match.body.place.organization, match)
    return [
        Clone(
            generated=Fragment(
                organization="",
                path=f"{task_id}#{sample_index}",
                first_line=numbers[0],
                last_line=numbers[match.n_lines - 1],
            ),
            training=match.body.place,
            significant_lines=match.body.significant_lines,
            fingerprint=match.fingerprint,
            organizations=tuple(sorted(best)),
            planted=any(m.body.planted for m in matches),
            licence=match.body.licence,
            copies=sum(m.copies for m in matches),
        )
        for _, match in sorted(best.items())
    ]


def near_scan(
    index: NearIndex, scanned: Sequence[ProblemClones], generations: Sequence[Generation]
) -> list[ProblemClones]:
    """Return scanned prompts with their near clones in place of the exact ones.

    Args:
        index: of the training documents' function bodies.
        scanned: as `scan` returns them.
        generations: of these prompts, in any order.
    Raises:
        MeasurementError: a prompt has not as many generations as were scanned.
    Example:
        >>> near_scan(NearIndex.build([]), [], [])
        []
    """
    by_task: dict[str, list[Generation]] = {}
    for generation in sorted(generations, key=lambda g: g.sample_index):
        by_task.setdefault(generation.task_id, []).append(generation)
    near = []
    for p in scanned:
        own = by_task.get(p.problem.task_id, [])
        if len(own) != p.n_samples:
            raise MeasurementError(
                f"task_id={p.problem.task_id!r}: {len(own)} generations where {p.n_samples} were scanned; "
                "hand over those that were"
            )
        found = [
            clone
            for g in own
            for clone in near_clones(
                index, g.completion, task_id=g.task_id, sample_index=g.sample_index, prompt=p.problem.prompt
            )
        ]
        near.append(replace(p, clones=tuple(found)))
    return near


def near_clone_ratio(
    near: Sequence[ProblemClones], *, subject: str, organizations: Sequence[str], signature: Signature = ()
) -> list[Measurement]:
    """Count prompts whose output begins with a near copy, by prompt organization, source organization and stratum.

    Args:
        near: prompts of all organizations and strata, as `near_scan` returns them.
        subject: name of the model.
        organizations: the sources; "any" is put before them.
        signature: how it was got, see `memorization_signature`.
    Returns:
        Measurements "near_clone_ratio" with the cells of `memorization_matrix`; natural and planted ones have their
        held-out control.
    Raises:
        EmptyMeasurementError: no prompts.
    Example:
        >>> from pytest_collabcode.records import Problem
        >>> p = ProblemClones(problem=Problem(task_id="t", prompt="def f():", organization="acme"),
        ...     stratum="natural", n_samples=1, clones=())
        >>> m = near_clone_ratio([p], subject="s", organizations=["acme"])[0]
        >>> m.name, m.cell, m.count, m.n
        ('near_clone_ratio', 'acme→any natural', 0, 1)
    """
    matrix = memorization_matrix(near, subject=subject, organizations=organizations, signature=signature)
    return with_heldout_controls([replace(m, name="near_clone_ratio") for m in matrix])
