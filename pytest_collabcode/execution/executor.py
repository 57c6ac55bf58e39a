"""The executor: generated programs in, one outcome each out.

Equal programs of one problem run once. A failure of the tool itself is never counted as a failure of the program.
`duration_s` of an Execution is wall-clock time from the forking of the program and its judge to the verdict; equal
programs share the one run's. It includes the test's own work and depends on what else the machine does: it orders
work and explains delays, no verdict rests on it.
Not covered: limits over all programs together, re-runs of programs that timed out.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from dataclasses import replace
from typing import Protocol

from pytest_collabcode.digests import digest_bytes
from pytest_collabcode.errors import ConfigurationError, InternalSampleError
from pytest_collabcode.execution.crew import Crew
from pytest_collabcode.execution.policy import DEFAULT_LIMITS, Limits
from pytest_collabcode.execution.sandbox import open_sandbox
from pytest_collabcode.execution.trial import Ruling
from pytest_collabcode.machine import usable_cores
from pytest_collabcode.records import Execution, Generation, Outcome, Problem

HELD_BYTES = 32 << 20
"""Memory for completions that run or wait for a worker; one more is always taken, however large."""


class Programs(Protocol):
    """Generations by number, in memory or read when they are asked for."""

    def __getitem__(self, number: int, /) -> Generation: ...


def program_key(generation: Generation) -> str:
    """Return what equal programs of one problem share and no others do, whatever characters they hold.

    Example:
        >>> rest = {"sample_index": 0, "n_tokens": 0, "duration_s": 0, "stop_reason": ""}
        >>> one = Generation(task_id="a\\0b", completion="c", **rest)
        >>> program_key(one) == program_key(replace(one, sample_index=1))
        True
        >>> program_key(one) == program_key(Generation(task_id="a", completion="b\\0c", **rest))
        False
    """
    task_id, completion = (
        part.encode(errors="surrogatepass") for part in (generation.task_id, generation.completion)
    )
    return digest_bytes(b"%d %b%b" % (len(task_id), task_id, completion))


def execute(
    problems: Mapping[str, Problem],
    generations: Sequence[Generation],
    *,
    limits: Limits = DEFAULT_LIMITS,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    unsafe: bool = False,
) -> list[Execution]:
    """Run each generated program against its problem's test, isolated.

    Args:
        problems: by task_id; each with prompt, test (which defines `check`) and entry_point.
        generations: in any order; programs that are equal run once and share the outcome.
        limits: of each program, and of each test.
        workers: programs at a time; the number of usable cores by default.
        progress: called with (generations decided, generations in all) from the calling thread.
        unsafe: run with what is left where namespaces are missing.
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
    keys = [program_key(generation) for generation in generations]
    shares, firsts = Counter(keys), dict[str, int]()
    for number, key in enumerate(keys):
        firsts.setdefault(key, number)
    ended: dict[str, Execution] = {}
    n_decided = 0
    run = execute_each(problems, generations, list(firsts.values()), limits=limits, workers=workers, unsafe=unsafe)
    with closing(run):
        for number, execution in run:
            if execution.outcome is Outcome.INTERNAL_ERROR:
                raise InternalSampleError(
                    f"{execution.task_id}#{execution.sample_index}: the tool failed on this sample, "
                    f"which says nothing about the program: {execution.detail}"
                )
            ended[keys[number]] = execution
            n_decided += shares[keys[number]]
            if progress is not None:
                progress(n_decided, len(generations))
    return [
        replace(ended[key], sample_index=generation.sample_index)
        for key, generation in zip(keys, generations, strict=True)
    ]


def execute_each(
    problems: Mapping[str, Problem],
    generations: Programs,
    numbers: Sequence[int],
    *,
    limits: Limits = DEFAULT_LIMITS,
    workers: int | None = None,
    unsafe: bool = False,
) -> Generator[tuple[int, Execution], None, None]:
    """Run some of many generated programs, and yield each as it ends.

    One program of each problem comes first, then those of the problems that took longest, so that no timeout is left
    alone at the end. A completion is asked for when its turn comes: generations on disk stay there.

    Args:
        problems: by task_id.
        generations: any; equal ones are run again.
        numbers: of those to run.
        limits: of each program, and of each test.
        workers: programs at a time; the number of usable cores by default.
        unsafe: run with what is left where namespaces are missing.
    Yields:
        Number and execution; where the tool itself failed, with the outcome INTERNAL_ERROR, which says nothing about
        the program and must not be counted as a failure.
    Raises:
        IsolationError: this machine cannot isolate; nothing was run.
        ConfigurationError: a generation has no problem; nothing was run.
    Example:
        >>> problem = Problem(task_id="t", prompt="def f(x):\\n", entry_point="f",
        ...                   test="def check(f):\\n    assert f(1) == 2\\n")
        >>> drawn = [Generation(task_id="t", sample_index=i, completion=f"    return x + {i}\\n",
        ...                     n_tokens=0, duration_s=0, stop_reason="eos") for i in range(3)]
        >>> sorted((number, execution.passed) for number, execution in execute_each({"t": problem}, drawn, [1, 2]))
        [(1, True), (2, False)]
    """
    task_ids = {number: _problem(problems, generations[number]).task_id for number in numbers}
    sandbox = open_sandbox(limits, unsafe=unsafe)
    took_s: dict[str, float] = {}
    queue = _slow_problems_first(task_ids, took_s)
    with Crew(sandbox, min(workers or usable_cores(), max(len(task_ids), 1))) as crew:
        running: dict[Future[Ruling], tuple[int, Generation, int]] = {}
        while True:
            while len(running) < 2 * crew.size and sum(held for *_, held in running.values()) < HELD_BYTES:
                number = next(queue, None)
                if number is None:
                    break
                generation = generations[number]
                future = crew.submit(crew.try_program, problems[generation.task_id], generation.completion)
                running[future] = number, replace(generation, completion=""), sys.getsizeof(generation.completion)
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                number, generation, _ = running.pop(future)
                ruling = future.result()
                took_s[generation.task_id] = max(ruling.duration_s, took_s.get(generation.task_id, 0.0))
                yield number, _execution(generation, ruling, sandbox.level)


def _slow_problems_first(task_ids: Mapping[int, str], took_s: Mapping[str, float]) -> Iterator[int]:
    """Yield one program of each problem, then the rest, longest problems first.

    Args:
        task_ids: by number of the program.
        took_s: by task_id, filled in by the caller meanwhile; a problem still missing is taking longest.
    """
    first: dict[str, int] = {}
    for number, task_id in task_ids.items():
        first.setdefault(task_id, number)
    yield from first.values()
    rest = [number for number, task_id in task_ids.items() if first[task_id] != number]
    yield from sorted(rest, key=lambda number: -took_s.get(task_ids[number], math.inf))


def _problem(problems: Mapping[str, Problem], generation: Generation) -> Problem:
    if generation.task_id not in problems:
        raise ConfigurationError(
            f"task_id={generation.task_id!r}: a generation names it, but no problem of that name was given"
        )
    return problems[generation.task_id]


def _execution(generation: Generation, ruling: Ruling, level: str) -> Execution:
    return Execution(
        task_id=generation.task_id,
        sample_index=generation.sample_index,
        outcome=ruling.outcome,
        duration_s=ruling.duration_s,
        isolation=level,
        detail=ruling.detail,
    )
