"""The memorization task: ask for training functions by signature and docstring, and see whose code comes back.

Covered: prompts, sampling and the list of measurements; the session generates and scans in between.
Not covered: finding clones and counting hits (memorization/).
Source: Chen and Jiang 2024, arXiv 2409.12020: prompts, temperature, top-p, repetition penalty and stop strings.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_collabcode.clones.index import MIN_LINES
from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.memorization.attribution import (
    cross_organization_ratio,
    licence_header_ratio,
    memorization_matrix,
)
from pytest_collabcode.memorization.clones import ProblemClones
from pytest_collabcode.memorization.controls import over_heldout, with_heldout_controls
from pytest_collabcode.memorization.counts import clone_counts
from pytest_collabcode.memorization.line_ratios import line_ratios
from pytest_collabcode.memorization.strata import copies_counts, length_ratios
from pytest_collabcode.records import Function, Measurement, Plant, Problem, Sampling, Signature

STOP = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif")


def sampling(*, max_new_tokens: int, n_samples: int, seed: int) -> Sampling:
    """Return the paper's sampling; sizes come from the profile (the paper's own: 512 tokens, 5 samples).

    Example:
        >>> s = sampling(max_new_tokens=128, n_samples=1, seed=1)
        >>> s.temperature, s.top_p, s.repetition_penalty
        (0.6, 0.6, 1.1)

    """
    return Sampling(
        temperature=0.6,
        top_p=0.6,
        repetition_penalty=1.1,
        max_new_tokens=max_new_tokens,
        n_samples=n_samples,
        stop=STOP,
        seed=seed,
    )


def task_id(function: Function) -> str:
    """Return the key of a function's problem: organization, path and first line.

    Example:
        >>> task_id(Function(organization="acme", path="x.py", name="f", split="training", first_line=3, last_line=5,
        ...     prompt="def f():", docstring="", body="    pass", significant_lines=1))
        'acme:x.py:3'

    """
    return f"{function.organization}:{function.path}:{function.first_line}"


def problems(
    functions: Sequence[Function], *, plants: Sequence[Plant] = (), min_lines: int = MIN_LINES
) -> list[Problem]:
    """Return the prompts: every plant, then every other function, as far as they are eligible.

    Args:
        functions: of the training split (or held-out ones, for the control), each once.
        plants: of the corpus; a function that is also a plant is asked as a plant only, by its owner.
        min_lines: significant lines a body must have, since a shorter one cannot be given back as a clone.
    Returns:
        Problems with organization, path and planted; the body is the canonical solution.
    Raises:
        EmptyMeasurementError: no function is eligible.
        ValueError: a function is given twice.
    Example:
        >>> f = Function(organization="acme", path="x.py", name="f", split="training", first_line=3, last_line=9,
        ...     prompt="def f():", docstring="", body="    a", significant_lines=6)
        >>> [p.task_id for p in problems([f])]
        ['acme:x.py:3']

    """
    planted = {task_id(plant.function): plant.function for plant in plants}
    natural = {task_id(f): f for f in functions}
    if len(natural) != len(functions):
        raise ValueError(f"functions: {len(functions) - len(natural)} are given twice")
    eligible = [
        _problem(key, function, planted=key in planted)
        for key, function in {**planted, **{k: f for k, f in natural.items() if k not in planted}}.items()
        if function.significant_lines >= min_lines
    ]
    if not eligible:
        raise EmptyMeasurementError(
            f"memorization: none of {len(functions)} functions has a body of min_lines={min_lines!r} lines or more"
        )
    return eligible


def measure(
    scanned: Sequence[ProblemClones], *, subject: str, organizations: Sequence[str], signature: Signature = ()
) -> list[Measurement]:
    """Return everything measured of memorization, each natural and planted cell with its held-out control.

    Args:
        scanned: natural, planted and held-out prompts of all organizations together.
        subject: name of the model.
        organizations: whose training code is in the index.
        signature: of index and sampling, see `memorization_signature`.
    Returns:
        Measurements "memorization_ratio" (also by length), "line_ratio", "cross_organization_clone_ratio",
        "licence_header_ratio", "memorization_over_heldout", "distinct_clones" and "clone_lines" (also by copies).
    Raises:
        EmptyMeasurementError: no prompts.
    Example:
        >>> p = ProblemClones(problem=Problem(task_id="t", prompt="def f():", organization="acme"),
        ...     stratum="natural", n_samples=1, clones=())
        >>> print(*sorted({m.name for m in measure([p], subject="s", organizations=["acme"])}))
        clone_lines cross_organization_clone_ratio distinct_clones licence_header_ratio memorization_ratio

    """
    ratios = [
        *memorization_matrix(scanned, subject=subject, organizations=organizations, signature=signature),
        *line_ratios(scanned, subject=subject, organizations=organizations, signature=signature),
        *cross_organization_ratio(scanned, subject=subject, signature=signature),
        *licence_header_ratio(scanned, subject=subject, signature=signature),
    ]
    controlled = with_heldout_controls(ratios)
    return [
        *controlled,
        *over_heldout(controlled),
        *length_ratios(scanned, subject=subject, signature=signature),
        *clone_counts(scanned, subject=subject, signature=signature),
        *copies_counts(scanned, subject=subject, signature=signature),
    ]


def _problem(key: str, function: Function, *, planted: bool) -> Problem:
    return Problem(
        task_id=key,
        prompt=function.prompt,
        canonical_solution=function.body,
        organization=function.organization,
        path=function.path,
        planted=planted,
    )
