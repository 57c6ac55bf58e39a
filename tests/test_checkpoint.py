"""Every bad checkpoint is refused in one clear sentence, and none needs torch to be found out."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pytest_collabcode.checkpoint import read_checkpoint
from pytest_collabcode.errors import CheckpointError
from pytest_collabcode.manifest import MANIFEST, write_manifest
from pytest_collabcode.records import PromptConventions

TENSORS = {"a.weight": np.ones((3, 2), np.float32), "b": np.arange(4, dtype=np.int64)}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "ckpt"
    directory.mkdir()
    (directory / "config.json").write_text('{"model_type": "gpt2"}')
    (directory / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0, "b": 1}}}')
    save_file(TENSORS, directory / "model.safetensors")
    return directory


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        read_checkpoint(path)
    message = str(raised.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_sound_checkpoint_is_described(checkpoint: Path) -> None:
    found = read_checkpoint(checkpoint)
    assert (found.name, found.n_parameters, found.regime, found.notes) == ("ckpt", 6, "", ())
    assert read_checkpoint(checkpoint, name="mine").name == "mine"


def test_missing_path(tmp_path: Path) -> None:
    assert refused(tmp_path / "typo").endswith("no such checkpoint")


def test_empty_directory(tmp_path: Path) -> None:
    assert "empty" in refused(tmp_path)


def test_a_file_instead_of_a_directory(checkpoint: Path) -> None:
    assert "a file" in refused(checkpoint / "config.json")


def test_not_a_checkpoint(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    assert f"collabcode train --regime=centralized --out={checkpoint}" in refused(checkpoint)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickled_weights_are_never_opened(checkpoint: Path, name: str) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / name)
    message = refused(checkpoint)
    assert name in message
    assert "run any code" in message


def test_missing_weights(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    assert "model.safetensors is missing" in refused(checkpoint)


def test_an_adapter_is_not_a_checkpoint(checkpoint: Path) -> None:
    (checkpoint / "adapter_config.json").write_text("{}")
    assert "merge the adapter" in refused(checkpoint)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "content",
    [
        {"auto_map": {"AutoModel": "x.Y"}},
        {"text_config": [{"trust_remote_code": True}]},
        {"_attn_implementation": "someone/kernel"},
    ],
)
def test_remote_code_is_refused_at_any_depth(checkpoint: Path, file: str, content: dict[str, object]) -> None:
    (checkpoint / file).write_text(json.dumps(content))
    assert "never run" in refused(checkpoint)


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "[1]", "\udcff"])
def test_damaged_json(checkpoint: Path, content: str) -> None:
    (checkpoint / "config.json").write_text(content, errors="surrogateescape")
    assert "JSON" in refused(checkpoint)


@pytest.mark.parametrize("present", [[], ["merges.txt"], ["special_tokens_map.json"]])
def test_no_tokenizer_files(checkpoint: Path, present: list[str]) -> None:
    (checkpoint / "tokenizer.json").unlink()
    for name in present:
        (checkpoint / name).write_text("{}")
    assert "no tokenizer files" in refused(checkpoint)


@pytest.mark.parametrize("vocabulary", [{}, {"a": 0}])
def test_a_tokenizer_that_can_encode_nothing(checkpoint: Path, vocabulary: dict[str, int]) -> None:
    (checkpoint / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    assert "can encode nothing" in refused(checkpoint)


def test_claims_of_origin_hold_for_the_weights_they_were_written_for(checkpoint: Path) -> None:
    conventions = PromptConventions(prefix="```python\n", stop=("\n```",))
    write_manifest(
        checkpoint, name="x", regime="fedavg", organizations=("a", "b"), corpus_digest="c", conventions=conventions
    )
    found = read_checkpoint(checkpoint)
    assert (found.name, found.regime, found.organizations, found.corpus_digest) == ("x", "fedavg", ("a", "b"), "c")
    assert found.conventions == conventions


def test_claims_of_origin_are_dropped_when_the_weights_are_others(checkpoint: Path) -> None:
    write_manifest(checkpoint, name="x", regime="fedavg", organizations=("a",), corpus_digest="c")
    save_file({**TENSORS, "b": np.zeros(4, np.int64)}, checkpoint / "model.safetensors")
    found = read_checkpoint(checkpoint)
    assert (found.name, found.regime, found.organizations, found.corpus_digest) == ("x", "", (), "")
    assert len(found.notes) == 1


@pytest.mark.parametrize(
    ("content", "hint"),
    [('{"regimen": "x"}', "did you mean 'regime'?"), ('{"organizations": "a"}', "not a tuple"), ("x", "JSON"),
     ('{"conventions": {"stopp": []}}', "did you mean 'stop'?"), ('{"conventions": []}', "not an object")],
)  # fmt: skip
def test_a_wrong_manifest_is_not_guessed_at(checkpoint: Path, content: str, hint: str) -> None:
    (checkpoint / MANIFEST).write_text(content)
    assert hint in refused(checkpoint)


def test_the_tokenizer_has_a_digest_of_its_own(checkpoint: Path) -> None:
    before = read_checkpoint(checkpoint)
    (checkpoint / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0, "c": 1}}}')
    after = read_checkpoint(checkpoint)
    assert before.tokenizer_digest != after.tokenizer_digest
    assert before.weights_digest == after.weights_digest


def test_reading_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, pytest_collabcode.checkpoint; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
