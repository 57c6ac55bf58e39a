"""Reports carry every number and no code."""

import json
from dataclasses import replace

import pytest

from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.gate.baseline import load_baseline
from pytest_collabcode.gate.proposal import propose
from pytest_collabcode.gate.thresholds import applies, check_subject, load_thresholds
from pytest_collabcode.gate.verdict import judge
from pytest_collabcode.records import Clone, Fragment, Item, Measurement, Ruling, Threshold
from pytest_collabcode.report.files import Report, accept, markdown, write_report
from pytest_collabcode.report.terminal import evidence_lines

CLONE = Clone(
    generated=Fragment(organization="", path="t#0", first_line=1, last_line=7),
    training=Fragment(organization="meta", path="a/b.py", first_line=10, last_line=17),
    significant_lines=7,
    fingerprint="3a2ebc",
    organizations=("meta",),
)
HITS = Measurement(
    name="memorization_ratio",
    subject="s",
    value=0.5,
    count=1,
    n=2,
    higher_is_better=False,
    prompt_organization="meta",
    source_organization="any",
    stratum="natural",
    items=(Item(key="a", value=1.0), Item(key="b", value=0.0)),
    evidence=(CLONE,),
    signature=(("seed", "1"),),
)


def report(*measurements, **more):
    threshold = Threshold(id="c", metric="memorization_ratio", at_most=0.1, source="t.toml:2")
    verdicts = tuple(judge(m, threshold) for m in measurements)
    return Report(
        green=False,
        partial=False,
        measurements=measurements,
        verdicts=verdicts,
        environment=(("torch", "2"),),
        **more,
    )


def test_a_failing_gate_names_organization_path_lines_and_fingerprint():
    verdict = report(HITS).verdicts[0]
    assert verdict.outcome is Ruling.FAIL
    assert verdict.line().startswith(
        "FAIL       c memorization_ratio meta→any natural = 0.5 (1/2) [0.0253, 0.975] <= 0.1"
    )
    lines = evidence_lines(verdict)
    assert lines[0].strip().startswith("meta:a/b.py:10-17: 7 lines, fingerprint 3a2ebc, in the completion of t#0:1-7")
    assert lines[-1] == "  by t.toml:2"


def test_a_report_makes_a_baseline_that_the_same_numbers_pass(tmp_path):
    write_report(report(HITS), "json", tmp_path / "r.json")
    changes = accept(tmp_path / "r.json", tmp_path / "b.json")
    assert changes == ["s|memorization_ratio|meta→any natural = 0.5 (new)"]
    assert accept(tmp_path / "r.json", tmp_path / "b.json") == []
    drop = load_baseline(tmp_path / "b.json").drop(HITS)
    assert (drop.value, drop.n, drop.problem) == (0.0, 2, "")


def test_accepting_says_what_changed(tmp_path):
    write_report(report(HITS), "json", tmp_path / "r.json")
    accept(tmp_path / "r.json", tmp_path / "b.json")
    better = replace(HITS, value=0.0, count=0, items=(Item(key="a", value=0.0), Item(key="b", value=0.0)))
    write_report(report(better), "json", tmp_path / "r.json")
    assert accept(tmp_path / "r.json", tmp_path / "b.json") == ["s|memorization_ratio|meta→any natural = 0 (was 0.5)"]


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not a report"), ("[]", "is not a report"), ('{"schema": 9}', "schema=9")]
)
def test_what_is_no_report_is_not_accepted(tmp_path, text, message):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        accept(tmp_path / "r.json", tmp_path / "b.json")


def test_what_is_no_baseline_is_not_updated(tmp_path):
    write_report(report(HITS), "json", tmp_path / "r.json")
    (tmp_path / "b.json").write_text('{"schema": 1}')
    with pytest.raises(ConfigurationError, match="is not a baseline"):
        accept(tmp_path / "r.json", tmp_path / "b.json")


def test_a_partial_run_is_not_accepted(tmp_path):
    write_report(replace(report(HITS), partial=True), "json", tmp_path / "r.json")
    with pytest.raises(ConfigurationError, match="PARTIAL"):
        accept(tmp_path / "r.json", tmp_path / "b.json")


def test_the_json_report_holds_lines_and_measurements(tmp_path):
    write_report(report(HITS), "json", tmp_path / "r.json")
    table = json.loads((tmp_path / "r.json").read_text())
    assert table["verdicts"][0]["line"] == report(HITS).verdicts[0].line()
    assert table["measurements"][0]["evidence"][0]["training"]["path"] == "a/b.py"


def test_markdown_is_one_row_a_verdict():
    text = markdown(report(HITS))
    assert text.startswith("## collabcode: red") and text.count("\n| FAIL") == 1


def test_a_proposal_is_a_file_that_the_same_numbers_pass(tmp_path):
    gain = Measurement(
        name="perplexity_gain_over_unigram",
        subject="s",
        value=7.4,
        exponential=True,
        items=(Item(key="a", value=2.0), Item(key="b", value=2.1)),
    )
    hits = replace(HITS, count=2, n=100, value=0.02)
    (tmp_path / "p.toml").write_text(propose([gain, hits], subject="s", consortium="demo"))
    thresholds = load_thresholds(tmp_path / "p.toml").thresholds
    assert [t.metric for t in thresholds] == ["perplexity_gain_over_unigram", "memorization_ratio"]
    assert [judge(m, t).outcome for m, t in zip([gain, hits], thresholds, strict=True)] == [Ruling.PASS] * 2


def test_each_proposed_threshold_judges_the_one_measurement_it_was_written_from(tmp_path):
    pooled = Measurement(
        name="perplexity",
        subject="s",
        value=7.4,
        exponential=True,
        higher_is_better=False,
        items=(Item(key="a", value=1.0), Item(key="b", value=3.0)),
    )
    worse = replace(pooled, value=20.1, prompt_organization="meta", items=(Item(key="b", value=3.0),) * 2)
    hits = replace(HITS, count=2, n=100, value=0.02)
    measured = [pooled, worse, hits, replace(hits, prompt_organization="google"), replace(hits, stratum="planted")]
    (tmp_path / "p.toml").write_text(propose(measured, subject="s", consortium="demo"))
    thresholds = load_thresholds(tmp_path / "p.toml").thresholds
    assert [[m for m in measured if applies(t, m)] for t in thresholds] == [[m] for m in measured]
    check_subject(thresholds, "s", lambda metric: {"meta": 1000, "google": 1000})  # an upper bound is a floor here
