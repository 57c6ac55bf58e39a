"""Hostile JSON lines: bounded, every honest line is kept, each other named by number and reason."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from pytest_collabcode.corpus import jsonlines
from pytest_collabcode.corpus.consortium import Source
from pytest_collabcode.corpus.reading import Reading
from pytest_collabcode.corpus.sources import read_source
from pytest_collabcode.errors import CorpusError


def read(target: Path) -> Reading:
    return read_source(Source(kind="jsonl", target=str(target), licence="MIT"), downloads=Path("/nowhere"))


def record(**changes: object) -> str:
    return json.dumps({"repo_name": "a/b", "path": "x.py", "content": "x = 1\n", "license": "bsd-3-clause"} | changes)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
        ('{"n": ' + "1" * 5000 + "}", "not a JSON object"),
        ("{}", "repo_name is missing"),
        (record(content=None), "content is not a string"),
        (record(path=["x.py"]), "path is not a string"),
        (record(license=3), "license is not a string"),
        (record(path="README.md"), "not a .py file"),
        (record(path="../../etc/x.py"), "path leaves its folder"),
        (record(path="a\x1b[2Jb.py"), "name has unprintable characters"),
        (record(content="\ud800"), "not UTF-8"),
        (record(content="a\0"), "binary (NUL byte)"),
        (record(content="x" * 3_000_000), "larger than 2 MiB"),
        ("x" * 13_000_000, "line longer than 12 MiB"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_a_hostile_line_is_skipped_with_its_reason(tmp_path: Path, line: str, reason: str) -> None:
    lines = [record(path="first.py"), line, record(path="last.py")]
    (tmp_path / "a.jsonl").write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    result = read(tmp_path / "a.jsonl")
    assert [file.path for file in result.files] == ["a/b/first.py", "a/b/last.py"]
    [(what, why)] = result.skipped
    assert why == reason and what.isprintable()


def test_the_licence_of_a_line_goes_before_that_of_its_source(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(record() + "\n" + record(path="y.py", license=None) + "\n")
    assert [file.licence for file in read(tmp_path / "a.jsonl").files] == ["bsd-3-clause", "MIT"]


def test_a_truncated_gzip_keeps_what_came_before_and_says_so(tmp_path: Path) -> None:
    noise = [record(path=f"{n}.py", content=os.urandom(2000).hex()) for n in range(50)]
    packed = gzip.compress("\n".join(noise).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    result = read(tmp_path / "a.jsonl.gz")
    assert 10 < len(result.files) < 40
    assert result.skipped[-1][1].startswith("damaged")


@pytest.mark.parametrize("content", [b"\n" * 50_000, b" " * 4_000_000])
def test_a_gzip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(jsonlines, "MAX_FILES", 1000)
    monkeypatch.setattr(jsonlines, "MAX_STREAM_BYTES", 2_000_000)
    monkeypatch.setattr(jsonlines, "MAX_LINE_BYTES", 100_000)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content))
    with pytest.raises(CorpusError, match="more than 1 MiB or 1,000 lines"):
        read(tmp_path / "a.jsonl.gz")
