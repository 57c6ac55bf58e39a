"""(n, p)-discoverable follows its definition at any size, and z is the shortest clone."""

import math
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.errors import EmptyMeasurementError, MeasurementError
from pytest_collabcode.gate.catalogue import metric
from pytest_collabcode.memorization.clones import find_clones
from pytest_collabcode.memorization.extraction import (
    ScoredFunction,
    continuation,
    discoverable,
    discoverable_name,
    hit_ratios,
    is_discoverable,
    log_probability,
    shortest_clone,
)
from pytest_collabcode.records import Document, Problem, TokenScores

BODY = "    a = 1\n\n    b = 2\n    c = 3\n    d = 4\n    e = 5\n    return a  \n    # unreachable"


def scores(*log_p, width=20):
    n = len(log_p)
    starts = tuple(width * i for i in range(n))
    zeros = (0.0,) * n
    return TokenScores(starts=starts, log_probs=zeros, scheme_log_probs=log_p, means=zeros, deviations=zeros)


def function(number, log_p, *, owner="acme", stratum="natural", body=BODY):
    problem = Problem(
        task_id=f"{owner}:x.py:{number}",
        prompt="def f():",
        canonical_solution=body,
        organization=owner,
        path="x.py",
        planted=stratum == "planted",
    )
    return ScoredFunction(problem=problem, stratum=stratum, scores=scores(log_p))


def measure(functions, **more):
    options = {"n": 1000, "p": 0.5, "min_lines": 6, "subject": "s"} | more
    return discoverable(functions, **options)


@given(st.floats(-700, -1e-12), st.integers(1, 10**9), st.floats(0.001, 0.999))
def test_discoverable_is_the_definition_in_exact_arithmetic(log_p_z, n, p):
    with localcontext() as context:
        context.prec = 400
        missed = (1 - Decimal(log_p_z).exp()) ** n
        wanted = 1 - Decimal(p)
        if abs(missed - wanted) < wanted * Decimal("1e-9"):
            return  # closer than floats can tell
        assert is_discoverable(log_p_z, n=n, p=p) == (missed <= wanted)


@pytest.mark.parametrize(
    ("log_p_z", "n", "p", "expected"),
    [
        (0.0, 1, 0.999, True),
        (-math.inf, 10**18, 1e-9, False),
        (-800.0, 10**9, 0.001, False),  # p_z underflows
        (math.log(0.5), 1, 0.5, True),
        (math.log(0.5), 1, 0.51, False),
        (-1e-17, 1, 0.99, True),  # 1 - p_z vanishes
    ],
)
def test_discoverable_at_the_edges(log_p_z, n, p, expected):
    assert is_discoverable(log_p_z, n=n, p=p) is expected


@given(st.floats(-60, -0.001), st.integers(1, 10**6), st.floats(0.01, 0.98))
def test_more_samples_and_a_lower_bar_discover_no_less(log_p_z, n, p):
    if is_discoverable(log_p_z, n=n, p=p):
        assert is_discoverable(log_p_z, n=2 * n, p=p)
        assert is_discoverable(log_p_z, n=n, p=p / 2)


@pytest.mark.parametrize(("n", "p"), [(0, 0.5), (1, 0.0), (1, 1.0)])
def test_n_and_p_out_of_range_are_refused(n, p):
    with pytest.raises(ValueError, match="n is at least 1"):
        is_discoverable(-1.0, n=n, p=p)


def test_the_shortest_clone_is_a_clone_and_a_line_less_is_none():
    index = CloneIndex.build([Document(path="x.py", text=f"def f():\n{BODY}\n", organization="acme")])
    z = shortest_clone("\n" + BODY, min_lines=6)
    assert z.endswith("return a")
    assert find_clones(index, z, task_id="t", sample_index=0, prompt="def f():")
    assert not find_clones(index, z[: z.rindex("\n")], task_id="t", sample_index=0, prompt="def f():")


def test_a_body_too_short_to_be_a_clone_is_refused():
    with pytest.raises(MeasurementError, match="a body of 7 lines cannot be a clone"):
        shortest_clone("\n" + BODY, min_lines=8)


def test_the_tokens_of_z_are_those_that_begin_in_it():
    given = scores(-1.0, -2.0, -4.0)  # at characters 0, 20 and 40
    assert [log_probability(given, n) for n in (1, 20, 21, 40, 41, 999)] == [-1.0, -1.0, -3.0, -3.0, -7.0, -7.0]


def test_a_token_outside_the_nucleus_makes_a_text_impossible():
    assert log_probability(scores(-1.0, -math.inf), 99) == -math.inf


def test_nothing_scored_is_an_error_not_certainty():
    with pytest.raises(MeasurementError, match="no token"):
        log_probability(scores(), 5)


def test_functions_are_counted_by_organization_and_stratum_with_heldout_controls():
    measured = measure(
        [
            function(1, -1.0),
            function(2, -9.0),
            function(3, -1.0, stratum="planted"),
            function(4, -20.0, stratum="heldout"),
            function(5, -1.0, owner="bolt"),
        ]
    )
    found = {m.cell: (m.count, m.n, m.control and m.control.cell) for m in measured}
    assert found == {
        "acme natural": (1, 2, "acme heldout"),
        "acme planted": (1, 1, "acme heldout"),
        "acme heldout": (0, 1, None),
        "bolt natural": (1, 1, None),
    }
    natural = next(m for m in measured if m.cell == "acme natural")
    assert natural.evidence == ("acme:x.py:1",)
    assert [(i.key, i.value, i.cluster) for i in natural.items] == [
        ("acme:x.py:1", 1.0, "x.py"),
        ("acme:x.py:2", 0.0, "x.py"),
    ]
    assert dict(natural.signature) == {
        "z": "6 lines",
        "n": "1000",
        "p": "0.5",
        "counted": "one tokenization: lower bound",
    }
    assert "unreachable" not in repr(measured)


def test_a_text_that_holds_a_stop_string_is_never_drawn_whole():
    assert [m.count for m in measure([function(1, -0.1)], stop=["\n    d", ""])] == [0]
    assert [m.count for m in measure([function(1, -0.1)], stop=["# unreachable"])] == [1]  # stands behind z


def test_no_functions_are_an_error():
    with pytest.raises(EmptyMeasurementError, match="no prompts"):
        measure([])
    with pytest.raises(EmptyMeasurementError, match="near: no prompts"):
        hit_ratios("near", [], subject="s")


@pytest.mark.parametrize(("n", "p"), [(1, 0.5), (1000, 0.5), (10**6, 0.1), (500_000, 0.9), (7, 0.05)])
def test_thresholds_may_name_any_n_and_p(n, p):
    known = metric(discoverable_name(n=n, p=p))
    assert known is not None and known.family == "memorization" and known.counted


@pytest.mark.parametrize(
    "name", ["discoverable", "discoverable@n=0,p=0.5", "discoverable@n=10,p=1", "discoverable@n=1"]
)
def test_thresholds_may_not_name_what_cannot_be_measured(name):
    assert metric(name) is None


def test_a_continuation_begins_on_a_new_line():
    assert continuation(Problem(task_id="t", prompt="def f():", canonical_solution="    pass")) == "\n    pass"
