"""Asking: what every back end that draws by itself is told, and how its text is read.

Not covered: the default engine, which draws from streams of its own (generation/sampler.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_collabcode.digests import digest_of
from pytest_collabcode.progress import Report
from pytest_collabcode.records import Generation, Problem, PromptConventions, Sampling

FLUSH_EVERY = 8  # finished completions handed to on_batch at once

Request = tuple[Problem, int]
"""A problem and the sample_index to draw."""

OnBatch = Callable[[list[Generation]], None]


def asked(prompt: str, conventions: PromptConventions) -> str:
    """Return the prompt as a checkpoint wants to be asked.

    Example:
        >>> asked("def f():\\n", PromptConventions(prefix="# python\\n"))
        '# python\\ndef f():'
    """
    return conventions.prefix + (prompt.rstrip("\n") if conventions.strip_trailing_newline else prompt)


def seed_of(seed: int, task_id: str, sample_index: int) -> int:
    """Return the seed of one sample, 31 bits: it depends on no other request, so order and sharding do not matter.

    Example:
        >>> seed_of(1, "t/0", 0) == seed_of(1, "t/0", 0), seed_of(1, "t/0", 0) == seed_of(1, "t/0", 1)
        (True, False)
    """
    return int(digest_of("sample", seed, task_id, sample_index)[:8], 16) >> 1


def stops(sampling: Sampling, conventions: PromptConventions) -> tuple[str, ...]:
    """Return the strings that end a completion: the sampling's, then the checkpoint's own.

    Example:
        >>> stops(Sampling(stop=("\\ndef", "")), PromptConventions(stop=("```", "\\ndef")))
        ('\\ndef', '```')
    """
    return tuple(dict.fromkeys(s for s in (*sampling.stop, *conventions.stop) if s))


def cut(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """Return the text before the first stop string in it, and whether there was one.

    Example:
        >>> cut("return x\\n# next", ["\\n#", "\\ndef"])
        ('return x', True)
    """
    ends = [place for place in (text.find(s) for s in stop) if place >= 0]
    return (text[: min(ends)], True) if ends else (text, False)


class Ledger:
    """What is finished, and who is told about it.

    Args:
        total: completions that are wanted.
        progress: told how many are done.
        on_batch: given completions as they are finished, eight at a time.
    Example:
        >>> told = []
        >>> ledger = Ledger(1, None, told.append)
        >>> ledger.finish(Generation(task_id="t", sample_index=0, completion="", n_tokens=0, duration_s=0,
        ...     stop_reason="eos"))
        >>> ledger.flush()
        >>> [len(batch) for batch in told]
        [1]
    """

    def __init__(self, total: int, progress: Report | None, on_batch: OnBatch | None) -> None:
        self._total, self._progress, self._on_batch = total, progress, on_batch
        self._n_done = 0
        self._unsent: list[Generation] = []

    def finish(self, generation: Generation) -> None:
        """Note a finished completion."""
        self._n_done += 1
        self._unsent.append(generation)
        if len(self._unsent) >= FLUSH_EVERY:
            self.flush()
        if self._progress is not None:
            self._progress(self._n_done, self._total, "generating")

    def flush(self) -> None:
        """Hand over what on_batch has not been given yet."""
        if self._on_batch is not None and self._unsent:
            self._on_batch(self._unsent)
        self._unsent = []
