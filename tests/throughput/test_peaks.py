"""A known device has its own peak, an unknown or sliced one has none."""

from __future__ import annotations

import pytest

from pytest_collabcode.throughput.peaks import peak


@pytest.mark.parametrize(
    ("name", "flops", "bandwidth"),
    [
        ("NVIDIA H100 80GB HBM3", 1979e12 / 2, 3.35e12),  # the sheet's figure is with sparsity
        ("NVIDIA H100 PCIe", 1513e12 / 2, 2.0e12),
        ("NVIDIA H100 NVL", 1671e12 / 2, 3.9e12),
        ("NVIDIA H200", 1979e12 / 2, 4.8e12),
        ("NVIDIA A100-SXM4-40GB", 312e12, 1.555e12),
        ("NVIDIA A100-SXM4-80GB", 312e12, 2.039e12),
        ("NVIDIA A100 80GB PCIe", 312e12, 1.935e12),
        ("NVIDIA L4", 242e12 / 2, 0.3e12),
        ("NVIDIA L40S", 362.05e12, 0.864e12),
        ("NVIDIA A10", 250e12 / 2, 0.6e12),
    ],
)
def test_a_known_device_has_its_data_sheets_peak(name: str, flops: float, bandwidth: float) -> None:
    found = peak(name)
    assert found is not None and found.bytes_per_s == bandwidth
    assert found.flops_per_s == pytest.approx(flops, rel=1e-3)
    single = peak(name, dtype="float32")
    assert single is not None and single.flops_per_s < flops


@pytest.mark.parametrize(
    "name",
    [
        "AMD EPYC",
        "NVIDIA L40",
        "NVIDIA GH200 480GB",
        "NVIDIA H200 NVL",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA A1000",
        "NVIDIA A10G",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "",
    ],
)
def test_an_unknown_device_has_no_peak(name: str) -> None:
    assert peak(name) is None


def test_what_a_device_cannot_compute_has_no_peak() -> None:
    assert peak("Tesla T4") is None and peak("Tesla T4", dtype="float16") is not None
    assert peak("NVIDIA H100 80GB HBM3", dtype="int4") is None
