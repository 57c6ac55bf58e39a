"""The nouns of the house: frozen records that every room passes to the next.

Not here: behaviour. A record knows how to name itself and nothing else; `Measurement` knows its own interval
because every reader needs the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

Signature = tuple[tuple[str, str], ...]
"""How a number was got, as ordered (key, value) pairs: seeds, sizes, variants, versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One file of an organization's code."""

    path: str  # relative to the source, with "/", prefixed by the source's name: "etils-1.14.0/etils/enp/x.py"
    text: str  # decoded, "\n" newlines, no BOM, leading licence header removed
    organization: str
    split: str = "training"  # "training" or "heldout"
    licence: str = ""  # SPDX identifier
    header: str = ""  # the leading licence header that was separated from the text
    header_lines: int = 0  # lines the header took: line i of text is line i + header_lines of the file
    planted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """A declared training function that is repeated on purpose: the positive control of the instrument."""

    function: Function
    organizations: tuple[str, ...]  # planted in these; two or more make a cross-organization clone
    copies: int  # times per pass over the data, in each of those organizations


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    """One owner of code."""

    name: str
    documents: tuple[Document, ...]

    def split(self, split: str) -> tuple[Document, ...]:
        """Return the documents of one split, "training" or "heldout"."""
        return tuple(d for d in self.documents if d.split == split)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The code of all organizations of one consortium, curated and split."""

    name: str  # of the consortium; thresholds name the consortium they were made for
    organizations: tuple[Organization, ...]
    plants: tuple[Plant, ...] = ()
    digest: str = ""  # over every document's organization, path, split, text and every plant
    rates: tuple[tuple[str, float, float], ...] = ()  # organization, exact and near duplicate ratio before removal
    skipped: tuple[tuple[str, str], ...] = ()  # (what, why) for everything that was passed over

    def organization(self, name: str) -> Organization:
        """Return the organization of that name; KeyError names the others."""
        for organization in self.organizations:
            if organization.name == name:
                return organization
        raise KeyError(f"organization={name!r}; the corpus has {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the organizations, in the consortium file's order."""
        return tuple(o.name for o in self.organizations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A documented function cut out of a document: the raw material of prompts."""

    organization: str
    path: str
    name: str  # qualified: "Class.method"
    split: str
    first_line: int  # 1-based line of `def` in the file
    last_line: int
    prompt: str  # from `def` to the end of the docstring, dedented, no trailing newline
    docstring: str  # its text, cleaned
    body: str  # what follows the docstring, with the prompt's indentation, no leading newline
    significant_lines: int  # of the body


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something a model is asked to continue."""

    task_id: str  # unique within a task: "HumanEval/0", "meta:submitit-1.5.4/submitit/core.py:120"
    prompt: str
    canonical_solution: str = ""
    test: str = ""
    entry_point: str = ""
    organization: str = ""
    path: str = ""  # where the prompt stands, for prompts out of a corpus
    planted: bool = False


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
    completion: str  # without the prompt, cut before the stop string
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
    isolation: str  # the level it ran under: "namespaces+rlimits"
    detail: str = ""  # exception type and line of the test; never output of the program

    @property
    def passed(self) -> bool:
        """Whether the problem's test really held."""
        return self.outcome is Outcome.PASSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """A range of lines in a file or in a completion."""

    organization: str  # "" for generated text
    path: str  # for generated text, "task_id#sample_index"
    first_line: int  # 1-based, original numbering
    last_line: int

    def __str__(self) -> str:
        owner = f"{self.organization}:" if self.organization else ""
        return f"{owner}{self.path}:{self.first_line}-{self.last_line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """A maximal run of equal significant lines in generated text and in one training document."""

    generated: Fragment
    training: Fragment
    significant_lines: int
    fingerprint: str  # of the lines; stands for the code, which is never printed
    organizations: tuple[str, ...] = ()  # all whose corpora hold these lines
    planted: bool = False

    @property
    def crosses(self) -> bool:
        """Whether the lines stand in two or more organizations' corpora."""
        return len(self.organizations) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One problem's, document's or pair's share of a measurement: the unit that is resampled and paired."""

    key: str
    value: float  # numerator
    weight: float = 1.0  # denominator


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A number, its interval's raw material, and how it was got.

    The value is `sum(value) / sum(weight)` over the items, or its exponential, unless the metric computed it
    otherwise (corpus BLEU) and handed over bootstrap replicates.
    """

    name: str
    subject: str
    value: float
    unit: str = "ratio"
    higher_is_better: bool = True
    prompt_organization: str = ""
    source_organization: str = ""
    stratum: str = ""  # "natural", "planted", "heldout", ...
    count: int | None = None  # of n: an exact binomial interval is used
    n: int | None = None
    items: tuple[Item, ...] = ()
    exponential: bool = False
    replicates: tuple[float, ...] = field(default=(), repr=False)
    control: Measurement | None = None
    evidence: tuple[Clone | str, ...] = ()
    signature: Signature = ()

    @property
    def cell(self) -> str:
        """Where in the matrix it stands: "meta→microsoft natural", or ""."""
        arrow = f"{self.prompt_organization}"
        if self.source_organization:
            arrow += f"→{self.source_organization}"
        return " ".join(part for part in (arrow, self.stratum) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """One line of the law, as written in a TOML file."""

    id: str
    metric: str
    subjects: tuple[str, ...] = ("*",)  # fnmatch patterns over subject names
    at_least: float | None = None
    at_most: float | None = None
    max_drop: float | None = None  # allowed worsening against the baseline: points, or relative for perplexity
    prompt_organization: str = "*"
    source_organization: str = "*"  # also "own" and "other"
    stratum: str = "*"
    confidence: float = 0.95
    required: bool = True
    undecided: str = "fail"  # or "accept"
    min_prompts: int = 0
    source: str = ""  # "suites/thresholds.toml:12"


class Ruling(StrEnum):
    """The four outcomes of a verdict."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"
    UNMEASURED = "UNMEASURED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Measurement x Threshold; the only road to the exit code."""

    threshold: Threshold
    outcome: Ruling
    subject: str
    measurement: Measurement | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""  # what would decide, what is missing, what to do

    @property
    def blocks(self) -> bool:
        """Whether this verdict keeps the gate from being green."""
        if self.outcome is Ruling.PASS:
            return False
        if self.outcome is Ruling.UNDECIDED and self.threshold.undecided == "accept":
            return False
        return self.threshold.required

    def line(self) -> str:
        """Return the verdict as one line that suffices alone."""
        threshold, measurement = self.threshold, self.measurement
        where = f"[{self.subject}]"
        if measurement is None:
            return f"{self.outcome:<10} {threshold.id} {threshold.metric} {where} {self.reason}".rstrip()
        name = " ".join(part for part in (measurement.name, measurement.cell) if part)
        value = format_value(measurement.value, measurement.unit)
        if measurement.count is not None:
            value += f" ({measurement.count}/{measurement.n})"
        interval = ""
        if self.low is not None and self.high is not None:
            ends = [format_value(end, measurement.unit) for end in (self.low, self.high)]
            interval = f" [{ends[0]}, {ends[1]}]"
        reason = f"; {self.reason}" if self.reason else ""
        signature = "|".join(f"{key}:{text}" for key, text in measurement.signature)
        return (
            f"{self.outcome:<10} {threshold.id} {name} = {value}{interval}"
            f" {bound_text(threshold)}{reason} {where} {signature}"
        ).rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class TextScore:
    """Log-likelihood of one text under a model."""

    log_likelihood: float  # nats, summed over the scored tokens
    n_tokens: int  # tokens scored (the first token of a window has no prediction and is not)
    n_bytes: int  # UTF-8 bytes those tokens stand for
    token_ids: tuple[int, ...] = ()  # the scored tokens, for a unigram model on the same text


class Backend(Protocol):
    """A model in memory, as tasks see it."""

    checkpoint: Checkpoint

    def generate(self, problems: Sequence[Problem], sampling: Sampling) -> list[Generation]:
        """Draw n_samples completions of each prompt, ordered by problem, then sample_index."""
        ...

    def log_likelihood(self, texts: Sequence[str], *, max_tokens: int) -> list[TextScore]:
        """Score the first max_tokens tokens of each text."""
        ...

    def embed(self, texts: Sequence[str]) -> object:
        """Return float32 embeddings, shape (len(texts), d), rows of unit length."""
        ...


def format_value(value: float, unit: str) -> str:
    """Return a number with its unit, ratios as themselves (0-1), never as percent.

    Example:
        >>> format_value(0.06098, "ratio"), format_value(1234.5, "tokens/s"), format_value(31.415, "")
        ('0.061', '1,234 tokens/s', '31.4')
    """
    suffix = "" if unit in ("", "ratio") else f" {unit}"
    if value != value or abs(value) in (float("inf"),):
        return f"{value}{suffix}"
    if abs(value) >= 1000:
        return f"{value:,.0f}{suffix}"
    return f"{value:.3g}{suffix}"


def bound_text(threshold: Threshold) -> str:
    """Return the bound of a threshold as a reader says it: ">= 0.02".

    Example:
        >>> bound_text(Threshold(id="a", metric="m", at_most=0.05))
        '<= 0.05'
    """
    parts = []
    if threshold.at_least is not None:
        parts.append(f">= {threshold.at_least:g}")
    if threshold.at_most is not None:
        parts.append(f"<= {threshold.at_most:g}")
    if threshold.max_drop is not None:
        parts.append(f"drop <= {threshold.max_drop:g} against the baseline")
    return " and ".join(parts)
