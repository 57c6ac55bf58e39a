"""From a checkpoint on disk to a model and tokenizer in memory, offline and with nothing left to chance.

Not covered: what the files hold byte by byte (checkpoint.py does that before torch is imported), running the model.
Source: what transformers 5.23 lets pass when tried: missing weights, foreign tokenizers, remote code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import huggingface_hub
import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from pytest_collabcode.errors import CheckpointError, MeasurementError
from pytest_collabcode.models.adapter import check_adapter, merge_adapter
from pytest_collabcode.records import Checkpoint
from pytest_collabcode.weights import tensor_entries

SAMPLE = 'def total(rows, start=0):\n    """Add up."""\n    return {"n": len(rows), "sum": sum(rows) + start}\n'
OTHER_HEADS = ("MaskedLM", "Classification", "QuestionAnswering", "MultipleChoice", "NextSentence")
LOADING_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    SafetensorError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A checkpoint in memory, in evaluation state."""

    model: Any  # transformers.PreTrainedModel; its classes are untyped
    tokenizer: Any  # transformers.PreTrainedTokenizerBase
    checkpoint: Checkpoint
    device: str


def load(checkpoint: Checkpoint, *, device: str = "cpu") -> LoadedModel:
    """Return the checkpoint's model and tokenizer on a device.

    Args:
        checkpoint: of `read_checkpoint`, whose refusals are not repeated here.
        device: a torch device; float32 on the CPU, bfloat16 where a GPU has it.
    Raises:
        CheckpointError: weights are missing, shapes, tokenizer or adapter do not fit, or the device is not there.
        MeasurementError: the weights lie behind a server.
    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from pytest_collabcode.checkpoint import read_checkpoint
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> from pytest_collabcode.training.recipes import recipe
        >>> with TemporaryDirectory() as folder, offline():
        ...     build(recipe("llama-smoke"), 1).save_pretrained(folder)
        ...     _ = train_tokenizer(["x = 1\\n"], vocabulary_size=257).save_pretrained(folder)
        ...     loaded = load(read_checkpoint(Path(folder), name="tiny"))
        >>> loaded.checkpoint.name, loaded.model.training, loaded.tokenizer.decode(loaded.tokenizer.encode("x = 1"))
        ('tiny', False, 'x = 1')
    """
    _require_files(checkpoint)
    dtype = native_dtype(device)
    model = _from_pretrained(checkpoint, {"dtype": torch.float32 if checkpoint.adapter else dtype})
    tokenizer = load_tokenizer(checkpoint)
    _check_tokenizer(checkpoint, tokenizer, model)
    if checkpoint.adapter:
        model = merge_adapter(model, checkpoint.adapter)
        for parameter in model.parameters():  # merged in float32, rounded once; `.to` would round rotary frequencies
            parameter.data = parameter.data.to(dtype)
    if device.startswith("cuda"):
        torch.backends.cuda.enable_cudnn_sdp(False)  # it builds a plan for every new length: tens of ms each
    try:
        return LoadedModel(model=model.to(device).eval(), tokenizer=tokenizer, checkpoint=checkpoint, device=device)
    except (RuntimeError, AssertionError) as error:
        raise CheckpointError(f"device={device!r}: cannot hold {checkpoint.path} ({_first_line(error)})") from error


def check_weights(checkpoint: Checkpoint) -> None:
    """Check in the preflight, without allocating weights, that architecture, weights, tokenizer and adapter fit.

    Of a model behind a server there is nothing to check.

    Raises:
        CheckpointError: not a model that writes text, missing or misshapen weights, or tokenizer or adapter of
            another model.
    Example:
        >>> from dataclasses import replace
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from pytest_collabcode.checkpoint import read_checkpoint
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> from pytest_collabcode.training.recipes import recipe
        >>> with TemporaryDirectory() as folder, offline():
        ...     build(replace(recipe("llama-smoke"), vocabulary_size=99), 1).save_pretrained(folder)
        ...     _ = train_tokenizer(["x = 1\\n"], vocabulary_size=257).save_pretrained(folder)
        ...     try:
        ...         check_weights(read_checkpoint(Path(folder)))
        ...     except CheckpointError as error:
        ...         str(error).removeprefix(f"{folder}: ")
        'the tokenizer has 257 tokens, the model 99 embedding rows; put the tokenizer of this very model beside it'
    """
    if checkpoint.url:
        return
    config = _config(checkpoint)
    architectures = ", ".join(getattr(config, "architectures", None) or ())
    if type(config) not in _writers(config)[0] or any(head in architectures for head in OTHER_HEADS):
        raise CheckpointError(
            f"{checkpoint.path / 'config.json'}: {architectures or config.model_type} is not a language model that "
            "writes; a decoder such as GPT-2 or Llama, or an encoder-decoder such as T5 is expected"
        )
    # A config that claims a billion layers would be built for hours before its weights were missed.
    n_tensors = len(tensor_entries(checkpoint.path))
    if getattr(config, "num_hidden_layers", 0) > n_tensors:
        raise CheckpointError(
            f"{checkpoint.path / 'config.json'}: num_hidden_layers={config.num_hidden_layers}, "
            f"but the weights hold only {n_tensors} tensors"
        )
    model = skeleton(checkpoint)
    _check_tokenizer(checkpoint, load_tokenizer(checkpoint), model)
    if checkpoint.adapter:
        check_adapter(model, checkpoint.adapter)


def skeleton(checkpoint: Checkpoint) -> Any:
    """Return the checkpoint's model without memory for its weights, to see what it is.

    Raises:
        CheckpointError: weights are missing or misshapen.
        MeasurementError: they lie behind a server.
    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.training.recipes import recipe
        >>> with TemporaryDirectory() as folder, offline():
        ...     build(recipe("llama-smoke"), 1).save_pretrained(folder)
        ...     about = {"weights_digest": "w", "tokenizer_digest": "t", "n_parameters": 1}
        ...     model = skeleton(Checkpoint(name="tiny", path=Path(folder), **about))
        >>> type(model).__name__, {parameter.device.type for parameter in model.parameters()}
        ('LlamaForCausalLM', {'meta'})
    """
    _require_files(checkpoint)
    return _from_pretrained(checkpoint, {"device_map": {"": "meta"}, "dtype": torch.float32})


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """Return the tokenizer that lies in the checkpoint's directory.

    Raises:
        CheckpointError: transformers cannot read it.
        MeasurementError: it lies behind a server.
    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> with TemporaryDirectory() as folder:
        ...     _ = train_tokenizer(["x = 1\\n"], vocabulary_size=257).save_pretrained(folder)
        ...     about = {"weights_digest": "w", "tokenizer_digest": "t", "n_parameters": 1}
        ...     tokenizer = load_tokenizer(Checkpoint(name="tiny", path=Path(folder), **about))
        >>> tokenizer.decode(tokenizer.encode("x = 1"))
        'x = 1'
    """
    _require_files(checkpoint)
    with offline():
        try:
            return AutoTokenizer.from_pretrained(
                str(checkpoint.path), local_files_only=True, trust_remote_code=False, use_fast=True
            )
        except LOADING_ERRORS as error:
            raise CheckpointError(
                f"{checkpoint.path}: the tokenizer cannot be read ({_first_line(error)})"
            ) from error


def native_dtype(device: str) -> torch.dtype:
    """Return the type weights are held in for measuring: bfloat16 on a GPU that has it, else float32.

    Example:
        >>> native_dtype("cpu")
        torch.float32
    """
    if torch.device(device).type != "cuda" or not torch.cuda.is_available():
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32


def _require_files(checkpoint: Checkpoint) -> None:
    if checkpoint.url:
        raise MeasurementError(
            f"{checkpoint.name}: what needs weights or tokenizer here is not measured, they lie behind a server; "
            "judge the checkpoint itself: --model=PATH"
        )


def _config(checkpoint: Checkpoint) -> Any:
    with offline():
        try:
            return AutoConfig.from_pretrained(str(checkpoint.path), local_files_only=True, trust_remote_code=False)
        except LOADING_ERRORS as error:
            raise CheckpointError(
                f"{checkpoint.path / 'config.json'}: transformers {transformers.__version__} "
                f"does not know this architecture ({_first_line(error)})"
            ) from error


def _writers(config: Any) -> tuple[Any, Any]:
    """Return transformers' mapping and class of the models with such a config that write text."""
    if config.is_encoder_decoder:
        return transformers.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, AutoModelForSeq2SeqLM
    return transformers.MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM


def _from_pretrained(checkpoint: Checkpoint, placement: dict[str, Any]) -> Any:
    with offline():
        try:
            model, found = _writers(_config(checkpoint))[1].from_pretrained(
                str(checkpoint.path),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # so that they are listed; they are refused below
                output_loading_info=True,
                **placement,
            )
        except LOADING_ERRORS as error:
            raise CheckpointError(f"{checkpoint.path}: cannot be loaded ({_first_line(error)})") from error
    _refuse(checkpoint, "its weights lack", sorted(found["missing_keys"]))
    _refuse(checkpoint, "its config gives another shape to", sorted(str(k[0]) for k in found["mismatched_keys"]))
    return model


def _refuse(checkpoint: Checkpoint, complaint: str, keys: list[str]) -> None:
    if keys:
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        raise CheckpointError(
            f"{checkpoint.path}: {complaint} {', '.join(keys[:3])}{more}; transformers would fill them with "
            "random numbers: copy the whole checkpoint"
        )


def _check_tokenizer(checkpoint: Checkpoint, tokenizer: Any, model: Any) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    ids = tokenizer.encode(SAMPLE, add_special_tokens=False)
    largest = max([len(tokenizer) - 1, *ids])
    if largest >= rows:
        raise CheckpointError(
            f"{checkpoint.path}: the tokenizer has {len(tokenizer)} tokens, the model {rows} embedding rows; "
            "put the tokenizer of this very model beside it"
        )
    text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if not ids or text.strip() != SAMPLE.strip():
        raise CheckpointError(
            f"{checkpoint.path}: the tokenizer does not give text back as it was; one for code is expected"
        )
    if tokenizer.eos_token_id is None and getattr(model.config, "eos_token_id", None) is None:
        raise CheckpointError(f"{checkpoint.path}: neither tokenizer nor config.json names an end-of-text token")


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0][:200]}"


@contextmanager
def offline() -> Iterator[None]:
    """Keep transformers from the network, and its bars and advice off the terminal, while inside.

    Example:
        >>> before = huggingface_hub.constants.HF_HUB_OFFLINE
        >>> with offline():
        ...     huggingface_hub.constants.HF_HUB_OFFLINE
        True
        >>> huggingface_hub.constants.HF_HUB_OFFLINE == before
        True
    """
    logging, constants = transformers.utils.logging, huggingface_hub.constants
    before = logging.get_verbosity(), logging.is_progress_bar_enabled(), constants.HF_HUB_OFFLINE
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        logging.set_verbosity(before[0])
        if before[1]:
            logging.enable_progress_bar()
        constants.HF_HUB_OFFLINE = before[2]
