"""A known device has its own peak, an unknown or sliced one has none."""

from __future__ import annotations

import pytest

from pytest_collabcode.throughput.peaks import fraction_of_peak, peak


@pytest.mark.parametrize(
    ("name", "flops", "bandwidth"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12, 3.35e12),
        ("NVIDIA H100 PCIe", 756e12, 2.0e12),
        ("NVIDIA A100-SXM4-40GB", 312e12, 1.555e12),
        ("NVIDIA A100-SXM4-80GB", 312e12, 2.039e12),
        ("NVIDIA A100 80GB PCIe", 312e12, 1.935e12),
        ("NVIDIA L4", 121e12, 0.3e12),
        ("NVIDIA L40S", 362e12, 0.864e12),
        ("NVIDIA A10", 125e12, 0.6e12),
    ],
)
def test_a_known_device_has_its_data_sheets_peak(name: str, flops: float, bandwidth: float) -> None:
    found = peak(name)
    assert found is not None and (found.flops_per_s, found.bytes_per_s) == (flops, bandwidth)
    single = peak(name, dtype="float32")
    assert single is not None and single.flops_per_s < flops


@pytest.mark.parametrize(
    "name", ["AMD EPYC", "NVIDIA L40", "NVIDIA GH200 480GB", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA A1000", ""]
)
def test_an_unknown_device_has_no_peak(name: str) -> None:
    assert peak(name) is None


def test_what_a_device_cannot_compute_has_no_peak() -> None:
    assert peak("Tesla T4") is None and peak("Tesla T4", dtype="float16") is not None
    assert peak("NVIDIA H100 80GB HBM3", dtype="int4") is None


def test_a_fraction_of_nothing_known_is_nothing() -> None:
    assert fraction_of_peak(1.0, None) is None
    assert fraction_of_peak(3.0, 4.0) == 0.75
