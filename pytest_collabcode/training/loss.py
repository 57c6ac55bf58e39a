"""Next-token loss with its gradient, computed a few hundred rows at a time.

The table of logits (rows x vocabulary) is by far the largest thing in training a small model. Here it exists one
block at a time, still in the cache when softmax and both gradients are taken from it. Not covered: models whose head
does more than multiply (scaling, bias): they take transformers' own loss.
Source: the idea of Liger's fused linear cross-entropy, arXiv 2410.10989; written for this loop.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

PLAIN_HEADS = ("llama", "gpt2")  # logits = hidden @ embedding.T, nothing else
BLOCK_LOGITS = {"cpu": 1 << 21, "cuda": 1 << 27}  # numbers in a block: 8 MB on a CPU, 0.5 GB on a GPU


def next_token_loss(model: Any, tokens: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the mean loss in nats of predicting each token from those before it.

    Args:
        model: a transformers causal LM.
        tokens: int64, shape (B, T), T >= 2.
        dtype: of the matrix products; sums stay in float32.
    Returns:
        A scalar on the model's device, to be used with `backward` once.
    Example:
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.training.recipes import recipe
        >>> model, tokens = build(recipe("llama-smoke"), 1), torch.arange(64).reshape(2, 32)
        >>> loss = next_token_loss(model, tokens, torch.float32)
        >>> bool(abs(loss - model(input_ids=tokens, labels=tokens).loss) < 1e-4)
        True
    """
    device = tokens.device.type
    with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
        if model.config.model_type not in PLAIN_HEADS:
            loss: Tensor = model(input_ids=tokens, labels=tokens, use_cache=False).loss
            return loss
        hidden = model.base_model(input_ids=tokens, past_key_values=_KeepsNothing(layers=[]), use_cache=False)
        hidden = hidden.last_hidden_state  # (B, T, D)
    rows = hidden[:, :-1].reshape(-1, hidden.shape[-1])  # (N, D), N = B * (T - 1)
    targets = tokens[:, 1:].reshape(-1)  # (N,)
    weight = model.get_output_embeddings().weight  # (V, D)
    block = max(16, BLOCK_LOGITS.get(device, 1 << 21) // weight.shape[0])
    result: Tensor = _HeadLoss.apply(rows, weight, targets, block, dtype)  # type: ignore[no-untyped-call]
    return result


class _KeepsNothing(Cache):  # type: ignore[misc]  # transformers is untyped
    """A cache that passes keys and values through.

    Without any cache transformers asks whether documents are packed, and at every step the host waits for the answer.
    """

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int) -> tuple[Tensor, Tensor]:
        return key_states, value_states


class _HeadLoss(torch.autograd.Function):
    """Mean cross-entropy of rows @ weight.T against targets; both gradients are ready when the loss is."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, targets: Tensor, block: int, dtype: torch.dtype) -> Tensor:
        n = rows.shape[0]
        head = weight.to(dtype)
        rows_gradient = torch.empty_like(rows)  # (N, D)
        weight_gradient = torch.zeros_like(weight)  # (V, D)
        loss = torch.zeros((), dtype=torch.float32, device=rows.device)
        for start in range(0, n, block):
            part = rows[start : start + block].to(dtype)  # (b, D)
            target = targets[start : start + block].unsqueeze(1)  # (b, 1)
            logits = (part @ head.t()).float()  # (b, V)
            largest = logits.amax(1, keepdim=True)
            hit = logits.gather(1, target)
            total = logits.sub_(largest).exp_().sum(1, keepdim=True)  # (b, 1)
            loss += (total.log() + largest - hit).sum()
            # In place from here: (softmax - one hot) / n is the gradient of the logits.
            gradient = logits.mul_(1 / (total * n))
            gradient.scatter_add_(1, target, torch.full_like(hit, -1 / n))
            gradient = gradient.to(dtype)
            rows_gradient[start : start + block] = gradient @ head
            weight_gradient += gradient.t() @ part
        ctx.save_for_backward(rows_gradient, weight_gradient)
        return loss / n

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        rows_gradient, weight_gradient = ctx.saved_tensors
        return rows_gradient * upstream, weight_gradient * upstream, None, None, None
