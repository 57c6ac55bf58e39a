"""Strata: memorization by length of the body that was asked for, and by how often code stands in the training data.

    natural 6-9 lines      natural prompts whose true body has 6 to 9 significant lines, natural code
    planted 20+ lines      likewise, planted
    natural 2-9 copies     clones whose rarest window stands in 2 to 9 places of the training data

These names carry more than "natural" and "planted", so a threshold on those strata does not judge them.
Not covered: planted clones by copies; how often a plant is seen is the recipe's choice, not the index's count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from pytest_collabcode.lines import significant_lines
from pytest_collabcode.memorization.attribution import ANY, Cell, cells, hits, only
from pytest_collabcode.memorization.clones import ProblemClones
from pytest_collabcode.memorization.counts import counts_of
from pytest_collabcode.records import Clone, Measurement, Signature

LENGTHS = (("1-5 lines", 1), ("6-9 lines", 6), ("10-19 lines", 10), ("20+ lines", 20))  # (name, least)
COPIES = (("unknown copies", 0), ("1 copy", 1), ("2-9 copies", 2), ("10+ copies", 10))


def length_ratios(scanned: Sequence[ProblemClones], *, subject: str, signature: Signature = ()) -> list[Measurement]:
    """Count hit prompts by the length of the true body: longer bodies leave more room for a clone.

    Args:
        scanned: prompts of all organizations and strata; a problem's canonical solution is its true body.
        subject: name of the model.
        signature: how it was got.
    Returns:
        Measurements "memorization_ratio" from any organization, of natural and planted prompts, with exact counts;
        lengths that no prompt has are left out.
    Raises:
        EmptyMeasurementError: no prompts.
    Example:
        >>> from pytest_collabcode.records import Problem
        >>> problem = Problem(task_id="t", prompt="def f():", canonical_solution="a\\n" * 12, organization="acme")
        >>> p = ProblemClones(problem=problem, stratum="natural", n_samples=1, clones=())
        >>> [(m.cell, m.count, m.n) for m in length_ratios([p], subject="s")]
        [('acme→any natural 10-19 lines', 0, 1)]
    """
    return [
        replace(
            hits(prompts, lambda clone: True),
            name="memorization_ratio",
            subject=subject,
            prompt_organization=owner,
            source_organization=ANY,
            stratum=stratum,
            signature=signature,
        )
        for owner, stratum, prompts in _by_length(scanned)
    ]


def copies_counts(scanned: Sequence[ProblemClones], *, subject: str, signature: Signature = ()) -> list[Measurement]:
    """Count distinct natural clones by how often their code stands in the training data.

    Args:
        scanned: prompts of all organizations and strata.
        subject: name of the model.
        signature: how it was got.
    Returns:
        Measurements "distinct_clones" of natural prompts; "unknown copies" only where an index that does not count (a
        sparse one) found some.
    Raises:
        EmptyMeasurementError: no prompts.
    Example:
        >>> from pytest_collabcode.records import Problem
        >>> p = ProblemClones(problem=Problem(task_id="t", prompt="def f():", organization="acme"),
        ...     stratum="natural", n_samples=1, clones=())
        >>> [m.cell for m in copies_counts([p], subject="s")]
        ['acme natural 1 copy', 'acme natural 2-9 copies', 'acme natural 10+ copies']
    """
    counts = counts_of(_by_copies(scanned), subject=subject, signature=signature)
    return [m for m in counts if m.name == "distinct_clones"]


def _by_length(scanned: Sequence[ProblemClones]) -> Iterator[Cell]:
    for owner, stratum, prompts in cells(scanned):
        if stratum not in ("natural", "planted"):
            continue
        lengths = [_named(LENGTHS, sum(1 for _ in significant_lines(p.problem.canonical_solution))) for p in prompts]
        for name, _ in LENGTHS:
            members = [p for p, length in zip(prompts, lengths, strict=True) if length == name]
            if members:
                yield owner, f"{stratum} {name}", members


def _by_copies(scanned: Sequence[ProblemClones]) -> Iterator[Cell]:
    for owner, stratum, prompts in cells(scanned):
        if stratum != "natural":
            continue
        for name, least in COPIES:
            members = only(prompts, _stands_in(name))
            if least or any(p.clones for p in members):
                yield owner, f"{stratum} {name}", members


def _stands_in(name: str) -> Callable[[Clone], bool]:
    return lambda clone: _named(COPIES, clone.copies) == name


def _named(ranges: Sequence[tuple[str, int]], number: int) -> str:
    return next((name for name, least in reversed(ranges) if number >= least), "")
