"""Copyleft hits: counts by hand, whose licence counts, and what is not known."""

import pytest

from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.gate.verdict import judge
from pytest_collabcode.memorization.clones import ProblemClones, scan
from pytest_collabcode.memorization.copyleft import copyleft_clone_ratio, licence_signature
from pytest_collabcode.records import Clone, Document, Fragment, Generation, Problem, Ruling, Threshold


def clone(licence, owner="acme", planted=False):
    place = {"first_line": 1, "last_line": 6}
    return Clone(
        generated=Fragment(organization="", path="t#0", **place),
        training=Fragment(organization=owner, path="x.py", **place),
        significant_lines=6,
        fingerprint="f",
        licence=licence,
        planted=planted,
    )


def prompt(key, owner, *clones, stratum="natural"):
    problem = Problem(task_id=key, prompt="", organization=owner, path=f"{key[0]}.py")
    return ProblemClones(problem=problem, stratum=stratum, n_samples=1, clones=clones)


SCANNED = [
    prompt("a1", "acme", clone("GPL-3.0-only"), clone("LGPL-2.1-only", "zeta")),
    prompt("a2", "acme", clone("MIT"), clone("MIT OR GPL-2.0-only")),
    prompt("a3", "acme", clone("GPL-3.0-only", planted=True)),
    prompt("a4", "acme", clone("")),
    prompt("ah", "acme", clone("MPL-2.0"), stratum="heldout"),
    prompt("z1", "zeta", clone("Acme-1.0")),
]


def test_prompts_with_copyleft_code_are_counted_once_beside_their_control():
    acme, zeta = copyleft_clone_ratio(SCANNED, subject="s", signature=(("seed", "1"),))
    assert [(m.cell, m.count, m.n) for m in (acme, zeta)] == [("acme natural", 1, 4), ("zeta natural", 0, 1)]
    assert [c.licence for c in acme.evidence] == ["GPL-3.0-only", "LGPL-2.1-only"]
    assert (acme.control.count, acme.control.n, zeta.control) == (1, 1, None)
    assert [(i.key, i.value) for i in acme.items][:2] == [("a1", 1.0), ("a2", 0.0)]
    assert acme.items[0].cluster == acme.items[1].cluster == "acme:a.py"
    assert acme.signature == (("seed", "1"),) and not acme.higher_is_better


def test_a_copyleft_ceiling_of_its_own_fails_while_the_rest_is_permissive():
    ceiling = Threshold(id="copyleft", metric="copyleft_clone_ratio", at_most=0.01)
    assert [judge(m, ceiling).outcome for m in copyleft_clone_ratio(SCANNED[:4], subject="s")] == [Ruling.FAIL]


def test_the_licence_is_that_of_the_document_the_lines_stand_in():
    lines = {name: "\n".join(f"{name} = {i}" for i in range(6)) for name in "ab"}
    documents = [
        Document(path=f"{name}.py", text=text, organization="acme", licence=licence)
        for (name, text), licence in zip(lines.items(), ("MIT", "GPL-2.0+"), strict=True)
    ]
    problems = [Problem(task_id=name, prompt="", organization="acme") for name in lines]
    generations = [
        Generation(task_id=name, sample_index=0, completion=text, n_tokens=1, duration_s=0.0, stop_reason="eos")
        for name, text in lines.items()
    ]
    [measured] = copyleft_clone_ratio(scan(CloneIndex.build(documents), problems, generations), subject="s")
    assert [(i.key, i.value) for i in measured.items] == [("a", 0.0), ("b", 1.0)]


def test_documents_of_unknown_licence_are_counted_in_the_signature():
    documents = [Document(path="x", text="", organization="acme", licence=x) for x in ("MIT", "", "GPLv2", "", "mit")]
    assert licence_signature(documents) == (("unknown_licences", "3"),)


def test_no_prompts_is_an_error_not_zero():
    with pytest.raises(EmptyMeasurementError):
        copyleft_clone_ratio([], subject="s")
