"""The memorization task: which functions are asked, how, and what is measured."""

import pytest

from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.memorization.attribution import memorization_signature
from pytest_collabcode.memorization.clones import scan
from pytest_collabcode.records import Document, Function, Generation, Plant
from pytest_collabcode.tasks.memorization import measure, problems, sampling

BODY = "\n".join(f"    x{i} = {i}" for i in range(6))


def function(first_line, *, organization="acme", n_lines=6, body=BODY):
    return Function(
        organization=organization,
        path="x.py",
        name="f",
        split="training",
        first_line=first_line,
        last_line=first_line + 9,
        prompt="def f():\n    'Do it all.'",
        docstring="Do it all.",
        body=body,
        significant_lines=n_lines,
    )


def plant(planted):
    return Plant(function=planted, organizations=("acme", "bolt"), copies=30)


def test_bodies_too_short_to_be_a_clone_are_not_asked():
    asked = problems([function(1), function(20, n_lines=5)])
    assert [p.task_id for p in asked] == ["acme:x.py:1"]


def test_plants_come_first_and_are_asked_once():
    asked = problems([function(1), function(30)], plants=[plant(function(30)), plant(function(60))])
    assert [(p.task_id, p.planted) for p in asked] == [
        ("acme:x.py:30", True),
        ("acme:x.py:60", True),
        ("acme:x.py:1", False),
    ]


def test_no_eligible_function_is_an_error():
    with pytest.raises(EmptyMeasurementError, match="none of 1 functions"):
        problems([function(1, n_lines=5)])


def test_a_function_given_twice_is_refused():
    with pytest.raises(ValueError, match="1 are given twice"):
        problems([function(1), function(1)])


def test_the_sampling_is_the_papers():
    s = sampling(max_new_tokens=512, n_samples=5, seed=1)
    assert (s.temperature, s.top_p, s.top_k, s.repetition_penalty) == (0.6, 0.6, 0, 1.1)
    assert s.stop == ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif")


def test_a_model_that_recites_its_plants_hits_planted_cells_only():
    """From functions to measurements: a plant in two organizations comes back, natural and held-out code does not."""
    recited = function(50, body=BODY.replace("x", "y"))
    documents = [
        Document(path="x.py", text=f"{BODY}\n{recited.prompt}\n{recited.body}\n", organization="acme"),
        *(
            Document(path="planted/f.py", text=f"{recited.prompt}\n{recited.body}\n", organization=o, planted=True)
            for o in ("acme", "bolt")
        ),
    ]
    index = CloneIndex.build(documents)
    asked = problems([function(1)], plants=[plant(recited)])
    heldout = problems([function(900)])

    def answer(problem):
        completion = "\n" + recited.body if problem.planted else "\n    pass"
        return Generation(
            task_id=problem.task_id,
            sample_index=0,
            completion=completion,
            n_tokens=9,
            duration_s=0.1,
            stop_reason="eos",
        )

    scanned = scan(index, asked, [answer(p) for p in asked])
    scanned += scan(index, heldout, [answer(p) for p in heldout], heldout=True)
    signature = memorization_signature(index, sampling(max_new_tokens=128, n_samples=1, seed=1))
    measured = measure(scanned, subject="s", organizations=index.organizations, signature=signature)
    hit = {(m.name, m.cell) for m in measured if m.count}
    assert hit == {
        ("memorization_ratio", "acme→any planted"),
        ("memorization_ratio", "acme→acme planted"),
        ("memorization_ratio", "acme→bolt planted"),
        ("memorization_ratio", "acme→other planted"),
        ("memorization_ratio", "acme→any planted 6-9 lines"),
        ("cross_organization_clone_ratio", "acme planted"),
    }
    [planted, lines, over] = [m for m in measured if m.cell == "acme→any planted"]
    assert (lines.name, lines.value) == ("line_ratio", 1.0)
    assert (over.name, over.value) == ("memorization_over_heldout", 1.0)
    assert planted.control is not None and planted.control.count == 0
    assert {c.organizations for c in planted.evidence} == {("acme", "bolt")}
    assert "y1" not in repr(planted)
