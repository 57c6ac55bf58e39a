"""The session's own part: what the preflight refuses, how measurements are signed, what is said of the unjudged."""

import json

import pytest

from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.gate.thresholds import load_thresholds
from pytest_collabcode.records import Item, Measurement
from pytest_collabcode.session import Session
from pytest_collabcode.settings import make_settings

FLOOR = """schema = 1
[[threshold]]
id = "learnt"
metric = "perplexity_gain_over_unigram"
at_least = 1.05
"""
CEILING = """[[threshold]]
id = "natural-code"
metric = "memorization_ratio"
stratum = "natural"
at_most = 0.9
"""


@pytest.fixture
def session(tmp_path, tiny_consortium, tiny_store):
    def session(thresholds=FLOOR, *, regimes="centralized", reports=(), **options):
        (tmp_path / "t.toml").write_text(thresholds)
        given = {
            "consortium": str(tiny_consortium),
            "store": str(tiny_store),
            "profile": "smoke",
            "recipe": "llama-smoke",
            "thresholds": str(tmp_path / "t.toml"),
        }
        given |= {key: str(tmp_path / path) for key, path in options.items()}
        reports = [f"{kind}:{tmp_path / path}" for kind, path in reports]
        return Session(make_settings(directory=tmp_path, regimes=[regimes], options=given, reports=reports))

    return session


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        (FLOOR.replace("1.05", "0.001") + CEILING, "without an effectiveness floor"),
        (FLOOR + "required = false\n" + CEILING, "without an effectiveness floor"),
        (FLOOR + CEILING.replace('"natural"', '"naturel"'), "did you mean 'natural'?"),
        (FLOOR + CEILING.replace('"natural"', '"natural 6-9 line"'), "did you mean 'natural 6-9 lines'?"),
        (FLOOR + 'stratum = "natural"\n' + CEILING, "it has none: remove the line"),
        (FLOOR + CEILING.replace('"natural"', '"planted"'), "at_most=0.9 needs 2 prompts of acme, there are 0"),
        (FLOOR + CEILING.replace("0.9", "0.2"), "at_most=0.2 needs 14 prompts of acme, there are 12"),
    ],
)
def test_thresholds_that_could_not_judge_are_refused(session, thresholds, message):
    with pytest.raises(ConfigurationError) as refused:
        session(thresholds).preflight()
    assert message in str(refused.value)


@pytest.mark.parametrize("stratum", ["*", "natural", "natural*", "natural 6-9 lines", "heldout→planted"])
def test_strata_that_are_measured_pass_the_preflight(session, stratum):
    session(FLOOR + CEILING.replace('"natural"', f'"{stratum}"')).preflight()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"store": "t.toml/x"}, "t.toml is not a folder; choose another store"),
        ({"store": "t.toml"}, "t.toml is not a folder; choose another store"),
        ({"reports": [("json", "t.toml/r.json")]}, "t.toml/r.json cannot be written: Not a directory"),
        ({"reports": [("markdown", "r.md"), ("sarif", ".")]}, "cannot be written: Is a directory"),
        ({"baseline": "t.toml"}, "t.toml is not a baseline"),
    ],
)
def test_what_could_not_be_read_or_written_is_refused_and_nothing_is_left(session, tmp_path, options, message):
    with pytest.raises(ConfigurationError) as refused:
        session(**options).preflight()
    assert message in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["t.toml"]


def own(subject, name="acme.short", **more):
    return Measurement(name=name, subject=subject, value=0.5, count=4, n=8, **more)


def test_a_measurement_of_ones_own_is_signed_with_what_is_known_of_its_subject(session, tmp_path):
    here = session()
    here.trained("centralized")
    signature = dict(here.signed(own("tiny/centralized")).signature)
    assert list(signature) == ["profile", "seed", "corpus", "weights", "torch", "transformers"]
    assert signature["weights"] == here.pipeline.checkpoint("tiny/centralized").weights_digest[:8]
    for kept in (own("somebody"), own("tiny/centralized", signature=(("how", "so"),))):
        assert here.signed(kept) is kept


def test_signing_trains_nothing(session):
    untrained, measured = session(regimes="local:zeta", store="empty"), own("tiny/local:zeta")
    assert untrained.signed(measured) is measured
    assert not (untrained.settings.store / "checkpoints").exists()


def gain(subject, value=2.0):
    items = (Item(key="a", value=value), Item(key="b", value=value + 0.1))
    return Measurement(name="perplexity_gain_over_unigram", subject=subject, value=7.4, exponential=True, items=items)


NOBODY = FLOOR.replace("schema = 1", "schema = 1\nconsortium = 'demo'")


def test_each_unjudged_subject_is_said_once_and_those_with_bounds_share_a_file(session, tmp_path):
    here = session(NOBODY, regimes="centralized,fedavg,local:acme,local:zeta")
    measured = [gain("tiny/centralized"), gain("tiny/fedavg"), own("tiny/local:acme")]
    said = here.write_proposals(measured, {("tiny/fedavg", "mrr"): "no pairs"})
    assert len(said) == 4 and len(set(said)) == 3
    assert said[0] == "'tiny/local:zeta': no threshold selects it and no test measured it"
    assert "judges 'tiny/local:acme', and no bound could be proposed" in said[1]
    assert (
        "judges 'tiny/centralized', 'tiny/fedavg': proposed collabcode-thresholds.proposed.toml from their" in said[2]
    )
    law = load_thresholds(tmp_path / "collabcode-thresholds.proposed.toml")
    assert [t.subjects for t in law.thresholds] == [("tiny/centralized",), ("tiny/fedavg",)]
    assert "# mrr: UNMEASURED: no pairs; no bound proposed" in law.path.read_text()


def test_a_file_beside_a_judged_subject_says_whom_it_judges(session):
    judged = FLOOR + 'subjects = ["tiny/fedavg"]\n'
    here = session(judged, regimes="centralized,fedavg")
    [said] = here.write_proposals([gain("tiny/centralized"), gain("tiny/fedavg")], {})
    assert said.endswith("collabcode-thresholds.tiny-centralized.toml, which judges 'tiny/centralized' only")


def test_reports_that_can_be_written_are_and_the_others_are_said(session, tmp_path):
    here = session(reports=[("json", "t.toml/r.json"), ("json", "r.json")])
    [said] = here.write_reports([], [], green=True, partial=False)
    assert "t.toml/r.json cannot be written" in said
    assert json.loads((tmp_path / "r.json").read_text())["green"] is True
