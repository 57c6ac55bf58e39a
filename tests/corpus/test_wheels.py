"""A hostile wheel: bounded, every honest member is kept, others are named with a reason, other bytes refused."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_collabcode.corpus.consortium import Source
from pytest_collabcode.corpus.reading import Reading
from pytest_collabcode.corpus.sources import read_source
from pytest_collabcode.digests import sha256_file
from pytest_collabcode.errors import CorpusError


def read(folder: Path, sha256: str) -> Reading:
    return read_source(Source(kind="wheel", target="acme==1.0", sha256=sha256), downloads=folder)


def test_hostile_members_are_skipped_and_honest_ones_kept(make_wheel: Callable[..., Path]) -> None:
    link = zipfile.ZipInfo("acme/link.py")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = make_wheel({"acme/a.py": "x = 1\n", "../out.py": "x", "/abs.py": "x", "bomb.py": b"\0" * 50_000_000})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    result = read(path.parent, sha256_file(path))
    assert [file.path for file in result.files] == ["acme-1.0/acme/a.py"]
    assert dict(result.skipped) == {
        "acme-1.0/../out.py": "path leaves its folder",
        "acme-1.0//abs.py": "path leaves its folder",
        "acme-1.0/bomb.py": "larger than 2 MiB",
        "acme-1.0/acme/link.py": "symbolic link, not followed",
    }


def test_a_member_with_flipped_bytes_is_skipped(make_wheel: Callable[..., Path]) -> None:
    path = make_wheel({"acme/a.py": "x = 1\n", "acme/b.py": os.urandom(500).hex()})
    data = bytearray(path.read_bytes())
    start = data.index(b"acme/b.py") + 100
    data[start : start + 40] = bytes(40)
    path.write_bytes(data)
    result = read(path.parent, sha256_file(path))
    assert len(result.files) == 1 and result.skipped[0][1].startswith("broken archive member")


def test_an_altered_wheel_is_refused_by_its_hash(make_wheel: Callable[..., Path]) -> None:
    path = make_wheel({"acme/a.py": "x = 1\n"})
    with pytest.raises(CorpusError, match=f"acme-1.0.*sha256 is {sha256_file(path)}, expected 0000"):
        read(path.parent, "0" * 64)


def test_a_wheel_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "acme-1.0-py3-none-any.whl"
    path.write_bytes(b"PK not really")
    with pytest.raises(CorpusError, match="is not a readable wheel"):
        read(tmp_path, sha256_file(path))
