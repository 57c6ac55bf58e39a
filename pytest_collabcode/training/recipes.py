"""The recipes by name: everything that two regimes must share to be comparable.

Not covered: what a regime adds (order, strategy). Plain data, no torch.
Source: the demo shapes were chosen by trial (2 passes of small batches, since steps, not tokens, are scarce);
gpt2-paper is the training script of arXiv 2409.12020's artifact, with a schedule over the real number of steps.
"""

from __future__ import annotations

from dataclasses import replace

from pytest_collabcode.errors import ConfigurationError, nearest
from pytest_collabcode.records import Recipe

_LLAMA_DEMO = Recipe(
    name="llama-demo",
    architecture="llama",
    n_layers=3,
    width=128,
    n_heads=4,
    vocabulary_size=4096,
    sequence_tokens=256,
    batch_size=4,
    learning_rate=3e-3,
    warmup_ratio=0.05,
    weight_decay=0.1,
    clip_norm=1.0,
    passes=2.0,
    rounds=12,
    dtype="bfloat16",
)

# The same size and tokens per step; longer sequences, since learned positions end where training ended.
_GPT2_DEMO = replace(_LLAMA_DEMO, name="gpt2-demo", architecture="gpt2", sequence_tokens=512, batch_size=2)

# Seconds on any machine: to try a consortium or a suite out, never to judge by.
_LLAMA_SMOKE = replace(
    _LLAMA_DEMO,
    name="llama-smoke",
    n_layers=1,
    width=64,
    vocabulary_size=512,
    sequence_tokens=128,
    learning_rate=1e-2,
    passes=2.0,
    rounds=2,
)

_GPT2_PAPER = Recipe(
    name="gpt2-paper",
    architecture="gpt2",
    n_layers=12,
    width=768,
    n_heads=12,
    vocabulary_size=32_768,
    sequence_tokens=1024,
    batch_size=2,
    learning_rate=5e-4,
    warmup_ratio=0.02,  # the paper's 2000 steps, as a part of its runs
    weight_decay=0.1,
    clip_norm=1.0,
    passes=10.0,
    rounds=10,
    dtype="bfloat16",
)

RECIPES: dict[str, Recipe] = {r.name: r for r in (_LLAMA_DEMO, _GPT2_DEMO, _GPT2_PAPER, _LLAMA_SMOKE)}


def recipe(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises:
        ConfigurationError: there is none; the nearest valid name is given.
    Example:
        >>> recipe("llama-demo").passes
        2.0
        >>> recipe("llama-dmo")
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: recipe='llama-dmo': unknown; did you mean 'llama-demo'? valid: \
llama-demo, gpt2-demo, gpt2-paper, llama-smoke
    """
    if name not in RECIPES:
        raise ConfigurationError(f"recipe={name!r}: unknown; {nearest(name, tuple(RECIPES))}")
    return RECIPES[name]


def about_n_parameters(recipe: Recipe) -> int:
    """Return about how many parameters a model of this shape has: tied embeddings, and 12 matrices' worth a layer.

    Example:
        >>> about_n_parameters(recipe("llama-demo"))
        1114112
    """
    return recipe.vocabulary_size * recipe.width + 12 * recipe.n_layers * recipe.width**2
