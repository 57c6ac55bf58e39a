"""Which end of the interval decides."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.gate.baseline import Baseline, baseline_entry, baseline_key
from pytest_collabcode.gate.verdict import judge
from pytest_collabcode.intervals import clopper_pearson, mcnemar
from pytest_collabcode.records import Item, Measurement, Ruling, Threshold


def rate(count, n, **more):
    return Measurement(name="pass@1", subject="s", value=count / n, count=count, n=n, **more)


@pytest.mark.parametrize(
    ("count", "n", "bounds", "ruling"),
    [
        (10, 164, {"at_least": 0.02}, Ruling.PASS),
        (10, 164, {"at_least": 0.05}, Ruling.UNDECIDED),
        (10, 164, {"at_least": 0.2}, Ruling.FAIL),
        (0, 100, {"at_most": 0.03}, Ruling.PASS),  # the exact bound is 0.0295
        (0, 100, {"at_most": 0.029}, Ruling.FAIL),
        (1, 100, {"at_most": 0.05}, Ruling.PASS),  # 0.0466
        (2, 100, {"at_most": 0.05}, Ruling.FAIL),
        (50, 100, {"at_least": 0.3, "at_most": 0.4}, Ruling.FAIL),
    ],
)
def test_floors_need_the_lower_bound_and_ceilings_the_upper(count, n, bounds, ruling):
    assert judge(rate(count, n), Threshold(id="a", metric="pass@1", **bounds)).outcome is ruling


def test_nan_never_passes():
    items = (Item(key="a", value=math.nan), Item(key="b", value=1.0))
    measurement = Measurement(name="perplexity", subject="s", value=math.nan, items=items)
    for bounds in ({"at_least": 0.1}, {"at_most": 1e9}, {"at_least": -1e9}):
        assert judge(measurement, Threshold(id="a", metric="m", **bounds)).outcome is Ruling.FAIL


def test_undecided_says_how_many_problems_would_decide():
    verdict = judge(rate(10, 164), Threshold(id="a", metric="pass@1", at_least=0.05))
    assert "problems at this rate would decide" in verdict.reason
    n = int(verdict.reason.split("about ")[1].split()[0])
    assert clopper_pearson(int(10 / 164 * n), n)[0] >= 0.05


@pytest.mark.parametrize(
    ("required", "undecided", "blocks"), [(True, "fail", True), (True, "accept", False), (False, "fail", False)]
)
def test_undecided_blocks_unless_the_threshold_accepts_it(required, undecided, blocks):
    threshold = Threshold(id="a", metric="pass@1", at_least=0.05, required=required, undecided=undecided)
    assert judge(rate(10, 164), threshold).blocks is blocks


@given(st.integers(0, 60), st.integers(1, 60), st.floats(0.01, 0.99))
def test_a_floor_and_a_ceiling_at_the_same_place_never_both_pass(count, n, bound):
    measurement = rate(min(count, n), n)
    floor = judge(measurement, Threshold(id="a", metric="pass@1", at_least=bound)).outcome
    ceiling = judge(measurement, Threshold(id="a", metric="pass@1", at_most=bound)).outcome
    assert not (floor is Ruling.PASS and ceiling is Ruling.PASS)


@pytest.mark.parametrize("true_rate", [0.02, 0.05, 0.3])
def test_a_ceiling_at_the_true_rate_passes_falsely_in_at_most_five_percent(true_rate):
    rng = np.random.default_rng(0)
    threshold = Threshold(id="a", metric="memorization_ratio", at_most=true_rate)
    passed = sum(
        judge(rate(int(rng.binomial(200, true_rate)), 200), threshold).outcome is Ruling.PASS for _ in range(2000)
    )
    assert passed / 2000 <= clopper_pearson(100, 2000)[1]


def against(before, after, max_drop=0.05, **form):
    def measured(values):
        items = tuple(Item(key=str(i), value=v) for i, v in enumerate(values))
        return Measurement(name="pass@1", subject="s", value=sum(values) / len(values), items=items, **form)

    accepted, now = measured(before), measured(after)
    baseline = Baseline(path=None, measurements={baseline_key(accepted): baseline_entry(accepted)})
    return judge(now, Threshold(id="a", metric="pass@1", max_drop=max_drop), baseline.drop(now))


def test_an_unchanged_model_passes_and_a_broken_one_fails():
    before = [1.0] * 30 + [0.0] * 134
    assert against(before, before).outcome is Ruling.PASS
    verdict = against(before, [0.0] * 164)
    assert verdict.outcome is Ruling.FAIL and "30 lost, 0 gained" in verdict.reason


def test_a_drop_within_noise_is_undecided():
    verdict = against([1.0] * 6 + [0.0] * 94, [0.0] * 6 + [0.0] * 94, max_drop=0.05)
    assert verdict.outcome is Ruling.UNDECIDED and f"McNemar p = {mcnemar(6, 0):.3g}" in verdict.reason


def test_lower_is_better_turns_the_drop_around():
    worse = against([1.0, 1.1, 0.9], [2.0, 2.1, 1.9], higher_is_better=False, exponential=True)
    assert worse.outcome is Ruling.FAIL and worse.reason.startswith("drop 1.72")  # e - 1
    assert against([2.0, 2.1, 1.9], [1.0, 1.1, 0.9], higher_is_better=False).outcome is Ruling.PASS


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"signature": (("tokens", "64"),)}, "tokens was '32' and is '64'"),
        ({"items": (Item(key="other", value=1.0),)}, "2 problems stand on one side only"),
    ],
)
def test_what_was_measured_otherwise_is_not_compared(changed, reason):
    form = {"items": (Item(key="a", value=1.0),), "signature": (("tokens", "32"), ("weights", "old"))}
    accepted = Measurement(name="pass@1", subject="s", value=1.0, **form)
    now = Measurement(name="pass@1", subject="s", value=1.0, **{**form, **changed})
    baseline = Baseline(path=None, measurements={baseline_key(accepted): baseline_entry(accepted)})
    verdict = judge(now, Threshold(id="a", metric="pass@1", max_drop=0.1), baseline.drop(now))
    assert verdict.outcome is Ruling.UNMEASURED and reason in verdict.reason


def test_no_baseline_is_not_a_pass():
    now = rate(1, 2, items=(Item(key="a", value=1.0), Item(key="b", value=0.0)))
    verdict = judge(now, Threshold(id="a", metric="pass@1", max_drop=0.1))
    assert verdict.blocks and "no baseline" in verdict.reason


def test_other_weights_and_versions_are_what_a_baseline_is_for():
    accepted = rate(1, 2, items=(Item(key="a", value=1.0),), signature=(("weights", "old"), ("torch", "1")))
    now = rate(1, 2, items=(Item(key="a", value=1.0),), signature=(("weights", "new"), ("torch", "2")))
    baseline = Baseline(path=None, measurements={baseline_key(accepted): baseline_entry(accepted)})
    assert judge(now, Threshold(id="a", metric="pass@1", max_drop=0.1), baseline.drop(now)).outcome is Ruling.PASS
