"""Line ratios: every line counts once, whatever covers it, and no hit is no certainty."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.intervals import clopper_pearson, interval_of
from pytest_collabcode.memorization.clones import ProblemClones, scan
from pytest_collabcode.memorization.line_ratios import covered_lines, line_ratios
from pytest_collabcode.records import Clone, Document, Fragment, Generation, Problem

NAMES = ("acme", "bolt")


def clone(first, last, sample=0, owner="acme"):
    return Clone(
        generated=Fragment(organization="", path=f"acme:x.py:1#{sample}", first_line=first, last_line=last),
        training=Fragment(organization=owner, path="x.py", first_line=1, last_line=9),
        significant_lines=6,
        fingerprint="f",
    )


def prompt(*clones, lines=((1, 2, 3, 5, 8),), key="t"):
    problem = Problem(task_id=key, prompt="", organization="acme")
    return ProblemClones(problem=problem, stratum="natural", n_samples=len(lines), clones=clones, line_numbers=lines)


def ratio(scanned, cell="acme→any natural"):
    return {m.cell: m for m in line_ratios(scanned, subject="s", organizations=NAMES)}[cell]


ranges = st.tuples(st.integers(0, 2), st.integers(1, 30), st.integers(0, 12))


@given(st.lists(ranges, max_size=8), st.lists(st.sets(st.integers(1, 40)), min_size=3, max_size=3))
def test_covered_lines_are_the_union_of_what_covers_them(places, numbers):
    lines = tuple(tuple(sorted(some)) for some in numbers)
    clones = [clone(first, first + length, sample) for sample, first, length in places]
    union = {(s, n) for s, first, length in places for n in range(first, first + length + 1)}
    own = {(s, n) for s, some in enumerate(lines) for n in some}
    assert covered_lines(prompt(*clones, lines=lines)) == len(union & own)


def test_cells_count_the_lines_of_their_source():
    scanned = [prompt(clone(1, 2), clone(2, 3, owner="bolt")), prompt(key="u", lines=((), (1, 2, 3, 4, 5)))]
    cells = {m.cell: m.value for m in line_ratios(scanned, subject="s", organizations=NAMES)}
    assert cells["acme→any natural"] == 3 / 10
    assert cells["acme→acme natural"] == cells["acme→bolt natural"] == cells["acme→other natural"] == 2 / 10
    assert [(i.value, i.weight) for i in ratio(scanned).items] == [(3.0, 5.0), (0.0, 5.0)]


def test_a_cell_without_lines_is_left_out():
    assert line_ratios([prompt(lines=((),))], subject="s", organizations=NAMES) == []


def test_no_covered_line_is_as_uncertain_as_no_hit_prompt():
    low, high = interval_of(ratio([prompt(key=str(i)) for i in range(20)]))
    assert (low, high) == pytest.approx(clopper_pearson(0, 20))


def test_bounds_hold_the_value_and_shrink_with_prompts():
    few, many = (
        interval_of(ratio([prompt(*[clone(1, 8)] * (i % 4 == 0), key=str(i)) for i in range(n)])) for n in (20, 200)
    )
    assert few[0] < many[0] < 0.25 < many[1] < few[1]


def test_prompts_without_lines_change_nothing_but_the_items():
    spoken = [prompt(*[clone(1, 3)] * (i % 3 == 0), key=str(i)) for i in range(12)]
    silent = [prompt(lines=((),), key=f"silent{i}") for i in range(12)]
    alone, both = ratio(spoken), ratio(spoken + silent)
    assert alone.value == both.value and interval_of(alone) == interval_of(both)
    assert len(both.items) == 24


def test_lines_of_real_completions_are_counted_per_sample():
    code = "\n".join(f"x = {i}" for i in range(8))
    index = CloneIndex.build([Document(path="x.py", text=code, organization="acme")])
    problem = Problem(task_id="t", prompt="def f():", organization="acme")
    texts = [f"\n{code}\n\ny = 1\nz = 2", "\npass"]  # the first line is the prompt's
    generations = [
        Generation(task_id="t", sample_index=i, completion=text, n_tokens=1, duration_s=0.0, stop_reason="eos")
        for i, text in enumerate(texts)
    ]
    measured = ratio(scan(index, [problem], generations))
    assert [(i.value, i.weight) for i in measured.items] == [(8.0, 11.0)]
