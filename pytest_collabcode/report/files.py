"""Report files: JSON for machines and baselines, Markdown for a step summary, SARIF for code-scanning services.

Not covered: HTML. Code of a training document is never written, only organization, path and lines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_collabcode import __version__
from pytest_collabcode.errors import ConfigurationError, StoreError, nearest
from pytest_collabcode.gate.baseline import SCHEMA, baseline_entry, baseline_key, load_baseline, measured_on
from pytest_collabcode.records import Measurement, Verdict, bound_text, confidence_text, format_value
from pytest_collabcode.report.plain import measurement_from_plain, measurement_to_plain, verdict_to_plain
from pytest_collabcode.report.sarif import sarif_log

MARKDOWN_BYTES = 64_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one run measured and how it was judged."""

    green: bool
    partial: bool
    measurements: tuple[Measurement, ...]
    verdicts: tuple[Verdict, ...]
    environment: tuple[tuple[str, str], ...]  # versions, device, profile, seed, corpus digest


def write_report(report: Report, kind: str, path: Path) -> None:
    """Write a report as "json", "markdown" or "sarif".

    Raises:
        StoreError: the file cannot be written.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> report = Report(green=True, partial=False, measurements=(), verdicts=(), environment=(("seed", "1"),))
        >>> with TemporaryDirectory() as folder:
        ...     write_report(report, "json", Path(folder) / "gate.json")
        ...     json.loads((Path(folder) / "gate.json").read_text())["environment"]
        {'seed': '1'}
    """
    text = _WRITERS[kind](report)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"--collabcode-report={kind}:{path} cannot be written: {error.strerror}") from error


def require_writable(kind: str, path: Path) -> None:
    """Refuse a report that could not be written, before anything is measured; nothing is left behind but its folder.

    Raises:
        ConfigurationError: it names the option and the reason.
    Example:
        >>> require_writable("json", Path("/dev/null/gate.json"))
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: --collabcode-report=json:/dev/null/gate.json cannot be written: \
Not a directory
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.exists()
        if path.is_file() or path.is_dir() or not there:  # a pipe would wait for its reader
            path.open("ab").close()
        if not there:
            path.unlink()
    except OSError as error:
        reason = "Not a directory" if isinstance(error, FileExistsError) else error.strerror
        raise ConfigurationError(f"--collabcode-report={kind}:{path} cannot be written: {reason}") from error


def markdown(report: Report) -> str:
    """Return a compact Markdown table of the verdicts, at most 64 kB.

    Example:
        >>> report = Report(green=True, partial=False, measurements=(), verdicts=(), environment=())
        >>> print(markdown(report).split("\\n")[0])
        ## collabcode: green
    """
    head = "green" if report.green else "red"
    rows = ["| outcome | threshold | subject | metric | value | interval | bound |", "|---|---|---|---|---|---|---|"]
    for verdict in sorted(report.verdicts, key=lambda v: not v.blocks):
        rows.append(_markdown_row(verdict))
    text = f"## collabcode: {head}{' (partial run)' if report.partial else ''}\n\n" + "\n".join(rows) + "\n"
    return text.encode()[:MARKDOWN_BYTES].decode(errors="ignore")


def accept(
    report_path: Path, baseline_path: Path, *, subjects: Sequence[str] = (), metrics: Sequence[str] = ()
) -> list[str]:
    """Make or update a baseline from a JSON report.

    Args:
        report_path: written with --collabcode-report=json:PATH.
        baseline_path: written; other subjects' entries stay.
        subjects: only these; all when empty.
        metrics: only these; all when empty.
    Returns:
        One line per entry that was added or changed.
    Raises:
        ConfigurationError: the report cannot be read, is of a partial run, or has nothing of these subjects and
            metrics, or the baseline cannot be read, or generated programs ran without isolation. A red run may be
            accepted: a first baseline comes from one.
        StoreError: the baseline cannot be written.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pytest_collabcode.records import Item
        >>> measured = Measurement(name="pass@1", subject="s", value=1.0, items=(Item(key="a", value=1.0),))
        >>> report = Report(green=True, partial=False, measurements=(measured,), verdicts=(), environment=())
        >>> with TemporaryDirectory() as folder:
        ...     write_report(report, "json", Path(folder) / "gate.json")
        ...     accept(Path(folder) / "gate.json", Path(folder) / "baseline.json")
        ['s|pass@1| = 1 (new)']
    """
    report = _read_report(report_path)
    if report.get("partial"):
        raise ConfigurationError(f"{report_path} is of a PARTIAL run; accept the report of a whole one")
    comparable = [m for m in report["measurements"] if m.items or measured_on(m)]
    _refuse_unknown(report_path, "subject", subjects, [m.subject for m in comparable])
    _refuse_unknown(report_path, "metric", metrics, [m.name for m in comparable])
    chosen = [m for m in comparable if m.subject in (subjects or [m.subject]) and m.name in (metrics or [m.name])]
    if not chosen:
        what = "nothing of these metrics of these subjects" if comparable else "nothing that can be compared later"
        raise ConfigurationError(f"{report_path} holds {what}, so there is nothing to accept")
    unsafe = next(filter(None, map(unsafe_level, chosen)), "")
    if unsafe:
        raise ConfigurationError(
            f"{report_path}: generated programs ran without isolation ({unsafe}), so they are no measure for "
            "later runs; run them where they are isolated (collabcode doctor), or choose other metrics with --metric"
        )
    entries = dict(load_baseline(baseline_path).measurements) if baseline_path.exists() else {}
    changes = []
    for measurement in chosen:
        key, entry = baseline_key(measurement), baseline_entry(measurement)
        if entries.get(key) != entry:
            before = entries[key]["value"] if key in entries else None
            old = "new" if before is None else f"was {before:.4g}"
            changes.append(f"{key} = {measurement.value:.4g} ({old})")
        entries[key] = entry
    text = json.dumps({"schema": SCHEMA, "measurements": dict(sorted(entries.items()))}, indent=0)
    try:
        baseline_path.parent.mkdir(parents=True, exist_ok=True)
        baseline_path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{baseline_path} cannot be written: {error.strerror}") from error
    return changes


def unsafe_level(measurement: Measurement) -> str:
    """Return the level of isolation of a measurement's programs if it keeps nothing in, else "".

    Example:
        >>> how = (("isolation", "unsafe: none"),)
        >>> unsafe_level(Measurement(name="pass@1", subject="s", value=1.0, signature=how))
        'unsafe: none'
    """
    level = dict(measurement.signature).get("isolation", "")
    return level if level.startswith("unsafe") else ""


def _refuse_unknown(path: Path, key: str, wanted: Sequence[str], known: Sequence[str]) -> None:
    for name in wanted:
        if name not in known:
            hint = nearest(name, list(dict.fromkeys(known)))
            raise ConfigurationError(f"--{key}={name!r}: {path} has nothing to accept of it; {hint}")


def _read_report(path: Path) -> dict[str, Any]:
    try:
        table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if table["schema"] != SCHEMA:
            raise ValueError(f"schema={table['schema']!r}, this version reads {SCHEMA}")
        table["measurements"] = [measurement_from_plain(plain) for plain in table["measurements"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} is not a report of collabcode: {error}; reports come from --collabcode-report=json:PATH, "
            "baselines from collabcode accept"
        ) from error
    return table


def _json(report: Report) -> str:
    return json.dumps(
        {
            "schema": SCHEMA,
            "version": __version__,
            "green": report.green,
            "partial": report.partial,
            "environment": dict(report.environment),
            "verdicts": [{**verdict_to_plain(v), "line": v.line(), "blocks": v.blocks} for v in report.verdicts],
            "measurements": _distinct(report.measurements),
        },
        indent=1,
    )


def _sarif(report: Report) -> str:
    return json.dumps(sarif_log(report.measurements, report.verdicts, environment=report.environment), indent=1)


_WRITERS = {"json": _json, "markdown": markdown, "sarif": _sarif}


def _distinct(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    return [measurement_to_plain(m) for m in {baseline_key(m): m for m in measurements}.values()]


def _markdown_row(verdict: Verdict) -> str:
    measurement = verdict.measurement
    if measurement is None:
        cells = [verdict.threshold.metric, "", verdict.reason]
    else:
        low, high = (format_value(x, "") for x in (verdict.low or 0.0, verdict.high or 0.0))
        name = f"{measurement.name} {measurement.cell}".strip()
        cells = [
            name,
            format_value(measurement.value, measurement.unit),
            f"{low} to {high}{confidence_text(verdict.threshold.confidence)}",
        ]
    row = [str(verdict.outcome), verdict.threshold.id, verdict.subject, *cells, bound_text(verdict.threshold)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
