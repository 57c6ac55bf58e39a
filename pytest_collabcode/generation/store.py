"""Stored completions and scores: what is in the journal is read, what is missing is drawn, nothing else is.

The journal's digest covers all that a text depends on (weights, tokenizer, conventions, task, sampling, engine), but
not the number of samples, so one more sample is one more draw; a record's key covers the prompt itself.
A run that draws holds the journal: a second one waits, and then finds the texts. Not covered: holding it for scores,
which two runs may compute twice; both write the same line.
Sources: lm-eval-harness issues 4063 and 2533, bigcode-evaluation-harness issue 284, for what goes wrong otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from pytest_collabcode.digests import digest_bytes, digest_of
from pytest_collabcode.drawing import OnBatch, Request
from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.journal import Journal
from pytest_collabcode.progress import Report
from pytest_collabcode.records import Backend, Checkpoint, Generation, Problem, Sampling

SCORED_AT_ONCE = 16  # texts between two writes to the store
ENGINE_VERSION = 2  # raise it whenever the same request may give another text
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
    compute: Callable[[Sequence[str]], Sequence[list[Any]]],
    *,
    journal: Journal,
    progress: Report | None = None,
) -> list[list[Any]]:
    """Return a row of plain numbers for each text, computing only those the journal lacks.

    Args:
        texts: any, repeats included; the journal holds their digests, never the texts.
        compute: rows of some texts, in order.
        journal: of all that a row depends on besides its text.
        progress: told how many of the missing ones are done.
    Returns:
        In the order of texts.
    Raises:
        StoreError: the journal cannot be read or written; what was appended before stays.
    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     journal = Journal(Path(folder, "journal"), Path(folder, "lock"))
        ...     _ = stored_rows(["a", "bc"], lambda missing: [[len(t)] for t in missing], journal=journal)
        ...     stored_rows(["bc", "a", "bc"], None, journal=journal)  # nothing is computed now
        [[2], [1], [2]]
    """
    known = journal.read()
    keys = [digest_bytes(text.encode()) for text in texts]
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    for start in range(0, len(missing), SCORED_AT_ONCE):
        some = list(missing.items())[start : start + SCORED_AT_ONCE]
        rows = compute([text for _, text in some])
        journal.append({key: row for (key, _), row in zip(some, rows, strict=True)})
        if progress is not None:
            progress(start + len(some), len(missing), "scoring")
    if missing:
        known = journal.read()
    return list(known.ordered(keys, make=list))


def _draw(
    backend: Backend,
    missing: Sequence[Request],
    sampling: Sampling,
    keep: OnBatch,
    progress: Report | None,
) -> None:
    """Draw through the engine, batch by batch; a foreign backend only knows whole problems."""
    draw = getattr(backend, "draw", None)
    if draw is not None:
        draw(missing, sampling, progress=progress, on_batch=keep)
        return
    problems = list({problem.task_id: problem for problem, _ in missing}.values())
    n_samples = 1 + max(index for _, index in missing)
    lacking = {(problem.task_id, index) for problem, index in missing}
    drawn = backend.generate(problems, replace(sampling, n_samples=n_samples))
    keep([g for g in drawn if (g.task_id, g.sample_index) in lacking])


def _key(problem: Problem, sample_index: int) -> str:
    return f"{problem.task_id}#{sample_index}#{digest_bytes(problem.prompt.encode())}"


def _is_generation(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == _FIELDS


def _generation(value: dict[str, Any]) -> Generation:
    return Generation(**value)
