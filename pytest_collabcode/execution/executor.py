"""The executor: generated programs in, one outcome each out.

Equal programs of one problem run once. A failure of the tool itself is never counted as a failure of the program.
`duration_s` of an Execution is wall-clock time from the forking of the program and its judge to the verdict; equal
programs share the one run's. It includes the test's own work and depends on what else the machine does: it orders
work and explains delays, no verdict rests on it.
Not covered: limits over all programs together, re-runs of programs that timed out.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import replace

from pytest_collabcode.errors import ConfigurationError, InternalSampleError
from pytest_collabcode.execution.crew import Crew
from pytest_collabcode.execution.policy import DEFAULT_LIMITS, Limits
from pytest_collabcode.execution.sandbox import open_sandbox
from pytest_collabcode.execution.trial import Ruling
from pytest_collabcode.records import Execution, Generation, Outcome, Problem

LOOK_AHEAD = 1024
"""Generations that a stream reads beyond the one whose execution it yields next."""

REMEMBERED = 1 << 16
"""Distinct programs whose outcome a stream keeps for later duplicates, about 20 MB of them."""

Program = tuple[str, str]
"""A task_id and a completion of its prompt."""


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
    for generation in generations:
        _problem(problems, generation)
    sandbox = open_sandbox(limits, unsafe=unsafe)
    shares = Counter((g.task_id, g.completion) for g in generations)
    rulings: dict[Program, Ruling] = {}
    n_decided = 0
    with Crew(sandbox, min(workers or usable_cores(), max(len(shares), 1))) as crew:
        for program, ruling in _run_all(crew, problems, list(shares)):
            if ruling.outcome is Outcome.INTERNAL_ERROR:
                raise _internal_error(program, generations, ruling)
            rulings[program] = ruling
            n_decided += shares[program]
            if progress is not None:
                progress(n_decided, len(generations))
    return [_execution(g, rulings[g.task_id, g.completion], sandbox.level) for g in generations]


def execute_in_order(
    problems: Mapping[str, Problem],
    generations: Iterable[Generation],
    *,
    limits: Limits = DEFAULT_LIMITS,
    workers: int | None = None,
    unsafe: bool = False,
) -> Iterator[Execution]:
    """Run generated programs as they come, and yield their executions in the same order.

    Memory does not grow with the number of generations: LOOK_AHEAD of them are read before the one in front is
    decided, and outcomes of REMEMBERED distinct programs are kept for duplicates.

    Args:
        problems: by task_id.
        generations: read as needed, from the calling thread.
        limits: of each program, and of each test.
        workers: programs at a time; the number of usable cores by default.
        unsafe: run with what is left where namespaces are missing.
    Yields:
        One execution per generation; where the tool itself failed, with the outcome INTERNAL_ERROR, which says
        nothing about the program and must not be counted as a failure.
    Raises:
        IsolationError: this machine cannot isolate; nothing was run.
        ConfigurationError: a generation has no problem.
    Example:
        >>> problem = Problem(task_id="t", prompt="def f(x):\\n", entry_point="f",
        ...                   test="def check(f):\\n    assert f(1) == 2\\n")
        >>> stream = (Generation(task_id="t", sample_index=i, completion=f"    return x + {i}\\n",
        ...                      n_tokens=0, duration_s=0, stop_reason="eos") for i in range(3))
        >>> [execution.passed for execution in execute_in_order({"t": problem}, stream)]
        [False, True, False]
    """
    sandbox = open_sandbox(limits, unsafe=unsafe)
    known: dict[bytes, Future[Ruling] | Ruling] = {}
    waiting: deque[tuple[Generation, bytes, Future[Ruling] | Ruling]] = deque()
    with Crew(sandbox, workers or usable_cores()) as crew:

        def decide() -> Execution:
            generation, key, ruling = waiting.popleft()
            if isinstance(ruling, Future):
                ruling = known[key] = ruling.result()
            return _execution(generation, ruling, sandbox.level)

        for generation in generations:
            problem = _problem(problems, generation)
            key = _key(generation)
            if key not in known:
                known[key] = crew.submit(crew.try_program, problem, generation.completion)
            waiting.append((replace(generation, completion=""), key, known[key]))
            while len(waiting) > LOOK_AHEAD or (waiting and _is_decided(waiting[0][2])):
                yield decide()
            if len(known) > REMEMBERED:  # the oldest are long decided: LOOK_AHEAD is far less
                del known[next(iter(known))]
        while waiting:
            yield decide()


def usable_cores() -> int:
    """Return how many cores this process may use.

    Example:
        >>> usable_cores() >= 1
        True
    """
    return len(os.sched_getaffinity(0))


def _run_all(
    crew: Crew, problems: Mapping[str, Problem], programs: Sequence[Program]
) -> Iterator[tuple[Program, Ruling]]:
    """Yield each program's ruling as it comes."""
    took_s: dict[str, float] = {}
    queue = _slow_problems_first(programs, took_s)
    lock = threading.Lock()

    def run_next() -> tuple[Program, Ruling]:
        with lock:
            program = next(queue)
        ruling = crew.try_program(problems[program[0]], program[1])
        took_s[program[0]] = max(ruling.duration_s, took_s.get(program[0], 0.0))
        return program, ruling

    for future in as_completed([crew.submit(run_next) for _ in programs]):
        yield future.result()


def _slow_problems_first(programs: Sequence[Program], took_s: Mapping[str, float]) -> Iterator[Program]:
    """Yield one program of each problem, then the rest, longest problems first: no timeout is left alone at the end.

    Args:
        programs: distinct.
        took_s: by task_id, filled in by the caller meanwhile; a problem still missing is taking longest.
    """
    first = {task_id: (task_id, completion) for task_id, completion in reversed(programs)}
    early = [first[task_id] for task_id in dict.fromkeys(task_id for task_id, _ in programs)]
    yield from early
    rest = [program for program in programs if first[program[0]] != program]
    yield from sorted(rest, key=lambda program: -took_s.get(program[0], math.inf))


def _problem(problems: Mapping[str, Problem], generation: Generation) -> Problem:
    if generation.task_id not in problems:
        raise ConfigurationError(
            f"task_id={generation.task_id!r}: a generation names it, but no problem of that name was given"
        )
    return problems[generation.task_id]


def _key(generation: Generation) -> bytes:
    text = f"{generation.task_id}\0{generation.completion}"
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def _is_decided(ruling: Future[Ruling] | Ruling) -> bool:
    return ruling.done() if isinstance(ruling, Future) else True


def _internal_error(program: Program, generations: Sequence[Generation], ruling: Ruling) -> InternalSampleError:
    index = next(g.sample_index for g in generations if (g.task_id, g.completion) == program)
    return InternalSampleError(
        f"{program[0]}#{index}: the tool failed on this sample, which says nothing about the program: {ruling.detail}"
    )


def _execution(generation: Generation, ruling: Ruling, level: str) -> Execution:
    return Execution(
        task_id=generation.task_id,
        sample_index=generation.sample_index,
        outcome=ruling.outcome,
        duration_s=ruling.duration_s,
        isolation=level,
        detail=ruling.detail,
    )
