"""Type-2 lines, on whole programs, on fragments and on what is no Python."""

import ast
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.clones.abstraction import MAX_LINE_CHARS, MAX_RESTARTS, abstract

SOURCE = """\
class Ledger(Base, metaclass=Meta):
    def balance(self, *entries, start=0, **rest) -> float:
        total = start if start is not None else 0x1F
        for index, entry in enumerate(entries):
            with entry.lock() as lock, other[index:3]:
                total += entry.value @ lock
        async def later(): await total
        match = {"a": 1.5e3, b'b': f"{total:>{index}}!"}
        return lambda x: (yield (total, match, not x)) or [
            entry for entry in rest if entry in match and entry != u"a"
        ]
"""


def stripped(text):
    return [line.strip() for line in text.split("\n")]


def of(text):
    return abstract(stripped(text))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("def f(x, y=1): return x", "def $ ( $ , $ = ? ) : return $"),
        ("x=y", "$ = $"),
        ("x = None", "$ = None"),
        ("not x  # why", "not $"),
        ("# only this", ""),
        ("", ""),
        ("match match: case _: type", "$ $ : $ $ : $"),
        ("a[1:-2] //= 'x' 'y'", "$ [ ? : - ? ] //= ? ?"),
        ("f'{a!r:>{w}} b' + rb'c'", "? + ?"),
        ("1_000.5e-3j, 0xff, 0777", "? , ? , ?"),
        ("é = naïve", "$ = $"),
        ("@decorated.by(x)", "@ $ . $ ( $ )"),
        ("print 'Python 2'", "$ ?"),
        ("):", ") :"),
        ("foo(a, [", "$ ( $ , ["),
        ("x = 1 \\", "$ = ?"),
        ("it's prose", "it's prose"),
        ("x = 'open", "x = 'open"),
        ('x = """open', 'x = """open'),
        ("f'{open", "f'{open"),
        ("!ls -l", "!ls -l"),
        ("a ? b : c", "a ? b : c"),
        ("100 €", "100 €"),
        ("a\0b", "a\0b"),
        ("x = a \\ b", "x = a \\ b"),
    ],
)
def test_a_line_on_its_own(line, expected):
    assert abstract([line]) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('x = """a\nb # b\n\n c""" + y\nz', ["$ = ?", "", "", "+ $", "$"]),
        ("x = f'''a\n{b}\n\nc{d\n}''' + y\nz", ["$ = ?", "", "", "", "+ $", "$"]),
        ("x = 'a\\\nb' + y\nz", ["$ = ?", "+ $", "$"]),
        ("f(a,  # one\n  # two\n  b)", ["$ ( $ ,", "", "$ )"]),
        ("x = 1 + \\\n  y", ["$ = ? +", "$"]),
    ],
)
def test_every_line_of_a_token_or_statement_has_its_own_form(text, expected):
    assert of(text) == expected


@pytest.mark.parametrize(
    "bad",
    ["it's", "x = 'open", "f'{a", "a $ b", "a\0b", "€", "`x`", "x \\ y", "?"],
)
def test_one_line_that_is_no_python_costs_only_itself(bad):
    assert of(f"a = 1\n{bad}\nb = (2,\n{bad}\n3)") == ["$ = ?", bad, "$ = ( ? ,", bad, "? )"]


@pytest.mark.parametrize("quote", ['"""', "'''", 'rb"""', 'f"""', "f'''{x:"])
def test_a_string_that_never_closes_costs_only_the_line_where_it_opens(quote):
    assert of(f"a = 1\nx = {quote}doc\nb = 2\nc") == ["$ = ?", f"x = {quote}doc", "$ = ?", "$"]


def renamed(tree, names, numbers):
    for node in ast.walk(tree):
        for field in ("id", "name", "attr", "arg", "asname"):
            if isinstance(getattr(node, field, None), str):
                setattr(node, field, next(names))
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value not in (0, 1):
            node.value = next(numbers)
    return ast.unparse(tree)


IDENTIFIERS = st.sampled_from(["a", "total", "match", "_", "été", "x1", "case", "type"])


@given(st.data())
def test_equal_up_to_names_and_numbers_is_equal(data):
    names = iter(lambda: data.draw(IDENTIFIERS), None)
    numbers = iter(lambda: data.draw(st.integers(2, 999)), None)
    source = (
        "def f(a, b=2):\n  for x in a.items(b, 3.5):\n    if x[7] is None: return {x: b}\n    c = a.d(e=x) + 10\n"
    )
    assert of(renamed(ast.parse(source), names, numbers)) == of(ast.unparse(ast.parse(source)))


@pytest.mark.parametrize("change", [("is not", "is"), ("0x1F", "None"), ("or [", "and ["), ("*entries", "entries")])
def test_keywords_and_operators_are_not_abstracted(change):
    assert of(SOURCE) != of(SOURCE.replace(*change))


@given(st.integers(0, 11), st.integers(0, 11), st.integers(0, 9))
def test_a_fragment_cut_between_lines_reads_as_it_does_in_the_whole(start, stop, indent):
    lines = SOURCE.splitlines()[start:stop]
    assert of(textwrap.indent("\n".join(lines), " " * indent)) == (of(SOURCE)[start : start + len(lines)] or [""])


PIECES = st.sampled_from(
    [
        "'",
        '"',
        '"""',
        "'''",
        "f'",
        'f"""',
        "{",
        "}",
        "\\",
        "(",
        "]",
        "\n",
        "\n",
        "x",
        "0777",
        "#",
        "if",
        "=",
        " ",
        "\0",
    ]
)


@given(st.lists(PIECES | st.characters(exclude_categories=["Cs"]), max_size=60).map("".join))
def test_never_raises_and_gives_one_stripped_form_per_line(text):
    lines = stripped(text)
    forms = abstract(lines)
    assert len(forms) == len(lines)
    assert all(form == form.strip() for form in forms)
    assert all(form == "" for form, line in zip(forms, lines, strict=True) if not line)


@pytest.mark.parametrize(
    "text",
    [
        "'\n" * 300_000,
        'it\'s """\n' * 60_000,
        "'''\n\"\"\"\n" * 40_000,
        "f'{\n" * 60_000,
        "f'''{\n\"\"\"\n" * 30_000,
        '"""\n' + "x\n" * 20_000 + "f'''{\n" + "'a\\\n" * 20_000,
        "x\n" * 40_000 + "'''",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_what_never_closes_does_not_cost_quadratic_time(text):
    """Reading the rest again at every line would take hours."""
    lines = stripped(text)
    assert len(abstract(lines)) == len(lines)


def test_behind_too_many_lines_that_are_no_python_the_rest_is_verbatim():
    few, many = ["'"] * (MAX_RESTARTS - 1), ["'"] * MAX_RESTARTS
    assert abstract([*few, "x = 1"])[-1] == "$ = ?"
    assert abstract([*many, "x = 1"])[-1] == "x = 1"


def test_a_line_too_long_to_be_code_is_verbatim_and_disturbs_no_other():
    long = "x = [" + "1," * MAX_LINE_CHARS + "]"
    assert abstract(["a = 1", long, '"""', long, '"""', "b"]) == ["$ = ?", long, "?", long, "", "$"]
