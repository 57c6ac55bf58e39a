"""Near copies in completions: whose body, which lines, planted or natural, and the matrix made of them."""

from __future__ import annotations

import pytest

from pytest_collabcode.clones.bodies import bodies_of
from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.clones.near import NearIndex
from pytest_collabcode.errors import EmptyMeasurementError, MeasurementError
from pytest_collabcode.memorization.attribution import memorization_signature
from pytest_collabcode.memorization.clones import scan
from pytest_collabcode.memorization.near import near_clone_ratio, near_clones, near_scan
from pytest_collabcode.records import Clone, Document, Generation, Problem, Sampling

PROMPT = "def f(path):\n    '''Read.'''"


def lines(tag: str, n: int = 10) -> list[str]:
    return [f"    {tag}{i} = call(path, {i})" for i in range(n)]


def document(tag: str, owner: str, path: str = "x.py", *, planted: bool = False, licence: str = "MIT") -> Document:
    text = "\n".join([PROMPT, *lines(tag), ""])
    return Document(path=path, text=text, organization=owner, planted=planted, licence=licence)


def index(*documents: Document) -> NearIndex:
    return NearIndex.build(body for d in documents for body in bodies_of(d))


def found(near: NearIndex, completion: str) -> list[Clone]:
    return near_clones(near, completion, task_id="t", sample_index=2, prompt=PROMPT)


def test_a_changed_line_leaves_a_near_copy_where_no_run_of_lines_is_left() -> None:
    own = lines("a")
    own[5] = "    other = 1"
    completion = "\n" + "\n".join(own) + "\n    further = 1\n"
    source = document("a", "acme", licence="GPL-3.0-only")
    [clone] = found(index(source), completion)
    assert (str(clone.generated), str(clone.training)) == ("t#2:2-11", "acme:x.py:3-12")
    assert (clone.significant_lines, clone.licence, clone.copies, clone.crosses) == (10, "GPL-3.0-only", 1, False)
    generation = Generation(
        task_id="t", sample_index=0, completion=completion, n_tokens=0, duration_s=0.0, stop_reason="eos"
    )
    problem = Problem(task_id="t", prompt=PROMPT, organization="acme")
    assert scan(CloneIndex.build([source]), [problem], [generation])[0].clones == ()


def test_the_rest_of_the_prompts_last_line_is_no_output() -> None:
    own = lines("a")
    near = index(document("a", "acme"))
    [clone] = found(near, "  # rest\n" + "\n".join(own))
    assert clone.generated.first_line == 2
    assert found(near, "x = [" + ", ".join(own) + "]") == []


def test_each_organization_gives_its_body_most_alike() -> None:
    near = index(
        document("a", "zeta"), document("a", "acme", "z.py"), document("a", "acme", "b.py"), document("c", "core")
    )
    clones = found(near, "\n" + "\n".join(lines("a")))
    assert [str(c.training) for c in clones] == ["acme:b.py:3-12", "zeta:x.py:3-12"]
    assert all(c.crosses and c.organizations == ("acme", "zeta") and c.copies == 3 for c in clones)


def test_what_is_like_a_plant_is_planted_wherever_it_stands() -> None:
    planted = document("a", "acme", "planted/f.py", planted=True)
    natural = document("a", "zeta")
    completion = "\n" + "\n".join(lines("a"))
    assert [c.planted for c in found(index(natural), completion)] == [False]
    assert [c.planted for c in found(index(natural, planted), completion)] == [True, True]


@pytest.mark.parametrize("completion", ["", "\n", " -> None:", "\n    return 1", "\n" + "\n".join(lines("b"))])
def test_other_completions_have_no_near_clones(completion: str) -> None:
    assert found(index(document("a", "acme")), completion) == []
    assert found(index(), completion) == []


def test_no_code_stands_in_the_evidence() -> None:
    clones = found(index(document("secret", "acme")), "\n" + "\n".join(lines("secret")))
    assert len(clones) == 1 and "secret" not in repr(clones)


# --- the matrix

PROBLEMS = [Problem(task_id=f"t{n}", prompt=PROMPT, organization="acme", path="x.py") for n in range(4)]


def generations(*tags: str, n_samples: int = 1) -> list[Generation]:
    return [
        Generation(
            task_id=f"t{n}",
            sample_index=i,
            completion="\n" + "\n".join(lines(tag if i == n_samples - 1 else "none")),
            n_tokens=0,
            duration_s=0.0,
            stop_reason="eos",
        )
        for n, tag in enumerate(tags)
        for i in range(n_samples)
    ]


@pytest.mark.parametrize("n_samples", [1, 3])
def test_prompts_with_a_near_copy_in_any_sample_are_counted_against_heldout_ones(n_samples: int) -> None:
    near = index(document("a", "acme"), document("b", "bolt"))
    empty = CloneIndex.build([])
    asked = generations("a", "b", "c", "a", n_samples=n_samples)
    control = generations("b", "c", n_samples=n_samples)
    prompts = near_scan(near, scan(empty, PROBLEMS, asked), asked)
    prompts += near_scan(near, scan(empty, PROBLEMS[:2], control, heldout=True), control)
    signature = memorization_signature(near, Sampling(n_samples=n_samples))
    measured = near_clone_ratio(prompts, subject="s", organizations=["acme", "bolt"], signature=signature)
    counts = {m.cell: (m.count, m.n) for m in measured}
    assert counts["acme→any natural"] == (3, 4)
    assert counts["acme→acme natural"] == (2, 4)
    assert counts["acme→bolt natural"] == (1, 4)
    assert counts["acme→any heldout"] == (1, 2)
    assert {m.name for m in measured} == {"near_clone_ratio"}
    controls = {m.source_organization: m.control for m in measured if m.stratum == "natural"}
    for source, count in (("any", 1), ("acme", 0), ("bolt", 1)):
        control = controls[source]
        assert control and (control.name, control.stratum, control.count) == ("near_clone_ratio", "heldout", count)
    assert dict(measured[0].signature)["clones"] == "type-3"
    assert dict(measured[0].signature)["samples"] == str(n_samples)


def test_prompts_need_as_many_generations_as_were_scanned() -> None:
    asked = generations("a", "b", "c", "a")
    with pytest.raises(MeasurementError, match="task_id='t3': 0 generations where 1"):
        near_scan(index(), scan(CloneIndex.build([]), PROBLEMS, asked), asked[:3])


def test_nothing_measured_is_no_zero() -> None:
    with pytest.raises(EmptyMeasurementError):
        near_clone_ratio([], subject="s", organizations=["acme"])
