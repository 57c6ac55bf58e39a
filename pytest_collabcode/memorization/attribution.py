"""Whose code: memorization ratios by prompt organization, source organization and stratum.

A stratum says which prompts were asked and which code came back:

    natural            natural prompt, natural code: what ceilings judge
    planted            planted prompt, planted code: the positive control of the instrument
    heldout            held-out prompt, natural code: the control of "natural", boilerplate and chance
    natural→planted    natural prompt, planted code: attributed to the plant, never to natural memorization
    planted→natural    planted prompt, natural code
    heldout→planted    held-out prompt, planted code: the control of "planted"

A prompt is hit when any of its samples holds a clone. A cell without eligible prompts is left out, never 0.
Not covered: strata by length or by duplication, clustering by file.
Sources: Udsa et al. 2025, arXiv 2510.08750, for the matrix; Chen and Jiang 2024, arXiv 2409.12020, for clone counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from pytest_collabcode.clones.index import NORMALIZATION, CloneIndex
from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.memorization.clones import ProblemClones
from pytest_collabcode.records import Clone, Item, Measurement, Sampling, Signature

ANY = "any"  # source organization of a hit on whatever organization's code
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


def memorization_signature(index: CloneIndex, sampling: Sampling) -> Signature:
    """Return how memorization is measured, as it stands on every verdict.

    Example:
        >>> s = memorization_signature(CloneIndex.build([]), Sampling(temperature=0.6, top_p=0.6))
        >>> s[:3]
        (('min_lines', '6'), ('normalization', 'verbatim'), ('samples', '1'))

    """
    pairs = [
        ("min_lines", index.min_lines),
        ("normalization", NORMALIZATION),
        ("samples", sampling.n_samples),
        ("tokens", sampling.max_new_tokens),
        ("T", sampling.temperature),
        ("top_p", sampling.top_p),
        ("rp", sampling.repetition_penalty),
        ("seed", sampling.seed),
    ]
    if index.n_hot:
        pairs.append(("hot_windows", index.n_hot))
    return tuple((key, f"{value:g}" if isinstance(value, float) else str(value)) for key, value in pairs)


def memorization_matrix(
    scanned: Sequence[ProblemClones], *, subject: str, organizations: Sequence[str], signature: Signature = ()
) -> list[Measurement]:
    """Count hit prompts for each prompt organization, source organization and stratum.

    Args:
        scanned: prompts of all organizations, natural, planted and held-out together.
        subject: name of the model.
        organizations: the sources, columns of the matrix; "any" is put before them.
        signature: how it was got.
    Returns:
        Measurements "memorization_ratio" = hit prompts / eligible prompts with exact counts, one item per prompt
        and the counted clones as evidence. The strata CROSSED have the source "any" only.
    Raises:
        EmptyMeasurementError: no prompts.
    Example:
        >>> from pytest_collabcode.records import Problem
        >>> p = ProblemClones(problem=Problem(task_id="t", prompt="def f():", organization="acme"),
        ...     stratum="natural", n_samples=1, clones=())
        >>> [(m.cell, m.count, m.n) for m in memorization_matrix([p], subject="s", organizations=["acme"])]
        [('acme→any natural', 0, 1), ('acme→acme natural', 0, 1), ('acme→any natural→planted', 0, 1)]

    """
    matrix = []
    for prompt_organization, stratum, prompts in cells(scanned):
        sources = (ANY,) if stratum in CROSSED else (ANY, *organizations)
        for source in sources:
            cell = _hits(prompts, _comes_from(source))
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
        >>> from pytest_collabcode.records import Problem
        >>> p = ProblemClones(problem=Problem(task_id="t", prompt="def f():", organization="acme", planted=True),
        ...     stratum="planted", n_samples=1, clones=())
        >>> [(m.cell, m.value) for m in cross_organization_ratio([p], subject="s")]
        [('acme planted', 0.0), ('acme planted→natural', 0.0)]

    """
    return [
        replace(
            _hits(prompts, lambda clone: clone.crosses),
            name="cross_organization_clone_ratio",
            subject=subject,
            prompt_organization=prompt_organization,
            stratum=stratum,
            signature=signature,
        )
        for prompt_organization, stratum, prompts in cells(scanned)
    ]


def clone_counts(scanned: Sequence[ProblemClones], *, subject: str, signature: Signature = ()) -> list[Measurement]:
    """Count distinct clones and sum their significant lines: the paper's own view.

    Overlapping clones are distinct, as there, so a line may be counted twice.

    Args:
        scanned: prompts of all organizations and strata.
        subject: name of the model.
        signature: how it was got.
    Returns:
        Measurements "distinct_clones" and "clone_lines" per prompt organization and stratum. A fingerprint that
        several prompts gave back is shared equally between their items; item weights are 1/n, so that the sum of
        values over the sum of weights is the total, resampled or not.
    Raises:
        EmptyMeasurementError: no prompts.
    Example:
        >>> from pytest_collabcode.records import Problem
        >>> p = ProblemClones(problem=Problem(task_id="t", prompt="def f():", organization="acme"),
        ...     stratum="natural", n_samples=1, clones=())
        >>> [(m.name, m.value) for m in clone_counts([p], subject="s")][:2]
        [('distinct_clones', 0.0), ('clone_lines', 0.0)]

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
        for prompt_organization, stratum, prompts in cells(scanned)
        for count in _distinct(prompts)
    ]


def cells(scanned: Sequence[ProblemClones]) -> Iterator[Cell]:
    """Yield (prompt organization, stratum, prompts) of every cell that has prompts, with only the clones that count.

    Raises:
        EmptyMeasurementError: no prompts.
    Example:
        >>> from pytest_collabcode.records import Problem
        >>> p = ProblemClones(problem=Problem(task_id="t", prompt="def f():", organization="acme"),
        ...     stratum="heldout", n_samples=1, clones=())
        >>> [(owner, stratum) for owner, stratum, _ in cells([p])]
        [('acme', 'heldout'), ('acme', 'heldout→planted')]

    """
    if not scanned:
        raise EmptyMeasurementError("memorization: no prompts, so there is no ratio; are there eligible functions?")
    for owner in sorted({p.problem.organization for p in scanned}):
        for stratum, asked, planted in STRATA:
            prompts = [
                replace(p, clones=tuple(c for c in p.clones if c.planted is planted))
                for p in scanned
                if p.problem.organization == owner and p.stratum == asked
            ]
            if prompts:
                yield owner, stratum, prompts


def evidence_of(prompts: Iterable[ProblemClones]) -> tuple[Clone, ...]:
    """Return all clones of some prompts, in order.

    Example:
        >>> evidence_of([])
        ()

    """
    return tuple(clone for p in prompts for clone in p.clones)


def _distinct(prompts: Sequence[ProblemClones]) -> Iterator[Measurement]:
    """Yield the two counts of a cell, still without its names."""
    by_prompt = [{c.fingerprint: c.significant_lines for c in p.clones} for p in prompts]
    holders = Counter(fingerprint for found in by_prompt for fingerprint in found)
    lengths = {fingerprint: n_lines for found in by_prompt for fingerprint, n_lines in found.items()}
    ones = dict.fromkeys(lengths, 1)
    for name, unit, sizes in (("distinct_clones", "clones", ones), ("clone_lines", "lines", lengths)):
        shares = [sum(sizes[f] / holders[f] for f in found) for found in by_prompt]
        yield Measurement(
            name=name,
            subject="",
            value=float(sum(sizes.values())),
            unit=unit,
            higher_is_better=False,
            items=tuple(
                Item(key=p.problem.task_id, value=share, weight=1 / len(prompts))
                for p, share in zip(prompts, shares, strict=True)
            ),
        )


def _comes_from(source: str) -> Callable[[Clone], bool]:
    return lambda clone: source in (ANY, clone.training.organization)


def _hits(prompts: Sequence[ProblemClones], counts: Callable[[Clone], bool]) -> Measurement:
    counted = [replace(p, clones=tuple(filter(counts, p.clones))) for p in prompts]
    count = sum(bool(p.clones) for p in counted)
    return Measurement(
        name="",
        subject="",
        value=count / len(prompts),
        higher_is_better=False,
        count=count,
        n=len(prompts),
        items=tuple(Item(key=p.problem.task_id, value=float(bool(p.clones))) for p in counted),
        evidence=evidence_of(counted),
    )
