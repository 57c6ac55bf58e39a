"""Asking: what every back end that draws by itself is told, and how its text is read.

Not covered: the default engine, which draws from streams of its own (generation/sampler.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_collabcode.digests import digest_of
from pytest_collabcode.records import PromptConventions, Sampling


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
