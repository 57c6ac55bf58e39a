"""Scores of an encoder-decoder are those of a slow loop over transformers; one is loaded and asked as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from pytest_collabcode.checkpoint import read_checkpoint
from pytest_collabcode.errors import CheckpointError
from pytest_collabcode.generation import positions
from pytest_collabcode.generation.engine import TorchBackend
from pytest_collabcode.generation.running import Row
from pytest_collabcode.models.load import LoadedModel, check_weights, load
from pytest_collabcode.models.tokenizer import train_tokenizer
from pytest_collabcode.records import Generation, Problem, Sampling

PAPER = Sampling(temperature=0.6, top_p=0.6, repetition_penalty=1.1, max_new_tokens=20)
PAIRS = [
    ("def f(x):", "\n    return x + 1\n"),
    ("class A:", "\n    def g(self):\n        return 'é漢字🎉'\n"),
    ("x", " = 1"),
    ("def f(x):\n    return x + 1\n" * 2, "class A:\n    pass\n" * 9),
    ("", "x"),
    ("x", ""),
]


def logits_of(loaded: LoadedModel, prompt: list[int], written: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return loaded.model(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([[0, *written]])).logits[
            0
        ]


def test_texts_are_scored_as_written_after_an_empty_prompt(encoder_decoder: LoadedModel) -> None:
    texts = ["", "x", *(text for _, text in PAIRS)]
    found = TorchBackend(encoder_decoder).log_likelihood(texts, max_tokens=9)
    for text, score in zip(texts, found, strict=True):
        ids = encoder_decoder.tokenizer(text).input_ids[:9]
        log_p = logits_of(encoder_decoder, [0], ids[:-1]).double().log_softmax(-1)
        expected = sum(float(row[i]) for row, i in zip(log_p, ids, strict=False)) if ids else 0.0
        assert score.log_likelihood == pytest.approx(expected, rel=1e-4)
        assert score.token_ids == tuple(ids) and score.n_tokens == len(ids)
        letters = encoder_decoder.tokenizer.convert_ids_to_tokens(ids)  # one letter a byte
        assert 0 <= sum(map(len, letters)) - score.n_bytes <= 3 or not text.isascii()


def test_continuations_are_scored_with_the_prompt_in_the_encoder(
    encoder_decoder: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(1.1), TemperatureLogitsWarper(0.6)])
    chain.append(TopPLogitsWarper(0.6))
    together = TorchBackend(encoder_decoder).token_scores(PAIRS, PAPER)
    monkeypatch.setattr(positions, "LOGIT_BYTES", 1)  # one text at a time
    alone = TorchBackend(encoder_decoder).token_scores(PAIRS, PAPER)
    for (prompt, text), scores, single in zip(PAIRS, together, alone, strict=True):
        ids = encoder_decoder.tokenizer(text).input_ids[:20]
        source = encoder_decoder.tokenizer(prompt).input_ids or [0]
        assert len(scores.starts) == len(ids) and scores.starts == single.starts
        for place, logits in zip(range(len(ids)), logits_of(encoder_decoder, source, ids).double(), strict=False):
            log_p = logits.log_softmax(-1)
            scheme = chain(torch.tensor([[0, *ids[:place]]]), logits[None].clone()).log_softmax(-1)[0, ids[place]]
            mean = (log_p.exp() * log_p).sum()
            deviation = ((log_p.exp() * log_p.square()).sum() - mean.square()).sqrt()
            expected = [float(x) for x in (log_p[ids[place]], scheme, mean, deviation)]
            for own in (scores, single):
                columns = (own.log_probs, own.scheme_log_probs, own.means, own.deviations)
                np.testing.assert_allclose([c[place] for c in columns], expected, rtol=1e-3, atol=1e-3)


def test_every_token_that_was_drawn_could_be_drawn(
    encoder_decoder: LoadedModel, problems: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, list[int]] = {}
    generation = Row.generation

    def spy(self: Row, *arguments: Any) -> Generation:
        drawn[self.problem.task_id] = list(self.new_ids)
        return generation(self, *arguments)

    monkeypatch.setattr(Row, "generation", spy)
    backend = TorchBackend(encoder_decoder)
    backend.generate(problems, PAPER)
    queue = iter([drawn[p.task_id] for p in problems])
    monkeypatch.setattr(positions, "continuation", lambda *_: (ids := next(queue), list(range(len(ids)))))
    for scores in backend.token_scores([(p.prompt, "") for p in problems], PAPER):
        assert np.isfinite(scores.scheme_log_probs).all() and len(scores.scheme_log_probs) > 0


def test_embeddings_are_unit_means_of_the_encoder_s_states(encoder_decoder: LoadedModel) -> None:
    texts = [prompt for prompt, _ in PAIRS if prompt]
    for text, row in zip(texts, TorchBackend(encoder_decoder).embed(texts), strict=True):
        ids = torch.tensor([encoder_decoder.tokenizer(text).input_ids])
        with torch.inference_mode():
            mean = encoder_decoder.model.get_encoder()(ids).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(row, (mean / mean.norm()).numpy(), atol=1e-5)


@pytest.fixture
def saved(models: Any, tmp_path: Path) -> Path:
    tokenizer = train_tokenizer(["def f(x):\n    return x\n"] * 3, vocabulary_size=300)
    models("t5", len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_an_encoder_decoder_is_loaded_and_asked_as_any_other(saved: Path) -> None:
    checkpoint = read_checkpoint(saved, name="tiny")
    check_weights(checkpoint)
    backend = TorchBackend(load(checkpoint))
    [found] = backend.generate([Problem(task_id="a", prompt="def f(x):\n")], Sampling(max_new_tokens=5))
    assert backend.engine == "t5" and 1 <= found.n_tokens <= 5


def test_an_encoder_alone_is_refused(saved: Path) -> None:
    config = (saved / "config.json").read_text()
    (saved / "config.json").write_text(config.replace("T5ForConditionalGeneration", "T5ForSequenceClassification"))
    with pytest.raises(CheckpointError, match="T5ForSequenceClassification is not a language model that writes"):
        check_weights(read_checkpoint(saved))
