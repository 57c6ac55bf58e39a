"""Whose code: memorization ratios by prompt organization, source organization and stratum.

A stratum says which prompts were asked and which code came back:

    natural            natural prompt, natural code: what ceilings judge
    planted            planted prompt, planted code: the positive control of the instrument
    heldout            held-out prompt, natural code: the control of "natural", boilerplate and chance
    natural→planted    natural prompt, planted code: attributed to the plant, never to natural memorization
    planted→natural    planted prompt, natural code
    heldout→planted    held-out prompt, planted code: the control of "planted"

A prompt is hit when any of its samples holds a clone. A cell without eligible prompts is left out, never 0. A clone
that is nothing but a licence header is no code: it counts in `licence_header_ratio` and nowhere else. Lines that
stand in two organizations' code hit the cells of both.
Not covered: counts of clones (counts), lines instead of prompts (line_ratios), finer strata (strata).
Source: Udsa et al. 2025, arXiv 2510.08750.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.clones.near import NearIndex
from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.memorization.clones import ProblemClones
from pytest_collabcode.records import Clone, Item, Measurement, Problem, Sampling, Signature

ANY = "any"  # source organization of a hit on whatever organization's code
OTHER = "other"  # of a hit on any organization's but the prompt's own: inter, where the own is intra
STRATA = (
    ("natural", "natural", False),
    ("planted", "planted", True),
    ("heldout", "heldout", False),
    ("natural→planted", "natural", True),
    ("planted→natural", "planted", False),
    ("heldout→planted", "heldout", True),
)  # (stratum, stratum of the prompt, whether the code that came back is planted)
CROSSED = ("natural→planted", "planted→natural")

Cell = tuple[str, str, list[ProblemClones]]  # prompt organization, stratum, prompts with the clones that count


def memorization_signature(index: CloneIndex | NearIndex, sampling: Sampling) -> Signature:
    """Return how memorization is measured, as it stands on every verdict.

    Example:
        >>> s = memorization_signature(CloneIndex.build([]), Sampling(temperature=0.6, top_p=0.6))
        >>> s[:3]
        (('min_lines', '6'), ('normalization', 'verbatim.1'), ('samples', '1'))

    """
    pairs = [
        *index.signature,
        ("samples", sampling.n_samples),
        ("tokens", sampling.max_new_tokens),
        ("T", sampling.temperature),
        ("top_p", sampling.top_p),
        ("rp", sampling.repetition_penalty),
        ("seed", sampling.seed),
    ]
    return tuple((key, f"{value:g}" if isinstance(value, float) else str(value)) for key, value in pairs)


def memorization_matrix(
    scanned: Sequence[ProblemClones], *, subject: str, organizations: Sequence[str], signature: Signature = ()
) -> list[Measurement]:
    """Count hit prompts for each prompt organization, source organization and stratum.

    Args:
        scanned: prompts of all organizations, natural, planted and held-out together.
        subject: name of the model.
        organizations: the sources, columns of the matrix, see `sources_of`.
        signature: how it was got.
    Returns:
        Measurements "memorization_ratio" = hit prompts / eligible prompts with exact counts, one item per prompt
        and the counted clones as evidence. The strata CROSSED have the source "any" only.
    Raises:
        EmptyMeasurementError: no prompts.
    Example:
        >>> p = ProblemClones(problem=Problem(task_id="t", prompt="def f():", organization="acme"),
        ...     stratum="natural", n_samples=1, clones=())
        >>> [(m.cell, m.count, m.n) for m in memorization_matrix([p], subject="s", organizations=["acme"])]
        [('acme→any natural', 0, 1), ('acme→acme natural', 0, 1), ('acme→any natural→planted', 0, 1)]

    """
    matrix = []
    for prompt_organization, stratum, prompts in cells(scanned):
        for source in sources_of(stratum, organizations):
            cell = hits(prompts, comes_from(source, prompt_organization))
            matrix.append(
                replace(
                    cell,
                    name="memorization_ratio",
                    subject=subject,
                    prompt_organization=prompt_organization,
                    source_organization=source,
                    stratum=stratum,
                    signature=signature,
                )
            )
    return matrix


def cross_organization_ratio(
    scanned: Sequence[ProblemClones], *, subject: str, signature: Signature = ()
) -> list[Measurement]:
    """Count prompts whose output holds lines that stand in two or more organizations.

    Args:
        scanned: prompts of all organizations and strata.
        subject: name of the model.
        signature: how it was got.
    Returns:
        Measurements "cross_organization_clone_ratio" per prompt organization and stratum, with exact counts.
    Raises:
        EmptyMeasurementError: no prompts.
    Example:
        >>> p = ProblemClones(problem=Problem(task_id="t", prompt="def f():", organization="acme", planted=True),
        ...     stratum="planted", n_samples=1, clones=())
        >>> [(m.cell, m.value) for m in cross_organization_ratio([p], subject="s")]
        [('acme planted', 0.0), ('acme planted→natural', 0.0)]

    """
    return [
        replace(
            hits(prompts, lambda clone: clone.crosses),
            name="cross_organization_clone_ratio",
            subject=subject,
            prompt_organization=prompt_organization,
            stratum=stratum,
            signature=signature,
        )
        for prompt_organization, stratum, prompts in cells(scanned)
    ]


def licence_header_ratio(
    scanned: Sequence[ProblemClones], *, subject: str, signature: Signature = ()
) -> list[Measurement]:
    """Count prompts whose output holds a licence header of whatever organization: boilerplate, kept apart from code.

    Args:
        scanned: prompts of all organizations and strata.
        subject: name of the model.
        signature: how it was got.
    Returns:
        Measurements "licence_header_ratio" per prompt organization, natural and held-out, with exact counts.
    Raises:
        EmptyMeasurementError: no prompts.
    Example:
        >>> p = ProblemClones(problem=Problem(task_id="t", prompt="def f():", organization="acme"),
        ...     stratum="natural", n_samples=1, clones=())
        >>> [(m.cell, m.count, m.n) for m in licence_header_ratio([p], subject="s")]
        [('acme→any natural', 0, 1)]

    """
    return [
        replace(
            hits(prompts, lambda clone: clone.header),
            name="licence_header_ratio",
            subject=subject,
            prompt_organization=prompt_organization,
            source_organization=ANY,
            stratum=stratum,
            signature=signature,
        )
        for (prompt_organization, stratum), prompts in _asked(scanned).items()
        if stratum != "planted"
    ]


def cells(scanned: Sequence[ProblemClones]) -> Iterator[Cell]:
    """Yield (prompt organization, stratum, prompts) of every cell that has prompts, with only the clones that count.

    Raises:
        EmptyMeasurementError: no prompts.
    Example:
        >>> p = ProblemClones(problem=Problem(task_id="t", prompt="def f():", organization="acme"),
        ...     stratum="heldout", n_samples=1, clones=())
        >>> [(owner, stratum) for owner, stratum, _ in cells([p])]
        [('acme', 'heldout'), ('acme', 'heldout→planted')]

    """
    asked = _asked(scanned)
    for owner in sorted({organization for organization, _ in asked}):
        for stratum, of_prompt, planted in STRATA:
            prompts = asked.get((owner, of_prompt))
            if prompts:
                yield owner, stratum, only(prompts, _code_that_is(planted))


def sources_of(stratum: str, organizations: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a stratum: any, each organization and, where there are two or more, other.

    Example:
        >>> sources_of("natural", ["acme", "bolt"]), sources_of("natural→planted", ["acme", "bolt"])
        (('any', 'acme', 'bolt', 'other'), ('any',))

    """
    if stratum in CROSSED:
        return (ANY,)
    return (ANY, *organizations, *([OTHER] if len(organizations) > 1 else []))


def comes_from(source: str, owner: str) -> Callable[[Clone], bool]:
    """Return whether a clone counts in a column of the matrix, in the row of the organization `owner`.

    Example:
        >>> from pytest_collabcode.records import Fragment
        >>> place = Fragment(organization="bolt", path="x.py", first_line=1, last_line=6)
        >>> clone = Clone(generated=place, training=place, significant_lines=6, fingerprint="f")
        >>> [comes_from(source, "acme")(clone) for source in ("any", "acme", "bolt", "other")]
        [True, False, True, True]

    """
    if source == OTHER:
        return lambda clone: clone.training.organization != owner
    return lambda clone: source in (ANY, clone.training.organization)


def hits(prompts: Sequence[ProblemClones], counts: Callable[[Clone], bool]) -> Measurement:
    """Count the prompts of one cell that gave back a clone that counts; the measurement has no name and cell yet.

    Example:
        >>> p = ProblemClones(problem=Problem(task_id="t", prompt=""), stratum="natural", n_samples=1, clones=())
        >>> measured = hits([p], lambda clone: True)
        >>> measured.count, measured.n
        (0, 1)

    """
    counted = only(prompts, counts)
    count = sum(bool(p.clones) for p in counted)
    return Measurement(
        name="",
        subject="",
        value=count / len(prompts),
        higher_is_better=False,
        count=count,
        n=len(prompts),
        items=tuple(item_of(p.problem, float(bool(p.clones))) for p in counted),
        evidence=evidence_of(counted),
    )


def only(prompts: Iterable[ProblemClones], counts: Callable[[Clone], bool]) -> list[ProblemClones]:
    """Return the prompts with those of their clones that count.

    Example:
        >>> only([], lambda clone: clone.header)
        []

    """
    return [replace(p, clones=tuple(filter(counts, p.clones))) for p in prompts]


def item_of(problem: Problem, value: float, weight: float = 1.0) -> Item:
    """Return a prompt's share of a measurement, in one cluster with the other prompts of its file.

    Example:
        >>> item_of(Problem(task_id="t", prompt="", organization="acme", path="x.py"), 1.0).cluster
        'acme:x.py'

    """
    cluster = f"{problem.organization}:{problem.path}" if problem.path else ""
    return Item(key=problem.task_id, value=value, weight=weight, cluster=cluster)


def evidence_of(prompts: Iterable[ProblemClones]) -> tuple[Clone, ...]:
    """Return all clones of some prompts, in order.

    Example:
        >>> evidence_of([])
        ()

    """
    return tuple(clone for p in prompts for clone in p.clones)


def _code_that_is(planted: bool) -> Callable[[Clone], bool]:
    return lambda clone: clone.planted is planted and not clone.header


def _asked(scanned: Sequence[ProblemClones]) -> dict[tuple[str, str], list[ProblemClones]]:
    """Return the prompts by organization and stratum, with all their clones."""
    if not scanned:
        raise EmptyMeasurementError("memorization: no prompts, so there is no ratio; are there eligible functions?")
    asked: dict[tuple[str, str], list[ProblemClones]] = {}
    for p in scanned:
        asked.setdefault((p.problem.organization, p.stratum), []).append(p)
    return asked
