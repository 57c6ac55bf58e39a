"""A source with nothing usable in it is one clear error, whatever its kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_collabcode.corpus.consortium import Source
from pytest_collabcode.corpus.sources import read_source
from pytest_collabcode.errors import CorpusError


@pytest.mark.parametrize(
    ("kind", "target", "message"),
    [
        ("dir", "missing", "no such folder"),
        ("dir", "file", "is not a folder"),
        ("dir", "empty", r"has no usable .py file \(none found\)"),
        ("dir", "latin", r"has no usable .py file \(3 not UTF-8\)"),
        ("dir", "mostly", "3 of 4 files are not UTF-8"),
        ("jsonl", "missing", "no such file"),
        ("jsonl", "empty", "is not a file"),
        ("jsonl", "pipe", "is not a file"),
        ("jsonl", "file", r"has no usable .py file \(none found\)"),
        ("jsonl", "file.gz", r"no usable .py file \(1 damaged"),
        ("wheel", "acme==1.0", "is not in .*; run: collabcode fetch"),
    ],
)
def test_a_source_without_anything_usable_is_one_clear_error(
    tmp_path: Path, kind: str, target: str, message: str
) -> None:
    for name in ("empty", "latin", "mostly"):
        (tmp_path / name).mkdir()
    for name in ("latin/a.py", "latin/b.py", "latin/c.py", "mostly/a.py", "mostly/b.py", "mostly/c.py"):
        (tmp_path / name).write_bytes(b"x = '\xe9'\n")
    (tmp_path / "mostly/d.py").write_text("x = 1\n")
    (tmp_path / "file").touch()
    (tmp_path / "file.gz").write_bytes(b"no gzip")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorpusError, match=message) as caught:
        named = target if kind == "wheel" else str(tmp_path / target)
        read_source(Source(kind=kind, target=named), downloads=tmp_path)
    assert "\n" not in str(caught.value)
