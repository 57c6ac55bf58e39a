"""The one training loop of all regimes.

AdamW, warm-up and cosine over the real number of steps, clipping, packed batches; the loss stays on the device and
is read every few steps. A trainer can stop at any step and go on later, here or elsewhere, with the same result.
Not covered: several devices, gradient accumulation, activation checkpointing.
Source: Loshchilov & Hutter 2019, arXiv 1711.05101 (AdamW); Li et al. 2020, arXiv 1812.06127 (proximal term).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pytest_collabcode.digests import digest_of
from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.records import Recipe
from pytest_collabcode.training.history import Stage
from pytest_collabcode.training.loss import next_token_loss
from pytest_collabcode.training.packing import Stream

BETAS = (0.9, 0.95)
EPSILON = 1e-8
READ_EVERY_STEPS = 10  # reading the loss makes the host wait for the device
MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's state, as torch names it


def learning_rate(recipe: Recipe, step: int, n_steps: int) -> float:
    """Return the rate of a step: linear warm-up from above 0 to the recipe's, then a cosine down to 0.

    Example:
        >>> from pytest_collabcode.training.recipes import recipe
        >>> [round(learning_rate(recipe("llama-demo"), s, 100), 6) for s in (0, 4, 5, 99)]
        [0.0006, 0.003, 0.003, 1e-06]
    """
    warmup = max(1, math.ceil(recipe.warmup_ratio * n_steps))
    if step < warmup:
        return recipe.learning_rate * ((step + 1) / warmup)
    progress = (step - warmup) / max(1, n_steps - warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def working_dtype(recipe: Recipe, device: str) -> torch.dtype:
    """Return the type of matrix products: bfloat16 where the recipe allows it and the device has it natively.

    Example:
        >>> from dataclasses import replace
        >>> from pytest_collabcode.training.recipes import recipe
        >>> working_dtype(replace(recipe("llama-demo"), dtype="float32"), "cpu")
        torch.float32
    """
    kind = torch.device(device).type
    if recipe.dtype != "bfloat16":
        return torch.float32
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    native = kind == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch.bfloat16 if native else torch.float32


class Trainer:
    """Training in progress of a model on one stream; it owns the optimizer, not the model.

    Example:
        >>> import numpy as np
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.training.packing import TokenizedDocuments
        >>> from pytest_collabcode.training.recipes import recipe
        >>> tiny, tokens = recipe("llama-smoke"), (np.zeros(1024, np.int32),)
        >>> meta = TokenizedDocuments(organization="meta", tokens=tokens, copies=(1,))
        >>> trainer = Trainer(build(tiny, 1), Stream(documents=(meta,), recipe=tiny), device="cpu")
        >>> for until in (1, 4):  # it may stop anywhere and go on
        ...     trainer.run(until, after_reading=lambda: None)
        >>> (_, before), (_, after) = trainer.losses
        >>> trainer.step, before > after
        (4, True)
    """

    def __init__(self, model: Any, stream: Stream, *, device: str) -> None:
        self.model = model
        self.stream = stream
        self.step = 0
        self.losses: list[tuple[int, float]] = []
        self.duration_s = 0.0
        self._device = torch.device(device)
        self._dtype = working_dtype(stream.recipe, device)
        self._parameters: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._optimizer = _adamw(list(self._parameters.values()), stream.recipe, fused=_device_has_fused(device))

    def run(self, until: int, *, after_reading: Callable[[], None], proximal_mu: float = 0.0) -> None:
        """Train up to, not including, step `until` of the stream.

        Args:
            until: at most `stream.n_steps`.
            after_reading: called each time the loss was read; progress and saving go here.
            proximal_mu: weight of the pull towards the weights at the start of this call, 0 = none.
        Raises:
            MeasurementError: the loss is no longer a number.
        """
        anchor = [p.detach().clone() for p in self._parameters.values()] if proximal_mu else []
        self.model.train()
        total, since = torch.zeros((), device=self._device), self.step
        started = time.monotonic()
        while self.step < until:
            total += self._one_step(anchor, proximal_mu)
            self.step += 1
            if self.step % READ_EVERY_STEPS == 0 or self.step == until:
                self._read(total.item() / (self.step - since))
                total.zero_()
                since = self.step
                self.duration_s += time.monotonic() - started
                started = time.monotonic()
                after_reading()
        self.model.eval()

    def stage(self, name: str) -> Stage:
        """Return the record of all that this trainer did."""
        recipe = self.stream.recipe
        return Stage(
            name=name,
            organizations=self.stream.names,
            n_steps=self.step,
            n_tokens=self.step * recipe.batch_size * recipe.sequence_tokens,
            losses=tuple(self.losses),
            duration_s=self.duration_s,
        )

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """Return the optimizer's state, by moment, then by parameter; empty before the first step."""
        state = self._optimizer.state
        return {m: {n: state[p][m] for n, p in self._parameters.items() if p in state} for m in MOMENTS}

    def resume(self, step: int, moments: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from a step with the optimizer's state of that step; the model's weights are the caller's."""
        self.step = step
        for name, parameter in self._parameters.items() if step else ():
            self._optimizer.state[parameter] = {
                # Each parameter counts its own steps: the tensor is updated in place.
                "step": torch.tensor(float(step), device=self._device),
                **{m: moments[m][name].to(parameter, copy=True) for m in MOMENTS},
            }

    def state(self) -> dict[str, Any]:
        """Return all that a later process needs, as tensors and plain values."""
        return {
            "weights": {n: p.detach() for n, p in self.model.named_parameters()},
            "moments": self.moments(),
            "step": self.step,
            "losses": [list(point) for point in self.losses],
            "duration_s": self.duration_s,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(state["weights"][name])
        self.resume(state["step"], state["moments"])
        self.losses = [(int(step), float(loss)) for step, loss in state["losses"]]
        self.duration_s = state["duration_s"]

    def _one_step(self, anchor: list[Tensor], proximal_mu: float) -> Tensor:
        """Return the step's loss, still on the device."""
        recipe = self.stream.recipe
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(recipe, self.step, self.stream.n_steps)
        batch = torch.from_numpy(self.stream.batch(self.step))
        if self._device.type == "cuda":
            batch = batch.pin_memory()
        # Dropout, where a base model has it, draws from the step's own stream: resuming needs no random state.
        torch.manual_seed(int(digest_of(recipe.seed, self.stream.names, self.step)[:8], 16))
        tokens = batch.to(self._device, non_blocking=True).long()  # (B, T)
        loss = next_token_loss(self.model, tokens, self._dtype)
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = list(self._parameters.values())
        if anchor:
            for parameter, start in zip(parameters, anchor, strict=True):
                if parameter.grad is not None:
                    parameter.grad.add_(parameter.detach() - start, alpha=proximal_mu)
        torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_norm, foreach=True)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def _read(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise MeasurementError(
                f"training on {' + '.join(self.stream.names)}: the loss is {loss} at step {self.step}; "
                f"choose a recipe with a learning rate below {self.stream.recipe.learning_rate:g}"
            )
        self.losses.append((self.step, loss))


def _device_has_fused(device: str) -> bool:
    """Return whether torch has a fused AdamW for the device: one pass over memory instead of a dozen."""
    return torch.device(device).type in ("cpu", "cuda")


def _adamw(parameters: list[Tensor], recipe: Recipe, *, fused: bool) -> torch.optim.AdamW:
    """Return AdamW that decays matrices only, as GPT-2's and the paper's training do."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=recipe.learning_rate, betas=BETAS, eps=EPSILON, fused=fused
    )
