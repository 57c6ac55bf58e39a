"""What a device could do at best, from its maker's data sheet.

An unknown device has no peak here: no number is better than a wrong one. So names must match to the letter: a slice
of a GPU (MIG), a laptop's or a cloud's variant of the same chip have other figures. The gate judges against the peak
measured in the same run (models/probes), which also holds for those; the table is for papers.
Not covered: sparse peaks, FP8, TF32, CPUs (their clock is not in their name).
Sources: NVIDIA's data sheets of A10, A100, H100, H200, L4, L40S, T4, V100; its Ada white paper for the RTX 4090.
Sheets of Ampere and later print tensor-core figures with sparsity; halved here (H100 SXM: 1,979 -> 989, NVL: 1,671 ->
835, PCIe: 1,513 -> 756; L4: 242 -> 121).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Upper bounds of one device for one dtype."""

    flops_per_s: float
    bytes_per_s: float


# Name as the driver gives it: dense half-precision FLOP/s (accumulating in float32), float32 FLOP/s, memory bytes/s.
_TABLE: dict[str, tuple[float, float, float]] = {
    "NVIDIA H200": (989e12, 67e12, 4.80e12),
    "NVIDIA H100 80GB HBM3": (989e12, 67e12, 3.35e12),
    "NVIDIA H100 NVL": (835e12, 60e12, 3.90e12),
    "NVIDIA H100 PCIe": (756e12, 51e12, 2.00e12),
    "NVIDIA A100-SXM4-80GB": (312e12, 19.5e12, 2.039e12),
    "NVIDIA A100 80GB PCIe": (312e12, 19.5e12, 1.935e12),
    "NVIDIA A100-SXM4-40GB": (312e12, 19.5e12, 1.555e12),
    "NVIDIA A100-PCIE-40GB": (312e12, 19.5e12, 1.555e12),
    "NVIDIA L40S": (362e12, 91.6e12, 0.864e12),
    "NVIDIA A10": (125e12, 31.2e12, 0.600e12),
    "NVIDIA L4": (121e12, 30.3e12, 0.300e12),
    "NVIDIA GeForce RTX 4090": (165.2e12, 82.6e12, 1.008e12),
    "Tesla T4": (65e12, 8.1e12, 0.320e12),
    "Tesla V100-SXM2-16GB": (125e12, 15.7e12, 0.900e12),
    "Tesla V100-SXM2-32GB": (125e12, 15.7e12, 0.900e12),
}
_WITHOUT_BFLOAT16 = ("Tesla T4", "Tesla V100-SXM2-16GB", "Tesla V100-SXM2-32GB")


def peak(name: str, *, dtype: str = "bfloat16") -> Peak | None:
    """Return the data-sheet peak of a device, or None where it is not known for sure.

    Args:
        name: as the driver gives it.
        dtype: "bfloat16", "float16" or "float32".
    Example:
        >>> peak("NVIDIA H100 80GB HBM3").flops_per_s, peak("AMD EPYC")
        (989000000000000.0, None)
    """
    if name not in _TABLE or (dtype == "bfloat16" and name in _WITHOUT_BFLOAT16):
        return None
    half, single, bandwidth = _TABLE[name]
    rates = {"bfloat16": half, "float16": half, "float32": single}
    return Peak(flops_per_s=rates[dtype], bytes_per_s=bandwidth) if dtype in rates else None
