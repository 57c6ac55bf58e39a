"""Exposure: uniform for a model that never saw the secret, the whole ceiling for one that knows it."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.errors import EmptyMeasurementError, MeasurementError
from pytest_collabcode.intervals import interval_of
from pytest_collabcode.memorization.canaries import (
    Exposure,
    canary_exposure,
    candidates,
    exposure,
    scored_texts,
)
from pytest_collabcode.records import Canary, TextScore


def canary(secret="4711", *, organization="acme", name="canary_1", copies=4):
    return Canary(organization=organization, name=name, prefix='return "', secret=secret, suffix='"\n', copies=copies)


def scored(texts, likelihood):
    return [TextScore(log_likelihood=likelihood(text), n_tokens=len(text), n_bytes=len(text)) for text in texts]


def ranked(ranks, *, n=511, copies=(4,), organization="acme"):
    return [
        Exposure(
            canary=canary(name=f"canary_{i}", copies=copies[i % len(copies)], organization=organization),
            rank=rank,
            n_candidates=n,
        )
        for i, rank in enumerate(ranks)
    ]


@given(st.integers(1, 6), st.data())
def test_candidates_are_distinct_of_the_secrets_form_and_never_the_secret(digits, data):
    secret = "".join(data.draw(st.lists(st.sampled_from("0123456789"), min_size=digits, max_size=digits)))
    drawn = candidates(canary(secret), min(9, 10**digits - 1))
    assert len(set(drawn)) == len(drawn) and secret not in drawn
    assert {(len(c), c.isdecimal()) for c in drawn} == {(digits, True)}
    assert candidates(canary(secret), 3) == drawn[:3]


def test_more_candidates_than_there_are_secrets_are_refused():
    assert len(candidates(canary("7"), 9)) == 9
    with pytest.raises(ValueError, match="only 9 other secrets"):
        candidates(canary("7"), 10)


def test_other_secrets_have_other_candidates():
    assert not set(candidates(canary("0" * 16), 50)) & set(candidates(canary("1" * 16), 50))


def test_a_model_that_knows_the_secret_exposes_it_up_to_the_ceiling():
    known = canary()
    found = exposure(known, scored(scored_texts(known, 511), lambda text: 0.0 if text.endswith("4711") else -1.0))
    assert (found.rank, found.bits) == (1, 9.0)
    assert ">= 9.00 bits (rank 1 of 512)" in str(found) and "4711" not in str(found) + repr(found)


def test_a_model_that_cannot_tell_exposes_nothing():
    unknown = canary()
    assert exposure(unknown, scored(scored_texts(unknown, 63), lambda text: -1.0)).bits == 0.0


@pytest.mark.parametrize(
    "likelihood", [len, lambda text: -text.count("7"), lambda text: -float("0" + text.removeprefix('return "'))]
)
def test_the_rank_of_a_secret_that_was_never_seen_is_uniform_whatever_the_model_prefers(likelihood):
    def jittered(text):  # no two texts are equally likely under a real model
        return likelihood(text) + random.Random(text).random() / 2

    rng = random.Random(3)
    ranks = []
    for number in range(400):
        drawn = canary(f"{rng.randrange(10**4):04}", name=f"canary_{number}")
        ranks.append(exposure(drawn, scored(scored_texts(drawn, 31), jittered)).rank)
    quarters = [sum(8 * q < rank <= 8 * q + 8 for rank in ranks) for q in range(4)]
    assert sum((n - 100) ** 2 / 100 for n in quarters) < 16.3  # chi-square, 3 degrees of freedom, p = 0.001


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: TextScore(log_likelihood=s.log_likelihood, n_tokens=1, n_bytes=s.n_bytes - 1), "not scored whole"),
        (lambda s: TextScore(log_likelihood=math.nan, n_tokens=1, n_bytes=s.n_bytes), "log_likelihood=nan"),
        (lambda s: TextScore(log_likelihood=-math.inf, n_tokens=1, n_bytes=s.n_bytes), "log_likelihood=-inf"),
    ],
)
@pytest.mark.parametrize("which", [1, 5])
def test_a_score_that_means_nothing_is_an_error(which, spoil, message):
    known = canary()
    scores = scored(scored_texts(known, 9), lambda text: -1.0)
    scores[which] = spoil(scores[which])
    with pytest.raises(MeasurementError, match=message) as caught:
        exposure(known, scores)
    assert "4711" not in str(caught.value)


def test_no_canaries_and_no_candidates_are_errors_and_never_zero():
    with pytest.raises(EmptyMeasurementError, match=r"declare \[canaries\]"):
        canary_exposure([], subject="s")
    with pytest.raises(EmptyMeasurementError, match="no candidates"):
        exposure(canary(), scored(scored_texts(canary(), 0), len))


def test_exposure_is_read_pooled_by_copies_and_by_organization():
    found = ranked([1, 256, 2], copies=(16, 1)) + ranked([512, 128], copies=(1, 16), organization="zeta")
    measured = canary_exposure(found, subject="s", signature=(("a", "b"),))
    assert {m.cell: m.value for m in measured} == {
        "": pytest.approx((9 + 1 + 8 + 0 + 2) / 5),
        "copies=1": 0.5,
        "copies=16": pytest.approx((9 + 8 + 2) / 3),
        "acme": 6.0,
        "zeta": 1.0,
    }
    pooled = measured[0]
    assert dict(pooled.signature) == {"candidates": "511", "estimate": "sampled", "a": "b"}
    assert (pooled.unit, pooled.higher_is_better) == ("bits", False)
    assert [i.value for i in pooled.items] == [9.0, 1.0, 8.0, 0.0, 2.0]
    assert pooled.evidence[0].startswith("acme:canary_0 copies=16 >= 9.00 bits")


@pytest.mark.parametrize("n", [1, 3, 4, 12])
def test_both_bounds_hold_in_95_of_100_experiments_with_a_model_that_never_saw_them(n):
    expected = sum(math.log2(512 / rank) for rank in range(1, 513)) / 512
    rng = random.Random(n)
    held = [0, 0]
    for _ in range(300):
        [m, _] = canary_exposure(ranked([rng.randint(1, 512) for _ in range(n)]), subject="s")
        low, high = interval_of(m)
        held = [held[0] + (low <= expected), held[1] + (high >= expected)]
    assert min(held) >= 0.92 * 300  # 0.95 less three standard errors of the simulation


def test_four_exposed_canaries_are_clear_of_chance_but_no_certainty():
    low, high = interval_of(canary_exposure(ranked([1, 1, 1, 1]), subject="s")[0])
    assert 1.44 < low < high == 9.0  # no more can be measured
