"""A thresholds file is refused when it could not judge, with file, line and the way out."""

import pytest

from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.gate.thresholds import applies, check_organizations, check_subject, load_thresholds
from pytest_collabcode.records import Measurement, Threshold

HEAD = 'schema = 1\n[[threshold]]\nid = "a"\nmetric = "pass@1"\n'


def load(tmp_path, text):
    file = tmp_path / "t.toml"
    file.write_text(text)
    return load_thresholds(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "at_lest = 0.1", r"t\.toml:2: key 'at_lest' is unknown; did you mean 'at_least'\?"),
        (HEAD.replace("pass@1", "pas@1") + "at_least = 0.1", r"metric='pas@1' is unknown; did you mean 'pass@1'\?"),
        (HEAD.replace("pass@1", "pass@0") + "at_least = 0.1", r"metric='pass@0' is unknown"),
        (HEAD, "has no bound; give at_least, at_most or max_drop"),
        (HEAD + "at_least = 0", "at_least=0 cannot both pass and fail; pass@1 lies in 0 to 1"),
        (HEAD + "at_most = 1.0", "at_most=1 cannot both pass and fail"),
        (HEAD + "at_least = 1.5", "at_least=1.5 cannot both pass and fail"),
        (HEAD + "at_least = nan", "at_least=nan cannot both pass and fail"),
        (HEAD + 'at_least = "x"', "at_least='x' is not a number"),
        (HEAD + "at_least = true", "at_least=True is not a number"),
        (HEAD + "max_drop = -1", "max_drop=-1 is negative"),
        (HEAD + "at_least = 0.1\nconfidence = 95", "confidence=95 is not between 0.5 and 1"),
        (HEAD + 'at_least = 0.1\nundecided = "pass"', "undecided='pass'; valid: fail, accept"),
        (HEAD + "at_least = 0.1\nsubjects = [1]", r"subjects=\[1\] is not a list of subject names"),
        (HEAD + "at_least = 0.1\n" + HEAD[11:] + "at_least = 0.2", r"t\.toml:6: id='a' is taken by .*t\.toml:2"),
        ("schema = 1\nthreshold = [{id = 'a', metric = 'pass@1', at_least = 0.1}]", r"begins with \[\[threshold\]\]"),
        ("schema = 1\n[threshold]\nid = 'a'", r"begins with \[\[threshold\]\]"),
        ("schema = 2", "schema=2; this version reads schema = 1"),
        ("schema = 1\ngate = 2", "key 'gate' is unknown"),
        ("schema = [", "not a readable TOML file"),
        ("schema = 1\n[[threshold]]\nid = 'a'\nat_least = 1", "key 'metric' is missing"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(tmp_path, text, message):
    with pytest.raises(ConfigurationError, match=message):
        load(tmp_path, text)


def test_an_own_metric_may_be_declared(tmp_path):
    text = 'own_metrics = ["acme.score"]\n' + HEAD.replace("pass@1", "acme.score") + "at_least = 3"
    assert load(tmp_path, text).thresholds[0].at_least == 3


@pytest.mark.parametrize(
    ("wanted", "cell", "selected"),
    [
        ({}, ("meta", "meta", "natural"), True),
        ({"source_organization": "own"}, ("meta", "meta", ""), True),
        ({"source_organization": "own"}, ("meta", "google", ""), False),
        ({"source_organization": "other"}, ("meta", "other", ""), True),
        ({"source_organization": "other"}, ("meta", "google", ""), False),
        ({"source_organization": "any"}, ("meta", "any", ""), True),
        ({"prompt_organization": "g*"}, ("meta", "google", ""), False),
        ({"stratum": "natural"}, ("meta", "meta", "planted"), False),
        ({"stratum": "natural"}, ("meta", "meta", "natural"), True),
    ],
)
def test_a_threshold_selects_cells(wanted, cell, selected):
    threshold = Threshold(id="a", metric="memorization_ratio", at_most=0.1, **wanted)
    prompt, source, stratum = cell
    measurement = Measurement(
        name="memorization_ratio",
        subject="s",
        value=0.0,
        prompt_organization=prompt,
        source_organization=source,
        stratum=stratum,
    )
    assert applies(threshold, measurement) is selected


CEILING = Threshold(id="c", metric="memorization_ratio", at_most=0.05)
FLOOR = Threshold(id="f", metric="perplexity_gain_over_unigram", at_least=5)


def test_a_ceiling_alone_is_refused():
    with pytest.raises(ConfigurationError, match="without an effectiveness floor"):
        check_subject((CEILING,), "s", lambda metric: {"meta": 1000})
    check_subject((CEILING, FLOOR), "s", lambda metric: {"meta": 1000})


@pytest.mark.parametrize(
    ("metric", "bound", "is_floor"),
    [
        ("perplexity", "at_most", True),
        ("bits_per_byte", "at_most", True),
        ("perplexity_relative", "max_drop", True),
        ("pass@1", "at_least", True),
        ("perplexity", "at_least", False),
        ("pass@1", "at_most", False),
        ("training_speedup", "at_least", False),
    ],
)
def test_a_floor_is_a_bound_that_an_unfit_model_fails(metric, bound, is_floor):
    other = Threshold(id="o", metric=metric, **{bound: 0.5})
    if is_floor:
        check_subject((CEILING, other), "s", lambda metric: {"meta": 1000})
        return
    with pytest.raises(ConfigurationError, match="without an effectiveness floor"):
        check_subject((CEILING, other), "s", lambda metric: {"meta": 1000})


def test_too_few_prompts_for_a_ceiling_are_refused_before_anything_runs():
    with pytest.raises(ConfigurationError, match=r"at_most=0\.05 needs 59 prompts of meta, there are 58"):
        check_subject((CEILING, FLOOR), "s", lambda metric: {"meta": 58, "google": 100})


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
