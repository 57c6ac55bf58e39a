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
Not covered: conditions on the machine; whether a threshold can judge the subjects of a run (checks.py).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path

from pytest_collabcode.errors import ConfigurationError, nearest
from pytest_collabcode.gate.catalogue import Metric, metric, metric_names
from pytest_collabcode.records import Measurement, Threshold

_TOP_KEYS = ("schema", "consortium", "baseline", "own_metrics", "threshold")
_KEYS = tuple(f.name for f in fields(Threshold) if f.name != "source")
_TEXTS = ("id", "metric", "prompt_organization", "source_organization", "stratum", "undecided")
_NUMBERS = ("at_least", "at_most", "max_drop", "confidence")
_TYPES = (
    (_TEXTS, str, "a text"),
    (_NUMBERS, float, "a number"),
    (("required",), bool, "true or false"),
    (("min_prompts",), int, "a whole number"),
)
MIN_CONFIDENCE = 0.8  # of a bound: at 0.5 it would be the value itself


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
        ConfigurationError: not TOML, an unknown key or metric, a value of another type, a bound that cannot fail or
            tells of one machine only, too low a confidence, or a duplicate id; the message names file, line and the
            way out.
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
    _refuse_types(table, f"{path}", [(("consortium", "baseline"), str, "a text")])
    own_metrics = _names(table, "own_metrics", [], f"{path}")
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
    _refuse_types(entry, source, _TYPES)
    subjects = _names(entry, "subjects", ["*"], source)
    if not subjects:
        raise ConfigurationError(f"{source}: subjects=[] selects nobody; name them, or leave the key out for all")
    threshold = Threshold(**{**entry, "subjects": subjects, "source": source})  # type: ignore[arg-type]
    _refuse_bounds(threshold, own_metrics)
    return threshold


def _refuse_types(table: Mapping[str, object], where: str, types: Sequence[tuple[Sequence[str], type, str]]) -> None:
    for keys, kind, what in types:
        for key in keys:
            kinds = (int, float) if kind is float else (kind,)
            if key in table and type(table[key]) not in kinds:
                raise ConfigurationError(f"{where}: {key}={table[key]!r} is not {what}")


def _names(table: Mapping[str, object], key: str, default: list[str], where: str) -> tuple[str, ...]:
    """Return a list of names that may also be written as a single one."""
    names = table.get(key, default)
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigurationError(f"{where}: {key}={names!r} is not a list of names")
    return tuple(names)


def _refuse_bounds(threshold: Threshold, own_metrics: tuple[str, ...]) -> None:
    known = metric(threshold.metric)
    where = f"{threshold.source}: threshold {threshold.id!r}"
    if known is None and threshold.metric not in own_metrics:
        hint = nearest(threshold.metric, [*metric_names(), *own_metrics])
        raise ConfigurationError(f"{where}: metric={threshold.metric!r} is unknown; {hint}")
    bounds = (threshold.at_least, threshold.at_most, threshold.max_drop)
    if all(b is None for b in bounds):
        raise ConfigurationError(f"{where} has no bound; give at_least, at_most or max_drop")
    if not MIN_CONFIDENCE <= threshold.confidence < 1:
        raise ConfigurationError(
            f"{where}: confidence={threshold.confidence!r} is not between {MIN_CONFIDENCE} and 1"
        )
    if threshold.undecided not in ("fail", "accept"):
        raise ConfigurationError(f"{where}: undecided={threshold.undecided!r}; valid: fail, accept")
    if threshold.undecided == "accept" and threshold.at_least is None and threshold.max_drop is None:
        raise ConfigurationError(
            f'{where}: undecided="accept" has no effect on at_most alone: a ceiling is never UNDECIDED, it FAILs '
            "until the upper bound is under it; remove the key"
        )
    if threshold.max_drop is not None and threshold.max_drop < 0:
        raise ConfigurationError(f"{where}: max_drop={threshold.max_drop:g} is negative")
    if known is None:
        return
    _refuse_vacuous(threshold, known, where)


def _refuse_vacuous(threshold: Threshold, known: Metric, where: str) -> None:
    if known.instead and (threshold.at_least is not None or threshold.at_most is not None):
        raise ConfigurationError(
            f"{where}: {threshold.metric} tells of the machine, so a bound on it holds nowhere else; bound "
            f"{known.instead}, or give max_drop, against a baseline of the same device"
        )
    span = known.highest - known.lowest
    for key, bound, low, high in (
        ("at_least", threshold.at_least, known.lowest, known.highest),
        ("at_most", threshold.at_most, known.lowest, known.highest),
        ("max_drop", threshold.max_drop, -1.0, span),  # 0 is a drop that fails
    ):
        if bound is not None and not low < bound < high:
            raise ConfigurationError(
                f"{where}: {key}={bound:g} cannot both pass and fail; "
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
