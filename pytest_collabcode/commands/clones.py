"""`collabcode clones`: one question of one text, or of several: whose code stands in it?

Not covered: models and their prompts; for those run the suites.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_collabcode.clones.bodies import bodies_of
from pytest_collabcode.clones.coverage import Coverage, TextCoverage, coverage
from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.clones.near import NearIndex, NearMatch
from pytest_collabcode.clones.normalize import significant
from pytest_collabcode.clones.runs import Run
from pytest_collabcode.commands.wording import counted
from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.lines import decode
from pytest_collabcode.memorization.allowed import Allowed
from pytest_collabcode.memorization.clones import fragment_fingerprint
from pytest_collabcode.records import Document, Fragment

STANDARD_INPUT = "-"
NOTHING = Allowed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was found in one text.

    Example:
        >>> from pytest_collabcode.records import Document
        >>> index = CloneIndex.build([Document(path="x.py", text="a\\nb\\nc\\n", organization="acme")], min_lines=2)
        >>> lines, numbers = ("a", "b"), (1, 2)
        >>> found = coverage(index, numbers, lines)
        >>> answer = Answer(generated="-", prompt_lines=0, index=index, lines=lines, numbers=numbers, found=found)
        >>> print(*answer.text(), sep="\\n")
        acme: 2 of 2 significant lines (1), 1 clone, longest 2 lines
          1-2 = x.py:1-2
        >>> answer.plain()["organizations"]["acme"]["ranges"]
        [[1, 2]]
    """

    generated: str
    prompt_lines: int
    index: CloneIndex
    lines: tuple[str, ...]
    numbers: tuple[int, ...]
    found: TextCoverage
    allowed: tuple[str, ...] = ()  # why clones do not count, one sentence for each
    near: tuple[tuple[Fragment, NearMatch], ...] | None = None  # functions of the text, what they nearly are

    @property
    def any_found(self) -> bool:
        """Whether some organization's code stands in the text."""
        return self.found.any.covered > 0 or bool(self.near)

    def plain(self) -> dict[str, Any]:
        """Return the answer as JSON-compatible data; no line of code is in it."""
        return {
            "generated": self.generated,
            "prompt_lines": self.prompt_lines,
            **dict(self.index.signature),
            "min_lines": self.index.min_lines,
            "normalization": self.index.normalization,
            "total": len(self.lines),
            "organizations": {name: self._owner(own) for name, own in self.found.organizations.items()},
            "allowed": list(self.allowed),
            **({} if self.near is None else {"near": [_near(*pair) for pair in self.near]}),
            "any": _summary(self.found.any),
            "cross": _summary(self.found.cross),
        }

    def text(self) -> Iterator[str]:
        """Yield the answer as lines for a reader."""
        for name, own in self.found.organizations.items():
            longest = f", longest {counted(own.longest, 'line')}" if own.runs else ""
            yield f"{name}: {_share(own)}, {counted(len(own.runs), 'clone')}{longest}"
            for (first, last), run in zip(own.ranges, own.runs, strict=True):
                yield f"  {first}-{last} = {_place(run)}"
        for function, match in self.near or ():
            lines = f"{function.first_line}-{function.last_line}"
            yield f"near: {lines} is like {match.body.place} (Jaccard {match.jaccard:.2f} of 5-token shingles)"
        for reason in self.allowed:
            yield f"not counted: {reason}"
        if len(self.found.organizations) > 1:
            yield f"any: {_share(self.found.any)}; in two or more organizations: {_share(self.found.cross)}"

    def _owner(self, own: Coverage) -> dict[str, Any]:
        return {
            **_summary(own),
            "clones": len(own.runs),
            "longest": own.longest,
            "sources": [self._source(span, run) for span, run in zip(own.ranges, own.runs, strict=True)],
        }

    def _source(self, span: tuple[int, int], run: Run) -> dict[str, Any]:
        return {
            "lines": list(span),
            "significant_lines": run.stop - run.first,
            "fingerprint": run.fingerprint or fragment_fingerprint(self.lines[run.first : run.stop]),
            "path": run.origin.path,
            "first_line": run.first_line,
            "last_line": run.last_line,
            "licence": run.origin.licence,
            "licence_header_lines": run.n_header,
            "copies": run.copies,
        }


def ask(
    index: CloneIndex,
    generated: str,
    *,
    prompt_lines: int = 0,
    allowed: Allowed = NOTHING,
    near: NearIndex | None = None,
) -> Answer:
    """Look one text up.

    Args:
        index: of whose code it may be.
        generated: path of the text, or "-" for standard input.
        prompt_lines: lines at its beginning that were given, not generated: they are removed before matching.
        allowed: fragments that the organizations agreed to ignore.
        near: of function bodies; each function of a Python text is looked up in it, whatever its prompt_lines.
    Raises:
        ConfigurationError: the file cannot be read, or prompt_lines is negative or leaves nothing of it.
    Example:
        >>> ask(CloneIndex.build([]), "/nowhere.py")
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: --generated=/nowhere.py cannot be read: No such file or directory
    """
    if prompt_lines < 0:
        raise ConfigurationError(f"--prompt-lines={prompt_lines} is negative")
    try:
        data = sys.stdin.buffer.read() if generated == STANDARD_INPUT else Path(generated).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"--generated={generated} cannot be read: {error.strerror}") from error
    text = decode(data)
    numbers, lines = significant(text, index.normalization)
    if numbers and prompt_lines >= numbers[-1]:
        raise ConfigurationError(
            f"--prompt-lines={prompt_lines} leaves nothing of {generated}, whose last line with code is {numbers[-1]}"
        )
    skipped = sum(number <= prompt_lines for number in numbers)
    numbers, lines = numbers[skipped:], lines[skipped:]
    reasons: dict[str, None] = {}  # in order, each once

    def counts(run: Run) -> bool:
        reason = allowed.reason(lines[run.first : run.stop], fingerprint=run.fingerprint)
        if reason:
            reasons[f"{numbers[run.first]}-{numbers[run.stop - 1]} ({run.origin.organization}): {reason}"] = None
        return not reason

    found = coverage(index, numbers, lines, counts=counts)
    return Answer(
        generated=generated,
        prompt_lines=prompt_lines,
        index=index,
        lines=tuple(lines),
        numbers=tuple(numbers),
        found=found,
        allowed=tuple(reasons),
        near=None if near is None else tuple(_near_functions(near, text)),
    )


def report(answers: Sequence[Answer], *, as_json: bool) -> Iterator[str]:
    """Yield what the command prints: JSON of one text is an object, of several a list.

    Example:
        >>> from pytest_collabcode.records import Document
        >>> index = CloneIndex.build([Document(path="x.py", text="a\\n", organization="acme")])
        >>> list(report([ask(index, "/dev/null")], as_json=False))
        ['acme: 0 of 0 significant lines (0), 0 clones']
    """
    if as_json:
        plain = [answer.plain() for answer in answers]
        yield json.dumps(plain[0] if len(plain) == 1 else plain, indent=1)
        return
    for answer in answers:
        if len(answers) > 1:
            yield f"{answer.generated}:"
        yield from answer.text()


def _near_functions(index: NearIndex, text: str) -> Iterator[tuple[Fragment, NearMatch]]:
    for body in bodies_of(Document(path="", text=text, organization="")):
        yield from ((body.place, match) for match in index.find(body.text))


def _near(function: Fragment, match: NearMatch) -> dict[str, Any]:
    return {
        "lines": [function.first_line, function.last_line],
        "jaccard": match.jaccard,
        "organization": match.body.place.organization,
        "path": match.body.place.path,
        "first_line": match.body.place.first_line,
        "last_line": match.body.place.last_line,
        "licence": match.body.licence,
    }


def _summary(own: Coverage) -> dict[str, Any]:
    return {
        "covered": own.covered,
        "total": own.total,
        "line_ratio": own.line_ratio,
        "ranges": [list(span) for span in own.ranges],
    }


def _share(own: Coverage) -> str:
    return f"{own.covered} of {counted(own.total, 'significant line')} ({own.line_ratio:.3g})"


def _place(run: Run) -> str:
    lines = f":{run.first_line}-{run.last_line}" if run.first_line else f" ({run.fingerprint})"
    about = [run.origin.licence] if run.origin.licence else []
    if run.n_header:
        about.append(f"{counted(run.n_header, 'line')} of licence header")
    if run.copies > 1:
        about.append(f"{run.copies} places in all that was asked")
    return run.origin.path + lines + (f" ({', '.join(about)})" if about else "")
