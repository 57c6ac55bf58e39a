"""Wording: numbers with their nouns, as commands print them.

Not covered: reports of the gate (report/).
"""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is one.

    Example:
        >>> counted(1, "clone"), counted(2000, "document")
        ('1 clone', '2,000 documents')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
