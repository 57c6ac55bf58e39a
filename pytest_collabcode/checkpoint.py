"""A checkpoint directory, described and judged safe to load, without torch and in about a second.

Refused here, each in one sentence: what is not there, pickled weights, remote code, damaged or non-finite tensors,
a missing tokenizer. Not covered: whether weights and tokenizer fit the architecture (models/load.check_weights).
Source: transformers 5.23, tried with each of these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_collabcode.digests import DIGEST_CHARACTERS, sha256_file
from pytest_collabcode.errors import CheckpointError
from pytest_collabcode.manifest import read_manifest
from pytest_collabcode.records import Checkpoint
from pytest_collabcode.weights import INDEX, WEIGHTS, read_json, scan, tensor_entries

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
CONFIGURATIONS = ("config.json", "tokenizer_config.json", "generation_config.json", "processor_config.json")
TOKENIZERS = ("tokenizer.json", "vocab.json", "tokenizer.model", "spiece.model", "vocab.txt")  # any one suffices
TOKENIZER_FILES = (
    *TOKENIZERS,
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


def read_checkpoint(path: Path, *, name: str = "") -> Checkpoint:
    """Describe the Hugging Face causal LM in a directory, after looking at every byte of its weights.

    Args:
        path: directory with config.json, safetensors weights and a tokenizer.
        name: of the subject; default: the manifest's, else the directory's.
    Returns:
        The manifest's claims of origin only where its digest is that of the weights; `notes` says so otherwise.
    Raises:
        CheckpointError: it cannot be used; the sentence names the file or tensor and what to do.
    Example:
        >>> read_checkpoint(Path("/no/such"))
        Traceback (most recent call last):
        pytest_collabcode.errors.CheckpointError: /no/such: no such checkpoint
    """
    _require_directory(path)
    _refuse_remote_code(path)
    _require_weights(path)
    _require_tokenizer(path)
    entries = tensor_entries(path)
    digest = scan(entries)
    manifest = read_manifest(path)
    notes: tuple[str, ...] = ()
    ours = manifest.weights_digest == digest
    if manifest.weights_digest and not ours:
        notes = ("collabcode.json was written for other weights, so what it says of their origin is not used",)
    return Checkpoint(
        name=name or manifest.name or path.resolve().name,
        path=path,
        weights_digest=digest,
        tokenizer_digest=tokenizer_digest(path),
        n_parameters=sum(e.n_elements for e in entries if "F" in e.dtype),
        regime=manifest.regime if ours else "",
        organizations=manifest.organizations if ours else (),
        corpus_digest=manifest.corpus_digest if ours else "",
        conventions=manifest.conventions,
        notes=notes,
    )


def tokenizer_digest(directory: Path) -> str:
    """Return the digest over the names and bytes of the tokenizer's files that are there.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "vocab.txt").write_text("def\\nreturn\\n")
        ...     before = tokenizer_digest(Path(folder))
        ...     _ = (Path(folder) / "README.md").write_text("no file of a tokenizer")
        ...     before == tokenizer_digest(Path(folder))
        True
    """
    total = hashlib.sha256()
    for name in sorted(TOKENIZER_FILES):
        if (directory / name).is_file():
            total.update(f"{name} {sha256_file(directory / name)}\n".encode())
    return total.hexdigest()[:DIGEST_CHARACTERS]


def _require_directory(path: Path) -> None:
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint")
    if not path.is_dir():
        raise CheckpointError(f"{path}: a file; the directory of a Hugging Face checkpoint is expected")
    try:
        empty = not any(path.iterdir())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if empty:
        raise CheckpointError(
            f"{path}: the directory is empty; train one with: collabcode train --regime=centralized --out={path}"
        )
    if (path / "adapter_config.json").exists():
        raise CheckpointError(
            f"{path}: adapter_config.json would change the weights on loading; "
            "merge the adapter into its base model and save that"
        )
    if not (path / "config.json").is_file():
        raise CheckpointError(
            f"{path}: config.json is missing; a Hugging Face checkpoint is expected, "
            f"or train one with: collabcode train --regime=centralized --out={path}"
        )


def _refuse_remote_code(path: Path) -> None:
    for file in CONFIGURATIONS:
        if not (path / file).is_file():
            continue
        for key, value in _pairs(read_json(path / file)):
            asks = key in ("auto_map", "trust_remote_code") and bool(value)
            # "owner/kernel" makes transformers fetch and run compiled code.
            fetches = key.endswith("attn_implementation") and any(c in str(value) for c in "/:@")
            if asks or fetches:
                raise CheckpointError(
                    f"{path / file}: {key} asks for code outside transformers, which is never run; "
                    "use a checkpoint of an architecture that transformers has"
                )


def _require_weights(path: Path) -> None:
    if (path / WEIGHTS).is_file() or (path / INDEX).is_file():
        return
    pickles = sorted(p.name for p in path.iterdir() if p.suffix in PICKLES)
    if pickles:
        raise CheckpointError(
            f"{path}: {pickles[0]} is refused, since loading it can run any code; "
            "save the weights as safetensors: model.save_pretrained(directory)"
        )
    raise CheckpointError(f"{path}: {WEIGHTS} is missing (and {INDEX} too); copy the whole checkpoint")


def _require_tokenizer(path: Path) -> None:
    found = [name for name in TOKENIZERS if (path / name).is_file()]
    if not found:
        raise CheckpointError(
            f"{path}: no tokenizer files ({', '.join(TOKENIZERS)}); save the tokenizer beside the weights: "
            "tokenizer.save_pretrained(directory)"
        )
    n_tokens = _n_tokens(path / found[0])
    if n_tokens is not None and n_tokens < 2:
        raise CheckpointError(f"{path / found[0]}: the tokenizer has {n_tokens} token(s), so it can encode nothing")


def _n_tokens(path: Path) -> int | None:
    """Return the vocabulary's size; None for formats that only their library reads."""
    if path.suffix == ".txt":
        return len(path.read_bytes().split())
    if path.suffix != ".json":
        return None
    content = read_json(path)
    if path.name != "tokenizer.json":
        return len(content)
    model, added = content.get("model"), content.get("added_tokens")
    vocabulary = model.get("vocab", ()) if isinstance(model, dict) else ()
    return len(vocabulary) + (len(added) if isinstance(added, list) and not vocabulary else 0)


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every (key, value) at any depth of a JSON value."""
    pending = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield from node.items()
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
