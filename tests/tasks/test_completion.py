"""The completion task: the cut is the same on both sides, and perfect answers score perfectly."""

import pytest

from pytest_collabcode.errors import EmptyMeasurementError, MeasurementError
from pytest_collabcode.records import Function, Generation
from pytest_collabcode.tasks.completion import MAX_LINES, cut, measure, problems, sampling

BODIES = ["    return a + b", "\n".join(f"    x{i} = f({i}, y)" for i in range(20))]
GREEDY = sampling(max_new_tokens=128, seed=1)


def function(first_line, body):
    return Function(
        organization="acme",
        path="x.py",
        name="f",
        split="heldout",
        first_line=first_line,
        last_line=first_line + 9,
        prompt="def f():\n    'Do it all.'",
        docstring="Do it all.",
        body=body,
        significant_lines=body.count("\n") + 1,
    )


def answers(problems, completions):
    return [
        Generation(task_id=p.task_id, sample_index=0, completion=c, n_tokens=1, duration_s=0.0, stop_reason="stop")
        for p, c in zip(problems, completions, strict=True)
    ]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("\n    a\n\n    b  \n", "    a\n    b"),  # blank lines and trailing white space go
        ("\n    a\nclass B:\n    b", "    a"),  # the function has ended
        (" rest\n    a", "    a"),  # the first line was begun by the prompt
        ("", ""),
        ("\nx = 1", ""),
        ("\n\ta\n\t\tb", "\ta\n\t\tb"),
    ],
)
def test_the_cut(text, expected):
    assert cut(text, prompt="def f():") == expected


def test_both_sides_are_cut_to_the_same_lines():
    asked = problems([function(1, BODIES[1])])
    assert asked[0].canonical_solution.count("\n") == MAX_LINES - 1
    by_name = {m.name: m for m in measure(asked, answers(asked, ["\n" + BODIES[1]]), subject="s", sampling=GREEDY)}
    assert by_name["exact_match"].value == 1.0


def test_true_bodies_score_full_marks_and_silence_none():
    asked = problems([function(i, body) for i, body in enumerate(BODIES, start=1)])
    full = measure(asked, answers(asked, ["\n" + b for b in BODIES]), subject="s", sampling=GREEDY)
    none = measure(asked, answers(asked, ["", "\n"]), subject="s", sampling=GREEDY)
    assert [m.value for m in full] == pytest.approx([100, 100, 1, 1])
    assert [m.value for m in none] == [0, 0, 0, 0]
    assert dict(full[0].signature)["lines"] == "8" and dict(full[0].signature)["problems"] == "2"


def test_generations_may_come_in_any_order():
    asked = problems([function(i, body) for i, body in enumerate(BODIES, start=1)])
    generations = answers(asked, ["\n    return a", "\n    pass"])
    forward, backward = (measure(asked, g, subject="s", sampling=GREEDY) for g in (generations, generations[::-1]))
    assert forward == backward


def test_a_missing_generation_is_refused():
    asked = problems([function(1, BODIES[0])])
    with pytest.raises(MeasurementError, match=r"acme:x\.py:1"):
        measure(asked, [], subject="s", sampling=GREEDY)


def test_functions_without_a_body_are_nothing_to_measure():
    with pytest.raises(EmptyMeasurementError):
        problems([function(1, "")])
