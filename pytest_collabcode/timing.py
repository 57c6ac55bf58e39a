"""Timing: training steps and generation batches against a plain reference in the same run, through pytest-benchmark.

The reference is timed in alternation with ours, in CPU time on a CPU, so that neither a busy machine nor a slow one
decides. Not covered: absolute numbers as gates; they are reported, keyed by device.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.generation.benchmark import REFERENCE, torch_steps
from pytest_collabcode.measures import Measures
from pytest_collabcode.models.load import load, load_tokenizer
from pytest_collabcode.models.probes import measured_peaks, peak_bytes, probe_timer
from pytest_collabcode.records import Checkpoint, Measurement
from pytest_collabcode.throughput.clock import paired_ratio
from pytest_collabcode.throughput.measure import Conditions, peak_fraction, peak_memory, speedup, throughput
from pytest_collabcode.training.benchmark import reference_steps, training_steps
from pytest_collabcode.training.loop import working_dtype
from pytest_collabcode.training.packing import stream_of, tokenize

ROUNDS = 4
TRAINING_STEPS = 4
GENERATION_ROWS, GENERATION_TOKENS = 16, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Two callables that do the same, and what one call amounts to."""

    ours: Callable[[], Any]
    reference: Callable[[], Any]
    reference_name: str
    n_tokens: int
    flops: float  # floating-point operations of one call
    dtype: str
    text: str


def time_work(measures: Measures, subject: str, what: str, benchmark: Any) -> tuple[Measurement, ...]:
    """Time "training" or "generation" of a subject.

    Args:
        measures: of the session.
        subject: its name.
        what: "training" or "generation".
        benchmark: pytest-benchmark's fixture; its table and storage get the same work.
    Returns:
        Throughput in tokens/s, speed-up over the reference, fraction of the measured peak, peak memory.
    Raises:
        ConfigurationError: another work is asked for, or pytest-xdist runs tests side by side.
    Example:
        >>> time_work(None, "demo/fedavg", "evaluation", None)  # refused before anything is looked at
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: throughput('evaluation'): valid: training, generation
    """
    works = {"training": _training, "generation": _generation}
    if what not in works:
        raise ConfigurationError(f"throughput({what!r}): valid: training, generation")
    settings = measures.pipeline.settings
    if os.environ.get("PYTEST_XDIST_WORKER"):
        raise ConfigurationError("throughput cannot be timed while tests run side by side; run it with -n0")
    checkpoint = measures.pipeline.checkpoint(subject)
    work = works[what](measures, checkpoint)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # CPU time of one thread: the only time that another process does not stretch
    try:
        timer = probe_timer(settings.device)
        n_bytes = peak_bytes(settings.device, work.ours)
        timing = paired_ratio(work.ours, work.reference, rounds=ROUNDS, warmup=1, timer=timer)
        benchmark.pedantic(work.ours, rounds=2, warmup_rounds=0)
        peaks = measured_peaks(settings.device)
    finally:
        torch.set_num_threads(threads)
    conditions = Conditions(device=peaks.device, dtype=work.dtype, threads=1, timer=timing.timer, work=work.text)
    measured = (
        throughput(what, subject, n_tokens=work.n_tokens, rounds_s=timing.ours_s, conditions=conditions),
        speedup(what, subject, timing=timing, reference=work.reference_name, conditions=conditions),
        peak_fraction(
            what,
            subject,
            flops=work.flops,
            rounds_s=timing.ours_s,
            peak_flops_per_s=peaks.flops_per_s,
            conditions=conditions,
        ),
        peak_memory(what, subject, n_bytes=n_bytes, conditions=conditions),
    )
    benchmark.extra_info.update({m.name: m.value for m in measured})
    return measured


def _training(measures: Measures, checkpoint: Checkpoint) -> Work:
    """Steps of the session's recipe on the corpus; the checkpoint gives the tokenizer."""
    pipeline = measures.pipeline
    device, recipe = pipeline.settings.device, pipeline.trainings.recipe
    stream = stream_of(
        tokenize(pipeline.material.corpus, load_tokenizer(checkpoint)), pipeline.material.corpus.names, recipe
    )
    ours = training_steps(recipe, stream, n_steps=TRAINING_STEPS, device=device)
    return Work(
        ours=ours,
        reference=reference_steps(recipe, stream, n_steps=TRAINING_STEPS, device=device),
        reference_name="plain loop",
        n_tokens=TRAINING_STEPS * recipe.batch_size * recipe.sequence_tokens,
        flops=_flops(ours),
        dtype=str(working_dtype(recipe, device)).removeprefix("torch."),
        text=f"{recipe.name} {recipe.batch_size}x{recipe.sequence_tokens}",
    )


def _generation(measures: Measures, checkpoint: Checkpoint) -> Work:
    """Memorization prompts under the paper's sampling, all rows in one batch."""
    pipeline = measures.pipeline
    loaded = load(checkpoint, device=pipeline.settings.device)
    sampling = replace(
        pipeline.material.memorization_sampling, max_new_tokens=GENERATION_TOKENS, n_samples=1, stop=()
    )
    problems = sorted(pipeline.material.prompts("heldout"), key=lambda p: len(p.prompt))[:GENERATION_ROWS]
    ours, reference = torch_steps(loaded, problems, sampling)
    return Work(
        ours=ours,
        reference=reference,
        reference_name=REFERENCE,
        n_tokens=ours(),
        flops=_flops(ours),
        dtype=str(next(loaded.model.parameters()).dtype).removeprefix("torch."),
        text=f"{len(problems)} rows x {GENERATION_TOKENS} tokens",
    )


def _flops(call: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())
