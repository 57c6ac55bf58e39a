"""Documented functions cut out of documents: the raw material of prompts.

Covered: every `ast.FunctionDef` with a docstring, methods and nested functions too. Not covered: async functions,
decorators, and functions whose body goes on in the docstring's own line.
Source: the prompts of Chen & Jiang (ASE 2024, arXiv 2409.12020): from `def` to the end of the docstring.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache

from pytest_collabcode.digests import digest_of
from pytest_collabcode.lines import significant_lines, split_lines
from pytest_collabcode.records import Corpus, Document, Function

_STATEMENT_FIELDS = ("body", "orelse", "finalbody", "handlers", "cases")


def functions_of(document: Document) -> list[Function]:
    """Cut the documented functions out of one document, in the order of their lines.

    Args:
        document: whose text is Python; one that does not parse has no functions.
    Returns:
        Functions with line numbers of the original file, licence header included.
    Example:
        >>> text = "class A:\\n    def f(self):\\n        '''Do.'''\\n        return 1\\n"
        >>> [function] = functions_of(Document(path="a.py", text=text, organization="acme"))
        >>> function.name, function.prompt, function.body
        ('A.f', "def f(self):\\n    '''Do.'''", '    return 1')
    """
    return list(_functions(document))


def corpus_functions(
    corpus: Corpus, split: str, organization: str | None = None, min_body_lines: int = 0
) -> list[Function]:
    """Return the natural documented functions of a corpus, each once.

    Planted documents and functions declared as plants are left out, and so is a held-out function that also stands
    in training code of any organization: it is no control for what training makes a model remember.

    Args:
        corpus: as loaded.
        split: "training" or "heldout".
        organization: only this one's; all by default.
        min_body_lines: least number of significant lines of the body.
    Returns:
        Functions in the order of organization, path and line; of equal ones (prompt and body) the first.
    Example:
        >>> corpus_functions(Corpus(name="empty", organizations=()), "training")
        []
    """
    seen = {_key(plant.function) for plant in corpus.plants}
    if split == "heldout":
        seen.update(_key(function) for function in _natural(corpus, "training", None))
    chosen = []
    for function in _natural(corpus, split, organization):
        key = _key(function)
        if key not in seen and function.significant_lines >= min_body_lines:
            seen.add(key)
            chosen.append(function)
    return chosen


def sample_functions(functions: Sequence[Function], n: int, seed: int) -> list[Function]:
    """Draw n functions so that fewer are always the beginning of more, whatever order they come in.

    Args:
        functions: to draw from; all of them are returned when there are no more than n.
        n: how many.
        seed: another seed draws others.
    Returns:
        At most n functions in the order of their draw.
    Example:
        >>> sample_functions([], 5, seed=1)
        []
    """
    return sorted(functions, key=lambda f: (digest_of("sample", seed, *_key(f)), f.path, f.first_line))[:n]


def _key(function: Function) -> tuple[str, str]:
    return function.prompt, function.body


def _natural(corpus: Corpus, split: str, organization: str | None) -> Iterator[Function]:
    for owner in corpus.organizations:
        if organization not in (None, owner.name):
            continue
        documents = (document for document in owner.split(split) if not document.planted)
        for document in sorted(documents, key=lambda document: document.path):
            yield from _functions(document)


@lru_cache(maxsize=8192)
def _functions(document: Document) -> tuple[Function, ...]:
    tree = _parse(document.text)
    if tree is None:
        return ()
    lines = split_lines(document.text)
    found = (_cut(node, name, document, lines) for node, name in _definitions(tree))
    return tuple(sorted((f for f in found if f is not None), key=lambda function: function.first_line))


def _parse(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in someone else's strings are not our news
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _definitions(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef, str]]:
    """Yield (node, qualified name); a stack instead of recursion, so that no nesting overflows."""
    pending: list[tuple[ast.AST, str]] = [(tree, "")]
    while pending:
        node, prefix = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}{node.name}"
            prefix = f"{name}."
            if isinstance(node, ast.FunctionDef):
                yield node, name
        for field in _STATEMENT_FIELDS:
            children = getattr(node, field, ())
            if isinstance(children, list):  # a conditional expression's body is a single node
                pending.extend((child, prefix) for child in children)


def _cut(node: ast.FunctionDef, name: str, document: Document, lines: list[str]) -> Function | None:
    docstring = (ast.get_docstring(node) or "").strip()
    statement = node.body[0]
    if not docstring or statement.end_lineno is None or node.end_lineno is None:
        return None
    if len(node.body) > 1 and node.body[1].lineno == statement.end_lineno:
        return None
    first, docstring_end, last = node.lineno, statement.end_lineno, node.end_lineno
    indentation = lines[first - 1][: node.col_offset]
    prompt = lines[first - 1 : docstring_end]
    prompt[-1] = prompt[-1].encode()[: statement.end_col_offset].decode()  # offsets count UTF-8 bytes
    body = _dedent(lines[docstring_end:last], indentation)
    return Function(
        organization=document.organization,
        path=document.path,
        name=name,
        split=document.split,
        first_line=first + document.header_lines,
        last_line=last + document.header_lines,
        prompt=_dedent(prompt, indentation),
        docstring=docstring,
        body=body,
        significant_lines=sum(1 for _ in significant_lines(body)),
    )


def _dedent(lines: Sequence[str], indentation: str) -> str:
    """Join lines without the indentation; a line of a string that is indented less stays as it is."""
    text = "\n".join("" if not line.strip() else line.removeprefix(indentation) for line in lines)
    return text.lstrip("\n").rstrip()
