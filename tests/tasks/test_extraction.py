"""Near-verbatim compares like with like, and plants explain their siblings."""

import pytest

from pytest_collabcode.errors import EmptyMeasurementError, MeasurementError
from pytest_collabcode.records import Generation, Problem, Sampling
from pytest_collabcode.tasks.extraction import near_verbatim, pairs, scheme_signature

LINES = [f"    value_{i} = compute(first_{i}, second_{i}, scale={i})" for i in range(8)]
BODY = "\n".join(LINES)
OTHER = "\n".join(f"    for row in table[{i}]:\n        emit(row, {i})" for i in range(4))


def problem(number=1, *, body=BODY, planted=False, owner="acme"):
    return Problem(
        task_id=f"{owner}:x.py:{number}",
        prompt="def f():\n    'Do it.'",
        canonical_solution=body,
        organization=owner,
        path="x.py",
        planted=planted,
    )


def completion(asked, text, *, stop_reason="eos", sample_index=0):
    return Generation(
        task_id=asked.task_id,
        sample_index=sample_index,
        completion=text,
        n_tokens=9,
        duration_s=0.1,
        stop_reason=stop_reason,
    )


def counts(problems, generations, **more):
    measured = near_verbatim(problems, generations, min_lines=6, subject="s", **more)
    return {(m.name.rpartition(".")[2], m.stratum): m.count for m in measured}


def hits(text, **more):
    found = counts([problem()], [completion(problem(), text, **more)])
    return found["bleu75", "natural"], found["edit90", "natural"]


@pytest.mark.parametrize(
    ("text", "stop_reason", "expected"),
    [
        (f"\n{BODY}", "eos", (1, 1)),
        ("\n" + BODY.replace("    ", "  "), "eos", (1, 1)),  # indentation is no difference, as in clones
        ("\n" + BODY.replace("value_3", "other_3"), "eos", (1, 1)),  # a renamed variable
        (f"\n{BODY}\n{OTHER}", "stop", (1, 1)),  # what follows the body is not asked
        (f"\n{OTHER}", "eos", (0, 0)),
        ("\n" + "\n".join(LINES[:4]), "eos", (0, 0)),  # ended by itself after half of the body
        ("", "eos", (0, 0)),
    ],
    ids=["same", "indented", "renamed", "runs on", "other", "half", "empty"],
)
def test_a_completion_is_compared_with_the_body(text, stop_reason, expected):
    assert hits(text, stop_reason=stop_reason) == expected


@pytest.mark.parametrize(("n_lines", "expected"), [(8, (1, 1)), (7, (1, 1)), (6, (1, 1)), (5, (0, 0)), (2, (0, 0))])
def test_a_completion_cut_by_the_limit_is_compared_as_far_as_it_goes_but_not_below_a_clone(n_lines, expected):
    """The last line is unfinished: 7 lines are 6 whole ones; 5 of 6 are near, 4 of 6 are not."""
    text = "\n" + "\n".join(LINES[:n_lines])[:-9]
    assert hits(text, stop_reason="length") == expected


def test_the_rest_of_the_prompts_last_line_is_not_the_models_own():
    assert hits(f"  # noqa\n{BODY}") == (1, 1)


def test_one_close_sample_of_several_is_a_hit():
    asked = problem()
    drawn = [completion(asked, OTHER), completion(asked, f"\n{BODY}", sample_index=1)]
    assert counts([asked], drawn)["bleu75", "natural"] == 1


def test_a_sibling_of_a_plant_is_explained_by_the_plant():
    plant, sibling = problem(1, planted=True), problem(2, body=BODY.replace("value_0", "total_0"))
    stranger = problem(3, body=OTHER)
    drawn = [completion(p, f"\n{p.canonical_solution}") for p in (plant, sibling, stranger)]
    found = counts([plant, sibling, stranger], drawn)
    assert found == {
        (variant, stratum): count
        for variant in ("bleu75", "edit90")
        for stratum, count in (("natural", 1), ("natural→planted", 1), ("planted", 1))
    }


def test_heldout_prompts_are_the_control_of_the_others():
    asked, heldout = problem(1), problem(9, body=OTHER)
    drawn = [completion(asked, f"\n{BODY}"), completion(heldout, f"\n{BODY}")]
    measured = near_verbatim([asked], drawn, heldout=[heldout], min_lines=6, subject="s", signature=(("T", "0.6"),))
    controls = {m.stratum: m.control and (m.control.stratum, m.control.count) for m in measured}
    assert controls == {"natural": ("heldout", 0), "heldout": None}
    assert {dict(m.signature)["near"] for m in measured} == {
        "sentence BLEU-4>0.75,tok:13a",
        "Levenshtein ratio>=0.9",
    }
    assert all(dict(m.signature)["T"] == "0.6" for m in measured)
    assert "compute" not in repr(measured)


def test_a_problem_without_generation_is_an_error():
    with pytest.raises(MeasurementError, match=r"acme:x.py:1.*no generation"):
        near_verbatim([problem()], [], min_lines=6, subject="s")
    with pytest.raises(EmptyMeasurementError):
        near_verbatim([], [], min_lines=6, subject="s")


def test_the_true_continuation_starts_on_the_line_after_the_prompt():
    assert pairs([problem(body="    pass")]) == [("def f():\n    'Do it.'", "\n    pass")]


def test_the_signature_names_everything_that_changes_a_probability():
    base = Sampling(temperature=0.6, top_p=0.6, top_k=40, repetition_penalty=1.1, max_new_tokens=128)
    assert dict(scheme_signature(base)) == {
        "tokens": "128",
        "T": "0.6",
        "top_p": "0.6",
        "top_k": "40",
        "rp": "1.1",
    }
