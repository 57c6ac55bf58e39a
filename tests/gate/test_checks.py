"""Thresholds that cannot judge the subjects of a run are refused; those that judge nobody are named."""

from pathlib import Path

import pytest

from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.gate.catalogue import CATALOGUE, metric
from pytest_collabcode.gate.checks import check_organizations, check_strata, check_subject, is_floor, unselected
from pytest_collabcode.gate.thresholds import Thresholds, load_thresholds
from pytest_collabcode.records import Threshold

SHIPPED = Path(__file__).parent.parent.parent / "suites" / "thresholds.toml"
CEILING = Threshold(id="c", metric="memorization_ratio", at_most=0.05)
GAIN = {"metric": "perplexity_gain_over_unigram"}
FLOOR = Threshold(id="f", at_least=5, **GAIN)


def plenty(metric, stratum):
    return {"meta": 1000}


def test_a_ceiling_alone_is_refused_and_the_way_out_named():
    with pytest.raises(ConfigurationError, match="without an effectiveness floor") as refused:
        check_subject([CEILING], "s", plenty)
    for known in CATALOGUE:
        assert (f"{known.example} above" in str(refused.value)) is (known.unfit is not None)
    check_subject([CEILING, FLOOR], "s", plenty)


@pytest.mark.parametrize(
    ("fields", "floor"),
    [
        ({**GAIN, "at_least": 1.05}, True),
        ({**GAIN, "at_least": 1.0}, False),
        ({**GAIN, "at_least": 0.001}, False),
        ({**GAIN, "at_least": 5, "required": False}, False),
        ({**GAIN, "at_least": 5, "undecided": "accept"}, False),
        ({**GAIN, "max_drop": 0.05}, True),
        ({**GAIN, "max_drop": 0.05, "required": False}, False),
        ({**GAIN, "max_drop": 0.05, "undecided": "accept"}, False),
        ({**GAIN, "at_least": 0.2, "max_drop": 0.05}, True),
        ({"metric": "pass@1", "at_least": 0.02}, True),
        ({"metric": "pass@1", "at_most": 0.5}, False),
        ({"metric": "exact_match", "at_least": 0.001}, True),
        ({"metric": "mrr_over_chance@pool=200", "at_least": 2.5}, True),
        ({"metric": "mrr_over_chance@pool=200", "at_least": 1.5}, False),
        ({"metric": "mrr@pool=200", "at_least": 0.001}, False),
        ({"metric": "bleu.sacrebleu", "at_least": 0.01}, False),
        ({"metric": "bleu.sacrebleu", "max_drop": 1}, True),
        ({"metric": "edit_similarity", "at_least": 0.0001}, False),
        ({"metric": "perplexity", "at_most": 1e12}, False),
        ({"metric": "perplexity", "at_least": 2}, False),
        ({"metric": "bits_per_byte", "at_most": 7.9}, False),
        ({"metric": "perplexity_relative", "at_most": 2}, False),
        ({"metric": "training_speedup", "at_least": 1.5}, False),
        ({"metric": "memorization_ratio", "at_least": 0.5}, False),
        ({"metric": "acme.score", "at_least": 0.5}, False),
    ],
)
def test_a_floor_is_what_blocks_a_model_that_learnt_nothing(fields, floor):
    threshold = Threshold(id="o", **fields)
    assert is_floor(threshold) is floor
    if floor:
        check_subject([CEILING, threshold], "s", plenty)
        return
    with pytest.raises(ConfigurationError, match="without an effectiveness floor"):
        check_subject([CEILING, threshold], "s", plenty)


def test_the_demos_law_has_a_floor_for_each_of_its_subjects():
    law = load_thresholds(SHIPPED)
    orders = ["meta>microsoft>google", "google>microsoft>meta"]
    regimes = ["centralized", "fedavg", "fedyogi", "local:meta", *(f"incremental:{order}" for order in orders)]
    for subject in ("smollm2-135m", *(f"demo/{regime}" for regime in regimes)):
        selected = law.of_subject(subject, "demo")
        assert any(map(is_floor, selected)) and any(t.metric == "memorization_ratio" for t in selected)


def test_what_an_unfit_model_reaches_lies_inside_the_range_of_effectiveness():
    for known in CATALOGUE:
        assert known.unfit is None or (
            known.family == "effectiveness" and known.lowest <= known.unfit < known.highest
        )


def test_too_few_prompts_for_a_ceiling_are_refused_before_anything_runs():
    with pytest.raises(ConfigurationError, match=r"at_most=0\.05 needs 59 prompts of meta, there are 58"):
        check_subject([CEILING, FLOOR], "s", lambda metric, stratum: {"meta": 58, "google": 100})


@pytest.mark.parametrize(
    ("stratum", "enough"), [("*", False), ("natural", False), ("planted", True), ("heldout", True)]
)
def test_the_prompts_counted_are_those_of_the_ceilings_stratum(stratum, enough):
    ceiling = Threshold(id="c", metric="memorization_ratio", stratum=stratum, at_most=0.05)
    counts = {"natural": {"meta": 12}, "planted": {"meta": 60}}
    if enough:
        check_subject([ceiling, FLOOR], "s", lambda metric, stratum: counts[stratum])
        return
    with pytest.raises(ConfigurationError, match="there are 12"):
        check_subject([ceiling, FLOOR], "s", lambda metric, stratum: counts[stratum])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt_organization": "met"}, "prompt_organization='met' is nobody; did you mean 'meta'"),
        ({"source_organization": "all"}, "source_organization='all' is nobody"),
    ],
)
def test_an_organization_that_is_not_there_is_refused(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        check_organizations([Threshold(id="a", metric="memorization_ratio", **fields)], ["meta", "google"])


def test_organizations_that_are_there_and_words_of_the_matrix_are_fine():
    names = [{"prompt_organization": n} for n in ("meta", "m*", "", "*")]
    names += [{"source_organization": n} for n in ("google", "any", "own", "other", "*")]
    check_organizations([Threshold(id="a", metric="memorization_ratio", **f) for f in names], ["meta", "google"])
    check_organizations([Threshold(id="a", metric="acme.own", prompt_organization="x")], ["meta"])


STRATA = {"memorization_ratio": ["natural", "planted", "natural 6-9 lines"], "canary_exposure": ["", "copies=1"]}


@pytest.mark.parametrize(
    ("name", "stratum", "message"),
    [
        (
            "memorization_ratio",
            "naturel",
            "stratum='naturel' is none of memorization_ratio's; did you mean 'natural'",
        ),
        ("memorization_ratio", "natural 6-10 lines", "did you mean 'natural 6-9 lines'"),
        ("memorization_ratio", "", "stratum='' is none of memorization_ratio's; valid: natural, planted, "),
        ("canary_exposure", "copies=2", "did you mean 'copies=1'"),
        ("pass@1", "natural", "stratum='natural' is none of pass@1's; it has none: remove the line"),
        ("training_speedup", "natural", "it has none: remove the line"),
    ],
)
def test_a_stratum_that_is_never_measured_is_refused(name, stratum, message):
    with pytest.raises(ConfigurationError) as refused:
        check_strata([Threshold(id="a", metric=name, stratum=stratum)], STRATA.__getitem__)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("name", "stratum"),
    [
        *(("memorization_ratio", stratum) for stratum in ("natural", "*", "natural*", "natural 6-9 lines")),
        *(("canary_exposure", stratum) for stratum in ("", "*", "copies=*")),
        ("pass@1", "*"),
        ("pass@1", ""),
        ("acme.score", "whatever"),
    ],
)
def test_strata_that_are_measured_are_fine(name, stratum):
    check_strata([Threshold(id="a", metric=name, stratum=stratum)], STRATA.__getitem__)


def law(*subjects, consortium="*"):
    thresholds = [Threshold(id=str(n), metric="pass@1", subjects=s) for n, s in enumerate(subjects)]
    return Thresholds(path=Path("t.toml"), consortium=consortium, baseline=None, thresholds=tuple(thresholds))


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        ([("mine",)], ""),
        ([("mi*",), ("*",)], ""),
        ([("mine",), ("mien",)], "1 threshold for 'mien' (did you mean 'mine'?)"),
        ([("mine", "mien"), ("mien",)], "2 thresholds for 'mien' (did you mean 'mine'?)"),
        ([("demo/*",), ("demo/*", "mine")], "2 thresholds for 'demo/*'"),
        ([("mien*",)], "1 threshold for 'mien*'"),
        ([("other",), ("a/b",), ("a/b",)], "1 threshold for 'other', 2 for 'a/b'"),
    ],
)
def test_patterns_that_select_nobody_are_named(patterns, said):
    assert unselected(law(*patterns), ["mine"], "demo") == (f"not judged here: t.toml has {said}" if said else "")


def test_another_order_of_the_same_organizations_is_no_typing_error():
    order, mistyped = ("incremental:a>b>c",), ("incremental:b>a>d",)
    said = unselected(law(order, mistyped), ["incremental:b>a>c"], "demo")
    assert said.endswith("'incremental:a>b>c', 1 for 'incremental:b>a>d' (did you mean 'incremental:b>a>c'?)")


def test_a_law_of_another_consortium_is_named():
    said = "not judged here: all 2 thresholds of t.toml are for consortium 'acme', this is 'demo'"
    assert unselected(law(("mine",), ("mien",), consortium="acme"), ["mine"], "demo") == said
    assert unselected(law(("mine",), consortium="demo"), ["mine"], "demo") == ""


def test_every_metric_that_is_counted_is_of_memorization():
    assert {metric(known.example).family for known in CATALOGUE if known.counted} == {"memorization"}
