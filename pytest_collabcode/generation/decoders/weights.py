"""Weights of a transformers model, taken over without copies: which models are plain enough, matrices side by side.

Not covered: what the matrices mean (gpt2.py, llama.py, t5.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

PLAIN = ("torch.nn.modules.", "transformers.models.", "transformers.activations", "transformers.pytorch_utils")
DTYPES = (torch.float32, torch.bfloat16)
GELU_SLOPE = math.sqrt(2 / math.pi)


def _gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    """Return the GELU's tanh form as x * sigmoid(2y): on a CPU an exponential is a third of the time of a tanh."""
    y = (x * x).mul_(2 * GELU_SLOPE * 0.044715).add_(2 * GELU_SLOPE).mul_(x)
    return y.sigmoid_().mul_(x)


ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": functional.relu,
    "silu": functional.silu,
}
"""Activations by their names in a config."""


def is_plain(model: Any) -> bool:
    """Return whether a model is what its config says: no quantized, wrapped, hooked or scattered modules.

    Example:
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.training.recipes import recipe
        >>> model = build(recipe("llama-smoke"), 1)
        >>> is_plain(model), is_plain(model.half())
        (True, False)
    """
    kinds = {(parameter.dtype, parameter.device) for parameter in model.parameters()}
    return (
        len(kinds) == 1
        and next(iter(kinds))[0] in DTYPES
        and getattr(model.config, "quantization_config", None) is None
        and all(type(m).__module__.startswith(PLAIN) for m in model.modules())
        and not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    )


@torch.no_grad()
def joined(layers: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return linear layers that read the same input as one: weight (sum of outputs, inputs) and bias, or None.

    One large product is faster than three small ones. The layers become views of the joined weights, so that they
    still work and no memory is used twice.

    Args:
        layers: torch.nn.Linear, all with bias or all without.
    Example:
        >>> layers = [torch.nn.Linear(3, n, bias=False) for n in (2, 4)]
        >>> weight, bias = joined(layers)
        >>> tuple(weight.shape), bias, layers[1].weight.data_ptr() == weight[2:].data_ptr()
        ((6, 3), None, True)
        >>> joined(layers)[0].data_ptr() == weight.data_ptr()  # once is enough
        True
    """
    biases = [layer.bias for layer in layers if layer.bias is not None]
    return _side_by_side([layer.weight for layer in layers]), _side_by_side(biases) if biases else None


def _side_by_side(parts: Sequence[torch.nn.Parameter]) -> torch.Tensor:
    first, end = parts[0].data, parts[0].storage_offset()
    adjacent = True
    for part in parts:
        same = part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        adjacent = adjacent and same and part.is_contiguous() and part.storage_offset() == end
        end += part.numel()
    if adjacent:
        shape = (sum(len(part) for part in parts), *first.shape[1:])
        return first.as_strided(shape, first.stride())
    whole = torch.cat([part.data for part in parts])
    for part, view in zip(parts, torch.split(whole, [len(part) for part in parts]), strict=True):
        part.data = view
    return whole
