"""Bodies: what stands after the docstring of every function, with the lines of the file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.clones.bodies import bodies_of
from pytest_collabcode.records import Document

TEXT = '''\
import os

class A:
    def documented(self):
        """Do

        it."""
        # why
        x = 1
        return x

    async def undocumented(self):
        y = 2

        def inner():
            return y
        return inner

def only_documented():
    """Nothing else."""

def one_line(): return "ä", 1

def decorated_first():
    @property
    def inner(): pass
'''


def found(text: str, **fields: object) -> set[tuple[int, int, str]]:
    document = Document(path="a.py", text=text, organization="acme", **fields)
    return {(b.place.first_line, b.place.last_line, b.text) for b in bodies_of(document)}


def test_every_function_gives_its_statements_after_the_docstring() -> None:
    assert found(TEXT) == {
        (9, 10, "x = 1\n        return x"),
        (13, 17, "y = 2\n\n        def inner():\n            return y\n        return inner"),
        (16, 16, "return y"),
        (22, 22, 'return "ä", 1'),
        (25, 26, "    @property\n    def inner(): pass"),
        (26, 26, "pass"),
    }


def test_lines_count_the_licence_header_and_ownership_goes_with_the_body() -> None:
    [body] = bodies_of(
        Document(
            path="a.py",
            text="def f():\n    return 1\n",
            organization="acme",
            header_lines=3,
            planted=True,
            licence="MIT",
        )
    )
    assert (str(body.place), body.planted, body.licence) == ("acme:a.py:5-5", True, "MIT")


@pytest.mark.parametrize("text", ["", "def f(:\n", "x = 1\n", "def f():\n    '''Do.'''\n", "\0", "(" * 500])
def test_what_has_no_function_or_does_not_parse_has_no_bodies(text: str) -> None:
    assert found(text) == set()


@given(st.text(alphabet="def f():\n 1'\"#äreturnx", max_size=60))
def test_any_text_is_survived_and_bodies_lie_inside_it(text: str) -> None:
    whole = "def g():\n    1\n" + text
    n_lines = whole.count("\n") + 1
    assert all(1 <= first <= last <= n_lines for first, last, _ in found(whole))
