"""Python files out of JSON lines, plain or gzip, one object per file: repo_name, path, content, license.

Not covered: other fields, which are ignored. Source of the field names: the BigQuery export of GitHub that
Chen & Jiang (ASE 2024, arXiv 2409.12020) train on.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pytest_collabcode.corpus.reading import MAX_FILE_BYTES, MAX_FILES, MAX_TOTAL_BYTES, NOT_UTF8, Reading
from pytest_collabcode.errors import CorpusError

MAX_LINE_BYTES = 6 * MAX_FILE_BYTES + 65536
"""JSON may spend six bytes (\\u000a) on one; a longer line cannot hold a file of allowed size."""
MAX_STREAM_BYTES = 2 * MAX_TOTAL_BYTES
"""Unpacked bytes after which a file is taken for a decompression bomb."""


def read_jsonl(path: Path, reading: Reading, *, licence: str) -> None:
    """Read one document per line; each line that holds none is noted with its number and the reason.

    Args:
        path: of the file; read as gzip when it ends in .gz.
        reading: takes the files.
        licence: SPDX identifier for lines without a `license`.
    Raises:
        CorpusError: there is no such file, or it is too large.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder) / "acme.jsonl"
        ...     _ = file.write_text('{"repo_name": "acme/x", "path": "a.py", "content": "x = 1"}\\n{}\\n')
        ...     reading = Reading("jsonl:acme.jsonl")
        ...     read_jsonl(file, reading, licence="MIT")
        >>> reading.files[0].path, reading.skipped
        ('acme/x/a.py', [('acme.jsonl:2', 'repo_name is missing')])
    """
    if not path.is_file():
        raise CorpusError(f"{reading.source}: {'is not a file' if path.exists() else 'no such file'}")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            for number, line in _lines(stream, reading):
                _read_line(line, f"{path.name}:{number}", reading, licence)
    except (EOFError, OSError, zlib.error) as error:
        reading.skip(path.name, f"damaged from some line on ({error})")


def _lines(stream: BinaryIO | gzip.GzipFile, reading: Reading) -> Iterator[tuple[int, bytes]]:
    """Yield numbered lines, each cut at MAX_LINE_BYTES + 1; the rest of a longer one is read past."""
    number, n_bytes, begun = 0, 0, False
    while chunk := stream.readline(MAX_LINE_BYTES + 1):
        n_bytes += len(chunk)
        number += not begun
        if n_bytes > MAX_STREAM_BYTES or number > MAX_FILES:
            raise CorpusError(
                f"{reading.source}: more than {MAX_STREAM_BYTES >> 20} MiB or {MAX_FILES:,} lines; split it"
            )
        if not begun and chunk.strip():
            yield number, chunk
        begun = not chunk.endswith(b"\n")


def _read_line(line: bytes, label: str, reading: Reading, licence: str) -> None:
    if len(line) > MAX_LINE_BYTES:
        reading.skip(label, f"line longer than {MAX_LINE_BYTES >> 20} MiB")
        return
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        reading.skip(label, NOT_UTF8)
        return
    except (ValueError, RecursionError):
        reading.skip(label, "not a JSON object")
        return
    reason = _fault(record)
    if reason:
        reading.skip(label, reason)
        return
    # Lone surrogates ("\ud800") are legal JSON but no text; as bytes they fail the UTF-8 check of Reading.add.
    data = record["content"].encode("utf-8", errors="surrogatepass")
    reading.add(f"{record['repo_name']}/{record['path']}", data, licence=record.get("license") or licence)


def _fault(record: object) -> str:
    if not isinstance(record, dict):
        return "not a JSON object"
    for key in ("repo_name", "path", "content"):
        if not isinstance(record.get(key), str):
            return f"{key} is {'not a string' if key in record else 'missing'}"
    if not isinstance(record.get("license", ""), str | None):
        return "license is not a string"
    return "" if record["path"].endswith(".py") else "not a .py file"
