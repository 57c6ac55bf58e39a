"""The shapes that are trained from scratch: Llama (rotary positions) and GPT-2 (learned positions).

Not covered: pretrained models (load.py); the words (tokenizer.py).
Source: transformers' LlamaForCausalLM and GPT2LMHeadModel; GPT-2 is the paper's, arXiv 2409.12020.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from pytest_collabcode.errors import ConfigurationError, nearest
from pytest_collabcode.records import Recipe

ARCHITECTURES = ("llama", "gpt2")
END_OF_TEXT_ID = 0  # tokenizer.py gives it to <|endoftext|>
MIN_CONTEXT_TOKENS = 1024  # rotary positions hold beyond the training length: room for a prompt and its completion


def build(recipe: Recipe, seed: int) -> Any:
    """Return a freshly initialized model of the recipe's shape, on the CPU in float32.

    Input and output embeddings are one tensor. The weights depend on recipe and seed only, and the global random
    state stays as it was.

    Args:
        recipe: its architecture, n_layers, width, n_heads, vocabulary_size and sequence_tokens are used.
        seed: of the initialization.
    Returns:
        LlamaForCausalLM or GPT2LMHeadModel.
    Raises:
        ConfigurationError: the architecture is unknown or the heads do not divide the width.
    Example:
        >>> from pytest_collabcode.training.recipes import recipe
        >>> a, b, c = (build(recipe("llama-smoke"), seed).get_input_embeddings().weight for seed in (1, 1, 2))
        >>> tuple(a.shape), torch.equal(a, b), torch.equal(a, c)
        ((512, 64), True, False)
    """
    if recipe.width % recipe.n_heads:
        raise ConfigurationError(
            f"recipe {recipe.name}: width={recipe.width} is no multiple of {recipe.n_heads} heads"
        )
    if recipe.architecture not in ARCHITECTURES:
        hint = nearest(recipe.architecture, ARCHITECTURES)
        raise ConfigurationError(f"recipe {recipe.name}: architecture={recipe.architecture!r}; {hint}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _initialize(_llama(recipe) if recipe.architecture == "llama" else _gpt2(recipe), recipe.width)


def _initialize(model: Any, width: int) -> Any:
    """Draw weights as wide as the model is narrow: unit-length embeddings, matrices of half that deviation.

    transformers' 0.02 is meant for widths near 1000; at width 128 logits start so small that the first hundreds of
    steps learn nothing but word frequencies (held-out perplexity after 240 steps of the demo: 374 against 147).
    """
    embeddings = model.get_input_embeddings().weight
    with torch.no_grad():
        for parameter in model.parameters():  # tied weights come once
            if parameter.ndim >= 2:
                deviation = (1.0 if parameter is embeddings else 0.5) / width**0.5
                parameter.normal_(0.0, deviation)
    return model


def _llama(recipe: Recipe) -> Any:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=recipe.vocabulary_size,
            hidden_size=recipe.width,
            # 8/3 of the width gives the gated layer the parameters of an ungated one of 4; rounded up to 64.
            intermediate_size=-(-recipe.width * 8 // 3 // 64) * 64,
            num_hidden_layers=recipe.n_layers,
            num_attention_heads=recipe.n_heads,
            num_key_value_heads=recipe.n_heads,
            max_position_embeddings=max(MIN_CONTEXT_TOKENS, recipe.sequence_tokens),
            tie_word_embeddings=True,
            bos_token_id=END_OF_TEXT_ID,
            eos_token_id=END_OF_TEXT_ID,
            pad_token_id=None,
        )
    )


def _gpt2(recipe: Recipe) -> Any:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=recipe.vocabulary_size,
            n_embd=recipe.width,
            n_layer=recipe.n_layers,
            n_head=recipe.n_heads,
            n_positions=recipe.sequence_tokens,  # a learned position beyond the training length would be noise
            # Few passes over the data: nothing to regularize, and no random stream to restore on resuming.
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=END_OF_TEXT_ID,
            eos_token_id=END_OF_TEXT_ID,
        )
    )
