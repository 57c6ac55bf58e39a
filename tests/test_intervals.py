"""Intervals: exact where counts are, wider where files repeat, unchanged where nothing is clustered."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.intervals import (
    CONFIDENCES,
    as_replicates,
    bootstrap,
    by_cluster,
    clopper_pearson,
    difference_bounds,
    exact_bounds,
    interval_of,
    n_clusters,
    quantile_interval,
    with_clusters,
)
from pytest_collabcode.records import Item, Measurement

AT_95 = np.array([0.95])


def items(values, clusters):
    pairs = enumerate(zip(values, clusters, strict=True))
    return tuple(Item(key=str(i), value=float(v), cluster=cluster) for i, (v, cluster) in pairs)


def measured(parts, **changes):
    value = sum(i.value for i in parts) / sum(i.weight for i in parts)
    return Measurement(name="m", subject="s", value=value, items=parts, **changes)


def counted(parts):
    return measured(parts, count=int(sum(i.value for i in parts)), n=len(parts))


@pytest.mark.parametrize("clusters", [[""] * 40, [str(i) for i in range(40)], ["x.py"] + [""] * 39])
def test_items_that_share_no_cluster_are_measured_as_before(clusters):
    parts = items([i % 3 == 0 for i in range(40)], clusters)
    bare = items([i % 3 == 0 for i in range(40)], [""] * 40)
    assert n_clusters(parts) == 0
    assert interval_of(counted(parts)) == clopper_pearson(14, 40)
    assert interval_of(measured(parts)) == quantile_interval(bootstrap(bare), confidence=0.95)
    assert with_clusters(counted(parts)).signature == ()


def test_hits_of_one_file_widen_the_interval():
    scattered = items([i < 10 for i in range(100)], [str(i % 10) for i in range(100)])
    together = items([i < 10 for i in range(100)], [str(i // 10) for i in range(100)])
    exact = clopper_pearson(10, 100)
    assert interval_of(counted(scattered)) == exact  # each file has one hit, so files vary less than prompts
    low, high = interval_of(counted(together))
    assert low < exact[0] and high > 1.5 * exact[1]
    assert with_clusters(counted(together)).signature == (("clusters", "10"),)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["", "x", "y", "z"])), min_size=1, max_size=40))
def test_clusters_never_narrow_an_interval(pairs):
    parts = items(*zip(*pairs, strict=True))
    bare = items([hit for hit, _ in pairs], [""] * len(pairs))
    for build in (counted, measured):
        low, high = interval_of(build(parts))
        narrow = interval_of(build(bare))
        assert low <= narrow[0] and high >= narrow[1]


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["", "x", "y"])), max_size=30))
def test_clusters_add_up_to_their_items(pairs):
    parts = items(*zip(*pairs, strict=True)) if pairs else ()
    grouped = by_cluster(parts)
    assert sum(i.value for i in grouped) == sum(i.value for i in parts)
    assert sum(i.weight for i in grouped) == len(parts)
    assert len(grouped) == (n_clusters(parts) or len(parts))


def test_files_without_weight_are_not_resampled():
    silent = tuple(Item(key=f"s{i}", value=0.0, weight=0.0, cluster="silent.py") for i in range(9))
    spoken = items([1, 0, 0, 1], ["x.py", "x.py", "y.py", "y.py"])
    low, high = interval_of(measured((*spoken, *silent), replicates=bootstrap(spoken)))
    assert 0.0 <= low <= 0.5 <= high <= 1.0


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_replicates_carry_exact_bounds_to_any_confidence(pair):
    replicates = as_replicates(exact_bounds(*pair, CONFIDENCES))
    for confidence in (0.9, 0.95, 0.99):
        assert quantile_interval(replicates, confidence=confidence) == pytest.approx(
            clopper_pearson(*pair, confidence=confidence), abs=1e-9
        )


def test_a_difference_to_nothing_has_the_exact_upper_bound():
    none = exact_bounds(0, 100, AT_95)
    _, high = difference_bounds(exact_bounds(3, 100, AT_95), none, rates=(0.03, 0.0))
    assert high[0] == pytest.approx(clopper_pearson(3, 100)[1])


@given(st.integers(0, 30), st.integers(0, 12))
def test_swapping_two_samples_mirrors_their_difference(a, b):
    first, second = exact_bounds(a, 30, AT_95), exact_bounds(b, 12, AT_95)
    low, high = difference_bounds(first, second, rates=(a / 30, b / 12))
    mirrored = difference_bounds(second, first, rates=(b / 12, a / 30))
    assert (low[0], high[0]) == pytest.approx((-mirrored[1][0], -mirrored[0][0]))
    assert -1 <= low[0] <= a / 30 - b / 12 <= high[0] <= 1


def test_no_items_is_an_error_not_an_interval():
    with pytest.raises(EmptyMeasurementError):
        interval_of(Measurement(name="m", subject="s", value=0.0))
