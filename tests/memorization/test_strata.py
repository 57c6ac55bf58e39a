"""Finer strata: a prompt has one length, a clone one range of copies, and coarse thresholds pass their names by."""

from fnmatch import fnmatchcase

import pytest

from pytest_collabcode.memorization.attribution import memorization_matrix
from pytest_collabcode.memorization.clones import ProblemClones
from pytest_collabcode.memorization.counts import clone_counts
from pytest_collabcode.memorization.strata import copies_counts, length_ratios
from pytest_collabcode.records import Clone, Fragment, Problem

PLACE = Fragment(organization="acme", path="x.py", first_line=1, last_line=6)


def clone(name="f", copies=1, planted=False):
    return Clone(
        generated=PLACE, training=PLACE, significant_lines=6, fingerprint=name, copies=copies, planted=planted
    )


def prompt(key, n_lines, *clones, stratum="natural"):
    body = "\n\n".join(f"x = {i}" for i in range(n_lines))
    problem = Problem(task_id=key, prompt="", canonical_solution=body, organization="acme")
    return ProblemClones(problem=problem, stratum=stratum, n_samples=1, clones=clones)


@pytest.mark.parametrize(
    "n_lines, name",
    [(1, "1-5"), (5, "1-5"), (6, "6-9"), (9, "6-9"), (10, "10-19"), (19, "10-19"), (20, "20+"), (500, "20+")],
)
def test_a_prompt_belongs_to_the_length_of_its_true_body(n_lines, name):
    [ratio] = length_ratios([prompt("a", n_lines, clone())], subject="s")
    assert (ratio.cell, ratio.count, ratio.n) == (f"acme→any natural {name} lines", 1, 1)


def test_lengths_split_the_cells_of_the_matrix():
    scanned = [prompt(f"n{i}", i, *[clone()] * (i % 2)) for i in range(1, 30)]
    scanned += [prompt(f"p{i}", i, clone(planted=True), stratum="planted") for i in (6, 12)]
    scanned += [prompt("h", 8, clone(), stratum="heldout")]
    whole = {m.cell: m for m in memorization_matrix(scanned, subject="s", organizations=["acme"])}
    parts = length_ratios(scanned, subject="s")
    for stratum in ("natural", "planted"):
        own = [m for m in parts if m.stratum.startswith(stratum)]
        cell = whole[f"acme→any {stratum}"]
        assert (sum(m.count for m in own), sum(m.n for m in own)) == (cell.count, cell.n)
    assert {m.stratum.split()[0] for m in parts} == {"natural", "planted"}


def test_copies_split_the_distinct_clones():
    clones = [clone(str(i), copies) for i, copies in enumerate([1, 1, 2, 9, 10, 500])]
    scanned = [prompt("a", 6, *clones[:4], clone("p", 30, planted=True)), prompt("b", 6, *clones[2:])]
    found = {m.stratum: m.value for m in copies_counts(scanned, subject="s")}
    assert found == {"natural 1 copy": 2.0, "natural 2-9 copies": 2.0, "natural 10+ copies": 2.0}
    whole = next(m for m in clone_counts(scanned, subject="s") if m.stratum == "natural")
    assert sum(found.values()) == whole.value == 6.0


def test_what_an_index_did_not_count_is_said_to_be_unknown():
    found = {m.stratum: m.value for m in copies_counts([prompt("a", 6, clone(copies=0))], subject="s")}
    assert found["natural unknown copies"] == 1.0
    assert not any("unknown" in m.stratum for m in copies_counts([prompt("a", 6, clone())], subject="s"))


def test_thresholds_on_coarse_strata_do_not_select_fine_ones():
    scanned = [prompt(f"{i}", i, clone()) for i in (3, 6, 12, 30)] + [prompt("p", 6, stratum="planted")]
    fine = {m.stratum for m in (*length_ratios(scanned, subject="s"), *copies_counts(scanned, subject="s"))}
    assert len(fine) == 8
    for pattern in ("natural", "planted", "heldout"):
        assert not any(fnmatchcase(stratum, pattern) for stratum in fine)
