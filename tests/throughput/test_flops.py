"""The formulas count what torch counts, and nothing that was computed twice or for padding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import DynamicCache

from pytest_collabcode.models.architectures import build
from pytest_collabcode.models.shape import shape_of
from pytest_collabcode.throughput.flops import ModelShape, decoding_bytes, generation_flops, training_flops
from pytest_collabcode.training.recipes import recipe

T = 64


def grouped_queries() -> Any:
    """Two queries share a key, input and output embeddings differ, and a head is wider than its share."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=500, hidden_size=96, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=32, tie_word_embeddings=False,
        )
    )  # fmt: skip


MODELS = {
    "llama": lambda: build(replace(recipe("llama-demo"), vocabulary_size=500), 1),
    "gpt2": lambda: build(replace(recipe("gpt2-demo"), vocabulary_size=500), 1),
    "grouped": grouped_queries,
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    found = MODELS[request.param]()
    found.set_attn_implementation("eager")  # torch does not count the fused attention of a CPU
    return found


def shape(model: Any) -> ModelShape:
    found = shape_of(model)
    assert found is not None
    return found


def test_training_is_counted_as_torch_counts_it(model: Any) -> None:
    tokens = torch.arange(3 * T).reshape(3, T)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    assert 3 * T * training_flops(shape(model), sequence_tokens=T) == pytest.approx(
        counter.get_total_flops(), rel=1e-3
    )


@pytest.mark.parametrize(("prompt", "new"), [(40, 1), (40, 2), (1, 9), (7, 30)])
def test_generation_is_counted_as_torch_counts_it(model: Any, prompt: int, new: int) -> None:
    cache = DynamicCache()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.arange(prompt)[None], past_key_values=cache, use_cache=True, logits_to_keep=1)
        for step in range(new - 1):
            model(input_ids=torch.tensor([[step]]), past_key_values=cache, use_cache=True)
    expected = generation_flops(shape(model), prompt_tokens=prompt, new_tokens=new)
    assert expected == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_what_is_computed_again_does_not_count(model: Any) -> None:
    model.train()
    model.gradient_checkpointing_enable()
    tokens = torch.arange(T)[None]
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    assert counter.get_total_flops() > 1.1 * T * training_flops(shape(model), sequence_tokens=T)


def test_the_bytes_of_the_weights_are_those_that_a_step_multiplies_with(model: Any) -> None:
    looked_up = {"transformer.wpe.weight"}
    if not model.config.tie_word_embeddings:
        looked_up.add("model.embed_tokens.weight")
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and n not in looked_up]
    assert shape(model).weight_bytes == sum(p.numel() * 4 for p in matrices)
    assert shape(model.to(torch.bfloat16)).weight_bytes == sum(p.numel() * 2 for p in matrices)


def test_the_bytes_of_a_token_are_those_of_its_cache(model: Any) -> None:
    cache = DynamicCache()
    with torch.inference_mode():
        model(input_ids=torch.arange(5)[None], past_key_values=cache, use_cache=True)
    kept = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))
    assert 5 * shape(model).token_bytes == kept


def test_a_family_whose_work_is_not_known_has_no_shape() -> None:
    model = MODELS["llama"]()
    model.config.model_type = "mixtral"
    assert shape_of(model) is None


ANY_SHAPE = st.builds(
    ModelShape,
    n_layers=st.integers(1, 4), query_width=st.integers(1, 9), key_width=st.integers(1, 9), n_body=st.integers(1, 99),
    n_head=st.integers(1, 99), bytes_per_number=st.sampled_from([2, 4]),
)  # fmt: skip
ROWS = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 9)), min_size=1, max_size=5)


@given(ANY_SHAPE, ROWS)
def test_decoding_reads_weights_once_a_step_and_the_keys_of_the_rows_still_there(
    shape: ModelShape, rows: list[tuple[int, int]]
) -> None:
    n_bytes = 0
    for step in range(1, max(new for _, new in rows)):
        n_bytes += shape.weight_bytes + sum(p + step for p, new in rows if new > step) * shape.token_bytes
    prompts, new = zip(*rows, strict=True)
    assert decoding_bytes(shape, prompt_tokens=prompts, new_tokens=new) == n_bytes


@given(ANY_SHAPE, ROWS)
def test_padding_and_company_cost_a_row_nothing(shape: ModelShape, rows: list[tuple[int, int]]) -> None:
    alone = [generation_flops(shape, prompt_tokens=p, new_tokens=n) for p, n in rows]
    steps = [2.0 * (shape.n_body + shape.n_head) * (n - 1) for _, n in rows]
    assert all(whole > step for whole, step in zip(alone, steps, strict=True))
    longer = [generation_flops(shape, prompt_tokens=p, new_tokens=n + 1) for p, n in rows]
    for (p, n), before, after in zip(rows, alone, longer, strict=True):
        attention = 4.0 * shape.n_layers * shape.query_width * (p + n)
        assert after - before == pytest.approx(2.0 * (shape.n_body + shape.n_head) + attention)
