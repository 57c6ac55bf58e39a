"""Timings into measurements: tokens per second, ratio to the reference, fraction of the measured peak, peak memory.

The ratio to a reference in the same run is what a gate should judge; a bare rate depends on the machine and is there
to be read, or to be compared with a baseline of the same device.
Not covered: taking the time (clock.py), asking torch for memory or peaks (models/probes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.intervals import BOOTSTRAP_SEED, N_REPLICATES
from pytest_collabcode.records import Measurement, Signature
from pytest_collabcode.throughput.clock import PairedTiming
from pytest_collabcode.throughput.device import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Under which a speed was measured; all of it stands in the signature."""

    device: Device
    dtype: str
    threads: int
    timer: str
    work: str = ""  # what one round is: "64 rows x 32 tokens"

    def signature(self, rounds: int) -> Signature:
        """Return the conditions as ordered pairs.

        Example:
            >>> Conditions(device=Device(name="x"), dtype="float32", threads=1, timer="t").signature(3)[-1]
            ('rounds', '3')
        """
        pairs = [("device", self.device.key), ("dtype", self.dtype), ("threads", str(self.threads))]
        work = [("work", self.work)] if self.work else []
        return (*pairs, *work, ("timer", self.timer), ("rounds", str(rounds)))


def throughput(
    what: str, subject: str, *, n_tokens: int, rounds_s: Sequence[float], conditions: Conditions
) -> Measurement:
    """Return tokens per second, the median over rounds.

    Args:
        what: "training" or "generation".
        subject: name of the model.
        n_tokens: trained or generated in each round.
        rounds_s: seconds of each round, by the clock of the conditions.
    Raises:
        EmptyMeasurementError: no rounds or no tokens.
    Example:
        >>> conditions = Conditions(device=Device(name="x"), dtype="float32", threads=1, timer="t")
        >>> m = throughput("training", "s", n_tokens=10, rounds_s=[1.0, 2.0, 2.0], conditions=conditions)
        >>> m.name, m.value, m.unit
        ('training_throughput', 5.0, 'tokens/s')
    """
    if n_tokens < 1:
        raise EmptyMeasurementError(f"{what}_throughput of {subject}: n_tokens={n_tokens!r}, so there is no rate")
    rates = [n_tokens / seconds for seconds in rounds_s]
    value, replicates = _median(rates, f"{what}_throughput of {subject}")
    return Measurement(
        name=f"{what}_throughput",
        subject=subject,
        value=value,
        unit="tokens/s",
        replicates=replicates,
        signature=conditions.signature(len(rates)),
    )


def speedup(what: str, subject: str, *, timing: PairedTiming, reference: str, conditions: Conditions) -> Measurement:
    """Return how many times faster than the reference ours was, the median of the pairs' ratios.

    Args:
        what: "training" or "generation".
        subject: name of the model.
        timing: of `paired_ratio`.
        reference: what it was compared with, for the signature.
    Example:
        >>> conditions = Conditions(device=Device(name="x"), dtype="float32", threads=1, timer="t")
        >>> timing = PairedTiming(ours_s=(1.0, 1.0), reference_s=(2.0, 3.0), timer="t")
        >>> m = speedup("training", "s", timing=timing, reference="plain loop", conditions=conditions)
        >>> m.name, m.value, m.replicates[0], m.replicates[-1]
        ('training_speedup', 2.5, 2.0, 3.0)
    """
    value, replicates = _median(timing.speedups, f"{what}_speedup of {subject}")
    return Measurement(
        name=f"{what}_speedup",
        subject=subject,
        value=value,
        replicates=replicates,
        signature=(("reference", reference), *conditions.signature(len(timing.ours_s))),
    )


def peak_fraction(
    what: str,
    subject: str,
    *,
    flops: float,
    rounds_s: Sequence[float],
    peak_flops_per_s: float,
    conditions: Conditions,
) -> Measurement:
    """Return which fraction of the peak measured in this run the rounds reached.

    Args:
        what: "training" or "generation"; the measurement's stratum.
        subject: name of the model.
        flops: of one round: 6 per parameter and trained token, 2 per parameter and generated token, or better.
        rounds_s: seconds of each round.
        peak_flops_per_s: of models/probes, for the same device, dtype and threads.
    Example:
        >>> conditions = Conditions(device=Device(name="x"), dtype="float32", threads=1, timer="t")
        >>> at = {"flops": 6.0, "rounds_s": [2.0], "peak_flops_per_s": 4.0}
        >>> peak_fraction("training", "s", conditions=conditions, **at).value
        0.75
    """
    value, replicates = _median(
        [flops / s / peak_flops_per_s for s in rounds_s], f"fraction_of_measured_peak {subject}"
    )
    return Measurement(
        name="fraction_of_measured_peak",
        subject=subject,
        value=value,
        stratum=what,
        replicates=replicates,
        signature=(("peak", f"{peak_flops_per_s:.3g} FLOP/s"), *conditions.signature(len(rounds_s))),
    )


def peak_memory(what: str, subject: str, *, n_bytes: int, conditions: Conditions) -> Measurement:
    """Return the largest number of bytes held at once.

    Args:
        what: "training" or "generation"; the measurement's stratum.
        subject: name of the model.
        n_bytes: of models/probes `peak_bytes`.
    Example:
        >>> conditions = Conditions(device=Device(name="x"), dtype="float32", threads=1, timer="t")
        >>> peak_memory("training", "s", n_bytes=1000, conditions=conditions).unit
        'bytes'
    """
    return Measurement(
        name="peak_memory",
        subject=subject,
        value=float(n_bytes),
        unit="bytes",
        higher_is_better=False,
        stratum=what,
        replicates=(float(n_bytes),),
        signature=conditions.signature(1),
    )


def _median(values: Sequence[float], what: str) -> tuple[float, tuple[float, ...]]:
    """Return the median and the sorted medians of bootstrap resamples of the rounds."""
    if not values:
        raise EmptyMeasurementError(f"{what}: no rounds were timed")
    rounds = np.asarray(values, dtype=float)
    picks = np.random.default_rng(BOOTSTRAP_SEED).integers(len(rounds), size=(N_REPLICATES, len(rounds)))
    medians = np.sort(np.median(rounds[picks], axis=1))
    return float(np.median(rounds)), tuple(float(x) for x in medians)
