"""A running batch: rows come from a queue of prompts, get a token a step, and leave when they end.

Prompts are taken longest first, so that whoever comes later fits where another has left; newcomers join when an
eighth of the rows is free, since several prompts are processed faster together.
Not covered: what is asked and who is told (engine.py), where keys and values lie (slots.py).
Sources: Yu et al. 2022 (Orca) for replacing finished rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_collabcode.generation import sampler
from pytest_collabcode.generation.decoders.decoder import Decoder
from pytest_collabcode.generation.slots import Slots, affordable_rows
from pytest_collabcode.generation.stopping import Stopper
from pytest_collabcode.records import Generation, Problem, Sampling

CPU_ROWS = 128  # products then reach nine tenths of what large ones do (measured: 80 against 69 GFLOP/s at 64)
GPU_ROWS = 512
CPU_CACHE_BYTES = 3 << 29  # keys and values; the whole process stays under 4 GB
GPU_CACHE_SHARE = 0.6  # of what is free once the weights are there
REFILL_SHARE = 8
NOTHING = np.empty(0)


@dataclass(slots=True, eq=False)
class Row:
    """One completion under way.

    Example:
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> tokenizer = train_tokenizer(["x = 1\\n"], vocabulary_size=257)
        >>> problem = Problem(task_id="t/0", prompt="x")
        >>> row = Row(problem, 0, tokenizer.encode(problem.prompt))
        >>> row.begin(Sampling(max_new_tokens=9))
        >>> row.new_ids += tokenizer.encode(" = 1\\n#")
        >>> row.generation(Stopper(tokenizer, ["\\n#"], []), "stop").completion
        ' = 1'
    """

    problem: Problem
    sample_index: int
    prompt_ids: list[int]
    u: NDArray[np.float64] = field(default_factory=lambda: NOTHING)  # one uniform a token
    new_ids: list[int] = field(default_factory=list)
    duration_s: float = 0.0
    is_done: bool = False

    def begin(self, sampling: Sampling) -> None:
        """Get the uniforms; forget what an earlier try has drawn."""
        self.u = sampler.uniforms(sampling.seed, self.problem.task_id, self.sample_index, n=sampling.max_new_tokens)
        self.new_ids, self.duration_s = [], 0.0

    def end(self) -> None:
        """Let go of all that only drawing needs."""
        self.u, self.new_ids, self.is_done = NOTHING, [], True

    def reason(self, stopper: Stopper, max_new_tokens: int) -> str:
        """Return why the completion is over after its newest token, or "" if it is not."""
        found = stopper.reason(self.new_ids)
        return found or ("length" if len(self.new_ids) == max_new_tokens else "")

    def generation(self, stopper: Stopper, reason: str) -> Generation:
        """Return the record of the finished completion."""
        return Generation(
            task_id=self.problem.task_id,
            sample_index=self.sample_index,
            completion=stopper.text(self.prompt_ids, self.new_ids),
            n_tokens=len(self.new_ids),
            duration_s=self.duration_s,
            stop_reason=reason,
        )


Finish = Callable[[Generation], None]


class Run:
    """Completes rows, as many together as fit.

    Args:
        decoder: the model family.
        stopper: says when a row ends.
        sampling: how tokens are drawn.
        finish: told of every row that ends.
        prefill_tokens: of prompts, processed together.
        kept: slots of an earlier run, at most one, taken where they fit; a run of a given batch size on a GPU leaves
            its own here, so that the next need not record its steps anew.
    Attributes:
        n_rows: the largest number of rows together in the present or last run.
    Example:
        >>> from pytest_collabcode.generation.decoders import own_decoder
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> from pytest_collabcode.training.recipes import recipe
        >>> tokenizer = train_tokenizer(["x = 1\\n"], vocabulary_size=257)
        >>> decoder, done = own_decoder(build(recipe("llama-smoke"), 1)), []
        >>> sampling, stopper = Sampling(max_new_tokens=3), Stopper(tokenizer, [], [])
        >>> run = Run(decoder, stopper, sampling, done.append)
        >>> run.run([Row(Problem(task_id="t/0", prompt="x"), i, [40]) for i in range(5)], batch_size=2)
        >>> run.n_rows, [(generation.n_tokens, generation.stop_reason) for generation in done]
        (2, [(3, 'length'), (3, 'length'), (3, 'length'), (3, 'length'), (3, 'length')])
    """

    def __init__(
        self,
        decoder: Decoder,
        stopper: Stopper,
        sampling: Sampling,
        finish: Finish,
        *,
        prefill_tokens: int = 1024,
        kept: list[Slots] | None = None,
    ) -> None:
        self.n_rows = 0
        self._decoder, self._stopper, self._sampling, self._finish = decoder, stopper, sampling, finish
        self._prefill_tokens = prefill_tokens
        self._kept = kept if kept is not None else []
        self._active: list[Row] = []
        self._next = torch.empty(0, dtype=torch.int64)  # the newest token of each active row, not fed yet

    @torch.inference_mode()
    def run(self, rows: Sequence[Row], batch_size: int | None) -> None:
        """Finish all rows, at most `batch_size` at a time."""
        queue = sorted(rows, key=lambda row: (len(row.prompt_ids), row.prompt_ids))  # taken from the end
        self.n_rows = batch_size or self._affordable(queue)
        slots = self._slots(min(self.n_rows, len(queue)), len(queue[-1].prompt_ids) if queue else 0)
        self._active = []
        self._next = torch.empty(0, dtype=torch.int64, device=self._decoder.device)
        try:
            self._complete(queue, slots)
            if batch_size and self._decoder.device.type == "cuda":
                self._kept.append(slots)
        finally:
            if not self._kept:
                slots.let_go()

    def _complete(self, queue: list[Row], slots: Slots) -> None:
        while queue or self._active:
            free = self.n_rows - len(self._active)
            if queue and (not self._active or free >= max(1, self.n_rows // REFILL_SHARE)):
                self._admit(queue, slots)
            else:
                self._step(slots)

    def _slots(self, rows: int, longest: int) -> Slots:
        new_tokens = self._sampling.max_new_tokens
        while self._kept:
            kept = self._kept.pop()
            if kept.takes(rows, longest, new_tokens):
                kept.clear()
                return kept
            kept.let_go()
        return Slots(self._decoder, rows=rows, new_tokens=new_tokens)

    def _affordable(self, queue: Sequence[Row]) -> int:
        most, budget, device = CPU_ROWS, CPU_CACHE_BYTES, self._decoder.device
        if device.type == "cuda":
            reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch's, but unused
            most, budget = GPU_ROWS, int((torch.cuda.mem_get_info(device)[0] + reusable) * GPU_CACHE_SHARE)
        longest_first = queue[: -most - 1 : -1]
        needs = [len(row.prompt_ids) + self._sampling.max_new_tokens for row in longest_first]
        return affordable_rows(self._decoder, needs, budget)

    def _admit(self, queue: list[Row], slots: Slots) -> None:
        """Process the prompts of one chunk, draw their first tokens, and let them join."""
        began = time.perf_counter()
        chunk = self._chunk(queue)
        for row in chunk:
            row.begin(self._sampling)
        prompts, places = _distinct([row.prompt_ids for row in chunk])
        prefill = self._decoder.read(prompts)
        slots.admit(prefill, places)
        self._active.extend(chunk)
        shared = places != list(range(len(prompts)))  # samples of one prompt share its prefill
        logits = prefill.logits[_sent(places, torch.int64, self._decoder.device)] if shared else prefill.logits
        self._draw(slots, logits, began)

    def _chunk(self, queue: list[Row]) -> list[Row]:
        """Take rows from the queue while their distinct prompts fit one forward pass and there is a free row."""
        chunk = [queue.pop()]
        n_tokens = len(chunk[0].prompt_ids)
        while queue and len(self._active) + len(chunk) < self.n_rows:
            if queue[-1].prompt_ids != chunk[-1].prompt_ids:
                n_tokens += len(queue[-1].prompt_ids)
            if n_tokens > self._prefill_tokens:
                break
            chunk.append(queue.pop())
        return chunk

    def _step(self, slots: Slots) -> None:
        """Feed every row its newest token and draw the next."""
        began = time.perf_counter()
        logits = slots.step(self._next)
        self._next = self._next[:0]
        self._draw(slots, logits, began)

    def _draw(self, slots: Slots, logits: torch.Tensor, began: float) -> None:
        """Draw a token for the last rows, whose logits these are, and let finished rows leave."""
        first = len(self._active) - logits.shape[0]
        rows = self._active[first:]
        u = _sent([row.u[len(row.new_ids)] for row in rows], torch.float64, logits.device)
        drawn = sampler.draw(logits, slots.history()[first:], self._sampling, u)
        self._next = torch.cat([self._next, drawn])
        tokens = drawn.tolist()
        share = (time.perf_counter() - began) / len(rows)
        for row, token in zip(rows, tokens, strict=True):
            row.new_ids.append(token)
            row.duration_s += share
        gone = [number for number, row in enumerate(rows, start=first) if self._ends(row)]
        if gone:
            order = slots.evict(gone)
            self._active = [self._active[number] for number in order]
            self._next = self._next[_sent(order, torch.int64, logits.device)]

    def _ends(self, row: Row) -> bool:
        reason = row.reason(self._stopper, self._sampling.max_new_tokens)
        if reason:
            self._finish(row.generation(self._stopper, reason))
            row.end()
        return bool(reason)


def _sent(numbers: Sequence[float], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return numbers on the device, without the host waiting until they are there."""
    tensor = torch.tensor(numbers, dtype=dtype)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _distinct(prompts: Sequence[list[int]]) -> tuple[list[list[int]], list[int]]:
    """Return the distinct prompts of a sorted run, and for each prompt its place among them."""
    distinct: list[list[int]] = []
    places = []
    for prompt in prompts:
        if not distinct or distinct[-1] != prompt:
            distinct.append(prompt)
        places.append(len(distinct) - 1)
    return distinct, places
