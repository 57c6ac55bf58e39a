"""A LoRA adapter is merged so that nothing but its effect is left, or refused with a sentence."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from pytest_collabcode.adapters import adapter_of, with_adapter
from pytest_collabcode.checkpoint import read_checkpoint
from pytest_collabcode.errors import CheckpointError, ConfigurationError
from pytest_collabcode.generation.store import generation_digest
from pytest_collabcode.models import adapter as module
from pytest_collabcode.models import load as loading
from pytest_collabcode.models.load import check_weights, load
from pytest_collabcode.options import adapter_option
from pytest_collabcode.records import Sampling
from pytest_collabcode.settings import make_settings
from pytest_collabcode.subjects import find_subjects

IDS = torch.arange(2, 12)[None]


def lora(base: Path, folder: Path, *, seed: int = 1, **config: object) -> Path:
    """Write an adapter with an effect, as PEFT does."""
    torch.manual_seed(seed)
    options = {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"], "init_lora_weights": False, **config}
    model = peft.get_peft_model(load(read_checkpoint(base)).model, peft.LoraConfig(task_type="CAUSAL_LM", **options))
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(tiny: Path, tmp_path: Path) -> Path:
    return lora(tiny, tmp_path / "lora")


@pytest.mark.parametrize("config", [{}, {"use_rslora": True, "lora_alpha": 32}, {"use_dora": True}, {"bias": "all"}])
def test_merged_logits_are_those_of_the_adapter_beside_the_model(tiny: Path, tmp_path: Path, config: dict) -> None:
    folder = lora(tiny, tmp_path / "lora", **config)
    base = read_checkpoint(tiny)
    checkpoint = with_adapter(base, folder, named=False)
    check_weights(checkpoint)
    beside = peft.PeftModel.from_pretrained(load(base).model, folder).eval()
    merged = load(checkpoint).model
    with torch.inference_mode():
        plain, apart, together = (model(IDS).logits for model in (load(base).model, beside, merged))
    assert float((apart - together).abs().max()) <= 1e-5 < float((plain - together).abs().max())
    assert {p.dtype for p in merged.parameters()} == {torch.float32}
    assert not [name for name, _ in merged.named_modules() if "lora" in name]


def test_merging_rounds_weights_and_leaves_the_frequencies_of_positions(
    tiny: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "native_dtype", lambda device: torch.bfloat16)
    merged, plain = (
        load(c).model for c in (with_adapter(read_checkpoint(tiny), adapter, named=False), read_checkpoint(tiny))
    )
    assert {p.dtype for p in merged.parameters()} == {torch.bfloat16}
    frequencies, unmerged = (dict(m.named_buffers())["model.rotary_emb.inv_freq"] for m in (merged, plain))
    assert frequencies.dtype == torch.float32 and torch.equal(frequencies, unmerged)


def test_another_adapter_is_another_subject_and_shares_no_stored_result(tiny: Path, adapter: Path) -> None:
    base = read_checkpoint(tiny)
    other = lora(tiny, adapter.parent / "other", seed=2)
    config = json.loads((adapter / "adapter_config.json").read_text())
    stronger = shutil.copytree(adapter, adapter.parent / "stronger")  # the same tensors, scaled otherwise
    (stronger / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 99}))
    moved = shutil.copytree(adapter, adapter.parent / "elsewhere" / "lora")
    subjects = [base, *(with_adapter(base, folder, named=False) for folder in (adapter, other, stronger, moved))]
    digests = [generation_digest(subject, "task cpu", Sampling()) for subject in subjects]
    assert len(set(digests)) == 4 and digests[1] == digests[4]
    assert [subject.name for subject in subjects[:3]] == ["tiny", "tiny+lora", "tiny+other"]


def test_what_is_known_of_the_base_model_is_not_said_of_the_adapted_one(tiny: Path, adapter: Path) -> None:
    base = replace(read_checkpoint(tiny), regime="fedavg", organizations=("acme",), corpus_digest="c")
    adapted = with_adapter(base, adapter, named=True)
    assert (adapted.name, adapted.regime, adapted.organizations, adapted.corpus_digest) == ("tiny", "", (), "")
    assert "what that was trained on is not known" in adapted.notes[-1]


def spoil_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | values))


def spoil_tensors(folder: Path, drop: int = 0, value: float | None = None) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    for name in list(tensors)[:drop]:
        del tensors[name]
    if value is not None:
        next(iter(tensors.values())).view(-1)[0] = value
    save_file(tensors, folder / "adapter_model.safetensors")


def to_pickle(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (to_pickle, "adapter_model.bin is refused, since loading it can run any code"),
        (lambda f: (f / "adapter_model.safetensors").unlink(), "adapter_model.safetensors is missing"),
        (lambda f: (f / "adapter_config.json").unlink(), "adapter_config.json is missing"),
        (lambda f: spoil_config(f, peft_type="PREFIX_TUNING"), "peft_type='PREFIX_TUNING' is not merged here"),
        (lambda f: spoil_config(f, megatron_config={"a": 1}, megatron_core="os"), "megatron_config imports a module"),
        (lambda f: spoil_tensors(f, value=float("nan")), "holds NaN"),
        (lambda f: (f / "adapter_model.safetensors").write_bytes(b"\xff" * 99), "cut off or not a safetensors file"),
        (lambda f: spoil_tensors(f, drop=3), "lacks model.layers.0."),
        (lambda f: spoil_config(f, r=2), "was made for another model"),
        (lambda f: spoil_config(f, target_modules=["no_proj"]), "peft cannot put it over this model"),
        (lambda f: spoil_config(f, base_model_name_or_path=None, r="x"), "peft cannot put it over this model"),
    ],
)
def test_a_bad_adapter_is_one_sentence_in_the_preflight(tiny: Path, adapter: Path, spoil, message: str) -> None:
    spoil(adapter)
    with pytest.raises(CheckpointError) as raised:
        check_weights(with_adapter(read_checkpoint(tiny), adapter, named=True))
    assert message in str(raised.value) and str(adapter) in str(raised.value) and "\n" not in str(raised.value)


def test_the_adapter_of_a_deeper_model_is_refused_before_anything_is_allocated(tiny: Path, adapter: Path) -> None:
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    tensors = {k: v for k, v in load_file(tiny / "model.safetensors").items() if ".layers.1." not in k}
    save_file(tensors, tiny / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"made for another model: model\.layers\.1\..* fits nowhere here"):
        check_weights(with_adapter(read_checkpoint(tiny), adapter, named=True))


def test_an_adapter_of_tied_embeddings_is_refused_since_merging_would_change_both(tiny: Path, tmp_path: Path) -> None:
    folder = lora(tiny, tmp_path / "tied", target_modules=["lm_head"])
    with pytest.raises(CheckpointError, match="as with adapters of tied embeddings"):
        load(with_adapter(read_checkpoint(tiny), folder, named=True))


def test_a_missing_library_is_named_with_its_extra(tiny: Path, adapter: Path, monkeypatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r"peft is not installed; pip install 'pytest-collabcode\[adapters\]'"):
        check_weights(with_adapter(read_checkpoint(tiny), adapter, named=True))


def subjects(tiny: Path, *adapters: object, models: tuple[str, ...] = ("",)) -> list[tuple[str, str]]:
    settings = make_settings(
        directory=Path(), models=[f"{m}{tiny}" for m in models], adapters=[str(a) for a in adapters]
    )
    found = find_subjects(settings, "c", ()).values()
    return [(s.name, s.checkpoint.adapter.name if s.checkpoint.adapter else "") for s in found]


def test_an_adapter_goes_to_all_checkpoints_or_to_the_one_it_names(tiny: Path, adapter: Path) -> None:
    assert subjects(tiny, adapter) == [("tiny+lora", "lora")]
    both = subjects(tiny, f"tuned={adapter}", models=("base=", "tuned="))
    assert both == [("base", ""), ("tuned", "lora")]


@pytest.mark.parametrize(
    ("options", "models", "message"),
    [
        (["{}x"], ("",), r"lorax: no such folder; did you mean 'lora'\?"),
        (["tunde={}"], ("tuned=",), r"no --model is called 'tunde'; did you mean 'tuned'\?"),
        (["{}"], (), r"has no effect; give its base with --model=PATH"),
        (["{}", "{}"], ("",), r"are both meant for 'tiny'"),
        (["a="], ("",), r"--collabcode-adapter='a=' names no path"),
    ],
)
def test_an_adapter_that_would_not_be_used_is_refused(tiny: Path, adapter: Path, options, models, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        subjects(tiny, *(option.format(adapter) for option in options), models=models)


def test_an_option_names_a_subject_or_none() -> None:
    options = [adapter_option(text) for text in ("a", "tuned=b=c")]
    assert [str(adapter_of(options, name)) for name in ("tuned", "base")] == ["b=c", "a"]
