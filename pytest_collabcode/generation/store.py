"""Stored completions and scores: what is in the journal is read, what is missing is drawn, nothing else is.

The journal's digest covers all that a text depends on (weights, tokenizer, conventions, task, sampling, engine), but
not the number of samples, so one more sample is one more draw; a record's key covers the prompt itself.
A run that draws or scores holds the journal: a second one waits, and then finds the results. What is finished is
written at once, so a kill loses what is under way: completions begun, texts in one pass of the model, and what a back
end of somebody's own was asked for in one call, at most ASKED_AT_ONCE texts or problems.
Sources: lm-eval-harness issues 4063 and 2533, bigcode-evaluation-harness issue 284, for what goes wrong otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from pytest_collabcode.digests import digest_bytes, digest_of
from pytest_collabcode.drawing import OnBatch, Request
from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.journal import Journal
from pytest_collabcode.progress import Report
from pytest_collabcode.records import Backend, Checkpoint, Generation, Problem, Sampling

ASKED_AT_ONCE = 16  # texts or problems of a back end that does not say how many it takes together
CHARACTERS = 3  # of code make about a token, rather more
ENGINE_VERSION = 2  # raise it whenever the same request may give another text
Compute = Callable[[Sequence[str]], Sequence[list[Any]]]
"""Rows of some texts, in order."""

Portions = Callable[[Sequence[str]], Iterable[Sequence[int]]]
"""The numbers of those texts that are computed together, portion by portion."""

_FIELDS = frozenset(f.name for f in fields(Generation))


def generation_digest(checkpoint: Checkpoint, task: str, sampling: Sampling) -> str:
    """Return the digest of everything but the prompt that a completion depends on.

    Args:
        checkpoint: its weights, tokenizer and conventions count, its name and path do not.
        task: what the prompts are for, with its version.
        sampling: all of it, the seed included, but not n_samples.
    Returns:
        The name of a journal of kind "generations".
    Example:
        >>> from pathlib import Path
        >>> a = Checkpoint(name="a", path=Path("a"), weights_digest="w", tokenizer_digest="t", n_parameters=1)
        >>> wanted = (Sampling(n_samples=9), Sampling(temperature=0.8))
        >>> [generation_digest(a, "humaneval", s) == generation_digest(a, "humaneval", Sampling()) for s in wanted]
        [True, False]
    """
    return digest_of(
        checkpoint.weights_digest,
        checkpoint.tokenizer_digest,
        checkpoint.conventions,
        task,
        replace(sampling, n_samples=0),
        ENGINE_VERSION,
    )


def stored_generations(
    backend_factory: Callable[[], Backend],
    problems: Sequence[Problem],
    sampling: Sampling,
    *,
    journal: Journal,
    progress: Report | None = None,
) -> Sequence[Generation]:
    """Return n_samples completions of each problem, drawing only those the journal lacks.

    Args:
        backend_factory: called only when something is missing; loads the model.
        problems: with distinct task_ids.
        sampling: how to draw.
        journal: `store.journal("generations", generation_digest(checkpoint, task, sampling))`.
        progress: told how many of the missing completions are done.
    Returns:
        Ordered by problem, then sample_index; each read from the journal when it is asked for, so that any number of
        them takes little memory.
    Raises:
        StoreError: the journal cannot be read or written; what was appended before stays.
        MeasurementError: the back end left a completion out.
    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> class Passes:
        ...     def generate(self, problems, sampling):
        ...         rest = {"completion": "pass", "n_tokens": 1, "duration_s": 0.1, "stop_reason": "eos"}
        ...         return [Generation(task_id=p.task_id, sample_index=0, **rest) for p in problems]
        >>> problems = [Problem(task_id="t/0", prompt="def f():")]
        >>> with TemporaryDirectory() as folder:
        ...     journal = Journal(Path(folder, "journal"), Path(folder, "lock"))
        ...     _ = stored_generations(Passes, problems, Sampling(), journal=journal)
        ...     again = stored_generations(None, problems, Sampling(), journal=journal)  # no back end is needed
        ...     [generation.completion for generation in again]
        ['pass']
    """
    wanted = [(problem, index) for problem in problems for index in range(sampling.n_samples)]
    keys = [_key(*request) for request in wanted]
    found = journal.read(_is_generation)
    if any(key not in found for key in keys):
        backend = backend_factory()
        with journal.filling():
            found = journal.read(_is_generation)  # another run may have drawn some of them meanwhile
            missing = [request for key, request in zip(keys, wanted, strict=True) if key not in found]
            prompts = {problem.task_id: problem for problem, _ in missing}

            def keep(drawn: list[Generation]) -> None:
                journal.append({_key(prompts[g.task_id], g.sample_index): asdict(g) for g in drawn})

            if missing:
                _draw(backend, missing, sampling, keep, progress)
                found = journal.read(_is_generation)
    lacking = next((request for key, request in zip(keys, wanted, strict=True) if key not in found), None)
    if lacking is not None:
        raise MeasurementError(f"{lacking[0].task_id}#{lacking[1]}: the back end gave no completion for this sample")
    return found.ordered(keys, make=_generation)


def stored_rows(
    texts: Sequence[str],
    begin: Callable[[], tuple[Compute, Portions]],
    *,
    journal: Journal,
    progress: Report | None = None,
) -> list[list[Any]]:
    """Return a row of plain numbers for each text, computing only those the journal lacks.

    A portion is computed and then written as one: a run that goes on after a kill computes those that were not
    finished, each text beside the same neighbours as in an undisturbed run, and so gets the same bits.

    Args:
        texts: any, repeats included; the journal holds their digests, never the texts.
        begin: called only when something is missing; returns what computes the rows of some texts, in order, and what
            says which of several texts are computed together.
        journal: of all that a row depends on besides its text; while this run fills it another waits.
        progress: told how many of the missing ones are done.
    Returns:
        In the order of texts.
    Raises:
        StoreError: the journal cannot be read or written; what was appended before stays.
    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> def begin():
        ...     return lambda some: [[len(text)] for text in some], portions(16)
        >>> with TemporaryDirectory() as folder:
        ...     journal = Journal(Path(folder, "journal"), Path(folder, "lock"))
        ...     _ = stored_rows(["a", "bc"], begin, journal=journal)
        ...     stored_rows(["bc", "a", "bc"], None, journal=journal)  # nothing is computed now
        [[2], [1], [2]]
    """
    keys = [digest_bytes(text.encode()) for text in texts]
    known = journal.read()
    if any(key not in known for key in keys):
        compute, portioned = begin()
        with journal.filling():
            known = journal.read()  # another run may have computed some of them meanwhile
            missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
            some_keys, some_texts, n_done = list(missing), list(missing.values()), 0
            for numbers in portioned(some_texts):
                rows = compute([some_texts[number] for number in numbers])
                journal.append({some_keys[number]: row for number, row in zip(numbers, rows, strict=True)})
                n_done += len(numbers)
                if progress is not None:
                    progress(n_done, len(missing), "scoring")
            known = journal.read()
    return list(known.ordered(keys, make=list))


def portions(n_tokens: int | None, *, window: int | None = None) -> Portions:
    """Return what divides texts into those computed together: about as many tokens as one pass of the model takes.

    The longest come first, so what is left when some portions are done is divided as it was before.

    Args:
        n_tokens: of one pass; None where a back end does not say, which gets ASKED_AT_ONCE texts.
        window: tokens of each text that are read; None reads all.
    Example:
        >>> list(portions(5, window=4)(["x" * 30, "x = 1", "y = 22"]))  # longest first, a token in three characters
        [[0], [1, 2]]
    """

    def divide(texts: Sequence[str]) -> Iterator[list[int]]:
        sizes = [max(1, min(-(-len(text) // CHARACTERS), window or len(text))) for text in texts]
        order = sorted(range(len(texts)), key=lambda number: -sizes[number])
        while order:
            n_texts = ASKED_AT_ONCE if n_tokens is None else max(1, n_tokens // sizes[order[0]])
            yield order[:n_texts]
            order = order[n_texts:]

    return divide


def _draw(
    backend: Backend,
    missing: Sequence[Request],
    sampling: Sampling,
    keep: OnBatch,
    progress: Report | None,
) -> None:
    """Draw through the engine, which hands on what is finished; a foreign backend only knows whole problems."""
    draw = getattr(backend, "draw", None)
    if draw is not None:
        draw(missing, sampling, progress=progress, on_batch=keep)
        return
    problems = list({problem.task_id: problem for problem, _ in missing}.values())
    n_samples = 1 + max(index for _, index in missing)
    lacking = {(problem.task_id, index) for problem, index in missing}
    for start in range(0, len(problems), ASKED_AT_ONCE):
        drawn = backend.generate(problems[start : start + ASKED_AT_ONCE], replace(sampling, n_samples=n_samples))
        keep([g for g in drawn if (g.task_id, g.sample_index) in lacking])


def _key(problem: Problem, sample_index: int) -> str:
    return f"{problem.task_id}#{sample_index}#{digest_bytes(problem.prompt.encode())}"


def _is_generation(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == _FIELDS


def _generation(value: dict[str, Any]) -> Generation:
    return Generation(**value)
