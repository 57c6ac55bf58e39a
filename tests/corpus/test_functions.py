"""Functions are cut where Python says they are, in the file's own line numbers, and drawn without regard to order."""

from __future__ import annotations

import ast
import random
import textwrap
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.corpus.functions import corpus_functions, functions_of, sample_functions
from pytest_collabcode.lines import split_lines
from pytest_collabcode.records import Corpus, Document, Function, Organization, Plant

FILE = '''\
import os


@decorated
def top(a,
        b="é"):
    """Say é."""  # a remark

    return a


class Outer:
    def method(self):
        """First.

    Less indented.
        """
        if self:

            return """
  kept as it is
"""

    async def waiting(self):
        """No."""
        def inside():
            "Yes."
            return 1

    def bare(self):
        return 2


def one_line(): "Doc."; return 3
def only(): "Doc."
try:
    pass
finally:
    def hidden():
        """Found."""
        return 4
'''


def document(text: str, path: str = "a.py", **changes: object) -> Document:
    return Document(path=path, text=text, organization="acme", **changes)  # type: ignore[arg-type]


def corpus(*documents: Document, plants: tuple[Plant, ...] = ()) -> Corpus:
    names = sorted({d.organization for d in documents})
    organizations = [
        Organization(name=n, documents=tuple(d for d in documents if d.organization == n)) for n in names
    ]
    return Corpus(name="c", organizations=tuple(organizations), plants=plants)


def simple(name: str, n_lines: int = 3) -> str:
    return f'def {name}():\n    """Do {name}."""\n' + "".join(f"    {name}({n})\n" for n in range(n_lines))


def test_documented_functions_are_found_wherever_they_stand() -> None:
    names = [(f.name, f.first_line, f.last_line) for f in functions_of(document(FILE))]
    assert names == [
        ("top", 5, 9),
        ("Outer.method", 13, 22),
        ("Outer.waiting.inside", 26, 28),
        ("only", 35, 35),
        ("hidden", 39, 41),
    ]


def test_prompt_and_body_are_dedented_alike_and_the_docstring_ends_the_prompt() -> None:
    top, method, *_ = functions_of(document(FILE))
    assert top.prompt == 'def top(a,\n        b="é"):\n    """Say é."""'
    assert (top.body, top.docstring, top.significant_lines) == ("    return a", "Say é.", 1)
    assert method.prompt == 'def method(self):\n    """First.\n\nLess indented.\n    """'
    assert method.body == '    if self:\n\n        return """\n  kept as it is\n"""'
    assert method.significant_lines == 4


def test_line_numbers_count_the_licence_header() -> None:
    plain, shifted = (functions_of(document(FILE, header_lines=n))[0] for n in (0, 14))
    assert (shifted.first_line, shifted.last_line) == (plain.first_line + 14, plain.last_line + 14)


@pytest.mark.parametrize(
    "text",
    [
        "def f(:\n",
        "print 'two'\n",
        "def f():\n    ''\n",
        "def f():\n    ' '\n    return 1\n",
        "def f():\n    b'no'\n    return 1\n",
        "def f():\n    f'no'\n    return 1\n",
        "x = 1\0\n",
        "(" * 100_000,
        "-" * 100_000 + "1",
        "x = " + "+".join("1" * 50_000),
        "\ud800",
    ],
)
def test_what_is_no_documented_function_is_none(text: str) -> None:
    assert functions_of(document(text)) == []


def test_deep_nesting_does_not_overflow_and_warnings_of_others_code_stay_silent() -> None:
    depth = 90
    text = "".join(" " * n + "def f():\n" + " " * n + " '''D\\d.'''\n" for n in range(depth)) + " " * depth + "pass\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(functions_of(document(text))) == depth


def test_cut_functions_of_the_standard_library_stand_in_their_files() -> None:
    for module in (textwrap, random, ast):
        text = open(module.__file__).read()  # noqa: SIM115, PTH123
        lines = split_lines(text)
        functions = functions_of(document(text))
        assert len(functions) > 5
        for function in functions:
            original = textwrap.dedent("\n".join(lines[function.first_line - 1 : function.last_line]))
            whole = f"{function.prompt}\n{function.body}"
            assert [line for line in split_lines(whole) if line.strip()] == [
                line.rstrip() if line.strip() == split_lines(function.prompt)[-1].strip() else line
                for line in split_lines(original)
                if line.strip()
            ]
            node = ast.parse(whole).body[0]
            assert isinstance(node, ast.FunctionDef) and (ast.get_docstring(node) or "").strip() == function.docstring


def test_equal_functions_are_returned_once_and_short_ones_not_at_all() -> None:
    twice = corpus(document(simple("f"), "b.py"), document(simple("f") + simple("g", 9), "a.py"))
    assert [(f.path, f.name) for f in corpus_functions(twice, "training")] == [("a.py", "f"), ("a.py", "g")]
    assert [f.name for f in corpus_functions(twice, "training", min_body_lines=9)] == ["g"]


def test_heldout_functions_that_stand_in_training_code_are_left_out() -> None:
    mixed = corpus(
        document(simple("f")),
        Document(path="b.py", text=simple("f") + simple("g"), organization="beta", split="heldout"),
    )
    assert [f.name for f in corpus_functions(mixed, "heldout")] == ["g"]
    assert corpus_functions(mixed, "heldout", "acme") == []


def test_plants_and_planted_documents_are_not_natural() -> None:
    natural = document(simple("f") + simple("g"))
    [planted, _] = functions_of(natural)
    plant = Plant(function=planted, organizations=("acme",), copies=3)
    with_plants = corpus(natural, document(simple("f"), "planted/acme/f.py", planted=True), plants=(plant,))
    assert [f.name for f in corpus_functions(with_plants, "training")] == ["g"]


def _functions(n: int) -> list[Function]:
    return functions_of(document("".join(simple(f"f{i}") for i in range(n))))


@given(st.integers(0, 30), st.integers(0, 30), st.randoms())
def test_a_smaller_sample_begins_a_larger_one_in_any_order(n: int, m: int, generator: random.Random) -> None:
    functions = _functions(25)
    shuffled = functions[:]
    generator.shuffle(shuffled)
    larger = sample_functions(functions, max(n, m), seed=1)
    assert sample_functions(shuffled, min(n, m), seed=1) == larger[: min(n, m)]


def test_another_seed_draws_others() -> None:
    functions = _functions(25)
    assert sample_functions(functions, 10, seed=1) != sample_functions(functions, 10, seed=2)
    assert set(sample_functions(functions, 25, seed=1)) == set(functions)
