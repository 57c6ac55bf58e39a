"""Normalizations: which lines of a text count, and what makes two of them equal.

- `verbatim`: a line is its stripped text; empty lines are dropped.
- `code-only`: comment-only lines and import lines are dropped too, line by line (so is prose like "import it").
- `simian-py`, `simian-text`: what the clone detector of the papers does to a .py file, or to a file of no known type.
- `type-2`: identifiers and literals abstracted (abstraction.py).

Every result names its normalization and NORMALIZER_VERSION. Text is split as lines.py does it; lone surrogates, which
JSON can smuggle in, become U+FFFD, so that every line can be encoded.
Not covered: Simian's other languages and options; it is imitated line by line, so a '#' in the middle of a docstring
begins a comment, and leading zeros inside strings are dropped like any others.
Sources: Chen and Jiang 2024, arXiv 2409.12020, and Yang et al. 2024, arXiv 2308.09932, for the detector; outcomes of
black-box probes of Simian 2.5.10 for what it does (tests/clones/test_normalize.py, also what was not probed).
"""

from __future__ import annotations

import re
from itertools import compress, count

from pytest_collabcode.clones.abstraction import abstract
from pytest_collabcode.errors import ConfigurationError, nearest
from pytest_collabcode.lines import split_lines

NORMALIZATIONS = ("verbatim", "code-only", "simian-py", "simian-text", "type-2")
NORMALIZER_VERSION = 1  # goes up whenever a normalization gives other lines than before

_SURROGATE = re.compile("[\ud800-\udfff]")
# Possessive quantifiers (*+) keep every pattern linear, whatever the line.
_IMPORT = re.compile(r"import\s+\w|from(?:\s|(?=\.))[.\s]*+(?:\w[\w.]*+\s+)?import\b")
_CODE = re.compile(  # up to a comment; a string that the line does not close reaches to its end
    r"""(?: [^#'"]++
      | \"""(?:[^"\\]++ | \\.? | "(?!""))*+ (?:\"""|$)  |  "(?:[^"\\]++ | \\.?)*+ (?:"|$)
      | '''(?:[^'\\]++ | \\.? | '(?!''))*+ (?:'''|$)    |  '(?:[^'\\]++ | \\.?)*+ (?:'|$)
    )*+""",
    re.VERBOSE,
)
_ODD_ASCII_SPACES = "\t\x0b\x0c\x1c\x1d\x1e\x1f"
_ODD_SPACE = re.compile(r"[^\S\n ]")
_LOOSE_SPACE = re.compile(r" (?:(?<!\w )|(?!\w))")  # beside anything but two word characters
_LEADING_ZEROS = re.compile(r"0(?<![\w.]0)0*(?=[0-9])")


def significant(text: str, normalization: str = "verbatim") -> tuple[list[int], list[str]]:
    """Return what a normalization keeps of a text.

    Args:
        text: with any newlines; Python, a fragment of it or anything else.
        normalization: one of NORMALIZATIONS.
    Returns:
        (1-based line numbers in the text, normalized lines), of every significant line; no line is empty or has white
        space at its ends.
    Raises:
        ConfigurationError: no such normalization.
    Example:
        >>> text = "import os\\n\\nif  X == 007:  # Bond\\n    y = 'a'\\n"
        >>> significant(text)
        ([1, 3, 4], ['import os', 'if  X == 007:  # Bond', "y = 'a'"])
        >>> significant(text, "simian-py")
        ([1, 3, 4], ['import os', 'if x==7:', "y='a'"])
        >>> significant(text, "type-2")[1]
        ['import $', 'if $ == ? :', '$ = ?']
    """
    text = _encodable(text)
    lines = _normalized(list(map(str.strip, split_lines(text) if "\r" in text else text.split("\n"))), normalization)
    return list(compress(count(1), lines)), list(filter(None, lines))


def _encodable(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
    return text


def _normalized(lines: list[str], normalization: str) -> list[str]:
    """Normalize stripped lines one for one; what is dropped becomes ""."""
    match normalization:
        case "verbatim":
            return lines
        case "code-only":
            return ["" if line.startswith(("#", "import", "from")) and _is_aside(line) else line for line in lines]
        case "simian-py":
            lines = [_uncommented(line) if "#" in line else line for line in lines]
            return _simian(_LEADING_ZEROS.sub("", _dense(lines)))
        case "simian-text":
            return [line if line.strip("'\"") else "" for line in _simian(_dense(lines))]
        case "type-2":
            return abstract(lines)
    raise ConfigurationError(f"normalization={normalization!r} is unknown; {nearest(normalization, NORMALIZATIONS)}")


def _is_aside(line: str) -> bool:
    return line[0] == "#" or _IMPORT.match(line) is not None


def _uncommented(line: str) -> str:
    found = _CODE.match(line)
    return found.group() if found else line


def _dense(lines: list[str]) -> str:
    """Return the lines as one text without case, and without white space except one space between two words."""
    text = "\n".join(lines).casefold()
    if not text.isascii() or any(map(text.__contains__, _ODD_ASCII_SPACES)):
        text = _ODD_SPACE.sub(" ", text)
    while "  " in text:
        text = text.replace("  ", " ")
    return _LOOSE_SPACE.sub("", text)


def _simian(text: str) -> list[str]:
    lines = text.split("\n")
    return [line.rstrip(";") for line in lines] if ";" in text else lines
