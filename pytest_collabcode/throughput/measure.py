"""Timings into measurements: rates, times, ratios to a reference, fractions of a peak, peak memory.

A gate should judge, in this order: the ratio to a reference in the same run, the fraction of the peak measured in the
same run, the drop against a baseline of the same device. A rate or a time by itself tells of the machine: it is there
to be read and to be accepted into a baseline, and a bound on it is refused (gate/thresholds).
Not covered: taking the time (clock.py), what the work amounts to (flops.py), asking torch for peaks (models/probes).
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
from pytest_collabcode.throughput.peaks import peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Under which a speed was measured; all of it stands in the signature."""

    device: Device
    dtype: str
    threads: int
    timer: str
    work: str = ""  # what one round is: "32 rows x 64 tokens"
    engine: str = ""  # what generated: "llama", "transformers"

    def signature(self, rounds: int) -> Signature:
        """Return the conditions as ordered pairs.

        Example:
            >>> Conditions(device=Device(name="x"), dtype="float32", threads=1, timer="t").signature(3)[-1]
            ('rounds', '3')
        """
        pairs = [("device", self.device.key), ("dtype", self.dtype), ("threads", str(self.threads))]
        what = [(key, text) for key, text in (("work", self.work), ("engine", self.engine)) if text]
        return (*pairs, *what, ("timer", self.timer), ("rounds", str(rounds)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What work is held against: the peaks that the device reached in this run, and its data sheet's where known.

    Example:
        >>> conditions = Conditions(device=Device(name="NVIDIA L4"), dtype="bfloat16", threads=1, timer="t")
        >>> scale = Scale(subject="s", conditions=conditions, flops_per_s=100e12, bytes_per_s=0.24e12)
        >>> [(m.name, round(m.value, 3)) for m in scale.mfu("training", [60.5e12], [1.0])]
        [('training_mfu', 0.605), ('training_mfu_of_data_sheet', 0.5)]
        >>> [(m.name, m.value) for m in scale.mbu("decode", [0.12e12], [1.0])]
        [('decode_mbu', 0.5), ('decode_mbu_of_data_sheet', 0.4)]
    """

    subject: str
    conditions: Conditions
    flops_per_s: float
    bytes_per_s: float

    def mfu(self, what: str, flops: Sequence[float], seconds: Sequence[float]) -> list[Measurement]:
        """Return model FLOP utilization: what throughput/flops reckons, over seconds, over the peak."""
        sheet = peak(self.conditions.device.name, dtype=self.conditions.dtype)
        return self._of(f"{what}_mfu", flops, seconds, (self.flops_per_s, sheet.flops_per_s if sheet else None))

    def mbu(self, what: str, n_bytes: Sequence[float], seconds: Sequence[float]) -> list[Measurement]:
        """Return model bandwidth utilization: bytes that must be read, over seconds, over the copy bandwidth.

        Above 1 the weights stay in the processor's cache, as small models' do.
        """
        sheet = peak(self.conditions.device.name, dtype=self.conditions.dtype)
        return self._of(f"{what}_mbu", n_bytes, seconds, (self.bytes_per_s, sheet.bytes_per_s if sheet else None))

    def _of(
        self, name: str, work: Sequence[float], seconds: Sequence[float], peaks: tuple[float, float | None]
    ) -> list[Measurement]:
        return [
            utilization(full_name, self.subject, work=work, seconds=seconds, best=best, conditions=self.conditions)
            for full_name, best in zip((name, f"{name}_of_data_sheet"), peaks, strict=True)
            if best is not None
        ]


def throughput(
    what: str, subject: str, *, n_tokens: int, rounds_s: Sequence[float], conditions: Conditions
) -> Measurement:
    """Return tokens per second, the median over rounds.

    Args:
        what: "training", "generation" (prefill and decoding) or "decode" (every token of a row but its first).
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
    return _measured(f"{what}_throughput", subject, rates, conditions.signature(len(rates)), unit="tokens/s")


def time_to_first_token(subject: str, *, prompts_s: Sequence[float], conditions: Conditions) -> Measurement:
    """Return the seconds from a prompt to its first token, one row alone, the median over prompts.

    Args:
        subject: name of the model.
        prompts_s: seconds of each prompt.
    Raises:
        EmptyMeasurementError: no prompts.
    Example:
        >>> conditions = Conditions(device=Device(name="x"), dtype="float32", threads=1, timer="t")
        >>> m = time_to_first_token("s", prompts_s=[0.1, 0.3, 0.2], conditions=conditions)
        >>> m.value, m.unit, m.higher_is_better
        (0.2, 's', False)
    """
    signature = conditions.signature(len(prompts_s))
    return _measured("time_to_first_token", subject, prompts_s, signature, unit="s", higher_is_better=False)


def speedup(what: str, subject: str, *, timing: PairedTiming, reference: str, conditions: Conditions) -> Measurement:
    """Return how many times faster than the reference ours was, the median of the pairs' ratios.

    Args:
        what: "training", "generation" or "first_token".
        subject: name of the model.
        timing: seconds for equal work, or per token where one of the two did more.
        reference: what it was compared with, for the signature.
    Raises:
        EmptyMeasurementError: no rounds.
    Example:
        >>> conditions = Conditions(device=Device(name="x"), dtype="float32", threads=1, timer="t")
        >>> timing = PairedTiming(ours_s=(1.0, 1.0), reference_s=(2.0, 3.0), timer="t")
        >>> m = speedup("training", "s", timing=timing, reference="plain loop", conditions=conditions)
        >>> m.name, m.value, m.replicates[0], m.replicates[-1]
        ('training_speedup', 2.5, 2.0, 3.0)
    """
    signature = (("reference", reference), *conditions.signature(len(timing.ours_s)))
    return _measured(f"{what}_speedup", subject, timing.speedups, signature)


def utilization(
    name: str, subject: str, *, work: Sequence[float], seconds: Sequence[float], best: float, conditions: Conditions
) -> Measurement:
    """Return which fraction of a peak some work reached, the median over rounds.

    Args:
        name: "training_mfu", "decode_mbu", ...; "..._of_data_sheet" where the peak was not measured.
        subject: name of the model.
        work: of each round, as throughput/flops reckons it: floating-point operations, or bytes for a bandwidth.
        seconds: of each round.
        best: the same unit per second, for the same device, dtype and threads.
    Raises:
        EmptyMeasurementError: no rounds.
    Example:
        >>> conditions = Conditions(device=Device(name="x"), dtype="float32", threads=1, timer="t")
        >>> utilization("training_mfu", "s", work=[6.0], seconds=[2.0], best=4.0, conditions=conditions).value
        0.75
    """
    fractions = [n / s / best for n, s in zip(work, seconds, strict=True)]
    signature = (("peak", f"{best:.3g}/s"), *conditions.signature(len(fractions)))
    return _measured(name, subject, fractions, signature)


def peak_memory(what: str, subject: str, *, n_bytes: int, conditions: Conditions) -> Measurement:
    """Return the largest number of bytes held at once.

    Args:
        what: "training" or "generation".
        subject: name of the model.
        n_bytes: of models/probes `peak_bytes`.
    Example:
        >>> conditions = Conditions(device=Device(name="x"), dtype="float32", threads=1, timer="t")
        >>> m = peak_memory("training", "s", n_bytes=1000, conditions=conditions)
        >>> m.name, m.unit
        ('training_peak_memory', 'bytes')
    """
    name, signature = f"{what}_peak_memory", conditions.signature(1)
    return _measured(name, subject, [float(n_bytes)], signature, unit="bytes", higher_is_better=False)


def _measured(
    name: str,
    subject: str,
    values: Sequence[float],
    signature: Signature,
    *,
    unit: str = "ratio",
    higher_is_better: bool = True,
) -> Measurement:
    """Return the median, with the sorted medians of bootstrap resamples of the rounds."""
    if not values:
        raise EmptyMeasurementError(f"{name} of {subject}: no rounds were timed")
    rounds = np.asarray(values, dtype=float)
    picks = np.random.default_rng(BOOTSTRAP_SEED).integers(len(rounds), size=(N_REPLICATES, len(rounds)))
    medians = np.sort(np.median(rounds[picks], axis=1))
    return Measurement(
        name=name,
        subject=subject,
        value=float(np.median(rounds)),
        unit=unit,
        higher_is_better=higher_is_better,
        replicates=tuple(float(x) for x in medians),
        signature=signature,
    )
