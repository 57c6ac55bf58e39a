"""State on disk is whole or not there."""

from pathlib import Path

import pytest
import torch

from pytest_collabcode.errors import StoreError
from pytest_collabcode.training.state import StateFile

VALUES = {"weights": {"a": torch.arange(5.0)}, "step": 3, "losses": [[1, 2.5]]}


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "new" / "x.state")
    state.save(VALUES)
    found = state.load()
    assert found is not None
    assert torch.equal(found["weights"]["a"], torch.arange(5.0))
    assert (found["step"], found["losses"]) == (3, [[1, 2.5]])
    state.remove()
    assert state.load() is None
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: d[:40], lambda d: b"", lambda d: d[:-9] + b"x" + d[-8:]]
)
def test_a_damaged_file_is_not_believed(tmp_path: Path, damage: object) -> None:
    state = StateFile(tmp_path / "x.state")
    state.save(VALUES)
    (tmp_path / "x.state").write_bytes(damage((tmp_path / "x.state").read_bytes()))  # type: ignore[operator]
    assert state.load() is None


def test_a_disk_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateFile(tmp_path / "x.state")
    state.save(VALUES)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        state.save({"step": 4})
    assert [p.name for p in tmp_path.iterdir()] == ["x.state"]
    assert (state.load() or {})["step"] == 3


def test_it_is_due_only_after_its_time(tmp_path: Path) -> None:
    assert StateFile(tmp_path / "x", every_s=0.0).due
    assert not StateFile(tmp_path / "x", every_s=3600.0).due
