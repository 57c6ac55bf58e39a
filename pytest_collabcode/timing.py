"""Timing: training steps and generation of a subject, against a reference and the device's peaks in the same run.

Ours and the reference are timed in turn, in CPU time of one thread on a CPU and between events on a GPU, so that
neither a busy machine nor a slow one decides; a run during which the machine changed its speed is void.
Not covered: what the works are (timed.py); back ends beside the default engine, which the signature names; bounds on
bare rates, which only a baseline of the same device judges.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.measures import Measures
from pytest_collabcode.models.load import load, load_tokenizer
from pytest_collabcode.models.probes import MeasuredPeaks, device_stopwatch, measured_peaks, peak_bytes
from pytest_collabcode.records import Measurement
from pytest_collabcode.throughput.calibration import steady
from pytest_collabcode.throughput.measure import Conditions, Scale, peak_memory
from pytest_collabcode.timed import GenerationWork, Seconds, TrainingWork, Work
from pytest_collabcode.training.packing import stream_of, tokenize


def time_work(measures: Measures, subject: str, what: str, benchmark: Any) -> tuple[Measurement, ...]:
    """Time "training" or "generation" of a subject.

    Args:
        measures: of the session.
        subject: its name.
        what: "training" or "generation".
        benchmark: pytest-benchmark's fixture; its table gets one call of ours, its extra_info all numbers.
    Returns:
        Tokens/s, speed-up over the reference, fraction of the measured peak (and of the data sheet's, where the
        device is known), peak memory; of generation also time to first token, and rate and bandwidth of decoding.
    Raises:
        ConfigurationError: another work is asked for, or pytest-xdist runs tests side by side.
        MeasurementError: the machine did not keep its speed.
    Example:
        >>> time_work(None, "demo/fedavg", "evaluation", None)  # refused before anything is looked at
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: throughput('evaluation'): valid: training, generation
    """
    works: dict[str, Callable[[Measures, str], Work]] = {"training": _training, "generation": _generation}
    if what not in works:
        raise ConfigurationError(f"throughput({what!r}): valid: training, generation")
    if os.environ.get("PYTEST_XDIST_WORKER"):
        raise ConfigurationError("throughput cannot be timed while tests run side by side; run it with -n0")
    device = measures.pipeline.settings.device
    with _one_thread():
        work = works[what](measures, subject)
        # A call ends by reading results from the device, so pytest-benchmark's times are whole.
        n_bytes = peak_bytes(device, lambda: benchmark.pedantic(work.ours, rounds=1, warmup_rounds=0))
        work.warm_up()  # not before: the reference would leave its optimizer's state in memory
        seconds, scale = _timed(work, device, subject)
    memory = peak_memory(what, subject, n_bytes=n_bytes, conditions=scale.conditions)
    measured = (*work.measurements(seconds, scale), memory)
    benchmark.extra_info.update({m.name: m.value for m in measured})
    return measured


def _timed(work: Work, device: str, subject: str) -> tuple[Seconds, Scale]:
    """Return a work's seconds, and what the device reached right before and after."""
    watch = device_stopwatch(device)
    peaks: list[MeasuredPeaks] = []

    def gemm_rate() -> float:
        peaks.append(measured_peaks(device, dtype=work.dtype))
        return peaks[-1].flops_per_s

    seconds = steady(lambda: work.timed(watch), gemm_rate, what=f"throughput of {subject}")
    before, after = peaks[-2:]
    conditions = Conditions(
        device=before.device,
        dtype=before.dtype,
        threads=before.threads,
        timer=watch.__name__,
        work=work.text,
        engine=work.engine,
    )
    return seconds, Scale(
        subject=subject,
        conditions=conditions,
        flops_per_s=max(before.flops_per_s, after.flops_per_s),
        bytes_per_s=max(before.copy_bytes_per_s, after.copy_bytes_per_s),
    )


def _training(measures: Measures, subject: str) -> Work:
    """Steps of the session's recipe on the corpus; the checkpoint gives the tokenizer."""
    pipeline = measures.pipeline
    corpus, recipe = pipeline.material.corpus, pipeline.trainings.recipe
    documents = tokenize(corpus, load_tokenizer(pipeline.checkpoint(subject)))
    return TrainingWork(recipe, stream_of(documents, corpus.names, recipe), device=pipeline.settings.device)


def _generation(measures: Measures, subject: str) -> Work:
    """Held-out memorization prompts under the paper's sampling."""
    pipeline = measures.pipeline
    loaded = load(pipeline.checkpoint(subject), device=pipeline.settings.device)
    # The reference is timed without stop strings, so none for ours: only an end-of-text token ends a row.
    conventions = replace(loaded.checkpoint.conventions, stop=())
    bare = replace(loaded, checkpoint=replace(loaded.checkpoint, conventions=conventions))
    sampling = replace(pipeline.material.memorization_sampling, n_samples=1, stop=())
    return GenerationWork(bare, pipeline.material.prompts("heldout"), sampling)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: its CPU time is the only time that another process does not stretch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
