"""The blockwise loss is the plain one."""

from dataclasses import replace

import pytest
import torch

from pytest_collabcode.models.architectures import build
from pytest_collabcode.training import loss as loss_module
from pytest_collabcode.training.loss import next_token_loss
from pytest_collabcode.training.recipes import recipe


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("block_logits", [1 << 21, 300 * 16])
def test_loss_and_every_gradient_are_those_of_transformers(
    architecture: str, block_logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loss_module.BLOCK_LOGITS, "cpu", block_logits)
    shape = replace(
        recipe("llama-demo"), architecture=architecture, n_layers=1, width=16, n_heads=2, vocabulary_size=300
    )
    tokens = torch.randint(300, (3, 21), generator=torch.Generator().manual_seed(1))
    ours, theirs = build(shape, 1), build(shape, 1)
    loss = next_token_loss(ours, tokens, torch.float32)
    loss.backward()
    expected = theirs(input_ids=tokens, labels=tokens).loss
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-7)


def test_bfloat16_products_give_nearly_the_same_loss() -> None:
    shape = replace(recipe("llama-demo"), n_layers=1, width=16, n_heads=2, vocabulary_size=300)
    tokens = torch.randint(300, (3, 21), generator=torch.Generator().manual_seed(1))
    model = build(shape, 1)
    loss = next_token_loss(model, tokens, torch.bfloat16)
    loss.backward()
    assert loss.item() == pytest.approx(next_token_loss(model, tokens, torch.float32).item(), rel=1e-2)
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}


def test_a_head_that_does_more_takes_transformers_own_loss() -> None:
    model = build(replace(recipe("llama-demo"), n_layers=1, width=16, n_heads=2, vocabulary_size=300), 1)
    model.config.model_type = "something-else"
    tokens = torch.randint(300, (2, 9), generator=torch.Generator().manual_seed(1))
    expected = model(input_ids=tokens, labels=tokens).loss.item()
    assert next_token_loss(model, tokens, torch.float32).item() == expected
