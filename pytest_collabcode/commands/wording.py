"""Wording: numbers with their nouns, and names out of files, as commands print them.

Not covered: reports of the gate (report/).
"""

from __future__ import annotations

from pytest_collabcode.lines import printable

_NAME_CHARACTERS = 100


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is one.

    Example:
        >>> counted(1, "clone"), counted(2000, "document")
        ('1 clone', '2,000 documents')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shown(name: str) -> str:
    """Return a name out of a file as it may be printed: bounded, on one line, without orders to a terminal.

    Example:
        >>> print(shown("HumanEval/1"), shown("\\x1b[2J\\n::error::"))
        HumanEval/1 \\x1b[2J\\n::error::
    """
    return printable(name if len(name) <= _NAME_CHARACTERS else f"{name[:_NAME_CHARACTERS]}...")


def harmless(text: str) -> str:
    """Return text of several lines without orders to a terminal, and with nothing that cannot be written.

    Example:
        >>> print(harmless("a\\nb\\x1b[2J"))
        a
        b\\x1b[2J
    """
    return "\n".join(map(printable, text.split("\n")))
