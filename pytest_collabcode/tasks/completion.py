"""The completion task: continue a held-out function from its signature and docstring, compared with its true body.

The cut: output and true body are compared over the same stretch, which depends on neither model nor tokenizer. Of
both, blank lines go, the text ends where the function does (the first line that is not indented), and the first
MAX_LINES lines are kept. MAX_LINES is below what max_new_tokens usually holds, so that the token limit seldom cuts.
Not covered: whether the output works (HumanEval does that).
Source: CodeXGLUE and CodeT5 text-to-code generation for the metrics.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_collabcode.errors import EmptyMeasurementError, MeasurementError
from pytest_collabcode.lines import split_lines
from pytest_collabcode.memorization.clones import first_own_line
from pytest_collabcode.metrics.bleu import codexglue, sacrebleu
from pytest_collabcode.metrics.edit_similarity import edit_similarity
from pytest_collabcode.metrics.exact_match import exact_match
from pytest_collabcode.records import Function, Generation, Measurement, Problem, Sampling
from pytest_collabcode.tasks.memorization import STOP, task_id

MAX_LINES = 8


def sampling(*, max_new_tokens: int, seed: int) -> Sampling:
    """Return greedy sampling, one completion per problem.

    Example:
        >>> sampling(max_new_tokens=128, seed=1).temperature
        0.0

    """
    return Sampling(temperature=0.0, max_new_tokens=max_new_tokens, n_samples=1, stop=STOP, seed=seed)


def problems(functions: Sequence[Function], *, max_lines: int = MAX_LINES) -> list[Problem]:
    """Return one problem per function whose body is not empty after the cut.

    Args:
        functions: held-out ones.
        max_lines: of the cut, >= 1.
    Returns:
        Problems whose canonical solution is the cut body.
    Raises:
        EmptyMeasurementError: there are none.
    Example:
        >>> f = Function(organization="acme", path="x.py", name="f", split="heldout", first_line=3, last_line=9,
        ...     prompt="def f():", docstring="", body="    return 1", significant_lines=1)
        >>> problems([f])[0].canonical_solution
        '    return 1'

    """
    found = [
        Problem(
            task_id=task_id(f),
            prompt=f.prompt,
            canonical_solution=cut(f.body, max_lines=max_lines),
            organization=f.organization,
            path=f.path,
        )
        for f in functions
    ]
    kept = [problem for problem in found if problem.canonical_solution]
    if not kept:
        raise EmptyMeasurementError(f"completion: none of {len(functions)} held-out functions has a body")
    return kept


def cut(text: str, *, prompt: str = "", max_lines: int = MAX_LINES) -> str:
    """Return the stretch of a body that is compared.

    Args:
        text: a body or a completion.
        prompt: what a completion continues; the rest of the prompt's last line is no part of the body.
        max_lines: kept at most.
    Example:
        >>> cut("\\n    a = 1\\n\\n    return a\\ndef g():\\n    pass", prompt="def f():")
        '    a = 1\\n    return a'

    """
    kept: list[str] = []
    for line in split_lines(text)[first_own_line(prompt) - 1 :]:
        if not line.strip():
            continue
        if len(kept) == max_lines or not line[0].isspace():
            break
        kept.append(line.rstrip())
    return "\n".join(kept)


def measure(
    problems: Sequence[Problem],
    generations: Sequence[Generation],
    *,
    subject: str,
    sampling: Sampling,
    max_lines: int = MAX_LINES,
) -> list[Measurement]:
    """Compare completions with true bodies, pooled over organizations.

    Args:
        problems: as `problems` made them.
        generations: one per problem, in any order.
        subject: name of the model.
        sampling: as generated.
        max_lines: of the cut, the same as for problems.
    Returns:
        Measurements "bleu.sacrebleu", "bleu4.codexglue", "exact_match" and "edit_similarity".
    Raises:
        EmptyMeasurementError: there are no problems.
        MeasurementError: a problem has no generation.
    Example:
        >>> p = Problem(task_id="t", prompt="def f():", canonical_solution="    return 1")
        >>> g = Generation(task_id="t", sample_index=0, completion="\\n    return 1\\n", n_tokens=3, duration_s=0.1,
        ...     stop_reason="eos")
        >>> [m.name for m in measure([p], [g], subject="s", sampling=sampling(max_new_tokens=8, seed=1))]
        ['bleu.sacrebleu', 'bleu4.codexglue', 'exact_match', 'edit_similarity']

    """
    outputs = {g.task_id: g.completion for g in generations if g.sample_index == 0}
    missing = [p.task_id for p in problems if p.task_id not in outputs]
    if missing:
        raise MeasurementError(f"task_id={missing[0]!r}: no generation, as for {len(missing) - 1} others")
    keys = [p.task_id for p in problems]
    references = [p.canonical_solution for p in problems]
    predictions = [cut(outputs[p.task_id], prompt=p.prompt, max_lines=max_lines) for p in problems]
    signature = (
        ("problems", str(len(keys))),
        ("lines", str(max_lines)),
        ("T", f"{sampling.temperature:g}"),
        ("tokens", str(sampling.max_new_tokens)),
        ("seed", str(sampling.seed)),
    )
    return [
        sacrebleu(predictions, references, subject=subject, signature=signature),
        codexglue(predictions, references, subject=subject, signature=signature),
        exact_match(keys, predictions, references, subject=subject, signature=signature),
        edit_similarity(keys, predictions, references, subject=subject, signature=signature),
    ]
