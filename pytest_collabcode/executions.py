"""Executions: what generated programs run in on this machine, and what became of each, stored as it comes.

A program runs once for its problem, limits, isolation, Python and EXECUTION_VERSION; its duplicates share the result,
and a run that goes on after a kill begins with what is stored.
Not covered: running programs (execution/), what the outcomes mean (tasks/humaneval.py).
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

from pytest_collabcode.digests import digest_of
from pytest_collabcode.errors import InternalSampleError, IsolationError
from pytest_collabcode.execution.executor import program_key
from pytest_collabcode.execution.policy import DEFAULT_LIMITS
from pytest_collabcode.execution.sandbox import Isolation, probe
from pytest_collabcode.journal import Journal
from pytest_collabcode.progress import Report
from pytest_collabcode.records import Execution, Generation, Outcome

EXECUTION_VERSION = 3  # raise whenever the same program may come to another end
UNSAFE = "unsafe"  # how a level begins that keeps nothing in

Run = Callable[[Sequence[Generation], Sequence[int]], Iterator[tuple[int, Execution]]]
"""Generations and the numbers of those to run in, number and execution of each out as they end."""


def isolation_here(*, allow_unsafe: bool) -> Isolation:
    """Return what generated programs run in: kernel isolation where it holds, what is left of it only where allowed.

    Args:
        allow_unsafe: the user accepts that programs are not kept from this machine's files and network.
    Returns:
        Isolation; not available where programs must not run.
    Example:
        >>> isolation_here(allow_unsafe=False).level in ("none", isolation_here(allow_unsafe=True).level)
        True
    """
    isolation = probe()
    return probe(unsafe=True) if allow_unsafe and not isolation.available else isolation


def require_isolation(isolation: Isolation, *, option: str) -> None:
    """Refuse to run generated programs where nothing keeps them in.

    Args:
        isolation: of isolation_here.
        option: that would let them run.
    Raises:
        IsolationError: the sentence says what is missing, what to install and what the option is.
    Example:
        >>> require_isolation(Isolation(level="none", available=False, reason="no bwrap: install it"), option="--yes")
        Traceback (most recent call last):
        pytest_collabcode.errors.IsolationError: no bwrap: install it; or let programs run without isolation by --yes
    """
    if isolation.available:
        return
    recipe = "" if sys.platform == "linux" else "; README has the container recipe"
    raise IsolationError(f"{isolation.reason}{recipe}; or let programs run without isolation by {option}")


def is_unsafe(level: str) -> bool:
    """Return whether a level keeps nothing in: programs run under it only because the user allowed it.

    Example:
        >>> is_unsafe("unsafe: seccomp+rlimits"), is_unsafe("bwrap namespaces+seccomp+rlimits")
        (True, False)
    """
    return level.startswith(UNSAFE)


def how_executed(level: str) -> dict[str, str]:
    """Return what an outcome depends on besides program and problem.

    Example:
        >>> how_executed("bwrap namespaces")["isolation"]
        'bwrap namespaces'
    """
    return {
        "version": str(EXECUTION_VERSION),
        "limits": digest_of(DEFAULT_LIMITS),
        "python": platform.python_version(),
        "isolation": level,
    }


def stored_executions(
    generations: Sequence[Generation],
    begin: Callable[[], Run],
    *,
    journal: Journal,
    progress: Report,
) -> list[Execution]:
    """Return what became of each generated program, running only those that the journal lacks.

    Args:
        generations: of problems that the journal's digest covers, as it covers how_executed.
        begin: called only when something is missing; returns what runs it.
        journal: appended to as results come; while this run fills it another waits, and then finds it filled.
        progress: told how many of the missing programs have run.
    Returns:
        One execution per generation, in order.
    Raises:
        InternalSampleError: the tool failed on a sample, which is named; what ran before it is stored.
        StoreError: the journal cannot be read or written; what was appended before stays.
    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> generation = Generation(
        ...     task_id="t", sample_index=0, completion="pass", n_tokens=1, duration_s=0, stop_reason="eos")
        >>> ran = {"outcome": Outcome.PASSED, "duration_s": 0.1, "isolation": "bwrap"}
        >>> def begin():
        ...     return lambda drawn, numbers: ((n, Execution(task_id="t", sample_index=0, **ran)) for n in numbers)
        >>> with TemporaryDirectory() as folder:
        ...     journal = Journal(Path(folder, "journal"), Path(folder, "lock"))
        ...     first = stored_executions([generation], begin, journal=journal, progress=lambda *_: None)
        ...     stored_executions([generation], None, journal=journal, progress=None) == first  # nothing runs now
        True
    """
    samples = [(g.task_id, g.sample_index, program_key(g)) for g in generations]
    known = journal.read()
    if any(key not in known for *_, key in samples):
        run = begin()
        with journal.filling():
            known = journal.read()
            missing = {key: number for number, (*_, key) in enumerate(samples) if key not in known}
            with closing(_run(run, generations, sorted(missing.values()))) as ended:
                for n_done, (number, execution) in enumerate(ended, start=1):
                    journal.append({samples[number][-1]: to_row(execution)})
                    progress(n_done, len(missing), "executing")
            known = journal.read()
    rows = known.ordered((key for *_, key in samples), make=tuple)
    return [from_row(row, task_id, index) for (task_id, index, _), row in zip(samples, rows, strict=True)]


def to_row(execution: Execution) -> list[object]:
    """Return what a journal keeps of an execution under its program_key; equal programs share it.

    Raises:
        InternalSampleError: the tool failed on the sample, which is named: that is no outcome.
    Example:
        >>> to_row(Execution(task_id="t", sample_index=0, outcome=Outcome.PASSED, duration_s=0.1, isolation="bwrap"))
        [<Outcome.PASSED: 'passed'>, 0.1, 'bwrap', '']
    """
    if execution.outcome is Outcome.INTERNAL_ERROR:
        raise InternalSampleError(
            f"{execution.task_id}#{execution.sample_index}: the tool failed on this sample, "
            f"which says nothing about the program: {execution.detail}"
        )
    return [execution.outcome, execution.duration_s, execution.isolation, execution.detail]


def from_row(row: Sequence[object], task_id: str, sample_index: int) -> Execution:
    """Return the execution of a sample whose program has this row.

    Example:
        >>> from_row(["passed", 0.1, "bwrap", ""], "t", 7).passed
        True
    """
    outcome, duration_s, isolation, detail = row
    return Execution(
        task_id=task_id,
        sample_index=sample_index,
        outcome=Outcome(str(outcome)),
        duration_s=float(str(duration_s)),
        isolation=sys.intern(str(isolation)),  # thousands share one
        detail=sys.intern(str(detail)),
    )


def _run(
    run: Run, generations: Sequence[Generation], numbers: Sequence[int]
) -> Generator[tuple[int, Execution], None, None]:
    """Run what there is to run; closing this ends what runs."""
    if numbers:
        yield from run(generations, numbers)
