"""Lines: decoding, splitting and stripping text the one way that every room uses.

Text is decoded as UTF-8 (BOM dropped, undecodable bytes replaced), split at \\r\\n, \\n or \\r only (never at form
feeds or Unicode separators), and a line is significant when something is left after str.strip().
Not covered: comments and imports (clones/normalize decides what more to drop).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_NEWLINE = re.compile(r"\r\n|\n|\r")
_LICENCE_WORDS = re.compile(r"copyright|licen[cs]e|all rights reserved|SPDX-License-Identifier|\(c\)", re.IGNORECASE)


def decode(data: bytes) -> str:
    """Decode bytes as UTF-8 text with "\\n" newlines; never raises.

    Example:
        >>> decode(b"\\xef\\xbb\\xbfa\\r\\nb\\rc\\xff")
        'a\\nb\\nc\\ufffd'
    """
    text = data.decode("utf-8-sig", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def split_lines(text: str) -> list[str]:
    """Split at \\r\\n, \\n or \\r only; a trailing newline opens no further line.

    Example:
        >>> split_lines("a\\r\\nb\\x0cb\\u2028\\n\\nc\\n")
        ['a', 'b\\x0cb\\u2028', '', 'c']
    """
    lines = _NEWLINE.split(text)
    if lines and not lines[-1]:
        lines.pop()
    return lines


def significant_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (1-based line number, stripped line) of every line that is not blank.

    Example:
        >>> list(significant_lines("def f():\\n\\n    return 1\\n"))
        [(1, 'def f():'), (3, 'return 1')]
    """
    for number, line in enumerate(split_lines(text), start=1):
        stripped = line.strip()
        if stripped:
            yield number, stripped


def split_licence_header(text: str) -> tuple[str, str]:
    """Separate a leading licence comment from the code.

    Args:
        text: of a whole file, with "\\n" newlines.
    Returns:
        (header, rest): the leading block of comment and blank lines if it speaks of a licence, else "" and text.
        A shebang or coding line goes with the header. header + rest is always text.
    Example:
        >>> split_licence_header("# Copyright (c) X.\\n\\nimport os\\n")
        ('# Copyright (c) X.\\n\\n', 'import os\\n')
        >>> split_licence_header("# A comment.\\nimport os\\n")
        ('', '# A comment.\\nimport os\\n')
    """
    end = 0
    while end < len(text):  # line by line, for most files end their header soon
        behind = text.find("\n", end) + 1 or len(text)
        line = text[end:behind].strip()
        if line and not line.startswith("#"):
            break
        end = behind
    header = text[:end]
    return (header, text[len(header) :]) if _LICENCE_WORDS.search(header) else ("", text)


def printable(text: str) -> str:
    """Return text on one line, with escapes for whatever a terminal or a log could take for an order.

    Example:
        >>> print(printable("caf\\xe9 \\x1b[31m\\n::error::\\ud800"))
        café \\x1b[31m\\n::error::\\ud800
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
