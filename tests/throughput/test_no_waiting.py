"""A training step queues its work and goes on: the host waits where the loss is read, and nowhere else."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_collabcode.models.architectures import build
from pytest_collabcode.records import Recipe
from pytest_collabcode.training.loop import READ_EVERY_STEPS, Trainer
from pytest_collabcode.training.packing import Stream, TokenizedDocuments
from pytest_collabcode.training.recipes import recipe


class Reads(TorchDispatchMode):
    """Counts values that are brought to the host: `.item()`, `float()`, `bool()`, `if tensor`."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@contextmanager
def waits(device: str) -> Iterator[list[int]]:
    """Append how often the host waited for the device meanwhile."""
    counted: list[int] = []
    if device == "cpu":
        with Reads() as reads:
            yield counted
        counted.append(reads.n)
        return
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield counted
    finally:
        torch.cuda.set_sync_debug_mode("default")
    counted.append(sum("synchronizing CUDA operation" in str(w.message) for w in caught))


DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU to wait for")),
]


def trainer(shape: Recipe, device: str) -> Trainer:
    tokens = tuple((np.arange(300) * i % 290).astype(np.int32) for i in range(1, 9))
    documents = TokenizedDocuments(organization="a", tokens=tokens, copies=(1,) * len(tokens))
    stream = Stream(documents=(documents,), recipe=shape)
    return Trainer(build(shape, 1).to(device), stream, device=device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("proximal_mu", [0.0, 0.1])
@pytest.mark.parametrize("name", ["llama-demo", "gpt2-demo"])
def test_no_training_step_waits(name: str, proximal_mu: float, device: str) -> None:
    shape = replace(
        recipe(name), n_layers=2, width=32, n_heads=2, vocabulary_size=300, sequence_tokens=32, batch_size=2
    )
    training = trainer(shape, device)
    training.run(1, after_reading=lambda: None, proximal_mu=proximal_mu)  # the optimizer allocates its state
    for until in (2, READ_EVERY_STEPS):  # one step, and as many as there are between two readings
        with waits(device) as counted:
            training.run(until, after_reading=lambda: None, proximal_mu=proximal_mu)
        assert counted == [1], "only the reading of the loss waits"
    assert len(training.losses) == 3


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_that_waits_is_seen(device: str) -> None:
    value = torch.ones((), device=device)
    with waits(device) as counted:
        for _ in range(3):
            value += 1
            assert value.item() > 0
        if value > 0:
            value += 1
    assert counted == [4]
