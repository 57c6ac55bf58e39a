"""Models and what they give: recipes, checkpoints, sampling, generations, executions, scores, the Backend protocol.

Not covered: weights; a Checkpoint is the manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from pytest_collabcode.records.code import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that makes two regimes comparable; the same recipe is used for all of them."""

    name: str
    architecture: str  # "llama" or "gpt2"
    n_layers: int
    width: int
    n_heads: int
    vocabulary_size: int
    sequence_tokens: int  # length of a packed training sequence
    batch_size: int  # sequences per step
    learning_rate: float
    warmup_ratio: float
    weight_decay: float
    clip_norm: float
    passes: float  # over each organization's data, in every regime
    rounds: int  # federated regimes split the passes evenly over these rounds
    seed: int = 1
    dtype: str = "float32"  # "bfloat16" runs under autocast where the device has it


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptConventions:
    """How a checkpoint wants to be asked; stored in its manifest since it decides between 0 and 10 of 164."""

    prefix: str = ""  # put before every prompt, such as a code fence
    strip_trailing_newline: bool = True
    stop: tuple[str, ...] = ()  # further stop strings of this model


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A model on disk, described: the manifest, never the weights."""

    name: str  # of the subject
    path: Path
    weights_digest: str
    tokenizer_digest: str
    n_parameters: int
    regime: str = ""  # "" for a foreign checkpoint
    organizations: tuple[str, ...] = ()  # whose code it was trained on, in order
    corpus_digest: str = ""
    conventions: PromptConventions = PromptConventions()
    url: str = ""  # of the endpoint that serves it, "#model" included; path means nothing then
    adapter: Path | None = None  # merged in on loading; weights_digest covers it
    notes: tuple[str, ...] = ()  # what a reader of the verdict should know


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How completions are drawn. temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0  # 0 = no limit
    repetition_penalty: float = 1.0
    max_new_tokens: int = 128
    n_samples: int = 1
    stop: tuple[str, ...] = ()
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A completion with its provenance."""

    task_id: str
    sample_index: int
    completion: str = field(repr=False)  # without the prompt, cut before the stop string
    n_tokens: int
    duration_s: float
    stop_reason: str  # "stop", "eos" or "length"


class Outcome(StrEnum):
    """What became of one execution; only the trusted side writes it."""

    PASSED = "passed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    TAMPERED = "tampered"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One generated program, run once."""

    task_id: str
    sample_index: int
    outcome: Outcome
    duration_s: float
    isolation: str  # the level it ran under: "bwrap namespaces+landlock+seccomp+rlimits"
    detail: str = ""  # exception type and line of the test; never output of the program

    @property
    def passed(self) -> bool:
        """Whether the problem's test really held.

        Example:
            >>> fooled = Execution(task_id="HumanEval/0", sample_index=0, outcome=Outcome.TAMPERED,
            ...     duration_s=0.1, isolation="none")
            >>> fooled.passed
            False
        """
        return self.outcome is Outcome.PASSED


@dataclass(frozen=True, slots=True, kw_only=True)
class TextScore:
    """Log-likelihood of one text under a model."""

    log_likelihood: float  # nats, summed over the scored tokens
    n_tokens: int  # tokens scored (the first token of a window has no prediction and is not)
    n_bytes: int  # UTF-8 bytes those tokens stand for
    token_ids: tuple[int, ...] = field(default=(), repr=False)  # those scored, for a unigram model on the same text


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenScores:
    """What a model and a sampling scheme say of each token of one continuation, in nats; all of one length."""

    starts: tuple[int, ...]  # character of the continuation at which each token begins
    log_probs: tuple[float, ...]  # log p of the token under the model itself
    scheme_log_probs: tuple[float, ...]  # under penalty, temperature, top-k and nucleus; -inf = is never drawn
    means: tuple[float, ...]  # of log p over the vocabulary, weighted with p: minus the entropy
    deviations: tuple[float, ...]  # standard deviation of log p over the vocabulary, weighted with p


class Backend(Protocol):
    """A model in memory, as tasks see it."""

    checkpoint: Checkpoint

    def generate(self, problems: Sequence[Problem], sampling: Sampling) -> list[Generation]:
        """Draw n_samples completions of each prompt, ordered by problem, then sample_index."""
        ...

    def log_likelihood(self, texts: Sequence[str], *, max_tokens: int) -> list[TextScore]:
        """Score the first max_tokens tokens of each text."""
        ...

    def token_scores(self, pairs: Sequence[tuple[str, str]], sampling: Sampling) -> list[TokenScores]:
        """Score the tokens of each (prompt, continuation)'s continuation, at most max_new_tokens of them."""
        ...

    def embed(self, texts: Sequence[str]) -> object:
        """Return float32 embeddings, shape (len(texts), d), rows of unit length."""
        ...
