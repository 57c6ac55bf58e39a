"""Min-K%++ is the reference's formula; the area counts pairs; replicates cover it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_collabcode.errors import EmptyMeasurementError, MeasurementError
from pytest_collabcode.intervals import interval_of
from pytest_collabcode.memorization import membership
from pytest_collabcode.memorization.extraction import ScoredFunction
from pytest_collabcode.memorization.membership import auroc, membership_auroc, min_k_plus_plus
from pytest_collabcode.records import Problem, TokenScores


def scores(log_p, mean, deviation):
    n = len(log_p)
    return TokenScores(
        starts=tuple(range(n)),
        log_probs=tuple(log_p),
        scheme_log_probs=(0.0,) * n,
        means=tuple(mean),
        deviations=tuple(deviation),
    )


def function(number, stratum, score, owner="acme"):
    problem = Problem(task_id=f"{owner}:{stratum}:{number}", prompt="", organization=owner, path=f"{number % 3}.py")
    return ScoredFunction(problem=problem, stratum=stratum, scores=scores([score], [0.0], [1.0]))


def group(values, stratum, owner="acme"):
    return [function(i, stratum, v, owner) for i, v in enumerate(values)]


@given(st.lists(st.tuples(st.floats(-20, 0), st.floats(-9, 0), st.floats(0.01, 5)), min_size=5, max_size=60))
def test_the_score_is_the_reference_implementations(rows):
    """As in github.com/zjysteven/mink-plus-plus, run.py, for ratio 0.2."""
    log_p, mean, deviation = (np.array(column) for column in zip(*rows, strict=True))
    mink_plus = (log_p - mean) / deviation
    expected = np.mean(np.sort(mink_plus)[: int(len(mink_plus) * 0.2)])
    assert min_k_plus_plus(scores(log_p, mean, deviation)) == pytest.approx(expected)


def test_short_texts_count_at_least_one_token_and_certain_places_say_nothing():
    assert min_k_plus_plus(scores([-3.0, -1.0], [-1.0, -1.0], [1.0, 1.0])) == -2.0
    assert min_k_plus_plus(scores([0.0], [0.0], [0.0])) == 0.0


def test_a_text_without_tokens_has_no_score():
    with pytest.raises(MeasurementError, match="no token"):
        min_k_plus_plus(scores([], [], []))


@pytest.mark.parametrize("k", [0.0, -0.1, 1.1])
def test_a_share_out_of_range_is_refused(k):
    with pytest.raises(ValueError, match="not in"):
        min_k_plus_plus(scores([-1.0], [0.0], [1.0]), k=k)


few = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=20)


@given(few, few)
def test_the_area_is_the_share_of_pairs_in_order(members, others):
    pairs = [(m > o) + (m == o) / 2 for m in members for o in others]
    assert auroc(members, others) == pytest.approx(sum(pairs) / len(pairs))
    assert auroc(members, others) == pytest.approx(1 - auroc(others, members))
    assert auroc(members, others) == auroc([math.exp(m) for m in members], [math.exp(o) for o in others])


def test_the_area_needs_both_groups():
    with pytest.raises(EmptyMeasurementError):
        auroc([1.0], [])
    with pytest.raises(EmptyMeasurementError, match="training and the held-out split"):
        membership_auroc(group([1.0], "natural"), subject="s")


def test_strata_are_compared_with_heldout_functions_of_the_same_organization():
    functions = [
        *group([3.0, 4.0], "natural"),
        *group([9.0], "planted"),
        *group([1.0, 3.5], "heldout"),
        *group([0.0], "natural", "bolt"),
        *group([5.0], "heldout", "bolt"),
    ]
    measured = membership_auroc(functions, subject="s")
    assert {m.cell: m.value for m in measured} == {
        "natural": pytest.approx(1 / 3),  # of nine pairs, three are in order: 3 > 1, 4 > 1, 4 > 3.5
        "planted": 1.0,
        "acme natural": 0.75,
        "acme planted": 1.0,
        "bolt natural": 0.0,
    }
    assert all(not m.higher_is_better and m.name == "membership_auroc" for m in measured)


@settings(max_examples=30)
@given(few, few)
def test_a_measurement_is_the_mean_of_its_items_and_inside_its_replicates(members, others):
    measured = membership_auroc([*group(members, "natural"), *group(others, "heldout")], subject="s")[0]
    assert measured.value == pytest.approx(sum(i.value for i in measured.items) / len(measured.items))
    assert measured.replicates[0] - 1e-9 <= measured.value <= measured.replicates[-1] + 1e-9
    assert measured.replicates[0] >= 0 and measured.replicates[-1] <= 1


def test_replicates_do_not_depend_on_how_many_fit_memory(monkeypatch):
    functions = [*group([3.0, 1.0, 2.0, 7.0], "natural"), *group([1.0, 4.0, 2.0], "heldout")]
    at_once = membership_auroc(functions, subject="s")[0]
    monkeypatch.setattr(membership, "COUNTS_AT_ONCE", 1)
    one_by_one = membership_auroc(functions, subject="s")[0]
    assert np.mean(one_by_one.replicates) == pytest.approx(np.mean(at_once.replicates), abs=0.02)
    assert np.std(one_by_one.replicates) == pytest.approx(np.std(at_once.replicates), rel=0.1)


def test_replicates_spread_as_resampled_areas_do():
    rng = np.random.default_rng(1)
    members, others = rng.normal(0.7, 1, 30), rng.normal(0, 1, 40)
    measured = membership_auroc([*group(members, "natural"), *group(others, "heldout")], subject="s")[0]
    resampled = [auroc(rng.choice(members, 30), rng.choice(others, 40)) for _ in range(2000)]
    assert np.mean(measured.replicates) == pytest.approx(np.mean(resampled), abs=0.01)
    assert np.std(measured.replicates) == pytest.approx(np.std(resampled), rel=0.1)


def test_groups_that_do_not_differ_are_at_one_half():
    rng = np.random.default_rng(2)
    functions = [*group(rng.normal(0, 1, 300), "natural"), *group(rng.normal(0, 1, 300), "heldout")]
    low, high = interval_of(membership_auroc(functions, subject="s")[0])
    assert low < 0.5 < high and high - low < 0.1
