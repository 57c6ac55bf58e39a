"""One loop: it learns, it can be interrupted, and it says when it diverges."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.models.architectures import build
from pytest_collabcode.records import Recipe
from pytest_collabcode.training.loop import Trainer, learning_rate, working_dtype
from pytest_collabcode.training.packing import Stream, TokenizedDocuments
from pytest_collabcode.training.recipes import recipe


def trainer(shape: Recipe) -> Trainer:
    tokens = tuple((np.arange(150) * i % 290).astype(np.int32) for i in range(1, 9))
    documents = TokenizedDocuments(organization="a", tokens=tokens, copies=(1,) * len(tokens))
    return Trainer(build(shape, 1), Stream(documents=(documents,), recipe=shape), device="cpu")


def nothing() -> None:
    pass


def same(a: Trainer, b: Trainer) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True))


def test_the_loss_falls(tiny: Recipe) -> None:
    started = trainer(replace(tiny, passes=8.0))
    started.run(started.stream.n_steps, after_reading=nothing)
    assert started.losses[-1][1] < started.losses[0][1] - 1
    assert started.stage("x").n_tokens == started.stream.n_steps * 4 * 32


def test_a_run_in_parts_across_trainers_is_the_run_in_one(tiny: Recipe) -> None:
    whole, first, second = trainer(tiny), trainer(tiny), trainer(tiny)
    whole.run(whole.stream.n_steps, after_reading=nothing)
    first.run(7, after_reading=nothing)
    second.restore(first.state())
    second.run(second.stream.n_steps, after_reading=nothing)
    assert same(whole, second)
    assert whole.step == second.step == whole.stream.n_steps


def test_a_proximal_pull_keeps_the_weights_near(tiny: Recipe) -> None:
    def distance(mu: float) -> float:
        started = trainer(tiny)
        before = torch.cat([p.detach().flatten() for p in started.model.parameters()])
        started.run(10, after_reading=nothing, proximal_mu=mu)
        return float((torch.cat([p.detach().flatten() for p in started.model.parameters()]) - before).norm())

    assert distance(100.0) < distance(0.0)


def test_a_diverging_run_stops_and_names_the_organization(tiny: Recipe) -> None:
    started = trainer(tiny)
    next(iter(started.model.parameters())).data.fill_(float("nan"))
    with pytest.raises(MeasurementError, match="training on a: the loss is nan at step 10"):
        started.run(20, after_reading=nothing)


@given(st.integers(1, 500), st.floats(0, 1))
def test_the_rate_rises_to_its_peak_then_falls_towards_zero(n_steps: int, warmup_ratio: float) -> None:
    shape = replace(recipe("llama-demo"), warmup_ratio=warmup_ratio)
    rates = [learning_rate(shape, step, n_steps) for step in range(n_steps)]
    peak = rates.index(max(rates))
    assert all(0 < rate <= shape.learning_rate for rate in rates)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_bfloat16_is_used_only_where_the_recipe_and_the_device_have_it(tiny: Recipe) -> None:
    assert working_dtype(replace(tiny, dtype="float32"), "cpu") is torch.float32
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert working_dtype(replace(tiny, dtype="bfloat16"), "cpu") is (torch.bfloat16 if native else torch.float32)
