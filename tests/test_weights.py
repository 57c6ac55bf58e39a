"""Headers are not believed, and no number that is not finite gets past."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from pytest_collabcode.errors import CheckpointError
from pytest_collabcode.weights import scan, tensor_entries


def written(path: Path, header: dict[str, object], data: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path.parent


def digest(directory: Path) -> str:
    return scan(tensor_entries(directory))


@pytest.mark.parametrize(
    ("dtype", "finite", "odd"),
    [
        ("F64", np.float64(1e308).tobytes(), np.float64("nan").tobytes()),
        ("F32", np.float32(-3e38).tobytes(), np.float32("-inf").tobytes()),
        ("F16", np.float16(65504).tobytes(), np.float16("inf").tobytes()),
        ("BF16", b"\x7f\x7f", b"\x80\xff"),
        ("F8_E4M3", b"\x7e", b"\xff"),
        ("F8_E5M2", b"\x7b", b"\xfd"),
        ("I64", b"\xff" * 8, None),
        ("BOOL", b"\x01", None),
    ],
)
def test_one_number_that_is_not_finite_is_found_and_its_tensor_named(
    tmp_path: Path, dtype: str, finite: bytes, odd: bytes | None
) -> None:
    data = finite * 300_001  # past the first block
    header = {"h.5.bias": {"dtype": dtype, "shape": [300_001], "data_offsets": [0, len(data)]}}
    assert digest(written(tmp_path / "model.safetensors", header, data))
    if odd is not None:
        directory = written(tmp_path / "model.safetensors", header, data[: -len(odd)] + odd)
        with pytest.raises(CheckpointError, match=r"'h\.5\.bias' holds NaN"):
            digest(directory)


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "header",
    [
        {"a": {**F32, "shape": [3]}},
        {"a": {**F32, "dtype": "F33"}},
        {"a": {**F32, "shape": [-2]}},
        {"a": {**F32, "shape": [2.0]}},
        {"a": {**F32, "data_offsets": [0, 16], "shape": [4]}},
        {"a": {**F32, "data_offsets": [4, 12]}},
        {"a": F32, "b": F32},
        {"a": 3},
        {"__metadata__": {"format": "pt"}},
    ],
)
def test_a_lying_header_is_found_out(tmp_path: Path, header: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="safetensors"):
        digest(written(tmp_path / "model.safetensors", header, bytes(8)))


@given(st.integers(min_value=0, max_value=167))
def test_a_file_cut_off_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    directory = tmp_path_factory.mktemp("cut")
    save_file({"a": np.ones(8, np.float32), "b": np.ones(8, np.float32)}, directory / "model.safetensors")
    data = (directory / "model.safetensors").read_bytes()
    assert len(data) > 167
    (directory / "model.safetensors").write_bytes(data[:length])
    with pytest.raises(CheckpointError):
        digest(directory)


def sharded(directory: Path, claimed: dict[str, str]) -> Path:
    save_file({"a": np.ones(2, np.float32)}, directory / "1.safetensors")
    save_file({"b": np.ones(3, np.float32)}, directory / "2.safetensors")
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": claimed}))
    return directory


def test_the_digest_does_not_depend_on_shards(tmp_path: Path) -> None:
    parts = sharded(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"})
    in_parts = digest(parts)
    save_file({"b": np.ones(3, np.float32), "a": np.ones(2, np.float32)}, tmp_path / "model.safetensors")
    assert digest(tmp_path) == in_parts


@pytest.mark.parametrize(
    "claimed",
    [
        {"a": "1.safetensors", "c": "2.safetensors"},
        {"a": "1.safetensors", "b": "3.safetensors"},
        {"a": "../1.safetensors"},
        {"a": 1},
        {},
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_refused(tmp_path: Path, claimed: dict[str, str]) -> None:
    with pytest.raises(CheckpointError, match="index"):
        digest(sharded(tmp_path, claimed))


@pytest.mark.parametrize("other", [{"a": np.zeros(2, np.float32)}, {"b": np.ones(2, np.float32)},
                                   {"a": np.ones((2, 1), np.float32)}])  # fmt: skip
def test_the_digest_tells_values_names_and_shapes_apart(tmp_path: Path, other: dict[str, np.ndarray]) -> None:
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "model.safetensors")
    before = digest(tmp_path)
    save_file(other, tmp_path / "model.safetensors")
    assert digest(tmp_path) != before
