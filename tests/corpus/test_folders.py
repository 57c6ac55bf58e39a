"""A hostile folder: bounded, nothing outside is read, every honest file is kept, each other named with its reason."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_collabcode.corpus import folders, reading
from pytest_collabcode.corpus.consortium import Source
from pytest_collabcode.corpus.reading import Reading
from pytest_collabcode.corpus.sources import read_source
from pytest_collabcode.errors import CorpusError


def read(target: Path) -> Reading:
    return read_source(Source(kind="dir", target=str(target), licence="MIT"), downloads=Path("/nowhere"))


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def _link_out(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def _link_to_parent(path: Path) -> None:
    path.symlink_to(path.parent)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _folder_named_like_a_file(path: Path) -> None:
    path.mkdir()
    os.mkfifo(path / "inner.py")


def _long_line(path: Path) -> None:
    path.write_bytes(b"x" * 10_000_000)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_pipe, "not a regular file"),
        (_socket, "not a regular file"),
        (_link_out, "symbolic link, not followed"),
        (_link_to_itself, "symbolic link, not followed"),
        (_link_to_parent, "symbolic link, not followed"),
        (_device, "symbolic link, not followed"),
        (_folder_named_like_a_file, "not a regular file"),
        (_long_line, "larger than 2 MiB"),
        (lambda path: path.write_bytes("é".encode("latin-1")), "not UTF-8"),
        (lambda path: path.write_bytes(b"x\0y"), "binary (NUL byte)"),
    ],
)
def test_a_hostile_entry_is_skipped_with_its_reason(acme: Path, make: Callable[[Path], object], reason: str) -> None:
    make(acme / "bad.py")
    result = read(acme)
    assert len(result.files) == 10
    assert [why for _, why in result.skipped] == [reason]
    assert result.skipped[0][0].startswith("code/bad.py")


@pytest.mark.parametrize("name", ["a\nb.py", "a\x1b[31m.py", "::error::\r.py", b"\xff.py"])
def test_a_hostile_name_is_skipped_and_escaped(acme: Path, name: str | bytes) -> None:
    Path(os.fsdecode(bytes(acme / "x")[:-1] + os.fsencode(name))).write_text("x = 1\n")
    [(what, why)] = read(acme).skipped
    assert why == "name has unprintable characters" and what.isprintable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_and_folder_are_skipped(acme: Path) -> None:
    (acme / "pkg/m1.py").chmod(0)
    (acme / "closed").mkdir(0)
    assert sorted(why for _, why in read(acme).skipped) == [
        "cannot be read (Permission denied)",
        "folder cannot be read (Permission denied)",
    ]


def test_a_folder_too_deep_for_a_path_does_not_hide_the_rest(acme: Path) -> None:
    descriptors = [os.open(acme, os.O_RDONLY)]
    name = "d" * 250
    for _ in range(20):  # 5,000 characters, more than any path may have
        os.mkdir(name, dir_fd=descriptors[-1])
        descriptors.append(os.open(name, os.O_RDONLY, dir_fd=descriptors[-1]))
        os.close(descriptors[-2])
    os.close(descriptors[-1])
    result = read(acme)
    assert len(result.files) == 10
    assert [why for _, why in result.skipped] == ["folder cannot be read (File name too long)"]


def test_hidden_folders_and_virtual_environments_are_passed_over(acme: Path) -> None:
    for name in (".git/a.py", "env/lib/a.py", "__pycache__/a.py"):
        (acme / name).parent.mkdir(parents=True)
        (acme / name).write_text("x = 1\n")
    (acme / "env/pyvenv.cfg").touch()
    result = read(acme)
    assert len(result.files) == 10 and result.skipped == [("code/env", "virtual environment")]


def test_the_root_may_be_a_link_and_is_called_by_what_it_points_to(acme: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(acme)
    assert {file.path.split("/")[0] for file in read(tmp_path / "link").files} == {"code"}


@pytest.mark.parametrize(
    ("module", "limit", "value"),
    [(folders, "MAX_ENTRIES", 9), (reading, "MAX_TOTAL_BYTES", 500)],
)
def test_a_folder_beyond_the_limits_is_refused(
    acme: Path, monkeypatch: pytest.MonkeyPatch, module: object, limit: str, value: int
) -> None:
    monkeypatch.setattr(module, limit, value)
    with pytest.raises(CorpusError, match=r"has more than 9 entries|holds more than 0 MiB"):
        read(acme)
