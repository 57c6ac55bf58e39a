"""Timings become measurements whose interval and signature say how far they can be trusted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.intervals import interval_of
from pytest_collabcode.throughput.clock import PairedTiming
from pytest_collabcode.throughput.device import Device
from pytest_collabcode.throughput.measure import (
    Conditions,
    Scale,
    peak_memory,
    speedup,
    throughput,
    time_to_first_token,
    utilization,
)

CONDITIONS = Conditions(
    device=Device(name="Some CPU", driver="avx2", cores=2), dtype="float32", threads=1, timer="process_time", work="w"
)


def test_a_rate_is_the_median_over_rounds_with_its_interval() -> None:
    found = throughput("generation", "s", n_tokens=100, rounds_s=[1.0, 2.0, 4.0, 2.0, 2.0], conditions=CONDITIONS)
    low, high = interval_of(found)
    assert (found.name, found.value, found.unit) == ("generation_throughput", 50.0, "tokens/s")
    assert 25.0 <= low <= 50.0 <= high <= 100.0 and low < high


def test_a_speedup_pairs_rounds_before_it_aggregates() -> None:
    timing = PairedTiming(ours_s=(1.0, 10.0, 100.0), reference_s=(2.0, 20.0, 200.0), timer="t")  # a drifting machine
    found = speedup("training", "s", timing=timing, reference="plain loop", conditions=CONDITIONS)
    assert found.value == 2.0 and interval_of(found) == (2.0, 2.0)
    assert found.signature[0] == ("reference", "plain loop")


def test_the_signature_says_how_it_was_measured() -> None:
    found = throughput("training", "s", n_tokens=1, rounds_s=[1.0], conditions=replace(CONDITIONS, engine="llama"))
    expected = {
        "device": CONDITIONS.device.key,
        "dtype": "float32",
        "threads": "1",
        "timer": "process_time",
        "work": "w",
        "engine": "llama",
    }
    assert dict(found.signature) == {**expected, "rounds": "1"}


def test_a_time_is_better_when_it_is_shorter() -> None:
    found = time_to_first_token("s", prompts_s=[0.2, 0.1, 0.9], conditions=CONDITIONS)
    low, high = interval_of(found)
    assert (found.value, found.unit, found.higher_is_better) == (0.2, "s", False) and low < high


def test_a_fraction_pairs_each_rounds_work_with_its_seconds() -> None:
    found = utilization("decode_mbu", "s", work=[30.0, 60.0], seconds=[1.0, 2.0], best=60.0, conditions=CONDITIONS)
    assert (found.name, found.value, found.unit, found.stratum) == ("decode_mbu", 0.5, "ratio", "")
    with pytest.raises(ValueError):
        utilization("decode_mbu", "s", work=[30.0], seconds=[1.0, 2.0], best=60.0, conditions=CONDITIONS)


@pytest.mark.parametrize(
    ("device", "dtype", "names"),
    [
        ("Some CPU", "float32", ["x_mfu", "x_mbu"]),
        ("NVIDIA L4", "bfloat16", ["x_mfu", "x_mfu_of_data_sheet", "x_mbu", "x_mbu_of_data_sheet"]),
        ("NVIDIA L4", "int4", ["x_mfu", "x_mbu"]),
    ],
)
def test_a_data_sheet_that_is_not_known_gives_no_number(device: str, dtype: str, names: list[str]) -> None:
    conditions = replace(CONDITIONS, device=Device(name=device), dtype=dtype)
    scale = Scale(subject="s", conditions=conditions, flops_per_s=60.0, bytes_per_s=30.0)
    found = [*scale.mfu("x", [30.0], [1.0]), *scale.mbu("x", [30.0], [1.0])]
    assert [m.name for m in found] == names
    assert [m.value for m in found if m.name in ("x_mfu", "x_mbu")] == [0.5, 1.0]
    assert len({dict(m.signature)["peak"] for m in found}) == len(names)


def test_less_memory_is_better() -> None:
    found = peak_memory("training", "s", n_bytes=1000, conditions=CONDITIONS)
    assert not found.higher_is_better and interval_of(found) == (1000.0, 1000.0)


def test_nothing_timed_is_never_zero() -> None:
    with pytest.raises(EmptyMeasurementError, match="no rounds"):
        throughput("training", "s", n_tokens=5, rounds_s=[], conditions=CONDITIONS)
    with pytest.raises(EmptyMeasurementError, match="n_tokens=0"):
        throughput("training", "s", n_tokens=0, rounds_s=[1.0], conditions=CONDITIONS)
    with pytest.raises(EmptyMeasurementError, match="no rounds"):
        time_to_first_token("s", prompts_s=[], conditions=CONDITIONS)


def test_the_same_rounds_give_the_same_replicates() -> None:
    one, two = (throughput("training", "s", n_tokens=5, rounds_s=[1.0, 3.0], conditions=CONDITIONS) for _ in range(2))
    assert one == two and len(one.replicates) == 2000
