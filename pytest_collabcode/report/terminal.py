"""The end of a run on the terminal: one line per verdict, blocking ones last, then what it all means.

Not covered: code. Clones are named by organization, path, lines and fingerprint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.gate.proposal import is_coarse
from pytest_collabcode.intervals import interval_of
from pytest_collabcode.records import (
    Clone,
    Corpus,
    Measurement,
    Ruling,
    Verdict,
    format_value,
    signature_text,
    value_text,
)
from pytest_collabcode.report.files import unsafe_level

MAX_EVIDENCE = 10
CONTROLS = {  # metric -> what the hits are compared with
    "memorization_over_heldout": "held-out prompts",
    "memorization_lift": "a model without its code",
    "memorization_over_base": "the base model",
}
CLONE_METRICS = (
    "memorization_ratio",
    "line_ratio",
    "cross_organization_clone_ratio",
    "licence_header_ratio",
    "distinct_clones",
    "clone_lines",
    *CONTROLS,
)
SHOWN_STRATA = ("natural", "planted", "heldout")


class Outcome(Protocol):
    """What a finished run knows."""

    measurements: list[Measurement]
    verdicts: list[Verdict]
    proposals: list[str]  # a sentence for each subject that nobody judges; several may share one
    broken: list[str]  # a clause for each thing beside verdicts that keeps the run from being green
    narrowed: bool
    green: bool
    corpus: Corpus
    notice: str  # what a reader of the verdicts should know, a sentence a line; "" = nothing


def summarize(terminal: Any, outcome: Outcome) -> None:
    """Write verdicts, evidence of the blocking ones, and the final line through pytest's terminal reporter.

    Args:
        terminal: pytest's TerminalReporter.
        outcome: of the run.
    Example:
        >>> from types import SimpleNamespace
        >>> terminal = SimpleNamespace(section=print, write_line=lambda line, **colours: print(line))
        >>> measured = Measurement(name="mrr", subject="s", value=0.5)
        >>> summarize(terminal, SimpleNamespace(measurements=[measured], verdicts=[], proposals=[], broken=[],
        ...     narrowed=True, green=True, corpus=Corpus(name="ours", organizations=(), digest="ab"), notice=""))
        collabcode verdicts (PARTIAL: narrowed run, no release verdict)
        corpus ours ab: 0 files passed over
        measured   mrr = 0.5 [s]
        collabcode: PARTIAL: 0 verdicts, all that were selected passed; this is not a release verdict
    """
    terminal.section("collabcode verdicts" + (" (PARTIAL: narrowed run, no release verdict)" * outcome.narrowed))
    for line in (*corpus_lines(outcome.corpus), *filter(None, [outcome.notice])):
        terminal.write_line(line)
    for line in measured_lines(outcome.measurements, outcome.verdicts):
        terminal.write_line(line)
    for line in matrix_lines(outcome.measurements):
        terminal.write_line(line)
    for verdict in sorted(outcome.verdicts, key=_order):
        colour = {"red": True} if verdict.blocks else {"green": verdict.outcome is Ruling.PASS}
        terminal.write_line(verdict.line(), **colour)
        if verdict.blocks and verdict.outcome is not Ruling.UNMEASURED:
            for line in evidence_lines(verdict):
                terminal.write_line(line)
    for text in dict.fromkeys(outcome.proposals):
        terminal.write_line(text, red=True)
    terminal.write_line(final_line(outcome), bold=True, red=not outcome.green, green=outcome.green)


def corpus_lines(corpus: Corpus) -> list[str]:
    """Return what was trained on and held out, with the duplicate ratios before removal, which are always reported.

    Example:
        >>> from pytest_collabcode.records import Document, Organization
        >>> d = Document(path="x.py", text="", organization="acme")
        >>> acme = Organization(name="acme", documents=(d,))
        >>> print(*corpus_lines(Corpus(name="c", organizations=(acme,), digest="ab", rates=(("acme", 0.5, 0.0),))))
        corpus c ab: 0 files passed over acme: 1 training + 0 held-out documents, duplicates 0.5 exact, 0 near
    """
    lines = [f"corpus {corpus.name} {corpus.digest[:8]}: {len(corpus.skipped)} files passed over"]
    rates = {name: (exact, near) for name, exact, near in corpus.rates}
    for organization in corpus.organizations:
        counts = [sum(not d.planted for d in organization.split(s)) for s in ("training", "heldout")]
        exact, near = rates[organization.name]
        lines.append(
            f"{organization.name}: {counts[0]} training + {counts[1]} held-out documents, "
            f"duplicates {exact:.3g} exact, {near:.3g} near"
        )
    return lines


def matrix_lines(measurements: Sequence[Measurement]) -> list[str]:
    """Return, for each subject, hit prompts by prompt organization (rows) and source organization (columns).

    Args:
        measurements: of the run; those of memorization_ratio are used, and differences to controls stand below.
    Example:
        >>> m = Measurement(name="memorization_ratio", subject="s", value=0.1, count=1, n=10,
        ...     prompt_organization="meta", source_organization="any", stratum="natural")
        >>> print("\\n".join(matrix_lines([m])))
        memorization [s] hits/prompts from any
          meta         natural 1/10
    """
    lines = []
    ratios = [m for m in measurements if m.name == "memorization_ratio" and m.stratum in SHOWN_STRATA]
    for subject in dict.fromkeys(m.subject for m in ratios):
        own = {(m.prompt_organization, m.source_organization, m.stratum): m for m in ratios if m.subject == subject}
        sources = list(dict.fromkeys(source for _, source, _ in own))
        lines.append(f"memorization [{subject}] hits/prompts from {' · '.join(f'{s}' for s in sources)}")
        for row in dict.fromkeys(row for row, _, _ in own):
            cells = []
            for stratum in SHOWN_STRATA:
                counts = [f"{m.count}/{m.n}" for s in sources if (m := own.get((row, s, stratum)))]
                cells += [f"{stratum} {' · '.join(counts)}"] if counts else []
            lines.append(f"  {row:<12} {'   '.join(cells)}")
            against = [
                f"{m.value:+.3g} {m.stratum} over {CONTROLS[m.name]}"
                for m in measurements
                if m.name in CONTROLS and (m.subject, m.prompt_organization) == (subject, row)
            ]
            lines += [f"  {'':<12} {'   '.join(dict.fromkeys(against))}"] if against else []
    return lines


def measured_lines(measurements: Sequence[Measurement], verdicts: Sequence[Verdict]) -> list[str]:
    """Return what was measured and is judged by no threshold, the pooled numbers only where others are judged.

    Args:
        measurements: of the run.
        verdicts: of the run.
    Returns:
        A line for each number, and one that says how many finer ones only the JSON report has.
    Example:
        >>> m = Measurement(name="bits_per_byte", subject="s", value=1.5, prompt_organization="meta")
        >>> from pytest_collabcode.records import Threshold
        >>> judged = Verdict(threshold=Threshold(id="a", metric="x"), outcome=Ruling.PASS, subject="s")
        >>> measured_lines([m], []), measured_lines([m], [judged])
        (['measured   bits_per_byte meta = 1.5 [s]'], ['1 finer measurement: --collabcode-report=json:PATH has all'])
    """
    judged = {verdict.subject for verdict in verdicts}
    rest = [m for m in measurements if m.name not in CLONE_METRICS and not _is_judged(m, verdicts)]
    shown = [m for m in rest if is_coarse(m) and (m.subject not in judged or not m.prompt_organization)]
    n_finer = len(rest) - len(shown)
    finer = f"{n_finer} finer measurement{'s' * (n_finer != 1)}: --collabcode-report=json:PATH has all"
    return [*map(measured_line, shown), *([finer] if n_finer else [])]


def measured_line(measurement: Measurement) -> str:
    """Return the line of a measurement that no threshold judged.

    Example:
        >>> measured_line(Measurement(name="pass@1", subject="s", value=0.25))
        'measured   pass@1 = 0.25 [s]'
        >>> measured_line(Measurement(name="pass@1", subject="s", value=0, count=0, n=6, signature=(("seed", "1"),)))
        'measured   pass@1 = 0 (0/6) [0, 0.393] [s] seed:1'
    """
    try:
        ends = interval_of(measurement)
    except (EmptyMeasurementError, ValueError):  # nothing to compute it from, or a count that is not in 0..n
        ends = None
    control = ""
    if measurement.control is not None:
        control = f"; control {format_value(measurement.control.value, measurement.control.unit)}"
    measured = value_text(measurement, ends)
    return f"measured   {measured}{control} [{measurement.subject}] {signature_text(measurement)}".rstrip()


def evidence_lines(verdict: Verdict) -> list[str]:
    """Return where the lines of a verdict's clones stand, or which problems failed; never code.

    Example:
        >>> from pytest_collabcode.records import Threshold
        >>> m = Measurement(name="pass@1", subject="s", value=0.0, evidence=("HumanEval/0", "HumanEval/1"))
        >>> evidence_lines(Verdict(threshold=Threshold(id="a", metric="pass@1", source="t.toml:3"),
        ...     outcome=Ruling.FAIL, subject="s", measurement=m))
        ['  HumanEval/0', '  HumanEval/1', '  by t.toml:3']
    """
    evidence = verdict.measurement.evidence if verdict.measurement else ()
    lines = []
    for piece in evidence[:MAX_EVIDENCE]:
        if isinstance(piece, Clone):
            planted = ", planted" if piece.planted else ""
            lines.append(
                f"  {piece.training}: {piece.significant_lines} lines, fingerprint {piece.fingerprint}{planted}, "
                f"in the completion of {piece.generated}"
            )
        else:
            lines.append(f"  {piece}")
    if len(evidence) > MAX_EVIDENCE:
        lines.append(f"  and {len(evidence) - MAX_EVIDENCE} more (all in the JSON report)")
    if verdict.threshold.source:
        lines.append(f"  by {verdict.threshold.source}")
    return lines


def final_line(outcome: Outcome) -> str:
    """Return the one line that says what the run means.

    Example:
        >>> from types import SimpleNamespace
        >>> from pytest_collabcode.records import Threshold
        >>> verdict = Verdict(threshold=Threshold(id="a", metric="mrr"), outcome=Ruling.UNDECIDED, subject="s")
        >>> final_line(SimpleNamespace(verdicts=[verdict], proposals=[], broken=[], narrowed=False, green=False))
        'collabcode: RED: 1 of 1 verdicts block'
        >>> final_line(SimpleNamespace(verdicts=[], proposals=[], broken=["no report"], narrowed=False, green=False))
        'collabcode: RED: 0 of 0 verdicts block; no report'
    """
    blocking = sum(v.blocks for v in outcome.verdicts)
    count = len(outcome.verdicts)
    unsafe = _unsafe(outcome.verdicts)
    also = f"; nobody judges {len(outcome.proposals)} of the subjects yet" if outcome.proposals else ""
    also += "".join(f"; {clause}" for clause in outcome.broken)
    if outcome.narrowed:
        state = "all that were selected passed" if outcome.green else f"{blocking} of {count} block{also}"
        return f"collabcode: PARTIAL: {count} verdicts, {state}{unsafe}; this is not a release verdict"
    if outcome.green:
        return f"collabcode: GREEN: {count} verdicts, none blocks{unsafe}"
    return f"collabcode: RED: {blocking} of {count} verdicts block{also}{unsafe}"


def _unsafe(verdicts: Sequence[Verdict]) -> str:
    """Return a clause that says so if generated programs ran with nothing to keep them in."""
    unsafe = next(filter(None, (unsafe_level(v.measurement) for v in verdicts if v.measurement)), "")
    return f"; generated programs ran WITHOUT ISOLATION ({unsafe})" if unsafe else ""


def _order(verdict: Verdict) -> tuple[bool, str, str, str]:
    cell = verdict.measurement.cell if verdict.measurement else ""
    return verdict.blocks, verdict.subject, verdict.threshold.id, cell


def _is_judged(measurement: Measurement, verdicts: Sequence[Verdict]) -> bool:
    return any(
        v.measurement is not None
        and (v.subject, v.measurement.name, v.measurement.cell)
        == (measurement.subject, measurement.name, measurement.cell)
        for v in verdicts
    )
