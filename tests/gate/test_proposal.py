"""A proposal always loads, the same subject passes it, and of a model that learnt nothing it certifies nothing."""

import tomllib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_collabcode.gate.catalogue import metric
from pytest_collabcode.gate.checks import check_subject, is_floor
from pytest_collabcode.gate.proposal import UNFIT, offer, propose
from pytest_collabcode.gate.thresholds import applies, load_thresholds
from pytest_collabcode.gate.verdict import judge
from pytest_collabcode.records import Item, Measurement, Ruling


def measured(name, items, **more):
    values = tuple(Item(key=str(n), value=value) for n, value in enumerate(items))
    return Measurement(name=name, subject="s", value=sum(items) / len(items), items=values, **more)


def gain(*items, subject="s"):
    return replace(measured("perplexity_gain_over_unigram", items, exponential=True), subject=subject)


def hits(count, n, **more):
    cell = {"prompt_organization": "meta", "source_organization": "any", "stratum": "natural", **more}
    lower = {"value": count / n, "count": count, "n": n, "higher_is_better": False}
    return Measurement(name="memorization_ratio", subject="s", **lower, **cell)


def loaded(folder, measurements, **more):
    """Return the thresholds proposed for subject s, which must load and be fit to judge it."""
    proposal = propose(measurements, subjects=["s"], consortium="demo", **more)
    (folder / "p.toml").write_text(proposal.text)
    law = load_thresholds(folder / "p.toml")
    asked = {m.stratum: m.n for m in measurements if m.n}
    check_subject(law.thresholds, "s", lambda metric, stratum: {"meta": asked.get(stratum, 0)})
    return law.thresholds, proposal.text


def test_a_proposal_is_a_file_that_the_same_numbers_pass(tmp_path):
    both = [gain(2.0, 2.1), hits(2, 100)]
    thresholds, _ = loaded(tmp_path, both)
    assert [t.metric for t in thresholds] == ["perplexity_gain_over_unigram", "memorization_ratio"]
    assert [judge(m, t).outcome for m, t in zip(both, thresholds, strict=True)] == [Ruling.PASS] * 2


def test_each_proposed_threshold_judges_the_one_measurement_it_was_written_from(tmp_path):
    pooled = measured("perplexity", (1.0, 3.0), exponential=True, higher_is_better=False)
    worse = replace(pooled, prompt_organization="meta")
    some = [gain(2.0, 2.1), pooled, worse, hits(2, 100), hits(2, 100, prompt_organization="google")]
    some.append(hits(2, 100, stratum="planted"))
    thresholds, _ = loaded(tmp_path, some)
    assert [[m for m in some if applies(t, m)] for t in thresholds] == [[m] for m in some]


@pytest.mark.parametrize(
    ("measurement", "why"),
    [
        (gain(-0.2, -0.1), "is not above 1, which a model reaches that learnt nothing"),
        (gain(0.105, 0.106), "1 is not above 1"),  # the bound, rounded
        (replace(measured("mrr_over_chance@pool=20", (1.9, 2.3)), unit="x"), "is not above 2, which"),
        (Measurement(name="pass@1", subject="s", value=0, count=0, n=6), "0 could not both pass and fail"),
        (measured("line_ratio", (0.91, 0.91), higher_is_better=False), "1 could not both pass and fail"),
        (measured("generation_speedup", (2.0, 2.1)), "machines differ in speed"),
        (measured("acme.short", (0.5, 0.6)), "declare it in own_metrics"),
        (measured("perplexity", (float("nan"), 1.0), higher_is_better=False), "could not both pass and fail"),
    ],
    ids=lambda value: value.name if isinstance(value, Measurement) else None,
)
def test_where_there_is_no_bound_the_measured_value_and_the_reason_stand(tmp_path, measurement, why):
    thresholds, text = loaded(tmp_path, [measurement, measured("edit_similarity", (0.3, 0.4))])
    assert [t.metric for t in thresholds] == ["edit_similarity"]
    [line] = [line for line in text.split("\n") if line.startswith(f"# {measurement.name}: measured ")]
    assert (
        f"{measurement.value:.3g}, one-sided 95 % bounds" in line and "; no bound proposed: " in line and why in line
    )


def test_of_a_model_that_learnt_nothing_no_memorization_is_certified(tmp_path):
    similar, planted = measured("edit_similarity", (0.3, 0.4)), hits(0, 20, stratum="planted")
    thresholds, text = loaded(tmp_path, [gain(-0.1, -0.2), similar, hits(0, 100), planted])
    assert [t.metric for t in thresholds] == ["edit_similarity"]
    assert f"# s: {UNFIT}: no ceiling on memorization is proposed." in text
    assert text.count(f"no bound proposed: {UNFIT}") == 2
    thresholds, text = loaded(tmp_path, [gain(0.5, 0.6), hits(0, 100), planted])
    assert len(thresholds) == 3 and UNFIT not in text


def test_what_was_not_measured_is_said(tmp_path):
    reasons = {
        ("s", "mrr_over_chance"): "the pool holds 3\npairs",
        ("s", "perplexity_gain_over_unigram"): "beta has no text",
        ("t", "pass"): "not of this subject",
    }
    _, text = loaded(tmp_path, [gain(2.0, 2.1)], unmeasured=reasons)
    assert "\n# mrr_over_chance: UNMEASURED: the pool holds 3 pairs; no bound proposed\n" in text
    assert "\n# perplexity_gain_over_unigram: UNMEASURED in part: beta has no text; no bound proposed\n" in text
    assert "not of this subject" not in text


def test_several_subjects_share_one_file_that_loads_as_it_is(tmp_path):
    names = ["a", 'b"\\', "c"]
    both = [gain(2.0, 2.1, subject=name) for name in names[:2]]
    unbounded = gain(-1.0, -1.1, subject="c")
    proposal = propose([*both, unbounded], subjects=names, consortium="demo")
    assert proposal.subjects == tuple(names[:2])
    said = offer(proposal, directory=tmp_path, law="t.toml", subjects=names, all_judged=True)
    [file] = tmp_path.iterdir()
    assert file.name == "collabcode-thresholds.proposed.toml"
    law = load_thresholds(file)
    assert [t.id for t in law.thresholds] == [f"{name} perplexity_gain_over_unigram" for name in names[:2]]
    for m in both:
        [threshold] = law.of_subject(m.subject, "demo")
        assert judge(m, threshold).outcome is Ruling.PASS
    assert len(said) == 3 and said[1] == said[2]
    assert "judges 'c', and no bound could be proposed" in said[0] and "run again" not in said[0]
    assert said[1].endswith(
        "read it, then run again with --collabcode-thresholds=collabcode-thresholds.proposed.toml"
    )


def test_what_a_file_does_not_judge_is_not_promised(tmp_path):
    proposal = propose([gain(2.0, 2.1)], subjects=["s"], consortium="demo")
    for all_judged, end in ((True, "collabcode-thresholds.s.toml"), (False, ".s.toml, which judges 's' only")):
        [said] = offer(proposal, directory=tmp_path, law="t.toml", subjects=["s"], all_judged=all_judged)
        assert said.endswith(end)


def test_a_proposal_without_a_bound_is_no_file_and_no_advice_to_run_again(tmp_path):
    empty = propose([measured("acme.short", (0.5, 0.6))], subjects=["s"], consortium="demo")
    [said] = offer(empty, directory=tmp_path, law="t.toml", subjects=["s"], all_judged=True)
    assert said.endswith(
        'no bound could be proposed from its measurements; write thresholds of your own (README, "Thresholds")'
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    proposal = propose([gain(2.0, 2.1)], subjects=["s"], consortium="demo")
    [said] = offer(proposal, directory=tmp_path / "file", law="t.toml", subjects=["s"], all_judged=True)
    assert "cannot be written: Not a directory" in said


def cell(name, **more):
    values = {
        "perplexity": st.floats(0.1, 12),
        "bits_per_byte": st.floats(0.1, 12),
        "perplexity_gain_over_unigram": st.floats(-3, 5),
        "memorization_over_heldout": st.floats(-1, 1),
        "bleu.sacrebleu": st.floats(0, 100),
    }.get(name, st.floats(0, 1))
    form = {"exponential": name.startswith("perplexity"), "higher_is_better": name not in LOWER, **more}
    return st.lists(values, min_size=1, max_size=6).map(lambda items: measured(name, items, **form))


LOWER = ("perplexity", "bits_per_byte", "memorization_over_heldout", "line_ratio", "membership_auroc")
COUNTED = st.tuples(st.integers(0, 200), st.integers(1, 200), st.sampled_from(["natural", "planted"]))
SETS = st.tuples(
    *(cell(name) for name in ("perplexity", "bits_per_byte", "perplexity_gain_over_unigram", "bleu.sacrebleu")),
    *(cell(name, prompt_organization="meta") for name in ("perplexity", "perplexity_gain_over_unigram")),
    *(cell(name, stratum="natural") for name in ("memorization_over_heldout", "line_ratio", "membership_auroc")),
    cell("edit_similarity"),
    cell("edit_similarity"),  # asked twice
    COUNTED.map(lambda c: hits(min(c[:2]), c[1], stratum=c[2])),
    COUNTED.map(lambda c: replace(hits(min(c[:2]), c[1]), name="pass@1", higher_is_better=True, stratum="")),
)


@settings(max_examples=60)
@given(SETS)
def test_a_proposal_loads_and_the_same_subject_passes_it(tmp_path_factory, some):
    some = list(some)
    thresholds, text = loaded(tmp_path_factory.mktemp("p"), some)
    tomllib.loads(text)
    for threshold in thresholds:
        own = [m for m in some if applies(threshold, m)]
        assert own and [judge(m, threshold).outcome for m in own] == [Ruling.PASS] * len(own)
        known = metric(threshold.metric)
        assert known.unfit is None or threshold.at_least > known.unfit
        assert known.family != "memorization" or any(map(is_floor, thresholds))
