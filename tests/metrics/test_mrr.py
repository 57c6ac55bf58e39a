"""Mean reciprocal rank and chance."""

import numpy as np
import pytest

from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.intervals import interval_of
from pytest_collabcode.metrics.mrr import chance_mrr, mrr, mrr_over_chance


def test_every_rank_once_is_exactly_chance():
    keys = [str(i) for i in range(200)]
    assert mrr(keys, range(1, 201), pool=200, subject="s").value == pytest.approx(chance_mrr(200))
    assert mrr_over_chance(keys, range(1, 201), pool=200, subject="s").value == pytest.approx(1.0)


def test_random_ranks_have_chance_inside_their_interval():
    ranks = np.random.default_rng(3).integers(1, 51, size=2000).tolist()
    low, high = interval_of(mrr_over_chance([str(i) for i in range(2000)], ranks, pool=50, subject="s"))
    assert low < 1.0 < high


@pytest.mark.parametrize("pool, name", [(200, "mrr@pool=200"), (1000, "mrr@pool=1000")])
def test_the_pool_is_in_the_name(pool, name):
    assert mrr(["a"], [1], pool=pool, subject="s").name == name


@pytest.mark.parametrize("rank", [0, -1, 11])
def test_a_rank_outside_of_the_pool_is_refused(rank):
    with pytest.raises(ValueError, match=f"rank={rank}"):
        mrr(["a"], [rank], pool=10, subject="s")


def test_no_queries_is_an_error_not_zero():
    with pytest.raises(EmptyMeasurementError):
        mrr([], [], pool=10, subject="s")
