"""The files of `collabcode execute`: outcomes, stored as programs end, and results, written when all have ended.

OUT.outcomes is a journal of what the results are made from and what became of each distinct program. OUT is written
aside and put in its place whole, and replaces only a beginning of itself. OUT.lock keeps a second run away.
Not covered: several machines that write one file.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_collabcode.commands.samples import MAX_LINE_BYTES, RESULT_KEYS, Sample
from pytest_collabcode.errors import ConfigurationError, StoreError
from pytest_collabcode.journal import Journal, Records, writing
from pytest_collabcode.records import Execution, Outcome

_WAY_OUT = "name another --out"
_MADE_FROM = "made from"  # the key of what the outcomes depend on; a program_key is 32 hex digits
_MOST_ADDED = 1 << 16  # bytes that a result adds to the line of its generation


class Results:
    """A file of results, and what lies beside it.

    Args:
        out: of --out; a link stays one, and is the same place as its target.
    Attributes:
        journal: outcomes of distinct programs by program_key.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     results = Results(Path(folder, "new", "o.jsonl"))
        ...     results.refuse_place({"--problems": Path(folder, "p.jsonl")})
        ...     with results.alone():
        ...         results.begin({"problems": "5d41"}, results.stored({"problems": "5d41"}))
        ...         results.journal.append({"ab12": ["passed"]})
        ...         results.write([])
        ...     results.stored({"problems": "5d41"})["ab12"], Path(folder, "new", "o.jsonl").read_text()
        (['passed'], '')
    """

    def __init__(self, out: Path) -> None:
        self._out, self._path = out, Path(os.path.realpath(out))
        names = ("partial", "lock", "outcomes", "outcomes.lock")
        self._partial, self._lock, path, lock = self._beside = [Path(f"{self._path}.{name}") for name in names]
        self.journal = Journal(path, lock, option="--out")

    @property
    def folder(self) -> Path:
        """Where all of them lie."""
        return self._path.parent

    def refuse_place(self, inputs: Mapping[str, Path]) -> None:
        """Refuse to write over an input, by whatever path or link, or into what is no file.

        Args:
            inputs: the path of each by its option.
        Raises:
            ConfigurationError: nothing was written.
        """
        for option, path in inputs.items():
            if any(_is_same_file(written, path) for written in (self._path, *self._beside)):
                raise ConfigurationError(f"--out={self._out} would be written over {option}={path}: {_WAY_OUT}")
        try:
            mode = self._path.stat().st_mode
        except OSError:  # it is not there yet, or the first attempt to write it says why not
            return
        if stat.S_ISDIR(mode):
            example = self._out / "o.jsonl"
            raise ConfigurationError(f"--out={self._out} is a folder; name a file in it, such as --out={example}")
        if not stat.S_ISREG(mode):
            raise ConfigurationError(f"--out={self._out} is no regular file: {_WAY_OUT}")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the place; its folder is made.

        Raises:
            ConfigurationError: another run holds it, or it cannot be written there.
        """
        lock = FileLock(self._lock, timeout=0)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise ConfigurationError(
                f"--out={self._out} is being written by another run: wait for it, or {_WAY_OUT}"
            ) from None
        except OSError as error:
            raise ConfigurationError(f"--out={self._out} cannot be written: {error.strerror or error}") from None
        try:
            yield
        finally:
            lock.release()

    def stored(self, made_from: Mapping[str, str]) -> Records:
        """Return the outcomes that stand; nothing is written.

        Args:
            made_from: what an outcome depends on besides its program.
        Raises:
            ConfigurationError: results or outcomes are there that were made from something else; they stay.
            StoreError: they cannot be read.
        """
        records, name = self.journal.read(), self.journal.path.name
        stands, is_there = records.get(_MADE_FROM), _holds(self._path)
        if stands is None and is_there:
            raise ConfigurationError(
                f"--out={self._out} is there, but {name} beside it does not say what it was made from: {_WAY_OUT}"
            )
        if stands is None and _holds(self.journal.path):
            raise ConfigurationError(f"--out={self._out}: {name} beside it holds something else: {_WAY_OUT}")
        other = [key for key in made_from if stands is not None and stands.get(key) != made_from[key]]
        if other and (is_there or len(records) > 1):
            raise ConfigurationError(
                f"--out={self._out} was made with another value of {other[0]!r}, see {self.journal.path}: {_WAY_OUT}"
            )
        return records

    def begin(self, made_from: Mapping[str, str], stored: Records) -> None:
        """Write down what the outcomes are made from, where that does not stand yet.

        Raises:
            StoreError: it cannot be written.
        """
        if stored.get(_MADE_FROM) != made_from:
            with self._aside(self.journal.path) as partial:
                Journal(partial, self._beside[-1], option="--out").append({_MADE_FROM: dict(made_from)})

    def standing(self, answers: Iterable[tuple[Sample, Execution | None]]) -> int:
        """Return how many lines stand as they would be written again; all others say internal_error.

        Args:
            answers: each sample with what is known to have become of it.
        Raises:
            ConfigurationError: a line is not the result of the sample that comes next; the file stays.
        """
        n_standing, following = 0, iter(answers)
        for number, line in enumerate(_lines(self._path), start=1):
            sample, execution = next(following, (None, None))
            if sample and execution and line == result_line(sample, execution).encode():
                n_standing += 1
            elif sample is None or not line.startswith(_broken_head(sample)):
                of = f"of {sample.where}" if sample else "of any generation"
                raise ConfigurationError(
                    f"--out={self._out}: line {number} is not the result {of}: {_WAY_OUT}, or move this file away: "
                    f"what became of its programs stays in {self.journal.path.name}"
                )
        return n_standing

    def write(self, answers: Iterable[tuple[Sample, Execution | None]]) -> None:
        """Write all lines aside, then put them in their place at once.

        Raises:
            ConfigurationError: nothing is known of a sample, so it is none of those that were executed.
            StoreError: the disk is full, say; what stood there stands.
        """
        with self._aside(self._path) as partial, partial.open("xb") as stream:
            for sample, execution in answers:
                if execution is None:
                    raise ConfigurationError(f"{sample.where} was altered meanwhile; execute it again")
                stream.write(result_line(sample, execution).encode())
            stream.flush()
            os.fsync(stream.fileno())

    @contextmanager
    def _aside(self, target: Path) -> Iterator[Path]:
        """Yield where to write what takes the target's place when all went well; a kill may leave it half written."""
        with writing(self._out, "--out"):
            self._partial.unlink(missing_ok=True)
            try:
                yield self._partial
                self._partial.replace(target)
            finally:
                self._partial.unlink(missing_ok=True)


def result_line(sample: Sample, execution: Execution) -> str:
    """Return the line of a generation with what became of it: the text as it was written, then the new keys.

    Example:
        >>> from pytest_collabcode.records import Generation
        >>> rest = {"completion": "", "n_tokens": 0, "duration_s": 0, "stop_reason": ""}
        >>> generation = Generation(task_id="t", sample_index=0, **rest)
        >>> text = '{"task_id":"t", "completion":""}'
        >>> sample = Sample(where="g.jsonl:1", place=0, text=text, generation=generation)
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


def _head(sample: Sample) -> str:
    return sample.text[:-1].rstrip() + ", "  # at least task_id stands before the closing brace


def _broken_head(sample: Sample) -> bytes:
    return f'{_head(sample)}"{RESULT_KEYS[0]}": "{Outcome.INTERNAL_ERROR}", '.encode()


def _lines(path: Path) -> Iterator[bytes]:
    try:
        if path.exists():
            with path.open("rb") as stream:
                while line := stream.readline(MAX_LINE_BYTES + _MOST_ADDED):
                    yield line
    except OSError as error:
        raise StoreError(f"--out={path} cannot be read: {error.strerror}; {_WAY_OUT}") from error


def _holds(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return False
