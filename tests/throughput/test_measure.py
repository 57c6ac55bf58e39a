"""Timings become measurements whose interval and signature say how far they can be trusted."""

from __future__ import annotations

import pytest

from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.intervals import interval_of
from pytest_collabcode.throughput.clock import PairedTiming
from pytest_collabcode.throughput.device import Device
from pytest_collabcode.throughput.measure import Conditions, peak_fraction, peak_memory, speedup, throughput

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
    found = throughput("training", "s", n_tokens=1, rounds_s=[1.0], conditions=CONDITIONS)
    expected = {
        "device": CONDITIONS.device.key,
        "dtype": "float32",
        "threads": "1",
        "timer": "process_time",
        "work": "w",
    }
    assert dict(found.signature) == {**expected, "rounds": "1"}


def test_a_fraction_is_of_the_measured_peak() -> None:
    found = peak_fraction(
        "generation", "s", flops=30.0, rounds_s=[1.0, 1.0], peak_flops_per_s=60.0, conditions=CONDITIONS
    )
    assert (found.value, found.stratum, found.unit) == (0.5, "generation", "ratio")


def test_less_memory_is_better() -> None:
    found = peak_memory("training", "s", n_bytes=1000, conditions=CONDITIONS)
    assert not found.higher_is_better and interval_of(found) == (1000.0, 1000.0)


def test_nothing_timed_is_never_zero() -> None:
    with pytest.raises(EmptyMeasurementError, match="no rounds"):
        throughput("training", "s", n_tokens=5, rounds_s=[], conditions=CONDITIONS)
    with pytest.raises(EmptyMeasurementError, match="n_tokens=0"):
        throughput("training", "s", n_tokens=0, rounds_s=[1.0], conditions=CONDITIONS)


def test_the_same_rounds_give_the_same_replicates() -> None:
    one, two = (throughput("training", "s", n_tokens=5, rounds_s=[1.0, 3.0], conditions=CONDITIONS) for _ in range(2))
    assert one == two and len(one.replicates) == 2000
