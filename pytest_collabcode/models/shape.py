"""The shape of a model in memory, as its work is reckoned from it (throughput/flops).

Not covered: families other than Llama and GPT-2: their work is not reckoned, no number is better than a wrong one.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from pytest_collabcode.throughput.flops import ModelShape

FAMILIES = ("llama", "gpt2")


def shape_of(model: Any) -> ModelShape | None:
    """Return the shape of a decoder, or None where the formulas do not hold.

    Every matrix that multiplies is counted once; embeddings that are looked up, biases and norms are not.

    Args:
        model: a transformers causal LM.
    Example:
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.training.recipes import recipe
        >>> shape = shape_of(build(recipe("llama-smoke"), 1))
        >>> shape.n_body, shape.n_head  # 4 x 64 x 64 of attention, 3 x 64 x 192 behind it; 512 x 64 tied embeddings
        (53248, 32768)
    """
    config = model.config
    if config.model_type not in FAMILIES:
        return None
    head = model.get_output_embeddings()
    matrices = [m for m in model.modules() if isinstance(m, nn.Linear | Conv1D)]
    n_heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // n_heads
    return ModelShape(
        n_layers=config.num_hidden_layers,
        query_width=n_heads * size,
        key_width=(getattr(config, "num_key_value_heads", None) or n_heads) * size,
        n_body=sum(m.weight.numel() for m in matrices if m is not head),
        n_head=head.weight.numel(),
        bytes_per_number=head.weight.element_size(),
    )
