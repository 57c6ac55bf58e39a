"""Controls: held-out cells find their partners, and lifts are paired."""

import math

import pytest

from pytest_collabcode.intervals import clopper_pearson, interval_of
from pytest_collabcode.memorization.attribution import memorization_matrix
from pytest_collabcode.memorization.clones import ProblemClones
from pytest_collabcode.memorization.controls import against_control, memorization_lift, with_heldout_controls
from pytest_collabcode.records import Clone, Fragment, Measurement, Problem

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
    assert low < high < 1.0


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.8, 0.95])
def test_the_lower_bound_of_a_lift_holds_in_95_of_100_experiments(rate):
    covered = 0.0
    for hits in range(21):  # every outcome of 20 prompts, the control hitting none
        [lift] = memorization_lift(prompts([i < hits for i in range(20)]), prompts([0] * 20), subject="s")
        if interval_of(lift)[0] <= rate:
            covered += math.comb(20, hits) * rate**hits * (1 - rate) ** (20 - hits)
    assert covered >= 0.95


def test_a_model_has_no_lift_over_itself():
    [lift] = memorization_lift(prompts([1, 0] * 50), prompts([1, 0] * 50), subject="s")
    low, high = interval_of(lift)
    assert lift.value == 0.0 and low < 0.0 < high


def test_other_prompts_are_no_pairs():
    with pytest.raises(ValueError, match="other prompts"):
        memorization_lift(prompts([1, 0]), prompts([1]), subject="s")


def test_a_control_is_the_same_metric():
    with pytest.raises(ValueError, match="control='b'"):
        against_control(Measurement(name="a", subject="s", value=0.0), Measurement(name="b", subject="s", value=0.0))
