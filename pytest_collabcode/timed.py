"""What is timed: training steps of a recipe, and generation of a checkpoint, each beside its reference.

Prefill and decoding are told apart from outside, so that any engine can be timed: rows alone until their first token,
and what a batch takes beyond its first tokens.
Not covered: when and how often (timing.py), how fast the device is (models/probes).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch

from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.generation.benchmark import REFERENCE, torch_steps
from pytest_collabcode.generation.engine import TorchBackend
from pytest_collabcode.generation.forward import Forward
from pytest_collabcode.models.architectures import build
from pytest_collabcode.models.load import LoadedModel
from pytest_collabcode.models.shape import shape_of
from pytest_collabcode.records import Generation, Measurement, Problem, Recipe, Sampling
from pytest_collabcode.throughput.clock import PairedTiming, Stopwatch, alternate
from pytest_collabcode.throughput.flops import decoding_bytes, generation_flops, training_flops
from pytest_collabcode.throughput.measure import Scale, speedup, throughput, time_to_first_token
from pytest_collabcode.training.benchmark import reference_steps, training_steps
from pytest_collabcode.training.loop import working_dtype
from pytest_collabcode.training.packing import Stream

TRAINING_STEPS, TRAINING_ROUNDS = 4, 10  # of four rounds one that was disturbed decided the interval
FIRST_PROMPTS = 5
LARGE_PARAMETERS = 20_000_000  # on one core of a CPU the usual size would take minutes

Seconds = tuple[tuple[float, ...], ...]


class Work(Protocol):
    """Something to time."""

    dtype: torch.dtype  # of its matrix products
    text: str  # what one call is
    engine: str

    def warm_up(self) -> None:
        """Run once what `ours` does not run."""

    def ours(self) -> Any:
        """Do the work once."""

    def timed(self, stopwatch: Stopwatch) -> Seconds:
        """Time ours, the reference and what else is needed, in turn."""

    def measurements(self, seconds: Seconds, scale: Scale) -> Iterator[Measurement]:
        """Make measurements of what `timed` returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is generated: in proportion what a memorization run does, 64 rows of 128 tokens."""

    rows: int
    tokens: int
    rounds: int


USUAL = Size(rows=32, tokens=64, rounds=4)
LARGE_ON_CPU = Size(rows=16, tokens=32, rounds=3)


class TrainingWork:
    """Steps of a recipe on a stream, and the same by a plain loop.

    Example:
        >>> import numpy as np
        >>> from pytest_collabcode.throughput.clock import stopwatch
        >>> from pytest_collabcode.throughput.device import Device
        >>> from pytest_collabcode.throughput.measure import Conditions
        >>> from pytest_collabcode.training.packing import TokenizedDocuments
        >>> from pytest_collabcode.training.recipes import recipe
        >>> tiny = replace(recipe("llama-smoke"), sequence_tokens=8, batch_size=2)
        >>> meta = TokenizedDocuments(organization="meta", tokens=(np.arange(64, dtype=np.int32),), copies=(1,))
        >>> work = TrainingWork(tiny, Stream(documents=(meta,), recipe=tiny), device="cpu")
        >>> conditions = Conditions(device=Device(name="x"), dtype="float32", threads=1, timer="t")
        >>> scale = Scale(subject="s", conditions=conditions, flops_per_s=1e11, bytes_per_s=1e10)
        >>> seconds = work.timed(lambda call: call() or 1.0)  # to be timed with a real stopwatch
        >>> [m.name for m in work.measurements(seconds, scale)]
        ['training_throughput', 'training_speedup', 'training_mfu']
    """

    engine = ""

    def __init__(self, recipe: Recipe, stream: Stream, *, device: str) -> None:
        self.dtype = working_dtype(recipe, device)
        self.text = f"{recipe.name} {recipe.batch_size}x{recipe.sequence_tokens}"
        self.ours = training_steps(recipe, stream, n_steps=TRAINING_STEPS, device=device)
        self._reference = reference_steps(recipe, stream, n_steps=TRAINING_STEPS, device=device)
        self._n_tokens = TRAINING_STEPS * recipe.batch_size * recipe.sequence_tokens
        shape = shape_of(build(recipe, recipe.seed))
        self._flops = (
            self._n_tokens * training_flops(shape, sequence_tokens=recipe.sequence_tokens) if shape else None
        )

    def warm_up(self) -> None:
        """Run the reference once."""
        self._reference()

    def timed(self, stopwatch: Stopwatch) -> Seconds:
        """Time ours and the reference in turn."""
        return alternate((self.ours, self._reference), rounds=TRAINING_ROUNDS, stopwatch=stopwatch)

    def measurements(self, seconds: Seconds, scale: Scale) -> Iterator[Measurement]:
        """Return the rate, the speed-up and the MFU."""
        ours_s, reference_s = seconds
        subject, conditions = scale.subject, scale.conditions
        timing = PairedTiming(ours_s=ours_s, reference_s=reference_s, timer=conditions.timer)
        yield throughput("training", subject, n_tokens=self._n_tokens, rounds_s=ours_s, conditions=conditions)
        yield speedup("training", subject, timing=timing, reference="plain loop", conditions=conditions)
        if self._flops is not None:
            yield from scale.mfu("training", [self._flops] * len(ours_s), ours_s)


class GenerationWork:
    """Some prompts in one batch, the same by transformers, their first tokens only, and some prompts alone.

    Args:
        loaded: model and tokenizer; without stop strings of its own.
        prompts: of any number; the shortest are completed, since completions here are shorter than usual too: as much
            decoding for a prefill as in earnest. Those asked alone are of all lengths.
        sampling: without stop strings.
        size: how much; what fits the model and the device when left out.
    Example:
        >>> from pathlib import Path
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> from pytest_collabcode.records import Checkpoint
        >>> from pytest_collabcode.throughput.device import Device
        >>> from pytest_collabcode.throughput.measure import Conditions
        >>> from pytest_collabcode.training.recipes import recipe
        >>> model, tokenizer = build(recipe("llama-smoke"), 1), train_tokenizer(["x = 1\\n"], vocabulary_size=257)
        >>> tiny = Checkpoint(name="tiny", path=Path(), weights_digest="w", tokenizer_digest="t", n_parameters=1)
        >>> loaded = LoadedModel(model=model, tokenizer=tokenizer, checkpoint=tiny, device="cpu")
        >>> prompts = [Problem(task_id=f"t/{n}", prompt="x" * n) for n in range(1, 4)]
        >>> work = GenerationWork(loaded, prompts, Sampling(), size=Size(rows=2, tokens=4, rounds=1))
        >>> conditions = Conditions(device=Device(name="x"), dtype="float32", threads=1, timer="t")
        >>> scale = Scale(subject="s", conditions=conditions, flops_per_s=1e11, bytes_per_s=1e10)
        >>> clock = iter(range(100, 0, -1))
        >>> seconds = work.timed(lambda call: (call(), next(clock))[1])  # to be timed with a real stopwatch
        >>> [m.name for m in work.measurements(seconds, scale) if not m.name.endswith("mfu")]
        ['generation_throughput', 'generation_speedup', 'decode_throughput', 'decode_mbu', 'time_to_first_token', \
'first_token_speedup']
    """

    def __init__(
        self, loaded: LoadedModel, prompts: Sequence[Problem], sampling: Sampling, *, size: Size | None = None
    ) -> None:
        large = loaded.device == "cpu" and loaded.checkpoint.n_parameters > LARGE_PARAMETERS
        self._size = size or (LARGE_ON_CPU if large else USUAL)
        by_length = sorted(prompts, key=lambda p: len(p.prompt))
        self._problems = by_length[: self._size.rows]
        self._alone = [by_length[i * (len(by_length) - 1) // (FIRST_PROMPTS - 1)] for i in range(FIRST_PROMPTS)]
        self._sampling = replace(sampling, max_new_tokens=self._size.tokens)
        self._first = replace(sampling, max_new_tokens=1)
        self._loaded = loaded
        self._backend = TorchBackend(loaded, batch_size=len(self._problems))
        self._reference_step = self._reference_of(self._problems, self._sampling)
        self._drawn: list[Generation] = []
        self._n_reference = 0
        self._shape = shape_of(loaded.model)
        self.dtype = next(loaded.model.parameters()).dtype
        self.engine = self._backend.engine
        self.text = f"{len(self._problems)} rows x {self._size.tokens} tokens"

    def warm_up(self) -> None:
        """Run both once until the first tokens."""
        self._first_tokens()
        self._reference_of(self._problems, self._first)()

    def ours(self) -> None:
        """Complete the batch."""
        self._drawn = self._backend.generate(self._problems, self._sampling)

    def timed(self, stopwatch: Stopwatch) -> Seconds:
        """Time ours, the reference and the first tokens in turn, then prompts alone by ours and by the reference."""
        calls = (self.ours, self._reference, self._first_tokens)
        batch = alternate(calls, rounds=self._size.rounds, stopwatch=stopwatch)
        rounds = max(1, self._size.rounds // 2)
        alone = [alternate(self._pair(p), rounds=rounds, stopwatch=stopwatch) for p in self._alone]
        return (*batch, *(tuple(statistics.median(pair[which]) for pair in alone) for which in (0, 1)))

    def measurements(self, seconds: Seconds, scale: Scale) -> Iterator[Measurement]:
        """Return rates of the whole and of decoding, time to first token, speed-ups, MFU and MBU.

        Raises:
            MeasurementError: decoding took no time.
        """
        ours_s, reference_s, first_s, alone_s, alone_reference_s = seconds
        yield from self._whole(ours_s, reference_s, scale)
        yield from self._decoding([ours - first for ours, first in zip(ours_s, first_s, strict=True)], scale)
        yield from self._first_token(alone_s, alone_reference_s, scale)

    def _whole(
        self, ours_s: tuple[float, ...], reference_s: tuple[float, ...], scale: Scale
    ) -> Iterator[Measurement]:
        subject, conditions = scale.subject, scale.conditions
        n_tokens = sum(self._new)
        timing = PairedTiming(  # per token: rows may end at other places
            ours_s=tuple(s / n_tokens for s in ours_s),
            reference_s=tuple(s / self._n_reference for s in reference_s),
            timer=conditions.timer,
        )
        yield throughput("generation", subject, n_tokens=n_tokens, rounds_s=ours_s, conditions=conditions)
        yield speedup("generation", subject, timing=timing, reference=REFERENCE, conditions=conditions)
        if self._shape is not None:
            rows = zip(self._lengths(self._problems), self._new, strict=True)
            flops = sum(generation_flops(self._shape, prompt_tokens=p, new_tokens=n) for p, n in rows)
            yield from scale.mfu("generation", [flops] * len(ours_s), ours_s)

    def _decoding(self, decode_s: list[float], scale: Scale) -> Iterator[Measurement]:
        if min(decode_s) <= 0:
            raise MeasurementError(
                f"decode_throughput of {scale.subject}: {self.text} took no longer than their first tokens; run it "
                "again while the machine does nothing else"
            )
        n_tokens = sum(self._new) - len(self._new)
        yield throughput("decode", scale.subject, n_tokens=n_tokens, rounds_s=decode_s, conditions=scale.conditions)
        if self._shape is not None:
            lengths = self._lengths(self._problems)
            n_bytes = decoding_bytes(self._shape, prompt_tokens=lengths, new_tokens=self._new)
            yield from scale.mbu("decode", [n_bytes] * len(decode_s), decode_s)

    def _first_token(
        self, ours_s: tuple[float, ...], reference_s: tuple[float, ...], scale: Scale
    ) -> Iterator[Measurement]:
        alone = replace(
            scale, conditions=replace(scale.conditions, work="1 row x 1 token, another prompt each round")
        )
        timing = PairedTiming(ours_s=ours_s, reference_s=reference_s, timer=scale.conditions.timer)
        yield time_to_first_token(scale.subject, prompts_s=ours_s, conditions=alone.conditions)
        yield speedup("first_token", scale.subject, timing=timing, reference=REFERENCE, conditions=alone.conditions)
        if self._shape is not None:
            lengths = self._lengths(self._alone)
            flops = [generation_flops(self._shape, prompt_tokens=p, new_tokens=1) for p in lengths]
            yield from alone.mfu("first_token", flops, ours_s)

    @property
    def _new(self) -> list[int]:
        return [generation.n_tokens for generation in self._drawn]

    def _first_tokens(self) -> None:
        self._backend.generate(self._problems, self._first)

    def _reference(self) -> None:
        self._n_reference = self._reference_step()

    def _pair(self, problem: Problem) -> tuple[Callable[[], Any], Callable[[], Any]]:
        """Return ours and the reference on one prompt alone, up to its first token."""
        return partial(self._backend.generate, [problem], self._first), self._reference_of([problem], self._first)

    def _reference_of(self, problems: Sequence[Problem], sampling: Sampling) -> Callable[[], int]:
        return torch_steps(self._loaded, problems, sampling)[1]

    def _lengths(self, problems: Sequence[Problem]) -> list[int]:
        """Return the tokens of each prompt, as the engine cuts them."""
        forward = Forward(self._loaded.model, self._loaded.tokenizer, self._loaded.device)
        conventions = self._loaded.checkpoint.conventions
        prompts = [forward.prompt(problem.prompt, conventions) for problem in problems]
        return [len(forward.encode_prompt(prompt, room=self._sampling.max_new_tokens)[0]) for prompt in prompts]
