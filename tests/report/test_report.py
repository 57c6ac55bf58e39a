"""Reports carry every number and no code."""

import json
from dataclasses import replace

import pytest

from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.gate.baseline import load_baseline
from pytest_collabcode.gate.verdict import judge
from pytest_collabcode.records import Clone, Fragment, Item, Measurement, Ruling, Threshold
from pytest_collabcode.report.files import Report, accept, markdown, require_writable, write_report
from pytest_collabcode.report.terminal import evidence_lines, measured_line

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
    assert (tmp_path / "b.json").read_text() == '{"schema": 1}'


def test_what_ran_without_isolation_is_not_accepted_and_the_rest_may_be(tmp_path):
    items = (Item(key="a", value=1.0),)
    ran = Measurement(
        name="pass@1", subject="s", value=1.0, items=items, signature=(("isolation", "unsafe: seccomp+rlimits"),)
    )
    both = Report(green=True, partial=False, measurements=(ran, HITS), verdicts=(), environment=())
    write_report(both, "json", tmp_path / "r.json")
    with pytest.raises(ConfigurationError, match=r"ran without isolation \(unsafe: seccomp\+rlimits\).*--metric"):
        accept(tmp_path / "r.json", tmp_path / "b.json")
    assert not (tmp_path / "b.json").exists()
    assert len(accept(tmp_path / "r.json", tmp_path / "b.json", metrics=["memorization_ratio"])) == 1
    write_report(report(replace(ran, signature=(("isolation", "bwrap namespaces"),))), "json", tmp_path / "r.json")
    assert len(accept(tmp_path / "r.json", tmp_path / "b.json")) == 1


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


@pytest.mark.parametrize(("confidence", "said"), [(0.95, "[0.0253, 0.975]"), (0.99, "; each end at 99 %]")])
def test_an_unusual_confidence_stands_on_the_line_and_in_every_report(tmp_path, confidence, said):
    threshold = Threshold(id="c", metric="memorization_ratio", at_most=0.1, confidence=confidence)
    judged = replace(report(), verdicts=(judge(HITS, threshold),))
    assert said in judged.verdicts[0].line()
    assert ("each end at" in markdown(judged)) is (confidence != 0.95)
    write_report(judged, "json", tmp_path / "r.json")
    [verdict] = json.loads((tmp_path / "r.json").read_text())["verdicts"]
    assert verdict["threshold"]["confidence"] == confidence and said in verdict["line"]


@pytest.mark.parametrize(
    ("measurement", "line"),
    [
        (HITS, "measured   memorization_ratio meta→any natural = 0.5 (1/2) [0.0253, 0.975] [s] seed:1"),
        (replace(HITS, control=replace(HITS, value=0.25)), "0.975]; control 0.25 [s] seed:1"),
        (replace(HITS, count=None, items=(), signature=()), "natural = 0.5 [s]"),
        (replace(HITS, count=3), "natural = 0.5 (3/2) [s] seed:1"),
        (replace(HITS, count=0, n=0, items=()), "natural = 0.5 (0/0) [s] seed:1"),
    ],
    ids=["counted", "control", "bare", "impossible", "empty"],
)
def test_what_is_measured_is_written_as_a_verdict_is(measurement, line):
    assert measured_line(measurement).endswith(line)


@pytest.mark.parametrize("wanted", [{"subjects": ["nobody"]}, {"metrics": ["pass@1"]}, {"subjects": ["s", "t"]}])
def test_what_the_report_does_not_have_is_not_accepted(tmp_path, wanted):
    write_report(report(HITS), "json", tmp_path / "r.json")
    with pytest.raises(ConfigurationError, match=r"has nothing to accept of it; valid: (s|memorization_ratio)$"):
        accept(tmp_path / "r.json", tmp_path / "b.json", **wanted)
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize("measurements", [(), (replace(HITS, items=()),)], ids=["none", "nothing to pair"])
def test_a_report_with_nothing_to_compare_is_not_accepted(tmp_path, measurements):
    write_report(report(*measurements), "json", tmp_path / "r.json")
    with pytest.raises(ConfigurationError, match="nothing that can be compared later"):
        accept(tmp_path / "r.json", tmp_path / "b.json")


def test_a_metric_of_one_subject_is_not_accepted_of_another(tmp_path):
    gain = replace(HITS, name="bits_per_byte", subject="t")
    write_report(report(HITS, gain), "json", tmp_path / "r.json")
    with pytest.raises(ConfigurationError, match="nothing of these metrics of these subjects"):
        accept(tmp_path / "r.json", tmp_path / "b.json", subjects=["s"], metrics=["bits_per_byte"])


def test_a_report_is_no_baseline_and_the_way_out_is_named(tmp_path):
    write_report(report(HITS), "json", tmp_path / "r.json")
    for use in (load_baseline, lambda path: accept(path, path)):
        with pytest.raises(
            ConfigurationError, match=r"r\.json is a report, not a baseline; make one of it with: coll"
        ):
            use(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a baseline: Expecting"),
        ("[]", "is not a baseline: it holds a list"),
        ("3", "is not a baseline: it holds a int"),
        ('{"schema": 9}', "schema=9, this version reads 1"),
        ('{"schema": 1}', "its measurements are not those that collabcode accept writes"),
        ('{"schema": 1, "measurements": []}', "its measurements are not"),
        ('{"schema": 1, "measurements": {"a": 1}}', "its measurements are not"),
        ('{"schema": 1, "measurements": {"a": {"items": {}, "signature": ["ab"]}}}', "its measurements are not"),
    ],
)
def test_what_is_no_baseline_is_refused_in_one_sentence(tmp_path, text, message):
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load_baseline(tmp_path / "b.json")
    assert message in str(refused.value) and "object has no" not in str(refused.value)


def test_reports_that_could_not_be_written_are_refused_and_those_that_can_leave_no_file(tmp_path):
    (tmp_path / "old.json").write_text("{}")
    for path in (tmp_path / "old.json", tmp_path / "new" / "folder" / "r.json"):
        require_writable("json", path)
    assert (tmp_path / "old.json").read_text() == "{}" and not (tmp_path / "new" / "folder" / "r.json").exists()
    for path in (tmp_path, tmp_path / "old.json" / "r.json", tmp_path / "old.json" / "a" / "r.json"):
        with pytest.raises(ConfigurationError, match=r"--collabcode-report=json:.* cannot be written: \w"):
            require_writable("json", path)
