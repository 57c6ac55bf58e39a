"""Training steps as callables to time: the loop of all regimes, and a plain one to compare it with.

The reference is what a careful script does without further thought: the model's own loss over all logits, an AdamW
step over single tensors, and the loss read at every step; same model, same batches, same type.
Not covered: data loading (both take packed batches from memory).
Source: the training scripts of arXiv 2409.12020's artifact, without gradient checkpointing and trackers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pytest_collabcode.models.architectures import build
from pytest_collabcode.records import Recipe
from pytest_collabcode.training.loop import Trainer, working_dtype
from pytest_collabcode.training.packing import Stream


def training_steps(recipe: Recipe, stream: Stream, *, n_steps: int, device: str = "cpu") -> Callable[[], None]:
    """Return a callable that trains n_steps of the stream with the loop of all regimes.

    Args:
        recipe: shape of the model.
        stream: packed batches; at least n_steps long.
        n_steps: trained by each call, always the same batches.
        device: of the model.
    Example:
        >>> from dataclasses import replace
        >>> import numpy as np
        >>> from pytest_collabcode.training.packing import TokenizedDocuments
        >>> from pytest_collabcode.training.recipes import recipe
        >>> tiny = replace(recipe("llama-smoke"), sequence_tokens=8, batch_size=2)
        >>> meta = TokenizedDocuments(organization="meta", tokens=(np.arange(64, dtype=np.int32),), copies=(1,))
        >>> steps = training_steps(tiny, Stream(documents=(meta,), recipe=tiny), n_steps=2)
        >>> steps()  # to be timed, as often as one likes
    """
    trainer = Trainer(build(recipe, recipe.seed).to(device), stream, device=device)

    def steps() -> None:
        trainer.step = 0
        with torch.random.fork_rng(devices=[]):  # a step seeds the global generator
            trainer.run(n_steps, after_reading=lambda: None)

    return steps


def reference_steps(recipe: Recipe, stream: Stream, *, n_steps: int, device: str = "cpu") -> Callable[[], None]:
    """Return a callable that trains the same steps in the plain way.

    Example:
        >>> from dataclasses import replace
        >>> import numpy as np
        >>> from pytest_collabcode.throughput.clock import paired_ratio
        >>> from pytest_collabcode.training.packing import TokenizedDocuments
        >>> from pytest_collabcode.training.recipes import recipe
        >>> tiny = replace(recipe("llama-smoke"), sequence_tokens=8, batch_size=2)
        >>> meta = TokenizedDocuments(organization="meta", tokens=(np.arange(64, dtype=np.int32),), copies=(1,))
        >>> stream = Stream(documents=(meta,), recipe=tiny)
        >>> ours, plain = (make(tiny, stream, n_steps=2) for make in (training_steps, reference_steps))
        >>> paired_ratio(ours, plain, rounds=1, warmup=0).speedup > 0
        True
    """
    model: Any = build(recipe, recipe.seed).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, foreach=False, fused=False)
    dtype = working_dtype(recipe, device)
    kind = torch.device(device).type

    def steps() -> None:
        model.train()
        for step in range(n_steps):
            tokens = torch.from_numpy(stream.batch(step)).to(device).long()  # (B, T)
            with torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32):
                loss = model(input_ids=tokens, labels=tokens).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            float(loss.item())

    return steps
