"""GPT-2: learned positions, layer norms, one matrix for queries, keys and values.

Not covered: scaling by layer number, upcast attention, cross-attention: such models go to transformers' `generate`.
Source: Radford et al. 2019; transformers' GPT2LMHeadModel as the oracle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import embedding, layer_norm, linear
from transformers import GPT2LMHeadModel

from pytest_collabcode.generation.decoders.decoder import Attention, Prefill
from pytest_collabcode.generation.decoders.texts import read_causally
from pytest_collabcode.generation.decoders.weights import ACTIVATIONS, is_plain


class Gpt2:
    """A GPT-2 over the weights of a GPT2LMHeadModel.

    Args:
        model: for which `fits` holds.
    Example:
        >>> from transformers import GPT2Config
        >>> shape = {"n_layer": 2, "n_embd": 8, "n_head": 2, "n_positions": 16}
        >>> model = GPT2LMHeadModel(GPT2Config(**shape, vocab_size=9, bos_token_id=0, eos_token_id=0)).eval()
        >>> decoder = Gpt2(model)
        >>> found = decoder.read([[1, 2, 3]]).logits
        >>> torch.allclose(found, model(torch.tensor([[1, 2, 3]])).logits[:, -1], atol=1e-5)
        True
    """

    name = "gpt2"

    def __init__(self, model: Any) -> None:
        config, body = model.config, model.transformer
        self.n_layers, self.n_key_heads = config.n_layer, config.n_head
        self.head_width = config.n_embd // config.n_head
        self.scale = self.head_width**-0.5
        self.dtype, self.device = body.wte.weight.dtype, body.wte.weight.device
        self._activation = ACTIVATIONS[config.activation_function]
        self._tokens, self._positions = body.wte.weight.detach(), body.wpe.weight.detach()
        self._head = model.lm_head.weight.detach()
        self._layers = list(body.h)
        self._norm = body.ln_f

    @staticmethod
    def fits(model: Any) -> bool:
        """Return whether a model is of this family and of nothing more."""
        if type(model) is not GPT2LMHeadModel or not is_plain(model):
            return False
        config = model.config
        return bool(
            config.activation_function in ACTIVATIONS
            and config.scale_attn_weights
            and not config.scale_attn_by_inverse_layer_idx
            and not config.reorder_and_upcast_attn
            and not config.add_cross_attention
        )

    def hidden(
        self, ids: torch.Tensor, positions: torch.Tensor, attention: Attention, kept: torch.Tensor | None = None
    ) -> torch.Tensor:
        """See `Decoder`."""
        x = embedding(ids, self._tokens) + embedding(positions, self._positions)  # (N, D)
        shape = (len(ids), 3, self.n_key_heads, self.head_width)
        for number, layer in enumerate(self._layers):
            q, k, v = _product(layer.attn.c_attn, _normed(layer.ln_1, x)).view(shape).unbind(1)
            seen = attention.own(number, q, k, v)
            if kept is not None and number + 1 == self.n_layers:
                x, seen = x[kept], seen[kept]
            x += _product(layer.attn.c_proj, seen)
            inner = self._activation(_product(layer.mlp.c_fc, _normed(layer.ln_2, x)))
            x += _product(layer.mlp.c_proj, inner)
        return _normed(self._norm, x)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """See `Decoder`."""
        return linear(hidden, self._head)

    def read(self, prompts: Sequence[Sequence[int]]) -> Prefill:
        """See `Decoder`."""
        return read_causally(self, prompts)

    def bias(self, distances: torch.Tensor) -> torch.Tensor | None:
        """See `Decoder`; distances do not matter here."""
        return None


def _product(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """Apply a layer that keeps its weight as (inputs, outputs)."""
    return torch.addmm(layer.bias, x, layer.weight)


def _normed(norm: torch.nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
    return layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
