"""Tiny random models of two families and a byte-level tokenizer, built in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

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


def build(family: str, vocabulary: int) -> torch.nn.Module:
    torch.manual_seed(5)
    ids = {"vocab_size": vocabulary, "eos_token_id": 0, "bos_token_id": 0}
    if family == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=32, n_head=4, n_positions=96, **ids))
    else:
        shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 96}
        model = LlamaForCausalLM(LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **shape, **ids))
    for (
        weight
    ) in model.parameters():  # random weights of the default size give nearly flat logits: nothing to tell apart
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


@pytest.fixture(scope="session", params=["llama", "gpt2"])
def loaded(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast) -> LoadedModel:
    checkpoint = Checkpoint(
        name="tiny",
        path=Path("tiny"),
        weights_digest="w",
        tokenizer_digest="t",
        n_parameters=1,
        conventions=PromptConventions(strip_trailing_newline=False),
    )
    model = build(request.param, len(tokenizer))
    return LoadedModel(model=model, tokenizer=tokenizer, checkpoint=checkpoint, device="cpu")


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
