"""Token scores are those of a slow loop over transformers' own processors, and of what the engine really draws."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from pytest_collabcode.generation import positions, scoring
from pytest_collabcode.generation.engine import TorchBackend
from pytest_collabcode.generation.forward import Forward
from pytest_collabcode.generation.running import Row
from pytest_collabcode.models.load import LoadedModel
from pytest_collabcode.records import Generation, Problem, PromptConventions, Sampling, TokenScores

PAPER = Sampling(temperature=0.6, top_p=0.6, repetition_penalty=1.1, max_new_tokens=20)
PAIRS = [
    ("def f(x):", "\n    return x + 1\n"),
    ("class A:", "\n    def g(self):\n        return 'é漢字🎉'\n"),
    ("for i in range(10):", "\n    i"),
    ("x", " = 1"),
    ("def f(x):\n    return x + 1\n" * 2, "class A:\n    pass\n" * 9),
]


def slow(loaded: LoadedModel, prompt: list[int], new: list[int], sampling: Sampling) -> list[tuple[float, ...]]:
    """One forward pass a token, transformers' processors, everything in double precision."""
    chain = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)])
    chain.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        chain.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        chain.append(TopPLogitsWarper(sampling.top_p))
    rows = []
    for place, token in enumerate(new):
        ids = torch.tensor([prompt + new[:place]])
        with torch.inference_mode():
            logits = loaded.model(ids).logits[:, -1].double()
        log_p = logits.log_softmax(-1)[0]
        mean = (log_p.exp() * log_p).sum()
        variance = (log_p.exp() * log_p.square()).sum() - mean.square()
        scheme = chain(ids, logits.clone()).log_softmax(-1)[0, token]
        rows.append(tuple(float(x) for x in (log_p[token], scheme, mean, variance.sqrt())))
    return rows


def columns(scores: TokenScores) -> np.ndarray[Any, Any]:
    return np.array([scores.log_probs, scores.scheme_log_probs, scores.means, scores.deviations]).T


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, int], list[int]]:
    """The token ids of every completion that the engine draws in a test."""
    ids: dict[tuple[str, int], list[int]] = {}
    generation = Row.generation

    def spy(self: Row, *arguments: Any) -> Generation:
        ids[self.problem.task_id, self.sample_index] = list(self.new_ids)
        return generation(self, *arguments)

    monkeypatch.setattr(Row, "generation", spy)
    return ids


@pytest.mark.parametrize(
    "sampling",
    [PAPER, replace(PAPER, top_p=1.0), replace(PAPER, temperature=1.5, top_k=40, top_p=0.95, repetition_penalty=1.0)],
    ids=["paper", "no nucleus", "top-k"],
)
def test_token_scores_are_those_of_a_slow_loop(
    loaded: LoadedModel,
    problems: list[Problem],
    drawn: dict[tuple[str, int], list[int]],
    sampling: Sampling,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On true texts, hardly any token of which the model would draw, and on texts that it drew more freely."""
    backend, kept = TorchBackend(loaded), []
    free = Sampling(temperature=0.9, top_p=0.9, repetition_penalty=sampling.repetition_penalty, max_new_tokens=20)
    backend.generate(problems, free)
    cases = [(p.prompt, drawn[p.task_id, 0]) for p in problems]
    cases += [(prompt, loaded.tokenizer(text).input_ids[:20]) for prompt, text in PAIRS]
    queue = iter([new for _, new in cases])
    monkeypatch.setattr(positions, "continuation", lambda *_: (ids := next(queue), list(range(len(ids)))))
    monkeypatch.setattr(positions, "POSITION_BYTES", 4 * len(loaded.tokenizer) * 3)  # three places at a time
    pairs = [(prompt, "") for prompt, _ in cases]
    for (prompt, new), scores in zip(cases, backend.token_scores(pairs, sampling), strict=True):
        expected = np.array(slow(loaded, loaded.tokenizer(prompt).input_ids, new, sampling))
        np.testing.assert_allclose(columns(scores), expected, rtol=1e-3, atol=1e-3)
        kept += np.isfinite(expected[:, 1]).tolist()
    assert 0.1 < np.mean(kept) < 0.9 or sampling.top_p == 1  # else equality of the schemes would say little


def test_a_true_text_is_tokenized_as_it_stands(loaded: LoadedModel) -> None:
    for (prompt, text), scores in zip(PAIRS, TorchBackend(loaded).token_scores(PAIRS, PAPER), strict=True):
        expected = slow(loaded, loaded.tokenizer(prompt).input_ids, loaded.tokenizer(text).input_ids[:20], PAPER)
        np.testing.assert_allclose(columns(scores), np.array(expected), rtol=1e-3, atol=1e-3)


def test_company_and_chunks_do_not_change_scores(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    together = TorchBackend(loaded).token_scores(PAIRS, PAPER)
    monkeypatch.setattr(positions, "LOGIT_BYTES", 1)  # one text at a time
    for pair, expected in zip(PAIRS, together, strict=True):
        [alone] = TorchBackend(loaded).token_scores([pair], PAPER)
        np.testing.assert_allclose(columns(alone), columns(expected), rtol=1e-4, atol=1e-4)
        assert alone.starts == expected.starts


@pytest.mark.parametrize("temperature", [0.0, 0.6])
@pytest.mark.parametrize(
    "conventions", [PromptConventions(), PromptConventions(prefix="for i", stop=("@",))], ids=repr
)
def test_every_token_that_was_drawn_could_be_drawn(
    loaded: LoadedModel,
    problems: list[Problem],
    drawn: dict[tuple[str, int], list[int]],
    monkeypatch: pytest.MonkeyPatch,
    temperature: float,
    conventions: PromptConventions,
) -> None:
    """Prompts are asked in both as the conventions say, cut at the left where the context is too short."""
    checkpoint = replace(loaded.checkpoint, conventions=conventions)
    backend = TorchBackend(replace(loaded, checkpoint=checkpoint))
    long = Problem(task_id="long", prompt="class A:\n    def g(self):\n" * 20)
    asked, sampling = [*problems, long], replace(PAPER, temperature=temperature)
    backend.generate(asked, sampling)
    assert backend.n_truncated == 1
    queue = iter([drawn[p.task_id, 0] for p in asked])
    monkeypatch.setattr(positions, "continuation", lambda *_: (ids := next(queue), list(range(len(ids)))))
    for scores in backend.token_scores([(p.prompt, "") for p in asked], sampling):
        if temperature == 0:
            assert set(scores.scheme_log_probs) == {0.0}
        assert np.isfinite(scores.scheme_log_probs).all() and len(scores.scheme_log_probs) > 0


def test_a_text_is_drawn_as_often_as_the_product_of_its_tokens_says(
    loaded: LoadedModel, drawn: dict[tuple[str, int], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, problem, n = TorchBackend(loaded), Problem(task_id="a", prompt="class A:"), 1000
    sampling = Sampling(temperature=0.5, top_p=0.8, repetition_penalty=1.3, max_new_tokens=2, n_samples=n)
    backend.generate([problem], sampling)
    counts = Counter(tuple(ids) for ids in drawn.values())
    texts = [ids for ids, _ in counts.most_common(4)]
    queue = iter(texts)
    monkeypatch.setattr(positions, "continuation", lambda *_: (list(next(queue)), [0, 1]))
    for ids, scores in zip(texts, backend.token_scores([("class A:", "")] * 4, sampling), strict=True):
        p = np.exp(sum(scores.scheme_log_probs))
        assert counts[ids] == pytest.approx(n * p, abs=4 * (n * p * (1 - p)) ** 0.5)
        assert 0.01 < p < 0.9


def test_starts_are_the_characters_at_which_tokens_begin(loaded: LoadedModel) -> None:
    sampling = replace(PAPER, max_new_tokens=60)
    for (_, text), scores in zip(PAIRS[:4], TorchBackend(loaded).token_scores(PAIRS[:4], sampling), strict=True):
        ids = loaded.tokenizer(text).input_ids
        cuts = [*scores.starts, len(text)]
        assert len(scores.starts) == len(ids) and cuts[0] == 0 and sorted(cuts) == cuts
        for i, first, last in zip(ids, cuts, cuts[1:], strict=False):
            piece = loaded.tokenizer.decode([i])
            assert piece == text[first:last] or not piece.isascii()  # a token may hold a part of a character


class Slow:
    """A tokenizer that gives no offsets."""

    is_fast = False

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, *texts: str, **options: Any) -> Any:
        return self._tokenizer(*texts, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def test_a_tokenizer_without_offsets_says_the_same_starts(loaded: LoadedModel) -> None:
    ascii_pairs = [pair for pair in PAIRS if pair[1].isascii()]
    slowly = TorchBackend(replace(loaded, tokenizer=Slow(loaded.tokenizer))).token_scores(ascii_pairs, PAPER)
    assert slowly == TorchBackend(loaded).token_scores(ascii_pairs, PAPER)


def test_a_prompt_keeps_its_own_tokens_where_the_continuation_would_join_them(loaded: LoadedModel) -> None:
    ids = loaded.tokenizer("return").input_ids
    assert len(ids) < len(loaded.tokenizer("retur").input_ids) + 1  # together they would be another token
    prompt, text = "retur", "n x"
    [scores] = TorchBackend(loaded).token_scores([(prompt, text)], PAPER)
    new = loaded.tokenizer(text).input_ids
    expected = slow(loaded, loaded.tokenizer(prompt).input_ids, new, PAPER)
    np.testing.assert_allclose(columns(scores), np.array(expected), rtol=1e-3, atol=1e-3)


def test_line_breaks_that_a_prompt_loses_belong_to_its_continuation(loaded: LoadedModel) -> None:
    stripping = replace(loaded.checkpoint, conventions=PromptConventions(strip_trailing_newline=True))
    backend = TorchBackend(replace(loaded, checkpoint=stripping))
    kept, moved = backend.token_scores([("def f(x):\n", "    return x"), ("def f(x):", "\n    return x")], PAPER)
    assert kept.starts == moved.starts
    np.testing.assert_allclose(columns(kept), columns(moved), rtol=1e-5, atol=1e-5)  # rows of one batch round apart


def test_continuations_are_cut_at_the_token_limit(loaded: LoadedModel) -> None:
    [scores] = TorchBackend(loaded).token_scores([("x", " = 1\n" * 50)], replace(PAPER, max_new_tokens=7))
    assert {len(column) for column in (scores.starts, *columns(scores).T)} == {7}


def test_a_masked_vocabulary_does_not_spoil_mean_and_deviation(loaded: LoadedModel) -> None:
    class Masked(Forward):
        def __call__(self, *arguments: Any, **options: Any) -> torch.Tensor:
            logits = super().__call__(*arguments, **options)
            return logits.index_fill(-1, torch.arange(10, 20), float("-inf"))

    forward = Masked(loaded.model, loaded.tokenizer, "cpu")
    [scores] = scoring.score_continuations(forward, PAIRS[:1], PAPER)
    assert np.isfinite([scores.means, scores.deviations]).all()


def test_stored_columns_come_back_as_scores() -> None:
    scores = TokenScores(
        starts=(0, 3),
        log_probs=(-0.25, -17.123456),
        scheme_log_probs=(0.0, float("-inf")),
        means=(-1.5, -2.0),
        deviations=(0.5, 0.0),
    )
    assert scoring.from_row(scoring.to_row(scores)) == scores
