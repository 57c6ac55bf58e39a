"""Normalizations: golden probes of Simian 2.5.10 and laws.

PROBES holds outcomes recorded of Simian 2.5.10 (threshold 6, run as a black box on files that differ in one thing,
named .py and .txt). The records give kinds of change and outcomes: the block is our own, Simian is not needed here.
OWN holds what was not probed: our reading of the same rules. The papers' own runs used Simian 4.0.0, not probed.
"""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_collabcode.clones.normalize import NORMALIZATIONS, significant
from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.lines import significant_lines

BLOCK = """\
def surface(width, height):
    label = 'Café au lait'
    total = width * height + 12
    ratio = 1.05
    if total > ratio:
        return total
"""


def changed(old, new):
    assert old in BLOCK
    return BLOCK.replace(old, new)


def inserted(line):
    """The block with one more line in the middle, so that no six of its own lines stay together."""
    lines = BLOCK.splitlines()
    return "\n".join([*lines[:3], line, *lines[3:]]) + "\n"


PROBES = [  # what is changed, the changed block, match as .py, match as .txt
    ("nothing", BLOCK, True, True),
    ("only five lines", BLOCK[: BLOCK.rindex("        return")], False, False),
    ("extra indent", re.sub("^", "        ", BLOCK, flags=re.M), True, True),
    ("tabs", BLOCK.replace("    ", "\t"), True, True),
    ("CRLF", BLOCK.replace("\n", "\r\n"), True, True),
    ("blank lines interleaved", BLOCK.replace("\n", "\n\n  \n"), True, True),
    ("identifier case", changed("total", "Total"), True, True),
    ("string case", changed("Café", "CAFé"), True, True),
    ("case beyond ASCII", changed("Café", "CafÉ"), True, True),
    ("no spaces around operators", changed("width * height + 12", "width*height+12"), True, True),
    ("no spaces around =", changed("ratio = 1.05", "ratio=1.05"), True, True),
    ("more inner spaces", changed("ratio = 1.05", "ratio  =   1.05"), True, True),
    ("token boundary", changed("return total", "returntotal"), False, False),
    ("identifier renamed", changed("ratio", "quota"), False, False),
    ("number changed", changed("12", "13"), False, False),
    ("leading zeros", changed("12", "0012"), True, False),
    ("quote style", changed("'Café au lait'", '"Café au lait"'), False, False),
    ("trailing semicolon", changed("ratio = 1.05", "ratio = 1.05;"), True, True),
    ("comment lines inserted", inserted("    # the ratio"), True, False),
    ("trailing comment", changed("ratio = 1.05", "ratio = 1.05  # of it"), True, False),
    ("import line inserted", inserted("    import os"), False, False),
    ("docstring line inserted", inserted('    """Return the surface."""'), False, False),
    ("quote-only line inserted", inserted('    """'), False, True),
    ("lone brace inserted", inserted("    }"), False, False),
    ("lone parenthesis inserted", inserted("    )"), False, False),
    ("pass inserted", inserted("    pass"), False, False),
    ("global inserted", inserted("    global total"), False, False),
    ("word like a modifier", changed("ratio = 1.05", "final ratio = 1.05"), False, False),
]
OWN = [
    ("zero behind the point", changed("1.05", "1.5"), False, False),
    ("hexadecimal", changed("12", "0x12"), False, False),
    ("# in a string", changed("Café au lait", "Café # au lait"), False, False),
]


def matches(one, other, normalization):
    """Whether six consecutive significant lines of one stand in the other."""
    ours, theirs = ([*significant(text, normalization)[1]] for text in (one, other))
    runs = [ours[i : i + 6] for i in range(len(ours) - 5)]
    return any(theirs[i : i + 6] in runs for i in range(len(theirs) - 5))


@pytest.mark.parametrize(("name", "text", "as_python", "as_text"), PROBES + OWN, ids=[p[0] for p in PROBES + OWN])
def test_simian_says_the_same_of_a_changed_block(name, text, as_python, as_text):
    assert (text == BLOCK) == (name == "nothing")
    assert matches(BLOCK, text, "simian-py") == as_python
    assert matches(BLOCK, text, "simian-text") == as_text


def test_white_space_inside_a_docstring_is_layout_to_simian():
    one, other = inserted('    """Return  the surface , squared."""'), inserted('"""Return the surface, squared."""')
    assert matches(one, other, "simian-py")
    assert matches(one, other, "simian-text")


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("x = 'a # b'  # c", "x='a#b'"),
        ('x = "it\'s # 1"# 2', 'x="it\'s#1"'),
        (r"x = 'it\'s # 1' # 2", r"x='it\'s#1'"),
        ('"""say "no" # 1""" # 2', '"""say"no"#1"""'),
        ("'''a'b # c'''", "'''a'b#c'''"),
        ('"""opens # here', '"""opens#here'),
        ("x = 'open # end", "x='open#end"),
        ("x = ''# c", "x=''"),
        ("x = 'a\\", "x='a\\"),
    ],
)
def test_a_hash_in_a_string_begins_no_comment(line, kept):
    assert significant(line, "simian-py")[1] == [kept]


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("f(0012, 00, 0, 000.5, 1e05, a07, 10, 100)", "f(12,0,0,0.5,1e05,a07,10,100)"),
        ("x = 0x0012 + 1.0007 + .007", "x=0x0012+1.0007+.007"),
        ("0007", "7"),
        ("a - 01", "a-1"),
    ],
)
def test_leading_zeros_of_whole_numbers_go(line, kept):
    assert significant(line, "simian-py")[1] == [kept]


@pytest.mark.parametrize(
    ("line", "dropped"),
    [
        ("# comment", True),
        ("    #!shebang", True),
        ("import os", True),
        ("import\tos, sys", True),
        ("    import os.path as p  # why", True),
        ("from os import path", True),
        ("from .a.b import (", True),
        ("from . import a", True),
        ("from .import a", True),
        ("from ...a import b", True),
        ("from os import*", True),
        ("x = 1  # comment", False),
        ("import_module(name)", False),
        ("importlib.reload(os)", False),
        ("from_numpy(x)", False),
        ("fromage import b", False),
        ("yield from imports", False),
        ("from os", False),
        ("import", False),
        ("'import os'", False),
    ],
)
def test_code_only_drops_comment_and_import_lines(line, dropped):
    assert significant(f"a\n{line}\nb", "code-only")[0] == ([1, 3] if dropped else [1, 2, 3])


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_no_line_takes_more_than_linear_time(normalization):
    """A quadratic pattern would need hours here."""
    n = 400_000
    for line in (
        "from" + " " * n + "x",
        "0" * n + "x",
        "'\\" * n + "#",
        '"' * n + "#",
        "a" + " " * n + "b",
        "a;" * n,
    ):
        assert len(significant(f"x\n{line}\ny", normalization)[0]) in (2, 3)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigurationError, match="did you mean 'simian-py'"):
        significant("x", "simian-python")


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_no_lines_of_nothing(normalization):
    assert significant("", normalization) == significant(" \n\t\r\n", normalization) == ([], [])


# Pieces that mean something to one of the normalizations, between characters that may mean anything.
MARKS = ["'", '"', '"""', "'''", "f'{", "}", "\\", "#", ";", "(", "]", "=", "0", "007", "x", "é", "É", "return"]
SPACES = [" ", "  ", "\t", "\x0c", "\x1c", "\x85", "\u2028", "\u3000"]
PIECES = st.sampled_from([*MARKS, *SPACES, "import os", "from x import y", "\ud800", "\0", "\ufeff"])
LINES = st.lists(PIECES | st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=8).map(
    "".join
)
TEXTS = st.lists(LINES | st.sampled_from(BLOCK.splitlines()), max_size=12)
INDENTS = st.text(" \t\x0c\u3000", max_size=3)
NAMES = st.sampled_from(NORMALIZATIONS)


@given(TEXTS, st.sampled_from(["\n", "\r\n", "\r"]), NAMES)
def test_lines_are_stripped_not_empty_and_encodable_and_numbers_grow(lines, newline, normalization):
    numbers, kept = significant(newline.join(lines), normalization)
    assert len(numbers) == len(kept)
    assert numbers == sorted(set(numbers))
    assert set(numbers) <= set(range(1, len(lines) + 1))
    assert all(line == line.strip() != "" for line in kept)
    assert "\n".join(kept).encode().decode() == "\n".join(kept)


@given(TEXTS)
def test_verbatim_is_what_lines_calls_significant(lines):
    text = "\n".join(lines).replace("\ud800", "\ufffd")
    assert list(zip(*significant(text), strict=True)) == list(significant_lines(text))


@given(TEXTS)
def test_a_lone_surrogate_is_a_replacement_character(lines):
    text = "\n".join(lines)
    for normalization in NORMALIZATIONS:
        assert significant(text, normalization) == significant(text.replace("\ud800", "\ufffd"), normalization)


@given(TEXTS, NAMES)
def test_newlines_are_all_the_same(lines, normalization):
    one, two, three = (significant(newline.join(lines), normalization) for newline in ("\n", "\r\n", "\r"))
    assert one == two == three


@given(TEXTS, st.data(), NAMES)
def test_indentation_and_trailing_space_change_nothing(lines, data, normalization):
    moved = [data.draw(INDENTS) + line + data.draw(INDENTS) for line in lines]
    assert significant("\n".join(moved), normalization) == significant("\n".join(lines), normalization)


@given(TEXTS, st.data(), NAMES)
def test_empty_lines_move_numbers_only(lines, data, normalization):
    gaps = [data.draw(st.integers(0, 2)) for _ in lines]
    spread = [part for line, gap in zip(lines, gaps, strict=True) for part in [*[" "] * gap, line]]
    continued = any(line.strip().endswith("\\") for line in lines)
    assume(normalization != "type-2" or not continued)  # to the tokenizer a continued string ends at an empty line
    assert significant("\n".join(spread), normalization)[1] == significant("\n".join(lines), normalization)[1]


@given(TEXTS, st.sampled_from(["simian-py", "simian-text"]))
def test_simian_lines_keep_a_space_only_between_two_words(lines, normalization):
    for line in significant("\n".join(lines), normalization)[1]:
        assert all(re.fullmatch(r"\w \w", line[i - 1 : i + 2]) for i, c in enumerate(line) if c.isspace())


@given(st.lists(st.sampled_from(["a", "B", "=", "(", "'", "12", "é", "É", ";", "x y"]), max_size=12))
def test_simian_ignores_spaces_beside_operators_and_case(tokens):
    spaced = re.sub(r" *([=(';]) *", r"  \1\t", " ".join(tokens))
    for normalization in ("simian-py", "simian-text"):
        expected = significant(" ".join(tokens), normalization)
        assert significant(spaced, normalization) == expected
        assert significant(spaced.swapcase(), normalization) == expected
