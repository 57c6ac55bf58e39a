"""Tiny random models of several families and a byte-level tokenizer, built in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from pytest_collabcode.models.load import LoadedModel
from pytest_collabcode.records import Checkpoint, Problem, PromptConventions

TEXTS = [
    "def f(x):\n    return x + 1\n",
    "class A:\n    def g(self):\n        return 'é漢字🎉'\n",
    "for i in range(10):\n    i\n",
]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(TEXTS, vocab_size=300, special_tokens=["<eos>"], show_progress=False)
    return PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token="<eos>")


SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 96}
T5_SHAPE = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}

BART_SHAPE = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 96,
    "decoder_start_token_id": 0,
    "forced_eos_token_id": None,
}


def build(family: str, vocabulary: int) -> torch.nn.Module:
    torch.manual_seed(5)
    ids = {"vocab_size": vocabulary, "eos_token_id": 0, "bos_token_id": 0}
    model: torch.nn.Module
    if family == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=32, n_head=4, n_positions=96, **ids))
    elif family == "llama":
        model = LlamaForCausalLM(LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **SHAPE, **ids))
    elif family == "t5":
        model = T5ForConditionalGeneration(T5Config(**T5_SHAPE, **ids, tie_word_embeddings=False))
    elif family == "bart":
        model = BartForConditionalGeneration(BartConfig(**BART_SHAPE, **ids))
    else:
        model = GPTNeoXForCausalLM(GPTNeoXConfig(num_attention_heads=4, **SHAPE, **ids))
    return spread(model)


def spread(model: torch.nn.Module) -> torch.nn.Module:
    """Give matrices large random weights: default ones give nearly flat logits, nothing to tell apart."""
    for weight in model.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


def load(family: str, tokenizer: PreTrainedTokenizerFast) -> LoadedModel:
    checkpoint = Checkpoint(
        name="tiny",
        path=Path("tiny"),
        weights_digest="w",
        tokenizer_digest="t",
        n_parameters=1,
        conventions=PromptConventions(strip_trailing_newline=False),
    )
    model = build(family, len(tokenizer))
    return LoadedModel(model=model, tokenizer=tokenizer, checkpoint=checkpoint, device="cpu")


@pytest.fixture(scope="session", params=["llama", "gpt2"])
def loaded(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast) -> LoadedModel:
    """A decoder that we run ourselves."""
    return load(request.param, tokenizer)


@pytest.fixture(scope="session", params=["llama", "gpt2", "t5", "neox", "bart"])
def every(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast) -> LoadedModel:
    """Each family, and two that only transformers knows how to run."""
    return load(request.param, tokenizer)


@pytest.fixture(scope="session", params=["t5", "bart"])
def encoder_decoder(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast) -> LoadedModel:
    return load(request.param, tokenizer)


@pytest.fixture(scope="session")
def problems() -> list[Problem]:
    """Prompts of quite different lengths, one of them twice under another task_id."""
    prompts = [
        "def",
        "def f(x):\n    return",
        "class A:",
        TEXTS[1],
        "for i in range(10):",
        "class A:",
        "x",
        TEXTS[0] * 2,
    ]
    return [Problem(task_id=f"t/{i}", prompt=prompt) for i, prompt in enumerate(prompts)]


@pytest.fixture(scope="session")
def models() -> Callable[[str, int], torch.nn.Module]:
    """Builds a fresh tiny model of a family with a vocabulary."""
    return build
