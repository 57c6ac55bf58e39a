"""Any model that transformers can generate with, through its own `generate`: slower, but nothing is left out.

transformers runs the model and keeps its cache; what is drawn stays ours. A processor at the end of its chain puts
all mass on the token that our sampler draws from the row's own stream, and a criterion asks our Stopper.
Not covered: finished rows that leave, new rows that join: a batch runs until its last row ends.
Source: transformers' GenerationMixin.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.generation import LogitsProcessor, StoppingCriteria

from pytest_collabcode.generation import sampler
from pytest_collabcode.generation.forward import Forward
from pytest_collabcode.generation.running import Finish, Row
from pytest_collabcode.generation.stopping import Stopper
from pytest_collabcode.records import Sampling

NAME = "transformers"
MAX_ROWS = 32


class GenerateRun:
    """Completes rows in padded batches with transformers' `generate`.

    Args:
        forward: model, tokenizer and device.
        stopper: says when a row ends.
        sampling: how tokens are drawn.
        finish: told of every row that ends.
    Attributes:
        n_rows: the largest number of rows together in the present or last run.
    Example:
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> from pytest_collabcode.records import Problem
        >>> from pytest_collabcode.training.recipes import recipe
        >>> tokenizer = train_tokenizer(["x = 1\\n"], vocabulary_size=257)
        >>> forward, done = Forward(build(recipe("llama-smoke"), 1), tokenizer, "cpu"), []
        >>> sampling, stopper = Sampling(max_new_tokens=3), Stopper(tokenizer, [], [])
        >>> run = GenerateRun(forward, stopper, sampling, done.append)
        >>> run.run([Row(Problem(task_id="t/0", prompt="x"), i, [40]) for i in range(3)], batch_size=2)
        >>> run.n_rows, [(generation.n_tokens, generation.stop_reason) for generation in done]
        (2, [(3, 'length'), (3, 'length'), (3, 'length')])
    """

    def __init__(self, forward: Forward, stopper: Stopper, sampling: Sampling, finish: Finish) -> None:
        self.n_rows = 0
        self._forward, self._stopper, self._sampling, self._finish = forward, stopper, sampling, finish

    @torch.inference_mode()
    def run(self, rows: Sequence[Row], batch_size: int | None) -> None:
        """Finish all rows, at most `batch_size` at a time."""
        longest_first = sorted(rows, key=lambda row: len(row.prompt_ids), reverse=True)
        self.n_rows = min(batch_size or MAX_ROWS, len(rows))
        for first in range(0, len(rows), self.n_rows):
            self._batch(longest_first[first : first + self.n_rows])

    def _batch(self, rows: list[Row]) -> None:
        began = time.perf_counter()
        for row in rows:
            row.begin(self._sampling)
        forward = self._forward
        alone = forward.start is None  # a decoder goes on at the right end; an encoder counts from the left
        ids, mask = forward.pad([row.prompt_ids for row in rows], left=alone)
        padded = torch.where(mask.bool(), ids, ids[:, -1:]) if alone else None  # repeats are harmless to the penalty
        drawn = _Drawn(self._sampling, np.stack([row.u for row in rows]), padded)
        ended = _Ended(rows, self._stopper, self._sampling.max_new_tokens)
        with _nothing_else(forward.model):
            forward.model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=self._config(),
                logits_processor=LogitsProcessorList([drawn]),
                stopping_criteria=StoppingCriteriaList([ended]),
            )
        share = (time.perf_counter() - began) / sum(len(row.new_ids) for row in rows)
        for row, reason in zip(rows, ended.reasons, strict=True):
            row.duration_s = share * len(row.new_ids)
            self._finish(row.generation(self._stopper, reason))
            row.end()

    def _config(self) -> GenerationConfig:
        return GenerationConfig(
            do_sample=False,  # the one token that is left
            max_new_tokens=self._sampling.max_new_tokens,
            decoder_start_token_id=self._forward.start,
        )


class _Drawn(LogitsProcessor):  # type: ignore[misc]
    """Leaves only the token that our sampler draws."""

    def __init__(self, sampling: Sampling, u: Any, prompts: torch.Tensor | None) -> None:
        self._sampling, self._u, self._prompts, self._step = sampling, u, prompts, 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        history = input_ids
        if self._prompts is not None:  # padding is no token of the row
            history = torch.cat([self._prompts, input_ids[:, self._prompts.shape[1] :]], 1)
        u = torch.from_numpy(self._u[:, self._step]).to(scores.device)
        self._step += 1
        tokens = sampler.draw(scores, history, self._sampling, u)
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens[:, None], 0.0)


class _Ended(StoppingCriteria):  # type: ignore[misc]
    """Gives the rows their tokens and says which of them are over."""

    def __init__(self, rows: Sequence[Row], stopper: Stopper, max_new_tokens: int) -> None:
        self.reasons = [""] * len(rows)
        self._rows, self._stopper, self._max_new_tokens = rows, stopper, max_new_tokens

    def __call__(self, input_ids: torch.Tensor, scores: object) -> torch.Tensor:
        for number, token in enumerate(input_ids[:, -1].tolist()):
            if not self.reasons[number]:
                row = self._rows[number]
                row.new_ids.append(token)
                self.reasons[number] = row.reason(self._stopper, self._max_new_tokens)
        return torch.tensor([bool(reason) for reason in self.reasons], device=input_ids.device)


@contextmanager
def _nothing_else(model: Any) -> Iterator[None]:
    """Take away, while inside, the checkpoint's own wishes for `generate`, which would mix with ours."""
    before, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = before
