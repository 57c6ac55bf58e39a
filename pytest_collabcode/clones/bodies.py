"""Bodies: what stands in each function of a document after its docstring, the unit of near-miss clones.

Covered: every function, documented or not, methods, nested and async ones. Not covered: code outside of functions.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

from pytest_collabcode.clones.normalize import significant
from pytest_collabcode.lines import split_lines
from pytest_collabcode.records import Document, Fragment


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The statements of one function.

    Example:
        >>> place = Fragment(organization="acme", path="a.py", first_line=5, last_line=7)
        >>> Body(place=place, text="x = 1\\n\\nreturn x\\n").significant_lines
        2
    """

    place: Fragment
    text: str = field(repr=False)
    planted: bool = False
    licence: str = ""  # SPDX identifier of the document

    @property
    def significant_lines(self) -> int:
        """How many lines are not blank."""
        return len(significant(self.text)[1])


def bodies_of(document: Document) -> Iterator[Body]:
    """Yield the body of every function, from its first statement after the docstring to its end.

    Args:
        document: whose text is Python; one that does not parse has no functions.
    Returns:
        Bodies in no promised order, with line numbers of the original file, licence header included. A function
        that is only a docstring has none.
    Example:
        >>> text = "def f():\\n    '''Do.'''\\n    x = 1\\n    return x\\n"
        >>> [body] = bodies_of(Document(path="a.py", text=text, organization="acme", header_lines=2))
        >>> str(body.place), body.text
        ('acme:a.py:5-6', 'x = 1\\n    return x')
    """
    tree = _parsed(document.text)
    lines = split_lines(document.text)
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        statements = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
        if statements:
            yield _cut(document, lines, statements[0], statements[-1])


def _parsed(text: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in someone else's strings are not our news
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module(body=[], type_ignores=[])


def _cut(document: Document, lines: list[str], first: ast.stmt, last: ast.stmt) -> Body:
    begin = min([first.lineno, *(d.lineno for d in getattr(first, "decorator_list", ()))])
    end = last.end_lineno or last.lineno
    text = lines[begin - 1 : end]
    if begin == first.lineno:
        text[0] = text[0].encode()[first.col_offset :].decode()  # offsets count UTF-8 bytes
    place = Fragment(
        organization=document.organization,
        path=document.path,
        first_line=begin + document.header_lines,
        last_line=end + document.header_lines,
    )
    return Body(place=place, text="\n".join(text), planted=document.planted, licence=document.licence)
