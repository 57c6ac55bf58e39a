"""The file of results of `collabcode execute`: one line for each generation, in order; a run goes on where it ends.

A line begins with the very text of its generation. OUT.inputs says what the results were made from, OUT.lock keeps a
second run away; nothing that stands is deleted or written over. Not covered: several machines that write one file.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_collabcode.commands.samples import RESULT_KEYS, Sample
from pytest_collabcode.errors import ConfigurationError, StoreError
from pytest_collabcode.records import Execution, Outcome

_WAY_OUT = "name another --out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A result that stands in the file."""

    sample: Sample
    outcome: Outcome
    detail: str
    end: int  # bytes of the file as far as this line


def refuse_place(out: Path, inputs: Mapping[str, Path]) -> None:
    """Refuse results that would be written over an input, by whatever path or link, or into what is no file.

    Args:
        out: of --out; OUT.inputs and OUT.lock are written beside it.
        inputs: the path of each input by its option.
    Raises:
        ConfigurationError: nothing was written.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     refuse_place(Path(folder, "o.jsonl"), {})
        ...     try: refuse_place(Path(folder), {})
        ...     except ConfigurationError as error: str(error).partition(" is ")[2].partition(",")[0]
        'a folder; name a file in it'
    """
    for option, path in inputs.items():
        for written in (out, _lock_of(out), _inputs_of(out)):
            if _is_same_file(written, path):
                raise ConfigurationError(f"--out={out} would be written over {option}={path}: {_WAY_OUT}")
    try:
        mode = out.stat().st_mode
    except OSError:  # it is not there yet, or the first attempt to write it says why not
        return
    if stat.S_ISDIR(mode):
        raise ConfigurationError(f"--out={out} is a folder; name a file in it, such as --out={out / 'o.jsonl'}")
    if not stat.S_ISREG(mode):
        raise ConfigurationError(f"--out={out} is no regular file: {_WAY_OUT}")


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold the file of results; its folder is made.

    Raises:
        ConfigurationError: another run holds it, or it cannot be written there.
    Example:
        >>> with alone(Path("/dev/null/o.jsonl")): pass
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: --out=/dev/null/o.jsonl cannot be written: ...
    """
    lock = FileLock(_lock_of(out), timeout=0)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ConfigurationError(
            f"--out={out} is being written by another run: wait for it, or name another --out"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"--out={out} cannot be written: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()


def claim(out: Path, inputs: Mapping[str, str]) -> None:
    """Write down what the results are made from, or refuse a file that was made from something else.

    Raises:
        ConfigurationError: the file is there and holds other results, or none of this command; it stays as it is.
        StoreError: it cannot be written.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     claim(Path(folder, "o.jsonl"), {"problems": "5d41"})
        ...     Path(folder, "o.jsonl.inputs").read_text()
        '{\\n "problems": "5d41"\\n}\\n'
    """
    path = _inputs_of(out)
    if not out.exists() or out.stat().st_size == 0:
        with _writing(out), path.open("w", encoding="utf-8") as stream:
            stream.write(json.dumps(dict(inputs), indent=1) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        return
    try:
        stands = json.loads(path.read_text(encoding="utf-8"))
        other = [key for key in inputs if stands[key] != inputs[key]]
    except (OSError, ValueError, TypeError, KeyError):
        raise ConfigurationError(
            f"--out={out} is there, but {path.name} beside it does not say what it was made from: {_WAY_OUT}"
        ) from None
    if other:
        raise ConfigurationError(f"--out={out} was made with another value of {other[0]!r}, see {path}: {_WAY_OUT}")


def standing(out: Path, samples: Iterator[Sample]) -> Iterator[Standing]:
    """Yield the results that stand, each with its sample, which is taken; a torn last line is passed over.

    Raises:
        ConfigurationError: a line is not the result of the sample that comes next.
    Example:
        >>> list(standing(Path("/nowhere/o.jsonl"), iter(())))
        []
    """
    if not out.exists():
        return
    end = 0
    with out.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                return
            sample = next(samples, None)
            result = _parse(line, sample) if sample else None
            if sample is None or result is None:
                of = f"of {sample.where}" if sample else "of any generation"
                raise ConfigurationError(f"--out={out}: line {number} is not the result {of}: {_WAY_OUT}")
            end += len(line)
            yield Standing(sample=sample, outcome=result[0], detail=result[1], end=end)


def result_line(sample: Sample, execution: Execution) -> str:
    """Return the line of a generation with what became of it: the text as it was written, then the new keys.

    Example:
        >>> from pytest_collabcode.records import Generation
        >>> rest = {"completion": "", "n_tokens": 0, "duration_s": 0, "stop_reason": ""}
        >>> generation = Generation(task_id="t", sample_index=0, **rest)
        >>> sample = Sample(where="g.jsonl:1", text='{"task_id":"t", "completion":""}', generation=generation)
        >>> ended = Execution(task_id="t", sample_index=0, outcome=Outcome.TIMEOUT, duration_s=5, isolation="bwrap")
        >>> result_line(sample, ended).partition(', "outcome"')[0]
        '{"task_id":"t", "completion":""'
        >>> json.loads(result_line(sample, ended))["passed"]
        False
    """
    values = (
        execution.outcome,
        execution.passed,
        execution.detail,
        round(execution.duration_s, 6),
        execution.isolation,
    )
    return _head(sample) + json.dumps(dict(zip(RESULT_KEYS, values, strict=True)))[1:] + "\n"


class Results:
    """The file of results behind the lines that stand: each line has left this process when append returns.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     results = Results(Path(folder, "o.jsonl"), 0)
        ...     results.append("{}\\n")
        ...     results.close()
        ...     Path(folder, "o.jsonl").read_text()
        '{}\\n'
    """

    def __init__(self, out: Path, n_bytes: int) -> None:
        self._out = out
        with _writing(out):
            self._stream = out.open("ab", buffering=0)
            self._stream.truncate(n_bytes)

    def append(self, line: str) -> None:
        """Write a line.

        Raises:
            StoreError: the disk is full, say; what is written stays.
        """
        data = line.encode()
        with _writing(self._out):
            while data:  # a disk that fills up takes a part of a line
                data = data[self._stream.write(data) :]

    def close(self) -> None:
        """Have everything on the disk."""
        with _writing(self._out), self._stream:
            os.fsync(self._stream.fileno())


def _lock_of(out: Path) -> Path:
    return Path(f"{out}.lock")


def _inputs_of(out: Path) -> Path:
    return Path(f"{out}.inputs")


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return False


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"--out={out} cannot be written: {error.strerror}; what is written stays, and the same command goes on"
        ) from error


def _head(sample: Sample) -> str:
    return sample.text[:-1].rstrip() + ", "  # at least task_id stands before the closing brace


def _parse(line: bytes, sample: Sample) -> tuple[Outcome, str] | None:
    """Return the outcome and the detail that a line says of a sample, or None where it says nothing of it."""
    head = _head(sample).encode()
    if not line.startswith(head):
        return None
    try:
        results = json.loads(b"{" + line[len(head) :])
        return (Outcome(results["outcome"]), str(results["detail"])) if tuple(results) == RESULT_KEYS else None
    except (ValueError, KeyError):
        return None
