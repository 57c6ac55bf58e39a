"""Type-2 lines: identifiers and literals abstracted, keywords and operators kept, comments dropped.

Abstraction is by class, without consistent renaming: `x = y` and `x = x` are equal. A string of many lines is one
literal on its first, else any two long docstrings were clones. Text need not be Python: what the tokenizer refuses
stays verbatim, line by line.
Not covered: one grammar for all versions. Tokens are those of the running Python, so a line that only some versions
accept (<>, nested quotes in an f-string) may be abstracted by one and verbatim, or cut otherwise, by another.
Sources: Roy and Cordy 2007 (TR 2007-541) for clone types; the standard library's `tokenize`.
"""

from __future__ import annotations

import token
import warnings
from collections.abc import Sequence
from keyword import kwlist
from tokenize import TokenError, generate_tokens

IDENTIFIER, LITERAL = "$", "?"  # no tokens of Python, so that no operator looks like them
MAX_RESTARTS = 10_000  # behind lines that are no Python
MAX_REREADS = 4  # times the text's length; every kind of string that never closes rereads what follows it
MAX_LINE_CHARS = 10_000  # longer lines are data; some tokenizers take quadratic time for them

_KEYWORDS = frozenset(kwlist)  # soft keywords are identifiers
_OPERATORS = frozenset(token.EXACT_TOKEN_TYPES) - {"!"}  # "!" is one from 3.12 on, and only in f-strings
_LAYOUT = frozenset([token.NEWLINE, token.NL, token.COMMENT, token.INDENT, token.DEDENT, token.ENDMARKER])
_NO_TOKEN = -1
# From 3.12 on an f-string (from 3.14 on a t-string too) is many tokens between two edges; before it is one STRING.
_OPENING = frozenset(getattr(token, name, _NO_TOKEN) for name in ("FSTRING_START", "TSTRING_START"))
_EDGES = _OPENING | {getattr(token, name, _NO_TOKEN) for name in ("FSTRING_END", "TSTRING_END")}


def abstract(lines: Sequence[str]) -> list[str]:
    """Return the type-2 form of each physical line, "" where a line has no tokens.

    Args:
        lines: of one text, stripped (so that indentation never matters), without newlines or lone surrogates.
    Returns:
        One text per line, tokens separated by one space; never raises, and takes time linear in the text.
    Example:
        >>> abstract(["for i in range(10):  # ten", "print('a', i)", "# done", "it's no Python"])
        ['for $ in $ ( ? ) :', '$ ( ? , $ )', '', "it's no Python"]
    """
    reader = _Reader(lines)
    words: list[list[str]] = [[] for _ in lines]
    done = 0
    for _ in range(MAX_RESTARTS):
        if done == len(lines) or reader.left <= 0:
            break
        reader.row = done
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes and numbers: the text is material, not ours to mend
            bad = _tokenized(reader, words)
        if bad < len(lines):
            words[bad] = [lines[bad]]
        done = min(bad + 1, len(lines))
    result = [" ".join(line) for line in words[:done]] + list(lines[done:])
    for row, line in enumerate(lines):
        if len(line) > MAX_LINE_CHARS:
            result[row] = line
    return result


class _Reader:
    """Hands lines to the tokenizer, from `row` on, and counts down what may be read in all."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self.row = 0
        self.left = MAX_REREADS * (sum(map(len, lines)) + len(lines))

    def __call__(self) -> str:
        if self.row >= len(self.lines):
            return ""
        line = self.lines[self.row]
        self.row += 1
        self.left -= len(line) + 1
        if len(line) > MAX_LINE_CHARS:
            return "\n"
        return line.replace("\0", "\ufffd") + "\n"  # neither is a token; from 3.12 on NUL ends everything


def _tokenized(reader: _Reader, words: list[list[str]]) -> int:
    """Append words, row by row, up to the first row that is no Python; return that row, or len(words)."""
    before = reader.row - 1  # the tokenizer counts from 1
    depth = opened = 0  # of f-strings, as tokens; and the row where the outermost began
    number_end = (0, 0)
    try:
        for kind, string, start, end, _ in generate_tokens(reader):
            row = before + start[0]
            if kind in _EDGES:
                opened = opened if depth else row
                depth += 1 if kind in _OPENING else -1
                if not depth:
                    _append_literal(words, opened, reader.lines)
            elif depth or kind in _LAYOUT:
                continue
            elif kind == token.NUMBER:
                if start != number_end:  # before 3.12 the number 0777 is two tokens
                    words[row].append(LITERAL)
                number_end = end
            elif kind == token.STRING:
                _append_literal(words, row, reader.lines)
            elif word := _word(kind, string):
                words[row].append(word)
            else:
                return row
    except TokenError as error:
        message, (line, _) = error.args
        if depth:
            return opened
        if "multi-line statement" in message:  # an open bracket or a last backslash: everything has been read
            return len(words)
        return int(before + line)
    return len(words)


def _word(kind: int, string: str) -> str:
    """Return what stands for a token, "" if it is none."""
    if kind == token.NAME:
        if string in _KEYWORDS:
            return string
        return IDENTIFIER if string.isidentifier() else ""
    return string if kind == token.OP and string in _OPERATORS else ""


def _append_literal(words: list[list[str]], row: int, lines: Sequence[str]) -> None:
    if lines[row]:
        words[row].append(LITERAL)
