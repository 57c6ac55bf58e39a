"""Adapters: a PEFT folder, described and judged safe to load, without torch and before a model is built.

Refused here, each in one sentence: what is not there, pickled weights, kinds that are not merged, damaged or
non-finite tensors. Not covered: whether it fits its base model (models/adapter.py).
Source: the layout that PEFT's save_pretrained writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pytest_collabcode.digests import digest_of
from pytest_collabcode.errors import CheckpointError, ConfigurationError, nearest
from pytest_collabcode.options import AdapterOption
from pytest_collabcode.records import Checkpoint
from pytest_collabcode.weights import read_json, scan, tensor_entries

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"


def adapter_of(options: Sequence[AdapterOption], subject: str) -> Path | None:
    """Return the adapter for a subject: the one that names it, else the one for all.

    Raises:
        ConfigurationError: two are meant for it.
    Example:
        >>> options = [AdapterOption(path=Path("a")), AdapterOption(path=Path("b"), subject="tuned")]
        >>> adapter_of(options, "tuned"), adapter_of(options, "other")
        (PosixPath('b'), PosixPath('a'))
    """
    own = [option for option in options if option.subject == subject]
    meant = own or [option for option in options if not option.subject]
    if len(meant) > 1:
        raise ConfigurationError(
            f"--collabcode-adapter: {meant[0].path} and {meant[1].path} are both meant for {subject!r}; "
            "give one, or name the subjects: --collabcode-adapter=NAME=PATH"
        )
    return meant[0].path if meant else None


def with_adapter(checkpoint: Checkpoint, path: Path, *, named: bool) -> Checkpoint:
    """Return the checkpoint with an adapter over it: other weights, so another digest and no origin that is known.

    Args:
        checkpoint: the base model.
        path: the adapter's folder.
        named: the user named the subject; otherwise it is called BASE+ADAPTER.
    Raises:
        CheckpointError: the adapter cannot be used.
    Example:
        >>> base = Checkpoint(name="b", path=Path("b"), weights_digest="w", tokenizer_digest="t", n_parameters=1)
        >>> with_adapter(base, Path("/no/such"), named=True)
        Traceback (most recent call last):
        pytest_collabcode.errors.CheckpointError: /no/such: no such folder; a PEFT adapter is expected
    """
    digest, label = adapter_digest(path), path.resolve().name
    return replace(
        checkpoint,
        name=checkpoint.name if named else f"{checkpoint.name}+{label}",
        weights_digest=digest_of("adapter", checkpoint.weights_digest, digest),
        adapter=path.resolve(),
        regime="",
        organizations=(),
        corpus_digest="",
        notes=(
            *checkpoint.notes,
            f"judged with the adapter {label} merged in; what that was trained on is not known",
        ),
    )


def adapter_digest(path: Path) -> str:
    """Look at every byte of an adapter and return the digest of its weights and configuration.

    Raises:
        CheckpointError: it cannot be used; the sentence names the file or key and what to do.
    Example:
        >>> adapter_digest(Path("/no/such"))
        Traceback (most recent call last):
        pytest_collabcode.errors.CheckpointError: /no/such: no such folder; a PEFT adapter is expected
    """
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such folder; {_beside(path)}")
    if not (path / CONFIG).is_file():
        raise CheckpointError(f"{path}: {CONFIG} is missing; a folder that PEFT's save_pretrained wrote is expected")
    config = read_json(path / CONFIG)
    kind = config.get("peft_type")
    if kind != "LORA":
        raise CheckpointError(f"{path / CONFIG}: peft_type={kind!r} is not merged here; LORA is expected")
    if config.get("megatron_config"):
        raise CheckpointError(
            f"{path / CONFIG}: megatron_config imports a module that the file names, which is never done; "
            "save the adapter for the transformers model"
        )
    if not (path / WEIGHTS).is_file():
        if (path / PICKLE).exists():
            raise CheckpointError(
                f"{path}: {PICKLE} is refused, since loading it can run any code; "
                "save the adapter as safetensors: model.save_pretrained(directory)"
            )
        raise CheckpointError(f"{path}: {WEIGHTS} is missing; copy the whole folder")
    return digest_of(scan(tensor_entries(path, weights=WEIGHTS)), config)


def _beside(path: Path) -> str:
    """Return the nearest adapter in the same folder, for who mistyped."""
    there = sorted(config.parent.name for config in path.parent.glob(f"*/{CONFIG}"))
    return nearest(path.name, there) if there else "a PEFT adapter is expected"
