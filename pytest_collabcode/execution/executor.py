"""The executor: generated programs in, one outcome each out.

Equal programs of one problem run once. A failure of the tool itself is never counted as a failure of the program: it
ends the run and names the sample.
Not covered: a pool of started interpreters, limits over all programs together, re-runs of programs that timed out.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing

from pytest_collabcode.errors import ConfigurationError, InternalSampleError
from pytest_collabcode.execution.policy import DEFAULT_LIMITS, Limits
from pytest_collabcode.execution.sandbox import LEVEL, Sandbox, open_sandbox
from pytest_collabcode.execution.trial import Ruling, try_program
from pytest_collabcode.records import Execution, Generation, Outcome, Problem

Program = tuple[str, str]
"""A task_id and a completion of its prompt."""


def execute(
    problems: Mapping[str, Problem],
    generations: Sequence[Generation],
    *,
    limits: Limits = DEFAULT_LIMITS,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Execution]:
    """Run each generated program against its problem's test, isolated.

    Args:
        problems: by task_id; each with prompt, test (which defines `check`) and entry_point.
        generations: in any order; programs that are equal run once and share the outcome.
        limits: of each program, and of each test.
        workers: programs at a time; the number of usable cores by default.
        progress: called with (generations decided, generations in all) from the calling thread.
    Returns:
        One execution per generation, in the order given.
    Raises:
        IsolationError: this machine cannot isolate; nothing was run.
        ConfigurationError: a generation has no problem.
        InternalSampleError: the tool failed on a program, which the message names; never counted as a failure.
    Example:
        >>> problem = Problem(task_id="t", prompt="def f(x):\\n", entry_point="f",
        ...                   test="def check(f):\\n    assert f(1) == 2\\n")
        >>> generation = Generation(task_id="t", sample_index=0, completion="    return x + 1\\n",
        ...                         n_tokens=0, duration_s=0, stop_reason="eos")
        >>> [execution.outcome.value for execution in execute({"t": problem}, [generation])]
        ['passed']
    """
    missing = [g.task_id for g in generations if g.task_id not in problems]
    if missing:
        raise ConfigurationError(
            f"task_id={missing[0]!r}: a generation names it, but no problem of that name was given"
        )
    sandbox = open_sandbox(limits)
    shares = Counter((g.task_id, g.completion) for g in generations)
    rulings: dict[Program, Ruling] = {}
    n_workers = workers or len(os.sched_getaffinity(0))
    with closing(_run_all(sandbox, problems, list(shares), n_workers)) as ended:
        for program, ruling in ended:
            if ruling.outcome is Outcome.INTERNAL_ERROR:
                raise _internal_error(program, generations, ruling)
            rulings[program] = ruling
            if progress is not None:
                progress(sum(shares[done] for done in rulings), len(generations))
    return [_execution(g, rulings[g.task_id, g.completion]) for g in generations]


def _internal_error(program: Program, generations: Sequence[Generation], ruling: Ruling) -> InternalSampleError:
    index = next(g.sample_index for g in generations if (g.task_id, g.completion) == program)
    return InternalSampleError(
        f"{program[0]}#{index}: the tool failed on this sample, which says nothing about the program: {ruling.detail}"
    )


def _execution(generation: Generation, ruling: Ruling) -> Execution:
    return Execution(
        task_id=generation.task_id,
        sample_index=generation.sample_index,
        outcome=ruling.outcome,
        duration_s=ruling.duration_s,
        isolation=LEVEL,
        detail=ruling.detail,
    )


def _run_all(
    sandbox: Sandbox, problems: Mapping[str, Problem], programs: Sequence[Program], workers: int
) -> Generator[tuple[Program, Ruling], None, None]:
    """Yield each program's ruling as it comes; an error, or a caller that stops listening, stops all of them."""
    stop = threading.Event()
    with ThreadPoolExecutor(workers, thread_name_prefix="execution") as pool:
        futures = {pool.submit(try_program, sandbox, problems[p[0]], p[1], stop): p for p in programs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
