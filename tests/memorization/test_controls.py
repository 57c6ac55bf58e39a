"""Controls: held-out cells find their partners, lifts are paired, and bounds of differences keep their promise."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, multinomial

from pytest_collabcode.gate.verdict import judge
from pytest_collabcode.intervals import clopper_pearson, interval_of
from pytest_collabcode.memorization.attribution import memorization_matrix
from pytest_collabcode.memorization.clones import ProblemClones
from pytest_collabcode.memorization.controls import (
    against_control,
    memorization_lift,
    over_heldout,
    with_heldout_controls,
)
from pytest_collabcode.records import Clone, Fragment, Measurement, Problem, Ruling, Threshold

PLACE = Fragment(organization="acme", path="x.py", first_line=1, last_line=6)


def prompts(hits, stratum="planted"):
    clone = Clone(generated=PLACE, training=PLACE, significant_lines=6, fingerprint="f", planted=stratum == "planted")
    return [
        ProblemClones(
            problem=Problem(task_id=str(i), prompt="", organization="acme"),
            stratum=stratum,
            n_samples=1,
            clones=(clone,) if hit else (),
        )
        for i, hit in enumerate(hits)
    ]


def test_natural_and_planted_cells_get_the_heldout_cell_of_the_same_code():
    scanned = prompts([1, 0], "natural") + prompts([1]) + prompts([0, 0, 0], "heldout")
    cells = with_heldout_controls(memorization_matrix(scanned, subject="s", organizations=["acme"]))
    controls = {m.cell: m.control.cell for m in cells if m.control is not None}
    assert controls == {
        "acme→any natural": "acme→any heldout",
        "acme→acme natural": "acme→acme heldout",
        "acme→any planted": "acme→any heldout→planted",
        "acme→acme planted": "acme→acme heldout→planted",
    }


def test_a_lift_is_the_paired_difference_of_hits():
    [lift] = memorization_lift(prompts([1, 1, 1, 0]), prompts([0, 1, 0, 0]), subject="s")
    assert lift.value == 0.5
    assert [i.value for i in lift.items] == [1.0, 0.0, 1.0, 0.0]
    low, high = interval_of(lift)
    assert low < 0.5 < high


def test_twenty_hits_in_twenty_prompts_are_not_certainty():
    [lift] = memorization_lift(prompts([1] * 20), prompts([0] * 20), subject="s")
    low, high = interval_of(lift)
    assert 0.7 < low < clopper_pearson(20, 20)[0]  # two unknown rates are less certain than one
    assert low < high == 1.0


N = 20
OUTCOMES = [(more, fewer) for more in range(N + 1) for fewer in range(N + 1 - more)]


@pytest.fixture(scope="module")
def bounds():
    """The interval of every outcome of 20 paired prompts."""
    return np.array([interval_of(lift_of(more, fewer)) for more, fewer in OUTCOMES])


def lift_of(more, fewer):
    ours = prompts([1] * more + [0] * (N - more))
    theirs = prompts([0] * more + [1] * fewer + [0] * (N - more - fewer))
    return memorization_lift(ours, theirs, subject="s")[0]


@pytest.mark.parametrize("more", [0.0, 0.01, 0.05, 0.1, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("fewer", [0.0, 0.01, 0.05, 0.1, 0.3])
def test_both_bounds_of_a_lift_hold_in_95_of_100_experiments(bounds, more, fewer):
    """Exact, over all outcomes. Draws under Jeffreys' prior, used before, held in 81 at worst (0.08, 0)."""
    rates = multinomial(N, [more, fewer, max(1 - more - fewer, 0.0)])
    chances = np.array([rates.pmf([a, b, N - a - b]) for a, b in OUTCOMES])
    lift = more - fewer
    assert chances[bounds[:, 0] <= lift + 1e-12].sum() >= 0.95
    assert chances[bounds[:, 1] >= lift - 1e-12].sum() >= 0.95


def ratio(count, n, stratum="natural"):
    return Measurement(
        name="memorization_ratio", subject="s", value=count / n, count=count, n=n, stratum=stratum,
        prompt_organization="acme", source_organization="any", higher_is_better=False,
    )  # fmt: skip


def difference(count, n, heldout, n_heldout):
    [over] = over_heldout([replace(ratio(count, n), control=ratio(heldout, n_heldout, "heldout"))])
    return over


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("heldout", [0.01, 0.05, 0.2])
def test_both_bounds_over_heldout_hold_in_95_of_100_experiments(rate, heldout):
    n, n_heldout = 20, 10
    for low_or_high in (0, 1):
        held = 0.0
        for a in range(n + 1):
            for b in range(n_heldout + 1):
                bound = OVER_HELDOUT[a, b][low_or_high]
                fits = bound <= rate - heldout + 1e-12 if low_or_high == 0 else bound >= rate - heldout - 1e-12
                held += fits * binom.pmf(a, n, rate) * binom.pmf(b, n_heldout, heldout)
        assert held >= 0.95


OVER_HELDOUT = {(a, b): interval_of(difference(a, 20, b, 10)) for a in range(21) for b in range(11)}


def test_over_heldout_is_the_difference_of_the_two_ratios():
    over = difference(8, 20, 3, 30)
    assert over.name == "memorization_over_heldout" and over.cell == "acme→any natural"
    assert over.value == pytest.approx(0.3) and over.count is None
    assert ("heldout_prompts", "30") in over.signature
    low, high = interval_of(over)
    assert low < 0.3 < high


def test_what_heldout_prompts_hit_as_often_is_no_memorization():
    boilerplate, memorized = difference(30, 100, 30, 100), difference(30, 100, 0, 100)
    ceiling = Threshold(id="t", metric="memorization_over_heldout", at_most=0.15)
    assert judge(boilerplate, ceiling).outcome is Ruling.PASS
    assert judge(memorized, ceiling).outcome is Ruling.FAIL


def test_files_widen_a_difference_to_heldout_too():
    def scanned(n_files):
        hits = [1] * 10 + [0] * 90
        natural = [
            replace(p, problem=replace(p.problem, path=f"{i * n_files // 100}.py"))
            for i, p in enumerate(prompts(hits, "natural"))
        ]
        matrix = memorization_matrix(natural + prompts([0] * 30, "heldout"), subject="s", organizations=["acme"])
        return over_heldout(with_heldout_controls(matrix))[0]

    assert interval_of(scanned(10))[1] > interval_of(scanned(100))[1] + 0.05


def test_only_ratios_with_a_control_have_a_difference():
    assert over_heldout([ratio(1, 10), replace(ratio(1, 10), name="line_ratio", control=ratio(0, 10))]) == []


def test_a_model_has_no_lift_over_itself():
    [lift] = memorization_lift(prompts([1, 0] * 50), prompts([1, 0] * 50), subject="s")
    low, high = interval_of(lift)
    assert lift.value == 0.0 and low < 0.0 < high


def test_a_ceiling_may_judge_a_lift():
    ceiling = Threshold(id="t", metric="memorization_lift", at_most=0.05)
    [none] = memorization_lift(prompts([0] * 100), prompts([0] * 100), subject="s")
    assert judge(none, ceiling).outcome is Ruling.PASS
    assert interval_of(none)[1] == pytest.approx(clopper_pearson(0, 100)[1])
    [some] = memorization_lift(prompts([1] * 3 + [0] * 97), prompts([0] * 100), subject="s")
    assert judge(some, ceiling).outcome is Ruling.FAIL


def test_a_lift_over_another_control_has_its_own_name():
    [over] = memorization_lift(prompts([1, 0]), prompts([0, 0]), subject="s", name="memorization_over_base")
    assert over.name == "memorization_over_base" and over.value == 0.5


def test_other_prompts_are_no_pairs():
    with pytest.raises(ValueError, match="other prompts"):
        memorization_lift(prompts([1, 0]), prompts([1]), subject="s")


def test_a_control_is_the_same_metric():
    with pytest.raises(ValueError, match="control='b'"):
        against_control(Measurement(name="a", subject="s", value=0.0), Measurement(name="b", subject="s", value=0.0))
