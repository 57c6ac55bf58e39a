"""Perplexity: sums first, one division; laws that tie its relatives together."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.errors import EmptyMeasurementError, MeasurementError
from pytest_collabcode.intervals import interval_of
from pytest_collabcode.metrics.perplexity import (
    bits_per_byte,
    perplexity,
    perplexity_gain_over_unigram,
    perplexity_relative,
    unigram_log_likelihood,
)
from pytest_collabcode.records import TextScore

COUNTS = np.array([5, 0, 2, 1])


def score(log_likelihood, ids=(0,)):
    return TextScore(log_likelihood=log_likelihood, n_tokens=len(ids), n_bytes=2 * len(ids), token_ids=tuple(ids))


token_ids = st.lists(st.integers(0, 3), min_size=1, max_size=9)
lists_of_scores = st.lists(st.builds(score, st.floats(-60, 0), token_ids), min_size=1, max_size=6)


def keys(scores):
    return [str(i) for i in range(len(scores))]


def test_a_uniform_model_has_the_vocabularys_size_as_perplexity():
    scores = [score(-n * math.log(50), [0] * n) for n in (1, 7, 90)]
    assert perplexity(keys(scores), scores, subject="s").value == pytest.approx(50)


def test_long_documents_weigh_more():
    scores = [score(-9 * math.log(4), [0] * 9), score(-math.log(2**10))]
    measured = perplexity(keys(scores), scores, subject="s")
    assert measured.value == pytest.approx(2**2.8)  # not the mean of 4 and 1024, nor of the mean losses
    low, high = interval_of(measured)
    assert low == pytest.approx(4) and high > measured.value


@given(lists_of_scores)
def test_the_gain_is_the_unigram_models_perplexity_over_the_models(scores):
    unigram = [
        TextScore(log_likelihood=unigram_log_likelihood(COUNTS, s.token_ids), n_tokens=s.n_tokens, n_bytes=s.n_bytes)
        for s in scores
    ]
    names = keys(scores)
    gain = perplexity_gain_over_unigram(names, scores, COUNTS, subject="s").value
    base, own = (perplexity(names, side, subject="s").value for side in (unigram, scores))
    assert gain == pytest.approx(base / own)
    assert perplexity_relative(names, scores, unigram, subject="s").value == pytest.approx(1 / gain)


@given(lists_of_scores)
def test_bits_per_byte_and_perplexity_agree_at_two_bytes_a_token(scores):
    bits = bits_per_byte(keys(scores), scores, subject="s").value
    assert 2 ** (2 * bits) == pytest.approx(perplexity(keys(scores), scores, subject="s").value)


def test_unigram_probabilities_sum_to_one_and_unseen_tokens_have_one_count():
    each = [math.exp(unigram_log_likelihood(COUNTS, [i])) for i in range(4)]
    assert sum(each) == pytest.approx(1) and each[1] == pytest.approx(1 / 12)


def test_a_unigram_model_gains_nothing_over_itself():
    ids = [0, 1, 2, 2]
    same = score(unigram_log_likelihood(COUNTS, ids), ids)
    assert perplexity_gain_over_unigram(["a"], [same], COUNTS, subject="s").value == pytest.approx(1)


@pytest.mark.parametrize("bad", [math.nan, -math.inf, math.inf])
@pytest.mark.parametrize("metric", [perplexity, bits_per_byte])
def test_a_loss_that_is_not_finite_is_no_measurement(metric, bad):
    with pytest.raises(MeasurementError, match="a: log_likelihood="):
        metric(["a"], [score(bad)], subject="s")


def test_a_hopeless_but_finite_model_is_infinite_not_a_crash():
    assert perplexity(["a"], [score(-1e6)], subject="s").value == math.inf


@pytest.mark.parametrize("scores", [[], [TextScore(log_likelihood=0.0, n_tokens=0, n_bytes=0)]])
@pytest.mark.parametrize("metric", [perplexity, bits_per_byte])
def test_no_scored_token_is_an_error_not_one(metric, scores):
    with pytest.raises(EmptyMeasurementError):
        metric(keys(scores), scores, subject="s")


def test_models_of_two_tokenizers_are_not_compared():
    with pytest.raises(ValueError, match="one tokenizer"):
        perplexity_relative(["a"], [score(-1.0, [0, 1])], [score(-1.0)], subject="s")


def test_scores_without_their_tokens_have_no_unigram():
    with pytest.raises(MeasurementError, match="0 token ids"):
        bare = TextScore(log_likelihood=-1.0, n_tokens=1, n_bytes=1)
        perplexity_gain_over_unigram(["a"], [bare], COUNTS, subject="s")


@pytest.mark.parametrize("token", [-1, 4])
def test_a_token_outside_of_the_vocabulary_is_refused(token):
    with pytest.raises(ValueError, match=f"token_id={token}"):
        unigram_log_likelihood(COUNTS, [token])
