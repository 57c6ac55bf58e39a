"""A thresholds file is refused when it could not judge, with file, line and the way out."""

import pytest

from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.gate.thresholds import applies, load_thresholds
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
        (HEAD + "max_drop = 1", "max_drop=1 cannot both pass and fail; pass@1 lies in 0 to 1"),
        (HEAD + "max_drop = nan", "max_drop=nan cannot both pass and fail"),
        (HEAD.replace("pass@1", "perplexity") + "max_drop = inf", "max_drop=inf cannot both pass and fail"),
        (HEAD + "at_least = 0.1\nconfidence = 95", "confidence=95 is not between 0.8 and 1"),
        (HEAD + "at_least = 0.1\nconfidence = 0.51", "confidence=0.51 is not between 0.8 and 1"),
        (HEAD + "at_least = 0.1\nconfidence = 1.0", "confidence=1.0 is not between 0.8 and 1"),
        (HEAD + 'at_least = 0.1\nrequired = "no"', "required='no' is not true or false"),
        (HEAD + 'at_least = 0.1\nmin_prompts = "9"', "min_prompts='9' is not a whole number"),
        (HEAD + 'at_most = 0.1\nundecided = "accept"', 'undecided="accept" has no effect on at_most alone'),
        (HEAD + "at_least = 0.1\nsubjects = []", r"subjects=\[\] selects nobody"),
        ("schema = 1\nconsortium = 3", "consortium=3 is not a text"),
        ("schema = 1\nown_metrics = 3", "own_metrics=3 is not a list of names"),
        (HEAD + 'at_least = 0.1\nundecided = "pass"', "undecided='pass'; valid: fail, accept"),
        (HEAD + "at_least = 0.1\nsubjects = [1]", r"subjects=\[1\] is not a list of names"),
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


@pytest.mark.parametrize(
    "more", ["confidence = 0.8", "confidence = 0.999", "required = false", 'undecided = "accept"', "max_drop = 0"]
)
def test_what_is_sensible_is_read(tmp_path, more):
    assert len(load(tmp_path, f"{HEAD}at_least = 0.1\n{more}").thresholds) == 1


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
