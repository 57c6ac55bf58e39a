"""Shapes built from a recipe."""

from dataclasses import replace

import pytest
import torch

from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.models.architectures import build
from pytest_collabcode.training.recipes import RECIPES, recipe

TINY = replace(recipe("llama-demo"), n_layers=1, width=16, n_heads=2, vocabulary_size=300, sequence_tokens=16)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_same_recipe_and_seed_give_the_same_weights(architecture: str) -> None:
    shape = replace(TINY, architecture=architecture)
    before = torch.random.get_rng_state()
    first, again, other = build(shape, 1), build(shape, 1), build(shape, 2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.get_input_embeddings().weight, other.get_input_embeddings().weight)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_input_and_output_embeddings_are_one_tensor(architecture: str) -> None:
    model = build(replace(TINY, architecture=architecture), 1)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_the_demo_model_is_small_and_takes_a_prompt_with_its_completion() -> None:
    model = build(RECIPES["llama-demo"], 1)
    assert 1.0e6 < sum(p.numel() for p in model.parameters()) < 1.3e6
    assert model.config.max_position_embeddings >= 512
    assert RECIPES["gpt2-demo"].sequence_tokens >= 512  # learned positions end there


@pytest.mark.parametrize("change", [{"architecture": "lama"}, {"n_heads": 3}])
def test_an_impossible_shape_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        build(replace(TINY, **change), 1)  # type: ignore[arg-type]
