"""Draws follow the distribution that transformers' processors define, from a stream of each sample's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers.generation.logits_process import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from pytest_collabcode.generation import sampler
from pytest_collabcode.generation.sampler import draw, log_probabilities, penalize, uniforms
from pytest_collabcode.records import Sampling


def oracle(logits: torch.Tensor, history: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities after transformers' own chain."""
    chain = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)])
    chain.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        chain.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        chain.append(TopPLogitsWarper(sampling.top_p))
    return chain(history, logits).softmax(-1)


def frequencies(logits: torch.Tensor, history: torch.Tensor, sampling: Sampling, n: int) -> torch.Tensor:
    """Share of each token over n evenly spread uniforms: the drawn distribution to within 1/n."""
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    drawn = draw(logits.expand(n, -1), history.expand(n, -1), sampling, u)
    return torch.bincount(drawn, minlength=logits.shape[1]) / n


SCHEMES = [
    Sampling(temperature=0.6, top_p=0.6, repetition_penalty=1.1),
    Sampling(temperature=1.0, top_p=0.95),
    Sampling(temperature=1.0),
    Sampling(temperature=0.8, top_k=5),
    Sampling(temperature=1.3, top_k=200, top_p=0.9, repetition_penalty=1.5),
]
scales = pytest.mark.parametrize("scale", [0.3, 3.0, 12.0], ids=["flat", "middle", "peaked"])
schemes = pytest.mark.parametrize("sampling", SCHEMES, ids=str)


@scales
@schemes
def test_a_draw_has_the_distribution_of_transformers_processors(sampling: Sampling, scale: float) -> None:
    n = 4000
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(1, 700, generator=generator) * scale
    history = torch.tensor([[5, 9, 5, 600]])
    expected = oracle(logits, history, sampling)[0]
    seen = frequencies(logits, history, sampling, n)
    assert set(seen.nonzero()[:, 0].tolist()) <= set(expected.nonzero()[:, 0].tolist())
    assert (seen - expected).abs().max() <= 1.5 / n


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.05, 0.999), st.floats(0.1, 20), st.integers(70, 900))
def test_the_nucleus_is_the_one_of_the_full_sort(seed: int, top_p: float, scale: float, n_tokens: int) -> None:
    logits = torch.randn(1, n_tokens, generator=torch.Generator().manual_seed(seed)) * scale
    history = torch.zeros(1, 1, dtype=torch.int64)
    sampling = Sampling(temperature=1.0, top_p=top_p)
    mass = logits.double().softmax(-1)[0]
    reached = mass.sort(descending=True).values.cumsum(0)
    assume((reached - top_p).abs().min() > 1e-6)  # else rounding decides whether one token more belongs to it
    mass = oracle(logits.double(), history, sampling)[0]
    edges = torch.tensor([0.0, 1 - 1e-12], dtype=torch.float64)  # the first and the last token of the nucleus
    first, last = draw(logits.expand(2, -1), history.expand(2, -1), sampling, edges).tolist()
    kept = mass.nonzero()[:, 0]
    assert first == mass.argmax()
    assert last == kept[mass[kept].argmin()]


def nucleus_of_the_full_sort(scores: torch.Tensor, top_k: int, top_p: float) -> tuple[list[int], float]:
    """The tokens of one row's nucleus by a stable sort of all of them, and how near the mass came to top_p."""
    values, ids = scores.double().sort(descending=True, stable=True)
    kept = min(top_k or len(values), len(values))
    mass = values[:kept].softmax(0).cumsum(0)
    size = min(1 + int((mass < top_p).sum()), kept)
    return ids[:size].tolist(), float((mass - top_p).abs().min())


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**31),
    st.floats(0.05, 0.999),
    st.sampled_from([0.0, 0.3, 1.0, 4.0, 15.0]),
    st.one_of(st.integers(2, 300), st.sampled_from([4096, 5003])),
    st.one_of(st.just(0), st.integers(1, 120)),
    st.sampled_from([None, 0.5, 2.0]),
)
def test_nuclei_with_ties_are_those_of_the_full_stable_sort(
    seed: int, top_p: float, scale: float, n_tokens: int, top_k: int, step: float | None
) -> None:
    """Flat and peaked rows, rows of few distinct values, rows of one value, with and without top-k."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(3, n_tokens, generator=generator) * scale
    if step is not None:
        scores = (scores / step).round() * step
    sampling = Sampling(temperature=1.0, top_p=top_p, top_k=top_k)
    found: dict[int, list[int]] = {}
    wanted = torch.full((3,), top_p, dtype=torch.float64)
    for rows, ids, _, mass in sampler._largest(scores, sampling, wanted):
        for row, own, size in zip(rows.tolist(), ids, sampler._nucleus_size(mass, top_p)[:, 0].tolist(), strict=True):
            found[row] = own[:size].tolist()
    for row in range(3):
        expected, margin = nucleus_of_the_full_sort(scores[row], top_k, top_p)
        if margin > 1e-5:  # else rounding decides whether one token more belongs to it
            assert found[row] == expected


def test_equal_logits_are_drawn_by_rising_id_and_greedily_the_first() -> None:
    flat, history = torch.zeros(1, 1000), torch.zeros(1, 1, dtype=torch.int64)
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    drawn = draw(flat.expand(1000, -1), history.expand(1000, -1), Sampling(temperature=1.0, top_p=0.9995), u)
    assert drawn.tolist() == sorted(drawn.tolist()) and set(drawn.tolist()) == set(range(1000))
    assert draw(flat, history, Sampling(), u[:1]).tolist() == [0]


def test_logits_are_left_alone() -> None:
    logits, history = torch.randn(4, 9000) * 5, torch.randint(0, 9000, (4, 9))
    before, u = logits.clone(), torch.full((4,), 0.5, dtype=torch.float64)
    for penalty in (1.0, 1.3):
        draw(logits, history, Sampling(temperature=0.5, top_p=0.9, repetition_penalty=penalty), u)
    assert torch.equal(logits, before)


def test_a_masked_vocabulary_is_never_drawn() -> None:
    logits = torch.randn(8, 5003, generator=torch.Generator().manual_seed(1))
    logits[:, :4000] = -torch.inf
    u = (torch.arange(8, dtype=torch.float64) + 0.5) / 8
    history = torch.zeros(8, 1, dtype=torch.int64)
    for sampling in (Sampling(temperature=1.0), Sampling(temperature=1.0, top_p=0.9), Sampling(repetition_penalty=2)):
        assert (draw(logits, history, sampling, u) >= 4000).all()


def test_random_draws_pass_a_chi_square_test() -> None:
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0, 0.5]])
    u = torch.from_numpy(np.concatenate([uniforms(1, f"t/{i}", 0, n=4) for i in range(1000)]))
    drawn = draw(logits.expand(len(u), -1), torch.zeros(len(u), 1, dtype=torch.int64), Sampling(temperature=1.0), u)
    counts = torch.bincount(drawn, minlength=5).numpy()
    assert chisquare(counts, logits.double().softmax(-1)[0].numpy() * len(u)).pvalue > 0.01


def test_uniforms_are_those_of_every_version_of_numpy() -> None:
    golden = ["0x1.d4bed425297bep-2", "0x1.6bc28f683f4dep-1", "0x1.bb0d505c61ab0p-4"]  # of random() of numpy 2.4.6
    assert [float(u).hex() for u in uniforms(1, "HumanEval/0", 0, n=3)] == golden


def test_uniforms_of_neighbouring_samples_are_independent() -> None:
    streams = np.stack([uniforms(1, f"t/{i}", j, n=500) for i in range(3) for j in range(3)])
    correlation = np.corrcoef(streams) - np.eye(9)
    assert np.abs(correlation).max() < 0.2
    assert not np.array_equal(uniforms(1, "t/0", 0, n=5), uniforms(2, "t/0", 0, n=5))


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_row_is_drawn_the_same_in_any_company(temperature: float) -> None:
    generator = torch.Generator().manual_seed(1)
    scale = torch.tensor([[0.01], [8.0], [1.0]])  # a flat row widens its K, a peaked one does not
    logits, history = torch.randn(3, 2000, generator=generator) * scale, torch.tensor([[1], [2], [3]])
    u = torch.tensor([0.99, 0.5, 0.8], dtype=torch.float64)
    sampling = Sampling(temperature=temperature, top_p=0.9)
    together = draw(logits, history, sampling, u)
    alone = [draw(logits[i : i + 1], history[i : i + 1], sampling, u[i : i + 1]).item() for i in range(3)]
    assert together.tolist() == alone


def test_the_penalty_is_that_of_transformers() -> None:
    logits, history = torch.randn(4, 50), torch.randint(0, 50, (4, 9))
    expected = RepetitionPenaltyLogitsProcessor(1.3)(history, logits.clone())
    assert torch.equal(penalize(logits, history, 1.3), expected)


def test_half_precision_logits_are_drawn_in_float32() -> None:
    logits = torch.tensor([[1.0, 1.01, 0.0]], dtype=torch.bfloat16)
    drawn = draw(
        logits, torch.tensor([[0]]), Sampling(temperature=1.0), torch.tensor([0.999999], dtype=torch.float64)
    )
    assert drawn.tolist() == [2]


def every_log_probability(logits: torch.Tensor, history: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """What is said of each token of the vocabulary in the same place."""
    n = logits.shape[1]
    return log_probabilities(logits.expand(n, -1), history.expand(n, -1), torch.arange(n), sampling)


@scales
@schemes
def test_log_probabilities_are_those_of_transformers_processors(sampling: Sampling, scale: float) -> None:
    logits = torch.randn(1, 700, generator=torch.Generator().manual_seed(3)) * scale
    history = torch.tensor([[5, 9, 5, 600]])
    expected = oracle(logits.double(), history, sampling)[0]
    found = every_log_probability(logits, history, sampling)
    assert torch.equal(found.isneginf(), expected == 0)
    kept = expected > 0
    torch.testing.assert_close(found[kept], expected[kept].log(), rtol=1e-5, atol=1e-5)


@schemes
def test_tokens_are_drawn_as_often_as_their_log_probabilities_say(sampling: Sampling) -> None:
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0, 0.5, 1.9, 1.2]])
    history = torch.tensor([[3, 4]])
    u = torch.from_numpy(np.concatenate([uniforms(1, f"t/{i}", 0, n=5) for i in range(1000)]))
    drawn = draw(logits.expand(len(u), -1), history.expand(len(u), -1), sampling, u)
    p = every_log_probability(logits, history, sampling).exp().numpy()
    counts = torch.bincount(drawn, minlength=7).numpy()
    assert p.sum() == pytest.approx(1, abs=1e-6) and not counts[p == 0].any()
    assert chisquare(counts[p > 0], (p / p.sum())[p > 0] * len(u)).pvalue > 0.01


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.05, 1.0), st.floats(0.01, 20), st.integers(2, 900), st.integers(0, 99))
def test_exactly_what_can_be_drawn_has_a_probability(
    seed: int, top_p: float, scale: float, n_tokens: int, top_k: int
) -> None:
    logits = torch.randn(1, n_tokens, generator=torch.Generator().manual_seed(seed)) * scale
    history = torch.zeros(1, 1, dtype=torch.int64)
    sampling = Sampling(temperature=0.7, top_p=top_p, top_k=top_k, repetition_penalty=1.2)
    p = every_log_probability(logits, history, sampling).exp()
    u = (torch.arange(500, dtype=torch.float64) + 0.5) / 500
    drawn = draw(logits.expand(500, -1), history.expand(500, -1), sampling, u)
    assert p.sum() == pytest.approx(1, abs=1e-5)
    assert (p[drawn] > 0).all()
    assert (torch.bincount(drawn, minlength=n_tokens) / 500 - p).abs().max() <= 1.5 / 500


def test_under_temperature_0_only_the_largest_after_the_penalty_is_drawn() -> None:
    logits, history = torch.tensor([[0.0, 3.0, 2.9]]), torch.tensor([[1]])
    found = every_log_probability(logits, history, Sampling(repetition_penalty=1.1))
    assert found.tolist() == [float("-inf"), float("-inf"), 0.0]
