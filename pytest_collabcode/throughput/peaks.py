"""What a device could do at best, from its maker's data sheet, and which fraction of a peak was reached.

An unknown device has no peak here: no number is better than a wrong one. The gate judges against the peak measured
in the same run (models/probes), which also holds for power caps, MIG slices and laptops; the table is for papers.
Not covered: sparse peaks, FP8, TF32, CPUs (their clock is not in their name).
Sources: NVIDIA data sheets of A10, A100, H100, H200, L4, L40S, RTX 4090, T4, V100 (dense tensor-core figures).
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Upper bounds of one device for one dtype."""

    flops_per_s: float
    bytes_per_s: float


# Fragments of a name that all must occur, then dense half-precision FLOP/s, float32 FLOP/s, memory bytes/s.
# More specific entries come first.
_TABLE: tuple[tuple[tuple[str, ...], float, float, float], ...] = (
    (("h200",), 989e12, 67e12, 4.80e12),
    (("h100", "nvl"), 835e12, 60e12, 3.90e12),
    (("h100", "pcie"), 756e12, 51e12, 2.00e12),
    (("h100", "hbm3"), 989e12, 67e12, 3.35e12),
    (("a100", "pcie", "80gb"), 312e12, 19.5e12, 1.935e12),
    (("a100", "80gb"), 312e12, 19.5e12, 2.039e12),
    (("a100", "40gb"), 312e12, 19.5e12, 1.555e12),
    (("l40s",), 362e12, 91.6e12, 0.864e12),
    (("nvidia a10",), 125e12, 31.2e12, 0.600e12),
    (("nvidia l4",), 121e12, 30.3e12, 0.300e12),
    (("rtx 4090",), 165.2e12, 82.6e12, 1.008e12),
    (("tesla t4",), 65e12, 8.1e12, 0.320e12),
    (("v100", "sxm2"), 125e12, 15.7e12, 0.900e12),
)
_HALF = ("bfloat16", "float16")


def peak(name: str, *, dtype: str = "bfloat16") -> Peak | None:
    """Return the data-sheet peak of a device, or None where it is not known for sure.

    Args:
        name: as the driver gives it.
        dtype: "bfloat16", "float16" or "float32".
    Example:
        >>> peak("NVIDIA H100 80GB HBM3").flops_per_s, peak("AMD EPYC")
        (989000000000000.0, None)
    """
    lowered = name.lower()
    if dtype not in (*_HALF, "float32") or _has_word(lowered, "mig"):  # a slice has only a part of it
        return None
    if dtype == "bfloat16" and any(old in lowered for old in ("tesla t4", "v100")):
        return None  # they have no bfloat16 tensor cores
    for fragments, half, single, bandwidth in _TABLE:
        if all(_has_word(lowered, fragment) for fragment in fragments):
            return Peak(flops_per_s=half if dtype in _HALF else single, bytes_per_s=bandwidth)
    return None


def fraction_of_peak(rate: float, best: float | None) -> float | None:
    """Return rate / best, or None where the best is unknown.

    Args:
        rate: achieved FLOP/s or bytes/s.
        best: of the same unit, > 0, or None.
    Example:
        >>> fraction_of_peak(2.0, 8.0), fraction_of_peak(2.0, None)
        (0.25, None)
    """
    return None if best is None else rate / best


def _has_word(name: str, word: str) -> bool:
    """Whether the word stands alone: "nvidia l4" is not in "nvidia l40s", "h200" is not in "gh200"."""
    return re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", name) is not None
