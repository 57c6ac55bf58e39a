"""Our decoders give transformers' logits, whatever the shape of the model and of the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from pytest_collabcode.generation.decoders import own_decoder
from pytest_collabcode.generation.graphs import bucket
from pytest_collabcode.generation.slots import Slots

N_STEPS, VOCABULARY = 20, 90
IDS = {"vocab_size": VOCABULARY, "eos_token_id": 0, "bos_token_id": 0}
ROTARIES = [
    {"rope_type": "default", "rope_theta": 10_000.0},
    {"rope_type": "default", "rope_theta": 500.0},
    {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0},
    {
        "rope_type": "llama3",
        "rope_theta": 500.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 32},
]
layers, heads, flags = st.integers(1, 3), st.sampled_from([1, 2, 4]), st.booleans()


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Any:
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    yield
    transformers.utils.logging.set_verbosity(before)


@st.composite
def gpt2(draw: st.DrawFn) -> Any:
    return GPT2LMHeadModel(
        GPT2Config(
            n_layer=draw(layers),
            n_head=draw(heads),
            n_embd=draw(st.sampled_from([16, 32])),
            n_inner=draw(st.sampled_from([None, 24])),
            n_positions=64,
            activation_function=draw(st.sampled_from(["gelu_new", "gelu", "relu"])),
            tie_word_embeddings=draw(flags),
            **IDS,
        )
    )


@st.composite
def llama(draw: st.DrawFn) -> Any:
    shared, n_key_heads = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 2]))
    shape = {
        "hidden_size": 8 * shared * n_key_heads,
        "intermediate_size": 24,
        "num_hidden_layers": draw(layers),
        "num_attention_heads": shared * n_key_heads,
        "num_key_value_heads": n_key_heads,
        "max_position_embeddings": 64,
        "rope_parameters": draw(st.sampled_from(ROTARIES)),
        "tie_word_embeddings": draw(flags),
        **IDS,
    }
    family = draw(st.sampled_from(["llama", "llama", "mistral", "qwen2"]))
    if family == "mistral":
        return MistralForCausalLM(MistralConfig(sliding_window=None, head_dim=12, **shape))
    if family == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(use_sliding_window=False, **shape))
    biases = {"attention_bias": draw(flags), "mlp_bias": draw(flags), "head_dim": draw(st.sampled_from([None, 12]))}
    return LlamaForCausalLM(LlamaConfig(**biases, **shape))


@st.composite
def t5(draw: st.DrawFn) -> Any:
    return T5ForConditionalGeneration(
        T5Config(
            num_layers=draw(layers),
            num_decoder_layers=draw(layers),
            num_heads=draw(heads),
            d_model=16,
            d_kv=draw(st.sampled_from([4, 8])),
            d_ff=24,
            relative_attention_num_buckets=draw(st.sampled_from([8, 32])),
            relative_attention_max_distance=draw(st.sampled_from([20, 128])),
            feed_forward_proj=draw(st.sampled_from(["relu", "gated-gelu", "gated-silu"])),
            tie_word_embeddings=draw(flags),
            decoder_start_token_id=3,
            **IDS,
        )
    )


def randomized(model: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, mean=1.0 * ("norm" in name or ".ln_" in name) * (weight.ndim == 1), std=0.2)
    return model.eval()


def texts(seed: int, lengths: list[int]) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


def reference(model: Any, prompt: list[int], written: list[int]) -> torch.Tensor:
    """transformers' logits of the token after the prompt and after each written one, from one text alone."""
    if model.config.is_encoder_decoder:
        start = torch.tensor([[model.config.decoder_start_token_id, *written]])
        return model(input_ids=torch.tensor([prompt]), decoder_input_ids=start).logits[0]
    return model(torch.tensor([[*prompt, *written]])).logits[0, len(prompt) - 1 :]


def check(
    model: Any, prompts: list[list[int]], places: list[int], *, block_rows: int, as_graph: bool = False
) -> None:
    decoder = own_decoder(model)
    assert decoder is not None
    written = texts(9, [N_STEPS] * len(places))
    with torch.inference_mode():
        prefill = decoder.read(prompts)
        slots = Slots(decoder, rows=len(places), new_tokens=N_STEPS, block_rows=block_rows)
        if as_graph:  # what is recorded on a GPU, run as it is
            slots._graphs = lambda n, width, limits: slots._forward(*bucket(n, width, limits=limits))
        slots.admit(prefill, places)
        found = [prefill.logits[places]]
        found += [slots.step(torch.tensor(tokens)).clone() for tokens in zip(*written, strict=True)]
        expected = [reference(model, prompts[place], own) for place, own in zip(places, written, strict=True)]
    torch.testing.assert_close(torch.stack(found, 1), torch.stack(expected), atol=1e-4, rtol=1e-4)


@settings(max_examples=12, deadline=None)
@given(st.one_of(gpt2(), llama(), t5()), st.integers(0, 99), st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_logits_are_those_of_transformers(model: Any, seed: int, lengths: list[int]) -> None:
    prompts = texts(seed, sorted(lengths, reverse=True))
    places = [place for place in range(len(prompts)) for _ in range(1 + place % 2)]
    check(randomized(model, seed), prompts, places, block_rows=2)


@pytest.mark.parametrize("family", [gpt2, llama, t5])
@settings(max_examples=5, deadline=None)
@given(st.data())
def test_every_family_gives_the_logits_of_transformers(family: Any, data: st.DataObject) -> None:
    check(randomized(data.draw(family()), 1), texts(1, [30, 17, 17, 1]), [0, 1, 1, 2, 3], block_rows=3)


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
def test_a_step_over_a_whole_bucket_as_a_graph_records_it_gives_the_same(family: str, models: Any) -> None:
    check(models(family, VOCABULARY), texts(1, [30, 17, 17, 1]), [0, 1, 1, 2, 3], block_rows=5, as_graph=True)


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
def test_rows_that_move_and_come_later_keep_their_logits(family: str, models: Any) -> None:
    model, prompts = models(family, VOCABULARY), texts(4, [21, 13, 9, 5, 2])
    decoder = own_decoder(model)
    with torch.inference_mode():
        slots = Slots(decoder, rows=4, new_tokens=9, block_rows=2)
        slots.admit(decoder.read(prompts[:4]), [0, 1, 2, 3])
        slots.step(torch.tensor([5, 6, 7, 8]))
        assert slots.evict([0, 1]) == [2, 3]
        slots.admit(decoder.read(prompts[4:]), [0, 0])
        found = slots.step(torch.tensor([9, 10, 11, 12]))
        written = [(2, [7, 9]), (3, [8, 10]), (4, [11]), (4, [12])]
        expected = [reference(model, prompts[place], own)[-1] for place, own in written]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-4, rtol=1e-4)
    for row, (place, own) in enumerate(written):
        start = [model.config.decoder_start_token_id] if model.config.is_encoder_decoder else prompts[place]
        seen = slots.history()[row].tolist()
        assert seen[: len(start) + len(own)] == [*start, *own] and set(seen[len(start) + len(own) :]) <= {start[0]}


def test_taking_weights_over_changes_no_weight_and_takes_no_memory(models: Any, tmp_path: Path) -> None:
    for family in ("llama", "gpt2", "t5"):
        model = models(family, VOCABULARY)
        before = {name: weight.clone() for name, weight in model.named_parameters()}
        decoders = own_decoder(model), own_decoder(model)
        storages = {w.untyped_storage().data_ptr(): w.untyped_storage().nbytes() for w in model.parameters()}
        assert sum(storages.values()) == sum(weight.nbytes for weight in before.values())
        assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
        first, second = (decoder.read([[1, 2, 3]]).logits for decoder in decoders)
        assert torch.equal(first, second)
        model.save_pretrained(tmp_path / family)
        again = type(model).from_pretrained(tmp_path / family)
        assert all(torch.equal(weight, before[name]) for name, weight in again.named_parameters())


def quantized(model: Any) -> None:
    model.config.quantization_config = {"quant_method": "x"}


def hooked(model: Any) -> None:
    model.register_forward_hook(lambda *_: None)


def wrapped(model: Any) -> None:
    model.model.layers[0].mlp.up_proj = torch.nn.utils.parametrizations.weight_norm(model.model.layers[0].mlp.up_proj)


def partly_half(model: Any) -> None:
    model.model.layers[0].mlp.half()


def subclassed(model: Any) -> None:
    class Mine(type(model)):  # type: ignore[misc]
        pass

    model.__class__ = Mine


@pytest.mark.parametrize("change", [quantized, hooked, wrapped, partly_half, subclassed], ids=lambda f: f.__name__)
def test_a_model_that_is_not_plain_is_left_to_transformers(change: Any, models: Any) -> None:
    model = models("llama", VOCABULARY)
    assert own_decoder(model) is not None
    change(model)
    assert own_decoder(model) is None


SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, **IDS}
SMALL_GPT2 = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 64, **IDS}


@pytest.mark.parametrize(
    "model",
    [
        lambda: LlamaForCausalLM(LlamaConfig(hidden_act="gelu", **SMALL)),
        lambda: LlamaForCausalLM(
            LlamaConfig(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, **SMALL)
        ),
        lambda: MistralForCausalLM(MistralConfig(sliding_window=8, num_key_value_heads=2, **SMALL)),
        lambda: Qwen2ForCausalLM(
            Qwen2Config(use_sliding_window=True, sliding_window=8, num_key_value_heads=2, **SMALL)
        ),
        lambda: GPT2LMHeadModel(GPT2Config(scale_attn_by_inverse_layer_idx=True, **SMALL_GPT2)),
        lambda: GPT2LMHeadModel(GPT2Config(scale_attn_weights=False, **SMALL_GPT2)),
        lambda: GPT2LMHeadModel(GPT2Config(reorder_and_upcast_attn=True, **SMALL_GPT2)),
        lambda: GPT2LMHeadModel(GPT2Config(activation_function="tanh", **SMALL_GPT2)),
        lambda: T5ForConditionalGeneration(
            T5Config(num_layers=1, d_model=16, d_kv=4, num_heads=2, d_ff=24, feed_forward_proj="gated-tanh", **IDS)
        ),
        lambda: T5ForConditionalGeneration(
            T5Config(
                num_layers=1, d_model=16, d_kv=4, num_heads=2, d_ff=24, relative_attention_max_distance=16, **IDS
            )
        ),
    ],
)
def test_an_unusual_config_is_left_to_transformers(model: Any) -> None:
    assert own_decoder(model()) is None
