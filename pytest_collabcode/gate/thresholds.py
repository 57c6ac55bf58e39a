"""Thresholds: the law, read from one TOML file and checked before anything is measured.

    schema = 1
    consortium = "demo"                  # these numbers judge measurements against that consortium only
    baseline = "baselines/demo.json"     # optional, relative to this file
    own_metrics = ["acme.score"]         # optional, metrics of your own suites

    [[threshold]]
    id = "natural-code"
    metric = "memorization_ratio"
    subjects = ["demo/*"]
    at_most = 0.05

A speed is judged as a ratio to a reference in the same run, as a fraction of the measured peak, or by max_drop
against a baseline of the same device; a bound on a bare rate or time is refused.
Not covered: conditions on the machine.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path

from pytest_collabcode.errors import ConfigurationError, nearest
from pytest_collabcode.gate.catalogue import metric, metric_names
from pytest_collabcode.intervals import prompts_needed
from pytest_collabcode.records import Measurement, Threshold

_TOP_KEYS = ("schema", "consortium", "baseline", "own_metrics", "threshold")
_KEYS = tuple(f.name for f in fields(Threshold) if f.name != "source")
_TEXTS = ("id", "metric", "prompt_organization", "source_organization", "stratum", "undecided")
_NUMBERS = ("at_least", "at_most", "max_drop", "confidence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """All thresholds of one file."""

    path: Path
    consortium: str
    baseline: Path | None
    thresholds: tuple[Threshold, ...]

    def of_subject(self, subject: str, consortium: str) -> tuple[Threshold, ...]:
        """Return the thresholds that select a subject measured against a consortium.

        Example:
            >>> t = Thresholds(path=Path("t"), consortium="demo", baseline=None,
            ...     thresholds=(Threshold(id="a", metric="pass@1", subjects=("demo/*",), at_least=0.1),))
            >>> len(t.of_subject("demo/fedavg", "demo")), len(t.of_subject("demo/fedavg", "acme"))
            (1, 0)
        """
        if self.consortium not in ("*", consortium):
            return ()
        return tuple(t for t in self.thresholds if any(fnmatchcase(subject, p) for p in t.subjects))


def applies(threshold: Threshold, measurement: Measurement) -> bool:
    """Whether a threshold that selects the subject also selects this measurement's metric and cell.

    Example:
        >>> t = Threshold(id="a", metric="memorization_ratio", source_organization="own", at_most=0.1)
        >>> m = Measurement(name="memorization_ratio", subject="s", value=0, prompt_organization="meta",
        ...     source_organization="meta")
        >>> applies(t, m)
        True
    """
    if threshold.metric != measurement.name:
        return False
    source = threshold.source_organization
    if source == "own":  # "any" and "other" are sources of their own in the matrix
        source = measurement.prompt_organization or "own"
    return (
        fnmatchcase(measurement.source_organization, source)
        and fnmatchcase(measurement.prompt_organization, threshold.prompt_organization)
        and fnmatchcase(measurement.stratum, threshold.stratum)
    )


def load_thresholds(path: Path) -> Thresholds:
    """Read and check a thresholds file.

    Raises:
        ConfigurationError: not TOML, an unknown key or metric, a bound that cannot fail or tells of one machine only,
            a duplicate id, or a ceiling that its own min_prompts cannot certify; the message names file, line and
            the way out.
    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "t.toml"
        >>> _ = file.write_text('schema = 1\\n[[threshold]]\\nid = "a"\\nmetric = "pass@1"\\nat_least = 0.02\\n')
        >>> load_thresholds(file).thresholds[0].at_least
        0.02
    """
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path}: not a readable TOML file: {error}") from error
    for key in table:
        if key not in _TOP_KEYS:
            raise ConfigurationError(f"{path}: key {key!r} is unknown; {nearest(key, _TOP_KEYS)}")
    if table.get("schema") != 1:
        found = f"schema={table['schema']!r}; this version reads" if "schema" in table else "begin it with the line"
        raise ConfigurationError(f"{path}: {found} schema = 1")
    lines = [n for n, line in enumerate(text.split("\n"), 1) if re.match(r"\s*\[\[\s*threshold\s*\]\]", line)]
    entries = table.get("threshold", [])
    if not isinstance(entries, list) or len(entries) != len(lines):
        raise ConfigurationError(f"{path}: write each threshold as a table of its own that begins with [[threshold]]")
    own_metrics = tuple(table.get("own_metrics", ()))
    thresholds = [
        _threshold(entry, f"{path}:{line}", own_metrics) for entry, line in zip(entries, lines, strict=True)
    ]
    _refuse_duplicates(thresholds)
    baseline = table.get("baseline")
    return Thresholds(
        path=path,
        consortium=table.get("consortium", "*"),
        baseline=path.parent / baseline if baseline else None,
        thresholds=tuple(thresholds),
    )


def _threshold(entry: dict[str, object], source: str, own_metrics: tuple[str, ...]) -> Threshold:
    for key in entry:
        if key not in _KEYS:
            raise ConfigurationError(f"{source}: key {key!r} is unknown; {nearest(key, _KEYS)}")
    for key in ("id", "metric"):
        if key not in entry:
            raise ConfigurationError(f"{source}: key {key!r} is missing")
    for keys, kinds, what in ((_TEXTS, (str,), "a text"), (_NUMBERS, (int, float), "a number")):
        for key in keys:
            if key in entry and (not isinstance(entry[key], kinds) or isinstance(entry[key], bool)):
                raise ConfigurationError(f"{source}: {key}={entry[key]!r} is not {what}")
    subjects = entry.get("subjects", ["*"])
    if isinstance(subjects, str):
        subjects = [subjects]
    if not isinstance(subjects, list) or not all(isinstance(s, str) for s in subjects) or not subjects:
        raise ConfigurationError(f"{source}: subjects={subjects!r} is not a list of subject names or patterns")
    threshold = Threshold(**{**entry, "subjects": tuple(subjects), "source": source})  # type: ignore[arg-type]
    _refuse_bounds(threshold, own_metrics)
    return threshold


def _refuse_bounds(threshold: Threshold, own_metrics: tuple[str, ...]) -> None:
    known = metric(threshold.metric)
    where = f"{threshold.source}: threshold {threshold.id!r}"
    if known is None and threshold.metric not in own_metrics:
        hint = nearest(threshold.metric, [*metric_names(), *own_metrics])
        raise ConfigurationError(f"{where}: metric={threshold.metric!r} is unknown; {hint}")
    bounds = (threshold.at_least, threshold.at_most, threshold.max_drop)
    if all(b is None for b in bounds):
        raise ConfigurationError(f"{where} has no bound; give at_least, at_most or max_drop")
    if not 0.5 < threshold.confidence < 1:
        raise ConfigurationError(f"{where}: confidence={threshold.confidence!r} is not between 0.5 and 1")
    if threshold.undecided not in ("fail", "accept"):
        raise ConfigurationError(f"{where}: undecided={threshold.undecided!r}; valid: fail, accept")
    if threshold.max_drop is not None and threshold.max_drop < 0:
        raise ConfigurationError(f"{where}: max_drop={threshold.max_drop:g} is negative")
    if known is None:
        return
    if known.instead and (threshold.at_least is not None or threshold.at_most is not None):
        raise ConfigurationError(
            f"{where}: {threshold.metric} tells of the machine, so a bound on it holds nowhere else; bound "
            f"{known.instead}, or give max_drop, against a baseline of the same device"
        )
    if threshold.at_least is not None and not known.lowest < threshold.at_least < known.highest:
        raise ConfigurationError(
            f"{where}: at_least={threshold.at_least:g} cannot both pass and fail; "
            f"{threshold.metric} lies in {known.lowest:g} to {known.highest:g}"
        )
    if threshold.at_most is not None and not known.lowest < threshold.at_most < known.highest:
        raise ConfigurationError(
            f"{where}: at_most={threshold.at_most:g} cannot both pass and fail; "
            f"{threshold.metric} lies in {known.lowest:g} to {known.highest:g}"
        )


def _refuse_duplicates(thresholds: list[Threshold]) -> None:
    seen: dict[str, str] = {}
    for threshold in thresholds:
        if threshold.id in seen:
            raise ConfigurationError(
                f"{threshold.source}: id={threshold.id!r} is taken by {seen[threshold.id]}; give each its own"
            )
        seen[threshold.id] = threshold.source


def check_subject(
    thresholds: tuple[Threshold, ...], subject: str, prompts: Callable[[str], Mapping[str, int]]
) -> None:
    """Refuse ceilings that cannot mean anything for this subject, before a model is built.

    Args:
        thresholds: those that select the subject.
        subject: its name, for the message.
        prompts: for a metric, the eligible prompts that will be asked, per organization.
    Raises:
        ConfigurationError: a memorization ceiling stands without an effectiveness floor (an unfit model
            memorizes nothing), or too few prompts could certify it even with no hit.
    Example:
        >>> ceiling = Threshold(id="a", metric="memorization_ratio", at_most=0.1)
        >>> check_subject((ceiling,), "s", lambda metric: {"meta": 100})
        Traceback (most recent call last):
        ...
        pytest_collabcode.errors.ConfigurationError: : threshold 'a' is a memorization ceiling on subject 's' \
without an effectiveness floor there; a model that learnt nothing memorizes nothing: add one, such as \
metric = "perplexity_gain_over_unigram" with at_least
    """
    floor = any(_is_floor(t) for t in thresholds)
    for threshold in thresholds:
        known = metric(threshold.metric)
        if threshold.at_most is None or known is None or known.family != "memorization":
            continue
        where = f"{threshold.source}: threshold {threshold.id!r}"
        if not floor:
            raise ConfigurationError(
                f"{where} is a memorization ceiling on subject {subject!r} without an effectiveness floor there; "
                "a model that learnt nothing memorizes nothing: add one, such as "
                'metric = "perplexity_gain_over_unigram" with at_least'
            )
        if known.counted:
            _refuse_few_prompts(threshold, where, prompts(threshold.metric))


def _is_floor(threshold: Threshold) -> bool:
    """Whether a model that learnt nothing fails this."""
    known = metric(threshold.metric)
    if known is None or known.family != "effectiveness":
        return False
    bound = threshold.at_most if known.falls else threshold.at_least
    return bound is not None or threshold.max_drop is not None


def check_organizations(thresholds: Sequence[Threshold], names: Sequence[str]) -> None:
    """Refuse thresholds that name an organization which is not there.

    Args:
        thresholds: of the file.
        names: of all organizations of the consortium.
    Raises:
        ConfigurationError: a typo; the nearest name is shown.
    Example:
        >>> check_organizations([Threshold(id="a", metric="perplexity", prompt_organization="met")], ["meta"])
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: : threshold 'a': prompt_organization='met' is nobody; did you ...
    """
    for threshold in thresholds:
        for key, words in (("prompt_organization", ("",)), ("source_organization", ("", "any", "own", "other"))):
            pattern = getattr(threshold, key)
            known = metric(threshold.metric) is not None  # of metrics of one's own nothing is known
            if known and pattern not in words and not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigurationError(
                    f"{threshold.source}: threshold {threshold.id!r}: {key}={pattern!r} is nobody; "
                    f"{nearest(pattern, [*names, *words[1:]])}"
                )


def _refuse_few_prompts(threshold: Threshold, where: str, prompts: Mapping[str, int]) -> None:
    assert threshold.at_most is not None
    needed = max(prompts_needed(threshold.at_most, confidence=threshold.confidence), threshold.min_prompts)
    for organization, available in prompts.items():
        if fnmatchcase(organization, threshold.prompt_organization) and available < needed:
            raise ConfigurationError(
                f"{where}: at_most={threshold.at_most:g} needs {needed} prompts of {organization}, "
                f"there are {available}; use a larger --collabcode-profile or corpus, or a higher ceiling"
            )
