"""SARIF files: of the standard's shape, one result a clone, and not a line of anybody's code."""

import json
from dataclasses import replace
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.gate.verdict import judge
from pytest_collabcode.memorization.clones import scan
from pytest_collabcode.records import (
    Clone,
    Document,
    Fragment,
    Generation,
    Item,
    Measurement,
    Problem,
    Threshold,
)
from pytest_collabcode.report.files import Report, write_report
from pytest_collabcode.report.plain import measurement_from_plain, measurement_to_plain
from pytest_collabcode.report.sarif import rule_of, sarif_log
from pytest_collabcode.settings import report_option
from pytest_collabcode.tasks import memorization

CEILING = Threshold(id="c", metric="memorization_ratio", at_most=0.01)


def clone(path="t#0", owner="meta", first=1, **more):
    values = {
        "generated": Fragment(organization="", path=path, first_line=first, last_line=first + 6),
        "training": Fragment(organization=owner, path="a/b c.py", first_line=10, last_line=17),
        "significant_lines": 7,
        "fingerprint": "3a2ebc",
        "organizations": (owner,),
        "licence": "MIT",
    }
    return Clone(**{**values, **more})


def measured(*clones, n=1, **more):
    values = {
        "name": "memorization_ratio",
        "subject": "demo/fedavg",
        "value": len(clones) / n,
        "count": min(len(clones), n),
        "n": n,
        "higher_is_better": False,
        "prompt_organization": "meta",
        "source_organization": "any",
        "stratum": "natural",
        "evidence": clones,
    }
    return Measurement(**{**values, **more})


def run_of(measurements, threshold=CEILING, **more):
    verdicts = [judge(m, threshold) for m in measurements] if threshold else []
    return sarif_log(measurements, verdicts, **more)["runs"][0]


# --- the standard's shape: for each object its required and its other allowed properties (sections of SARIF 2.1.0)

SHAPES = {
    "log": ({"version": {"2.1.0"}, "runs": ["run"]}, {"$schema": str}),  # 3.13
    "run": (  # 3.14
        {"tool": "tool"},
        {
            "invocations": ["invocation"],
            "results": ["result"],
            "columnKind": {"utf16CodeUnits", "unicodeCodePoints"},
            "properties": dict,
        },
    ),
    "tool": ({"driver": "driver"}, {}),  # 3.18
    "driver": ({"name": str}, {"version": str, "rules": ["rule"]}),  # 3.19
    "rule": (  # 3.49
        {"id": str},
        {
            "name": str,
            "shortDescription": "message",
            "fullDescription": "message",
            "help": "message",
            "defaultConfiguration": "configuration",
            "properties": dict,
        },
    ),
    "configuration": ({}, {"level": {"none", "note", "warning", "error"}}),  # 3.50
    "message": ({"text": str}, {}),  # 3.11, 3.12
    "invocation": ({"executionSuccessful": bool}, {"toolExecutionNotifications": ["notification"]}),  # 3.20
    "notification": ({"message": "message"}, {"level": {"none", "note", "warning", "error"}}),  # 3.58
    "result": (  # 3.27
        {"message": "message"},
        {
            "ruleId": str,
            "ruleIndex": int,
            "level": {"none", "note", "warning", "error"},
            "locations": ["location"],
            "relatedLocations": ["location"],
            "partialFingerprints": dict,
            "suppressions": ["suppression"],
            "properties": dict,
        },
    ),
    "location": ({}, {"id": int, "message": "message", "physicalLocation": "physical"}),  # 3.28
    "physical": ({"artifactLocation": "artifact"}, {"region": "region"}),  # 3.29
    "artifact": ({}, {"uri": str}),  # 3.4
    "region": ({}, {"startLine": int, "endLine": int}),  # 3.30
    "suppression": (
        {"kind": {"inSource", "external"}},
        {"status": {"accepted", "underReview", "rejected"}, "justification": str},
    ),  # 3.35
}


def check(value, shape):
    if isinstance(shape, list):
        for element in value:
            check(element, shape[0])
    elif isinstance(shape, set):
        assert value in shape
    elif isinstance(shape, type):
        assert type(value) is shape
    else:
        required, others = SHAPES[shape]
        assert set(required) <= set(value) <= {*required, *others}, shape
        for key, element in value.items():
            check(element, {**required, **others}[key])


def check_log(log):
    check(json.loads(json.dumps(log)), "log")
    [run] = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules) == 6
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        for location in result["locations"] + result["relatedLocations"]:
            uri = location["physicalLocation"]["artifactLocation"]["uri"]
            assert uri.isascii() and not set(uri) & set(" #?[]{}\\") and not uri.startswith("/")
            region = location["physicalLocation"].get("region", {"startLine": 1, "endLine": 1})
            assert 1 <= region["startLine"] <= region["endLine"]


ODD = st.text(alphabet="ab#/% {}[]\\é\u2028'\":>", max_size=8)
CLONES = st.builds(
    clone,
    path=ODD.map(lambda text: f"{text}#0"),
    owner=st.sampled_from(["meta", "google"]),
    first=st.integers(0, 3),
    planted=st.booleans(),
    header=st.booleans(),
    licence=st.sampled_from(["", "MIT", "GPL-2.0-only"]),
    organizations=st.sampled_from([("meta",), ("google", "meta")]),
    allowed=st.sampled_from(["", "ours (allow.toml:2, until 2027-01-01)"]),
)


@given(clones=st.lists(CLONES, max_size=4), subject=ODD, name=st.sampled_from(["memorization_ratio", "clone_lines"]))
def test_every_log_has_the_standards_shape(clones, subject, name):
    measurement = measured(*clones, n=9, subject=subject, name=name)
    check_log(sarif_log([measurement], [judge(measurement, CEILING)], environment=[("seed", "1")]))


# --- one result a clone


def test_a_clone_in_several_cells_is_one_result():
    cells = [measured(clone(), source_organization=s) for s in ("any", "meta")]
    crossing = measured(clone(), name="cross_organization_clone_ratio")
    assert len(run_of([*cells, crossing])["results"]) == 1


@pytest.mark.parametrize(
    "others",
    [
        [measured(clone("t#1"))],
        [measured(clone(owner="google"))],
        [measured(clone(first=20))],
        [measured(clone(), subject="demo/fedyogi")],
    ],
    ids=["sample", "source", "lines", "subject"],
)
def test_another_place_source_or_subject_is_another_result(others):
    assert len(run_of([measured(clone()), *others])["results"]) == 2


def test_a_near_clone_has_a_rule_of_its_own_unless_it_is_exact():
    near = measured(clone(), clone("u#0"), name="near_clone_ratio", n=2)
    results = run_of([near, measured(clone())])["results"]
    assert {r["ruleId"]: r["message"]["text"][:7] for r in results} == {
        "verbatim-clone": "7 lines",
        "near-clone": "Nearly ",
    }


def test_a_result_names_where_it_stands_and_where_it_comes_from():
    [result] = run_of([measured(clone("meta:x/core.py:120#0"))])["results"]
    place = result["locations"][0]["physicalLocation"]
    segments = place["artifactLocation"]["uri"].split("/")
    assert [unquote(s) for s in segments] == ["generations", "demo/fedavg", "meta:x/core.py:120#0"]
    assert place["region"] == {"startLine": 1, "endLine": 7}
    training = result["relatedLocations"][0]["physicalLocation"]
    assert training["artifactLocation"]["uri"] == "corpus/meta/a/b%20c.py"
    assert training["region"] == {"startLine": 10, "endLine": 17}
    assert result["partialFingerprints"] == {"collabcodeClone/v1": "3a2ebc"}
    assert result["properties"]["licence"] == "MIT" and result["properties"]["stratum"] == "natural"
    assert "meta:a/b c.py:10-17" in result["message"]["text"]


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({}, "verbatim-clone"),
        ({"organizations": ("google", "meta")}, "cross-organization-clone"),
        ({"organizations": ("google", "meta"), "licence": "GPL-3.0-only"}, "copyleft-clone"),
        ({"header": True, "licence": "GPL-3.0-only"}, "licence-header-clone"),
        ({"header": True, "planted": True}, "planted-clone"),
    ],
)
def test_a_clone_falls_under_the_first_rule_that_fits(more, rule):
    assert rule_of(clone(**more)) == rule


@pytest.mark.parametrize(
    ("more", "threshold", "level"),
    [
        ({}, CEILING, "error"),
        ({}, replace(CEILING, required=False), "error"),
        ({}, replace(CEILING, at_most=0.06), "error"),  # the upper bound decides
        ({}, replace(CEILING, at_most=0.3), "warning"),
        ({}, replace(CEILING, at_most=None, at_least=0.9), "warning"),  # a floor fails for want of clones
        ({}, None, "warning"),
        ({"planted": True}, CEILING, "note"),
        ({"allowed": "ours"}, CEILING, "note"),
    ],
)
def test_only_natural_code_that_a_failing_ceiling_counts_is_an_error(more, threshold, level):
    [result] = run_of([measured(clone(**more), n=20)], threshold)["results"]
    assert result["level"] == level


def test_allowed_clones_are_suppressed_with_their_reason():
    results = run_of([measured(clone(), clone("t#1", allowed="ours (allow.toml:2, until 2027-01-01)"), n=2)])[
        "results"
    ]
    assert [result.get("suppressions", [{}])[0].get("justification") for result in results] == [
        None,
        "ours (allow.toml:2, until 2027-01-01)",
    ]


def test_too_many_results_are_cut_from_the_mildest_and_said():
    clones = [clone(f"t#{i}", planted=i % 2 == 0) for i in range(10)]
    run = run_of([measured(*clones, n=20)], max_results=6)
    assert [result["level"] for result in run["results"]] == ["error"] * 5 + ["note"]
    [notification] = run["invocations"][0]["toolExecutionNotifications"]
    assert notification["message"]["text"].startswith("4 of 10 clones are left out")
    assert run_of([measured(*clones, n=20)])["invocations"][0]["toolExecutionNotifications"] == []


def test_words_of_the_message_syntax_are_escaped():
    training = Fragment(organization="meta", path="{0}/[a](b).py", first_line=1, last_line=6)
    [result] = run_of([measured(clone(training=training))])["results"]
    assert "{{0}}/\\[a\\](b).py" in result["message"]["text"]


# --- as a report


def test_no_line_of_any_corpus_stands_in_the_file(tmp_path):
    documents = [
        Document(
            path=f"{name}.py",
            text="".join(f"    {name}_secret_{i} = call({i})\n" for i in range(9)),
            organization=owner,
            licence="GPL-2.0-only",
            planted=planted,
        )
        for name, owner, planted in [("one", "acme", False), ("two", "zeta", False), ("three", "acme", True)]
    ]
    problems = [
        Problem(task_id=f"t{i}", prompt=f"def f{i}():\n", canonical_solution=d.text, organization=d.organization)
        for i, d in enumerate(documents)
    ]
    generations = [
        Generation(task_id=p.task_id, sample_index=0, completion=d.text, n_tokens=1, duration_s=0, stop_reason="eos")
        for p, d in zip(problems, documents, strict=True)
    ]
    measurements = memorization.measure(
        scan(CloneIndex.build(documents), problems, generations), subject="s", organizations=["acme", "zeta"]
    )
    report = Report(
        green=False,
        partial=False,
        measurements=tuple(measurements),
        verdicts=tuple(judge(m, CEILING) for m in measurements if m.name == "memorization_ratio"),
        environment=(("seed", "1"),),
    )
    option = report_option(f"sarif:{tmp_path}/gate.sarif")
    write_report(report, option.format, option.path)
    text = option.path.read_text()
    log = json.loads(text)
    check_log(log)
    assert len(log["runs"][0]["results"]) == 3
    assert not [line for d in documents for line in d.text.split("\n") if line.strip() and line.strip() in text]
    assert "secret" not in text and "def f" not in text


def test_clones_and_clusters_survive_the_way_through_a_report():
    items = (Item(key="a", value=1.0, cluster="x.py"), Item(key="b", value=0.0))
    measurement = measured(clone(allowed="ours", licence="MIT", copies=3, header=True), items=items)
    assert measurement_from_plain(json.loads(json.dumps(measurement_to_plain(measurement)))) == measurement


def test_items_of_older_reports_are_read():
    plain = json.loads(json.dumps(measurement_to_plain(measured(items=(Item(key="a", value=1.0),)))))
    assert plain["items"] == [["a", 1.0, 1.0]]
    assert measurement_from_plain(plain).items == (Item(key="a", value=1.0),)
