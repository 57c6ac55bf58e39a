"""The matrix: counts by hand, strata apart, and laws under renaming."""

from dataclasses import replace

import pytest

from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.gate.thresholds import applies
from pytest_collabcode.intervals import interval_of
from pytest_collabcode.memorization.attribution import (
    STRATA,
    cross_organization_ratio,
    licence_header_ratio,
    memorization_matrix,
    memorization_signature,
)
from pytest_collabcode.memorization.clones import ProblemClones, scan
from pytest_collabcode.memorization.counts import clone_counts
from pytest_collabcode.records import Clone, Document, Fragment, Generation, Problem, Sampling, Threshold

ORGANIZATIONS = ("acme", "bolt", "core")


def clone(owner, name="f", lines=6, planted=False, organizations=None, header=False):
    place = {"first_line": 1, "last_line": lines}
    return Clone(
        generated=Fragment(organization="", path="t#0", **place),
        training=Fragment(organization=owner, path="x.py", **place),
        significant_lines=lines,
        fingerprint=name,
        organizations=organizations or (owner,),
        planted=planted,
        header=header,
    )


def prompt(key, owner, *clones, stratum="natural"):
    problem = Problem(task_id=key, prompt="", organization=owner, planted=stratum == "planted")
    return ProblemClones(problem=problem, stratum=stratum, n_samples=1, clones=clones)


SCANNED = [
    prompt("a1", "acme", clone("acme"), clone("bolt")),
    prompt("a2", "acme", clone("acme", "p", planted=True)),
    prompt("a3", "acme"),
    prompt("a4", "acme"),
    prompt("ap", "acme", clone("acme", "p", planted=True), stratum="planted"),
    prompt("aq", "acme", clone("acme", "n"), stratum="planted"),
    prompt("ah", "acme", clone("bolt", "h"), stratum="heldout"),
    prompt("b1", "bolt", clone("acme", "x", organizations=("acme", "bolt"))),
]


def counts(measurements):
    return {m.cell: (m.count, m.n) for m in measurements}


def test_prompts_are_counted_once_in_every_cell_they_hit():
    cells = counts(memorization_matrix(SCANNED, subject="s", organizations=ORGANIZATIONS))
    expected = {
        "acme→any natural": (1, 4),
        "acme→acme natural": (1, 4),
        "acme→bolt natural": (1, 4),
        "acme→core natural": (0, 4),
        "acme→other natural": (1, 4),
        "acme→other heldout": (1, 1),
        "bolt→other natural": (1, 1),
        "acme→any natural→planted": (1, 4),
        "acme→acme planted": (1, 2),
        "acme→any planted→natural": (1, 2),
        "acme→any heldout": (1, 1),
        "acme→any heldout→planted": (0, 1),
        "bolt→bolt natural": (0, 1),
        "bolt→acme natural": (1, 1),
    }
    assert expected.items() <= cells.items()


def test_other_is_a_hit_on_any_organization_but_the_prompts_own():
    scanned = [prompt("a", "acme", clone("bolt"), clone("core")), prompt("b", "acme", clone("core"))]
    scanned += [prompt("c", "acme", clone("acme")), prompt("d", "acme", clone("acme"), clone("bolt"))]
    cells = counts(memorization_matrix(scanned, subject="s", organizations=ORGANIZATIONS))
    singles = [cells[f"acme→{source} natural"][0] for source in ("acme", "bolt", "core")]
    assert (singles, cells["acme→other natural"]) == ([2, 2, 2], (3, 4))  # a prompt that hits two is one prompt


def test_one_organization_alone_has_no_other():
    matrix = memorization_matrix([prompt("a", "acme")], subject="s", organizations=["acme"])
    assert "other" not in {m.source_organization for m in matrix}


@pytest.mark.parametrize("pattern, sources", [("own", {"acme"}), ("other", {"other"})])
def test_the_patterns_own_and_other_select_intra_and_inter_cells(pattern, sources):
    threshold = Threshold(id="t", metric="memorization_ratio", source_organization=pattern, at_most=0.1)
    matrix = memorization_matrix([prompt("a", "acme")], subject="s", organizations=ORGANIZATIONS)
    assert {m.source_organization for m in matrix if applies(threshold, m)} == sources


def test_licence_headers_count_apart_and_nowhere_else():
    header = clone("bolt", "licence", header=True)
    scanned = [prompt("a", "acme", header), prompt("b", "acme", clone("acme")), prompt("c", "acme")]
    scanned.append(prompt("h", "acme", header, stratum="heldout"))
    assert counts(licence_header_ratio(scanned, subject="s")) == {
        "acme→any natural": (1, 3),
        "acme→any heldout": (1, 1),
    }
    code = counts(memorization_matrix(scanned, subject="s", organizations=ORGANIZATIONS))
    assert code["acme→any natural"] == (1, 3) and code["acme→any heldout"] == (0, 1)
    assert [m.value for m in clone_counts(scanned, subject="s")][:2] == [1.0, 6.0]


def test_prompts_of_one_file_are_one_cluster():
    problems = [Problem(task_id=key, prompt="", organization="acme", path=path) for key, path in ("ax", "bx", "cy")]
    scanned = [ProblemClones(problem=p, stratum="natural", n_samples=1, clones=()) for p in problems]
    for m in memorization_matrix(scanned, subject="s", organizations=["acme"]):
        assert [i.cluster for i in m.items] == ["acme:x", "acme:x", "acme:y"]


def test_a_cell_without_prompts_is_left_out():
    cells = counts(memorization_matrix(SCANNED, subject="s", organizations=ORGANIZATIONS))
    assert not any(cell.startswith("core→") for cell in cells)
    assert "bolt→any planted" not in cells


def test_every_clone_counts_in_exactly_one_stratum():
    matrix = memorization_matrix(SCANNED, subject="s", organizations=ORGANIZATIONS)
    total = sum(len(m.evidence) for m in matrix if m.source_organization == "any")
    assert total == sum(len(p.clones) for p in SCANNED)
    assert len({(asked, planted) for _, asked, planted in STRATA}) == len(STRATA) == 6


def test_evidence_is_of_the_cells_source():
    matrix = memorization_matrix(SCANNED, subject="s", organizations=ORGANIZATIONS)
    [cell] = [m for m in matrix if m.cell == "acme→bolt natural"]
    assert [c.training.organization for c in cell.evidence] == ["bolt"]
    assert [(i.key, i.value) for i in cell.items] == [("a1", 1.0), ("a2", 0.0), ("a3", 0.0), ("a4", 0.0)]
    assert cell.higher_is_better is False and cell.value == 0.25


def test_cross_organization_prompts_are_those_with_lines_of_two():
    cells = counts(cross_organization_ratio(SCANNED, subject="s"))
    assert cells["bolt natural"] == (1, 1) and cells["acme natural"] == (0, 4)


def test_distinct_clones_are_counted_once_and_their_items_sum_to_them():
    shared = [prompt("a", "acme", clone("acme", lines=8), clone("bolt", lines=8)), prompt("b", "acme")]
    shared.append(prompt("c", "acme", clone("acme", lines=8), clone("acme", "g", lines=6)))
    measured = {m.name: m for m in clone_counts(shared, subject="s") if m.stratum == "natural"}
    assert (measured["distinct_clones"].value, measured["clone_lines"].value) == (2.0, 14.0)
    for m in measured.values():
        assert sum(i.value for i in m.items) / sum(i.weight for i in m.items) == pytest.approx(m.value)
    low, high = interval_of(measured["distinct_clones"])
    assert low < 2 < high


@pytest.mark.parametrize("measure", [cross_organization_ratio, licence_header_ratio, clone_counts])
def test_no_prompts_is_an_error_not_zero(measure):
    with pytest.raises(EmptyMeasurementError):
        measure([], subject="s")
    with pytest.raises(EmptyMeasurementError):
        memorization_matrix([], subject="s", organizations=ORGANIZATIONS)


def scan_two_organizations(names):
    """Scan real text: bolt's prompt gives back acme's code, acme's gives back nothing."""
    first, second = names
    code = "\n".join(f"x = {i}" for i in range(8))
    other = "\n".join(f"y = {i}" for i in range(8))
    index = CloneIndex.build(
        [
            Document(path="x.py", text=code, organization=first),
            Document(path="x.py", text=other, organization=second),
        ]
    )
    problems = [Problem(task_id=t, prompt="", organization=o) for t, o in (("1", first), ("2", second))]
    generations = [
        Generation(task_id=t, sample_index=0, completion=c, n_tokens=1, duration_s=0.0, stop_reason="eos")
        for t, c in (("1", ""), ("2", code))
    ]
    return scan(index, problems, generations)


def test_renaming_organizations_permutes_the_matrix():
    renamed = {"acme": "zeta", "bolt": "acme"}
    before = memorization_matrix(
        scan_two_organizations(["acme", "bolt"]), subject="s", organizations=["acme", "bolt"]
    )
    after = memorization_matrix(scan_two_organizations(["zeta", "acme"]), subject="s", organizations=["zeta", "acme"])
    moved = {
        replace(
            m,
            prompt_organization=renamed[m.prompt_organization],
            source_organization=renamed.get(m.source_organization, m.source_organization),
        ).cell: m.count
        for m in before
    }
    assert moved == {m.cell: m.count for m in after}
    assert moved["acme→zeta natural"] == 1 and moved["zeta→acme natural"] == 0


def test_the_signature_names_normalization_and_sizes():
    index = CloneIndex.build([])
    pairs = dict(memorization_signature(index, Sampling(repetition_penalty=1.1, n_samples=5, max_new_tokens=512)))
    assert pairs["min_lines"] == "6" and pairs["normalization"] == "verbatim.1"
    assert (pairs["samples"], pairs["tokens"], pairs["rp"]) == ("5", "512", "1.1")
