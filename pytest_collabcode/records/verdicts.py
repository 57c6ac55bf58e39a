"""Measurements, thresholds and verdicts, and how they are written as text.

Not covered: intervals (intervals.py) and judging (gate/).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

Signature = tuple[tuple[str, str], ...]
"""How a number was got, as ordered (key, value) pairs: seeds, sizes, variants, versions."""
CONFIDENCE = 0.95
"""Of each end of an interval, taken alone, where a threshold says no other."""


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
    header: bool = False  # nothing but licence header, or too little beside it to be a clone by itself
    licence: str = ""  # SPDX identifier of the training document
    copies: int = 0  # places in the training data of its rarest window; 0 where that is not known
    allowed: str = ""  # why the organizations agreed to ignore it, and until when; "" = it counts

    @property
    def crosses(self) -> bool:
        """Whether the lines stand in two or more organizations' corpora.

        Example:
            >>> generated = Fragment(organization="", path="HumanEval/0#0", first_line=1, last_line=7)
            >>> training = Fragment(organization="meta", path="a/b.py", first_line=10, last_line=17)
            >>> Clone(generated=generated, training=training, significant_lines=7, fingerprint="3a2ebc",
            ...     organizations=("meta", "google")).crosses
            True
        """
        return len(self.organizations) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One problem's, document's or pair's share of a measurement: the unit that is resampled and paired."""

    key: str
    value: float  # numerator
    weight: float = 1.0  # denominator
    cluster: str = ""  # what it shares with others, say the file its prompt stands in; "" = it stands alone


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
        """Where in the matrix it stands: "meta→microsoft natural", or "".

        Example:
            >>> Measurement(name="memorization_ratio", subject="s", value=0.1, prompt_organization="meta",
            ...     source_organization="microsoft", stratum="natural").cell
            'meta→microsoft natural'
        """
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
    source_organization: str = "*"  # also "own"; "any" and "other" are columns of the matrix
    stratum: str = "*"
    confidence: float = CONFIDENCE
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
        """Return the verdict as one line that suffices alone.

        Example:
            >>> floor = Threshold(id="floor", metric="pass@1", at_least=0.02)
            >>> measured = Measurement(name="pass@1", subject="s", value=0.1, count=10, n=100)
            >>> Verdict(threshold=floor, outcome=Ruling.PASS, subject="s", measurement=measured).line()
            'PASS       floor pass@1 = 0.1 (10/100) >= 0.02 [s]'
        """
        threshold, measurement = self.threshold, self.measurement
        where = f"[{self.subject}]"
        if measurement is None:
            return f"{self.outcome:<10} {threshold.id} {threshold.metric} {where} {self.reason}".rstrip()
        ends = None if self.low is None or self.high is None else (self.low, self.high)
        measured = value_text(measurement, ends, confidence=threshold.confidence)
        reason = f"; {self.reason}" if self.reason else ""
        return (
            f"{self.outcome:<10} {threshold.id} {measured} {bound_text(threshold)}{reason} {where} "
            f"{signature_text(measurement)}"
        ).rstrip()


def value_text(
    measurement: Measurement, ends: tuple[float, float] | None = None, *, confidence: float = CONFIDENCE
) -> str:
    """Return what was measured, with its interval; a confidence that is not the usual one is named.

    Args:
        measurement: any.
        ends: of its interval.
        confidence: of each end taken alone.
    Example:
        >>> measured = Measurement(name="pass@1", subject="s", value=0.1, count=10, n=100)
        >>> value_text(measured, (0.0553, 0.164)), value_text(measured, (0.0428, 0.195), confidence=0.99)
        ('pass@1 = 0.1 (10/100) [0.0553, 0.164]', 'pass@1 = 0.1 (10/100) [0.0428, 0.195; each end at 99 %]')
    """
    name = " ".join(part for part in (measurement.name, measurement.cell) if part)
    value = format_value(measurement.value, measurement.unit)
    if measurement.count is not None:
        value += f" ({measurement.count}/{measurement.n})"
    if ends is None:
        return f"{name} = {value}"
    low, high = (format_value(end, measurement.unit) for end in ends)
    return f"{name} = {value} [{low}, {high}{confidence_text(confidence)}]"


def confidence_text(confidence: float) -> str:
    """Return a clause that names a confidence, if it is not the usual one.

    Example:
        >>> confidence_text(0.95), confidence_text(0.999)
        ('', '; each end at 99.9 %')
    """
    return "" if confidence == CONFIDENCE else f"; each end at {100 * confidence:g} %"


def signature_text(measurement: Measurement) -> str:
    """Return how a number was got, in one word.

    Example:
        >>> signature_text(Measurement(name="m", subject="s", value=1, signature=(("seed", "1"), ("T", "0.6"))))
        'seed:1|T:0.6'
    """
    return "|".join(f"{key}:{text}" for key, text in measurement.signature)


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
