"""Proposals: a thresholds file for subjects that none judged yet, written from their own measurements.

Every proposed bound stands a stated margin outside the measured interval, so that the same subject measured again
passes and a worse one does not. Nobody is judged by another subject's numbers. A ceiling on memorization is proposed
only beside a floor that a model which learnt nothing would fail.
Proposed is what one number decides: finer strata, controls and single source organizations are left to the reader.
Not covered: metrics that leave no room for a bound, or were not measured; they are comments that say why.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from pytest_collabcode.gate.catalogue import metric
from pytest_collabcode.gate.checks import is_floor
from pytest_collabcode.intervals import interval_of
from pytest_collabcode.records import Measurement, Threshold

MARGIN = 0.1
UNFIT = "nothing shows that this model learnt anything, and such a model memorizes nothing"
_CELL = ("prompt_organization", "source_organization", "stratum")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A thresholds file."""

    text: str
    subjects: tuple[str, ...]  # those that it has a bound for; what else was measured is left out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    """Where a bound of one measurement would stand, and why there is none."""

    measurement: Measurement
    low: float
    high: float
    keys: tuple[str, ...]  # that tell it from the metric's other measurements
    refusal: str = ""

    @property
    def key(self) -> str:
        return "at_least" if self.measurement.higher_is_better else "at_most"

    @property
    def at(self) -> float:
        ceiling = self.key == "at_most"
        edge = self.high + MARGIN * abs(self.high) if ceiling else self.low - MARGIN * abs(self.low)
        return float(f"{edge:.3g}")

    @property
    def family(self) -> str:
        known = metric(self.measurement.name)
        return known.family if known else ""

    @property
    def shows_fitness(self) -> bool:
        if self.refusal or self.key == "at_most":
            return False
        return is_floor(Threshold(id="", metric=self.measurement.name, at_least=self.at))


def propose(
    measurements: Sequence[Measurement],
    *,
    subjects: Sequence[str],
    consortium: str,
    unmeasured: Mapping[tuple[str, str], str] | None = None,
) -> Proposal:
    """Return one TOML thresholds file for some subjects.

    Args:
        measurements: of these subjects; others are passed over.
        subjects: their names; with several, each id begins with its subject.
        consortium: that the measurements were made against.
        unmeasured: by (subject, base name of a metric), why it was not measured.
    Example:
        >>> m = Measurement(name="pass@1", subject="s", value=0.5, count=50, n=100)
        >>> print(propose([m], subjects=["s"], consortium="demo").text.split("[[threshold]]")[1].strip())
        # measured 0.5, one-sided 95 % bounds 0.414 to 0.586; margin 10 % of the lower bound
        id = "pass@1"
        metric = "pass@1"
        subjects = ["s"]
        at_least = 0.372
    """
    sections, bounded = [], []
    for subject in subjects:
        bounds = _bounds([m for m in measurements if m.subject == subject])
        if all(bound.refusal for bound in bounds):
            continue
        bounded.append(subject)
        if not any(bound.shows_fitness for bound in bounds):
            sections.append(f"# {subject}: {UNFIT}: no ceiling on memorization is proposed.")
        sections += [_block(bound, f"{subject} " if len(subjects) > 1 else "") for bound in bounds]
        reasons = {name: reason for (owner, name), reason in (unmeasured or {}).items() if owner == subject}
        partly = {bound.measurement.name.partition("@")[0] for bound in bounds}
        sections += [
            f"# {name}: UNMEASURED{' in part' * (name in partly)}: {' '.join(reason.split())}; no bound proposed"
            for name, reason in reasons.items()
        ]
    head = [
        f"# Proposed from one run of {', '.join(bounded)}; read every number before you commit to it.",
        f"schema = 1\nconsortium = {_quoted(consortium)}",
    ]
    return Proposal(text="\n\n".join([*head, *sections]) + "\n", subjects=tuple(bounded))


def offer(proposal: Proposal, *, directory: Path, law: str, subjects: Sequence[str], all_judged: bool) -> list[str]:
    """Write a proposal and return what to say of it, a sentence for each subject; those in the file share theirs.

    Args:
        proposal: not written if it has no bound.
        directory: where the command was given.
        law: name of the thresholds file of the run.
        subjects: all that were measured and that none judges.
        all_judged: no other subject was in the run, so the file alone can judge the next.
    Example:
        >>> empty = propose([], subjects=["s"], consortium="demo")
        >>> print(*offer(empty, directory=Path("."), law="t.toml", subjects=["s"], all_judged=True))
        no threshold of t.toml judges 's', and no bound could be proposed from its measurements; write thresholds of \
your own (README, "Thresholds")
    """
    said = [
        f"no threshold of {law} judges {subject!r}, and no bound could be proposed from its measurements; write "
        'thresholds of your own (README, "Thresholds")'
        for subject in subjects
        if subject not in proposal.subjects
    ]
    if not proposal.subjects:
        return said
    only = proposal.subjects[0] if len(subjects) == 1 else "proposed"
    path = directory / f"collabcode-thresholds.{re.sub(r'[^-_.a-zA-Z0-9]', '-', only)}.toml"
    names = ", ".join(map(repr, proposal.subjects))
    whose = "its" if len(proposal.subjects) == 1 else "their"
    try:
        name = write_new(path, proposal.text).name
    except OSError as error:
        sentence = f"no threshold of {law} judges {names}, and {path} cannot be written: {error.strerror}"
    else:
        sentence = (
            f"no threshold of {law} judges {names}: proposed {name} from {whose} measurements; read it, then run "
            f"again with --collabcode-thresholds={name}" + (f", which judges {names} only" * (not all_judged))
        )
    return said + [sentence] * len(proposal.subjects)


def write_new(path: Path, text: str) -> Path:
    """Write a proposal beside what is there, which may be somebody's own by now.

    Args:
        path: wanted; another number is put before its ending while there is a file of other text.
        text: of the proposal.
    Returns:
        The path that holds the text.
    Raises:
        OSError: it cannot be written.
    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "a.toml"
        >>> [write_new(path, text).name for text in ("x", "x", "y")]
        ['a.toml', 'a.toml', 'a.2.toml']
    """
    for number in count(1):
        chosen = path if number == 1 else path.with_suffix(f".{number}{path.suffix}")
        if not chosen.exists():
            chosen.write_text(text, encoding="utf-8")
        if chosen.read_bytes() == text.encode():
            break
    return chosen


def is_coarse(measurement: Measurement) -> bool:
    """Whether a measurement is what one number decides: no control, no finer stratum, no single source organization.

    Example:
        >>> is_coarse(Measurement(name="near_clone_ratio", subject="s", value=0, stratum="heldout"))
        False
    """
    coarse = ("", "natural", "planted")
    return measurement.stratum in coarse and measurement.source_organization in ("", "any", "other")


def _bounds(own: Sequence[Measurement]) -> list[_Bound]:
    """Return a bound for each cell of one subject; of what was measured twice there, the laxer, so that both pass."""
    cells: dict[tuple[str, str], list[_Bound]] = {}
    for m in own:
        if is_coarse(m) and (m.items or m.n or m.replicates):
            others = [other for other in own if other.name == m.name]
            keys = tuple(key for key in _CELL if any(getattr(other, key) for other in others))
            low, high = interval_of(m)
            cells.setdefault((m.name, m.cell), []).append(_Bound(measurement=m, low=low, high=high, keys=keys))
    laxest = [max(some, key=_laxity) for some in cells.values()]
    bounds = [replace(bound, refusal=_refusal(bound)) for bound in laxest]
    if any(bound.shows_fitness for bound in bounds):
        return bounds
    return [
        replace(bound, refusal=UNFIT) if bound.family == "memorization" and not bound.refusal else bound
        for bound in bounds
    ]


def _laxity(bound: _Bound) -> float:
    at = bound.at if bound.key == "at_most" else -bound.at
    return math.inf if math.isnan(at) else at  # what is no number fails every bound


def _refusal(bound: _Bound) -> str:
    known = metric(bound.measurement.name)
    if known is None:
        return "a metric of your own: declare it in own_metrics and choose its bound"
    if known.family == "throughput":
        return "machines differ in speed"
    if not known.lowest < bound.at < known.highest:
        return f"{bound.at:g} could not both pass and fail"
    if bound.key == "at_least" and known.unfit is not None and bound.at <= known.unfit:
        return f"{bound.at:g} is not above {known.unfit:g}, which a model reaches that learnt nothing"
    return ""


def _block(bound: _Bound, prefix: str) -> str:
    m = bound.measurement
    name = " ".join(part for part in (m.name, m.cell) if part)
    measured = f"measured {m.value:.3g}, one-sided 95 % bounds {bound.low:.3g} to {bound.high:.3g}"
    if bound.refusal:
        return f"# {name}: {measured}; no bound proposed: {bound.refusal}"
    which = "upper" if bound.key == "at_most" else "lower"
    lines = [
        "[[threshold]]",
        f"# {measured}; margin {MARGIN * 100:.0f} % of the {which} bound",
        f"id = {_quoted(prefix + name)}",
        f"metric = {_quoted(m.name)}",
        f"subjects = [{_quoted(m.subject)}]",
        *(f"{key} = {_quoted(getattr(m, key))}" for key in bound.keys),
        f"{bound.key} = {bound.at:g}",
    ]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a basic string of TOML is written as one of JSON
