"""A PEFT adapter over a model in memory: checked against it, and merged in float32.

Not covered: what its files hold byte by byte (adapters.py does that before torch is imported), several adapters over
one model, adapters that cannot be merged.
Sources: Hu et al. 2021, arXiv 2106.09685; PEFT's own loading and merging.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pytest_collabcode.adapters import WEIGHTS
from pytest_collabcode.errors import CheckpointError
from pytest_collabcode.weights import tensor_entries

PEFT_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError)
TOLERANCE = 1e-4  # of the largest logit, merged against not merged
N_SHOWN = 2


def check_adapter(model: Any, folder: Path) -> None:
    """Check that an adapter has exactly the tensors that its configuration asks for in this very architecture.

    Args:
        model: the base model, which is changed; on the meta device nothing is allocated.
        folder: of `adapter_digest`, whose refusals are not repeated here.
    Raises:
        CheckpointError: peft is not installed, or the adapter belongs to another model or lacks tensors.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import peft
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.training.recipes import recipe
        >>> small, large = (lambda: build(recipe("llama-smoke"), 1)), (lambda: build(recipe("llama-demo"), 1))
        >>> with TemporaryDirectory() as folder:
        ...     peft.get_peft_model(small(), peft.LoraConfig(target_modules=["q_proj"])).save_pretrained(folder)
        ...     check_adapter(small(), Path(folder))
        ...     try:
        ...         check_adapter(large(), Path(folder))
        ...     except CheckpointError as error:
        ...         assert "made for another model" in str(error)
    """
    peft = _peft(folder)
    with _one_sentence(folder):
        adapted = peft.get_peft_model(model, peft.PeftConfig.from_pretrained(str(folder)))
        state = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    expected = {name: tuple(tensor.shape) for name, tensor in state.items()}
    given = {entry.name: entry.shape for entry in tensor_entries(folder, weights=WEIGHTS)}
    wrong = [name for name in sorted(given) if given[name] != expected.get(name)]
    if wrong:
        raise CheckpointError(
            f"{folder}: the adapter was made for another model: {_few(wrong)} fits nowhere here; "
            "name its base with --model=PATH"
        )
    missing = sorted(expected.keys() - given.keys())
    if missing:
        raise CheckpointError(
            f"{folder}: {WEIGHTS} lacks {_few(missing)}; copy the whole folder, or name its base with --model=PATH"
        )


def merge_adapter(model: Any, folder: Path) -> Any:
    """Return the model with an adapter merged into its weights; its logits are those of the model with the adapter.

    Args:
        model: the base model in float32 on the CPU; changed in place.
        folder: of an adapter that `check_adapter` accepts.
    Raises:
        CheckpointError: it cannot be loaded, or merging changes what it does.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import peft
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.training.recipes import recipe
        >>> model = build(recipe("llama-smoke"), 1)
        >>> before = model.model.layers[0].self_attn.q_proj.weight.detach().clone()
        >>> with TemporaryDirectory() as folder:
        ...     config = peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
        ...     peft.get_peft_model(build(recipe("llama-smoke"), 1), config).save_pretrained(folder)
        ...     merged = merge_adapter(model, Path(folder))
        >>> type(merged).__name__, torch.equal(merged.model.layers[0].self_attn.q_proj.weight, before)
        ('LlamaForCausalLM', False)
    """
    peft = _peft(folder)
    with _one_sentence(folder):
        adapted = peft.PeftModel.from_pretrained(model.eval(), str(folder), torch_device="cpu", local_files_only=True)
        apart = _logits(adapted.eval())
        merged = adapted.merge_and_unload(safe_merge=True)
        together = _logits(merged.eval())
    difference = float((apart - together).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(apart.abs().max())):
        raise CheckpointError(
            f"{folder}: merged, the model's logits differ by {difference:.2g} from those with the adapter beside "
            "it, as with adapters of tied embeddings; merge it where it was trained and judge the checkpoint"
        )
    return merged


def _peft(folder: Path) -> Any:
    if importlib.util.find_spec("peft") is None:
        raise CheckpointError(f"{folder}: peft is not installed; pip install 'pytest-collabcode[adapters]'")
    return importlib.import_module("peft")


@torch.inference_mode()
def _logits(model: Any) -> torch.Tensor:
    ids = torch.arange(2, 10)[None]  # any tokens show whether two sets of weights are one function
    decoder = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    logits: torch.Tensor = model(input_ids=ids, **decoder).logits
    return logits.float()


@contextmanager
def _one_sentence(folder: Path) -> Iterator[None]:
    """Turn peft's errors into one sentence; what it only warns of is checked here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except PEFT_ERRORS as error:
        line = (str(error).strip().splitlines() or ["no message"])[0][:200]
        raise CheckpointError(
            f"{folder}: peft cannot put it over this model ({type(error).__name__}: {line}); "
            "name its base with --model=PATH"
        ) from error


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - N_SHOWN} more" if len(names) > N_SHOWN else ""
    return ", ".join(name.removeprefix("base_model.model.") for name in names[:N_SHOWN]) + more
