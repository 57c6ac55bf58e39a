"""Fetching: whole and right, or not there; pip is the real one, kept from the network by its own settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_collabcode.corpus.consortium import Consortium, OrganizationSpec, Pretrained, Source
from pytest_collabcode.corpus.fetch import fetch_consortium, fetch_wheel
from pytest_collabcode.digests import sha256_file
from pytest_collabcode.errors import CorpusError, StoreError


@pytest.fixture
def wheel(make_wheel: Callable[..., Path]) -> Path:
    return make_wheel({"acme/a.py": "x = 1\n"})


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Point pip at a closed port, so that an unexpected call fails."""
    for key in ("PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_EXTRA_INDEX_URL", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("PIP_RETRIES", "0")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_pip_fetches_from_wherever_it_is_configured_to(
    wheel: Path, tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    path = fetch_wheel("acme==1.0", sha256=sha256_file(wheel), directory=tmp_path / "new/store")
    assert path.read_bytes() == wheel.read_bytes()
    assert names(path.parent) == [wheel.name]


def test_without_network_one_sentence_names_the_way_out(tmp_path: Path, offline: None) -> None:
    with pytest.raises(CorpusError, match=r"cannot be reached.* collabcode fetch --from=DIR") as caught:
        fetch_wheel("acme==1.0", sha256="0" * 64, directory=tmp_path / "store")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250
    assert names(tmp_path / "store") == []


def test_a_version_that_is_not_there_is_told_in_pips_words(
    wheel: Path, tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    with pytest.raises(CorpusError, match=r"pip cannot download it .*from versions: 1\.0") as caught:
        fetch_wheel("acme==2.0", sha256="0" * 64, directory=tmp_path / "store")
    assert "\n" not in str(caught.value)


def test_what_is_there_and_right_is_not_fetched_again(wheel: Path, offline: None) -> None:
    before = wheel.stat().st_mtime_ns
    assert fetch_wheel("acme==1.0", sha256=sha256_file(wheel), directory=wheel.parent) == wheel
    assert wheel.stat().st_mtime_ns == before


def test_a_truncated_wheel_is_replaced(wheel: Path, tmp_path: Path, offline: None) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "acme-1.0-1-py3-none-any.whl").write_bytes(wheel.read_bytes()[:50])
    fetch_wheel("acme==1.0", sha256=sha256_file(wheel), directory=store, from_directory=wheel.parent)
    assert names(store) == [wheel.name]


def test_another_file_than_the_pinned_one_never_enters(wheel: Path, tmp_path: Path, offline: None) -> None:
    with pytest.raises(
        CorpusError, match=f"{wheel.name} from .*wheels: sha256 is {sha256_file(wheel)}, expected 0000"
    ):
        fetch_wheel("acme==1.0", sha256="0" * 64, directory=tmp_path / "store", from_directory=wheel.parent)
    assert names(tmp_path / "store") == []


def test_a_folder_without_the_wheel_is_named(tmp_path: Path, offline: None) -> None:
    with pytest.raises(CorpusError, match=r"--from=.*usb: has no wheel of acme==1\.0"):
        fetch_wheel("acme==1.0", sha256="0" * 64, directory=tmp_path / "store", from_directory=tmp_path / "usb")


def test_a_store_that_cannot_be_written_is_one_sentence(wheel: Path, tmp_path: Path, offline: None) -> None:
    (tmp_path / "store").touch()
    with pytest.raises(StoreError, match=r"store: acme==1\.0 cannot be written"):
        fetch_wheel("acme==1.0", sha256="0" * 64, directory=tmp_path / "store", from_directory=wheel.parent)


def test_a_consortium_is_fetched_whole_with_its_models(wheel: Path, tmp_path: Path, offline: None) -> None:
    source = Source(kind="wheel", target="acme==1.0", sha256=sha256_file(wheel))
    consortium = Consortium(
        name="x",
        organizations=(OrganizationSpec(name="a", sources=(source, Source(kind="dir", target="/nowhere"))),),
        pretrained=(Pretrained(name="p", source=source, member="m", member_sha256="0" * 64),),
    )
    lines: list[str] = []
    paths = fetch_consortium(consortium, tmp_path / "store", wheel.parent, lines.append)
    assert [path.name for path in paths] == [wheel.name] * 2
    assert lines == ["fetch 1/2 acme==1.0", "fetch 2/2 acme==1.0"]
