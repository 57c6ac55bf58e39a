"""What transformers would load with a warning is refused with a sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pytest_collabcode.checkpoint import read_checkpoint
from pytest_collabcode.errors import CheckpointError
from pytest_collabcode.generation.decoders import FAMILIES
from pytest_collabcode.models.load import check_weights, load, skeleton
from pytest_collabcode.models.tokenizer import train_tokenizer


def change_tensors(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def change_config(directory: Path, **values: object) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | values))


def test_a_sound_checkpoint_loads_in_float32_without_a_word(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    check_weights(read_checkpoint(tiny))
    loaded = load(read_checkpoint(tiny))
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert not loaded.model.training
    assert loaded.model.get_input_embeddings().weight is loaded.model.get_output_embeddings().weight
    assert capfd.readouterr() == ("", "")


def refused(directory: Path) -> str:
    checkpoint = read_checkpoint(directory)
    messages = []
    for entrance in (check_weights, load):
        with pytest.raises(CheckpointError) as raised:
            entrance(checkpoint)
        messages.append(str(raised.value))
    assert str(directory) in messages[0]
    assert "\n" not in messages[0]
    return messages[0]


def test_half_of_the_weights_missing(tiny: Path) -> None:
    change_tensors(tiny, lambda t: [t.pop(name) for name in list(t) if ".layers.1." in name])
    message = refused(tiny)
    assert "lack model.layers.1." in message
    assert "6 more" in message


def test_a_tensor_of_another_shape(tiny: Path) -> None:
    change_tensors(tiny, lambda t: t.update({"model.norm.weight": torch.ones(7)}))
    assert "another shape to model.norm.weight" in refused(tiny)


def test_a_config_of_a_larger_model(tiny: Path) -> None:
    change_config(tiny, hidden_size=40_000, num_attention_heads=8, num_key_value_heads=8, head_dim=5_000)
    with pytest.raises(CheckpointError, match="another shape"):
        check_weights(read_checkpoint(tiny))  # on the meta device: no memory is asked for


def test_a_config_that_claims_a_billion_layers(tiny: Path) -> None:
    change_config(tiny, num_hidden_layers=10**9)
    with pytest.raises(CheckpointError, match="num_hidden_layers=1000000000"):
        check_weights(read_checkpoint(tiny))


@pytest.mark.parametrize(
    "values",
    [{"model_type": "vit"}, {"model_type": "bert", "architectures": ["BertForMaskedLM"]}, {"model_type": "no-such"}],
)
def test_another_kind_of_model(tiny: Path, values: dict[str, object]) -> None:
    change_config(tiny, **values)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        check_weights(read_checkpoint(tiny))


def test_the_tokenizer_of_a_larger_model(tiny: Path) -> None:
    train_tokenizer([Path(__file__).read_text()], vocabulary_size=500).save_pretrained(tiny)
    assert "300 embedding rows" in refused(tiny)


def test_a_tokenizer_that_loses_text(tiny: Path) -> None:
    content = json.loads((tiny / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Lowercase"}
    content["pre_tokenizer"] = {"type": "Whitespace"}
    (tiny / "tokenizer.json").write_text(json.dumps(content))
    assert "does not give text back" in refused(tiny)


def test_a_tokenizer_that_is_none(tiny: Path) -> None:
    (tiny / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0, "b": 1}}}')
    assert "tokenizer" in refused(tiny)


def test_a_device_that_is_not_there(tiny: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(CheckpointError, match="device='cuda'"):
        load(read_checkpoint(tiny), device="cuda")


def test_half_precision_weights_are_measured_in_float32(tiny: Path) -> None:
    change_tensors(tiny, lambda t: t.update({k: v.bfloat16() for k, v in t.items()}))
    change_config(tiny, dtype="bfloat16")
    assert load(read_checkpoint(tiny)).model.dtype == torch.float32


def test_half_precision_weights_have_a_decoder_of_ours_before_and_after_they_are_loaded(tiny: Path) -> None:
    change_tensors(tiny, lambda t: t.update({k: v.half() for k, v in t.items()}))
    change_config(tiny, dtype="float16")
    checkpoint = read_checkpoint(tiny)
    assert all(any(family.fits(m) for family in FAMILIES) for m in (skeleton(checkpoint), load(checkpoint).model))


def test_shards_are_read(tiny: Path) -> None:
    loaded = load(read_checkpoint(tiny)).model
    shutil.copytree(tiny, tiny.parent / "sharded")
    (tiny.parent / "sharded" / "model.safetensors").unlink()
    loaded.save_pretrained(tiny.parent / "sharded", max_shard_size="10KB")
    sharded = read_checkpoint(tiny.parent / "sharded")
    check_weights(sharded)
    assert sharded.weights_digest == read_checkpoint(tiny).weights_digest
