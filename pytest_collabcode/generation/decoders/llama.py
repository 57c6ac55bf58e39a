"""Llama and its like: rotary positions, root-mean-square norms, gated layers, keys shared by groups of query heads.

Mistral and Qwen2 without sliding windows have the same structure and are taken too.
Not covered: sliding windows, rotary scaling that changes with the length: such models go to transformers' `generate`.
Sources: Touvron et al. 2023; Su et al. 2021 (rotary positions); Ainslie et al. 2023 (shared keys); transformers'
LlamaForCausalLM as the oracle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import embedding, linear, rms_norm, silu
from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM

from pytest_collabcode.generation.decoders.decoder import Attention, Prefill
from pytest_collabcode.generation.decoders.texts import read_causally
from pytest_collabcode.generation.decoders.weights import is_plain, joined

MODELS = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM)
ROTARIES = ("default", "linear", "llama3", "yarn")  # frequencies that no text changes


@dataclass(slots=True)
class _Layer:
    """Weights (outputs, inputs) and biases, or None."""

    before: torch.Tensor  # of the norm before attention
    qkv: tuple[torch.Tensor, torch.Tensor | None]
    out: tuple[torch.Tensor, torch.Tensor | None]
    between: torch.Tensor
    gate_up: tuple[torch.Tensor, torch.Tensor | None]
    down: tuple[torch.Tensor, torch.Tensor | None]


class Llama:
    """A Llama over the weights of a transformers model, whose projections become views of joined matrices.

    Args:
        model: for which `fits` holds.
    Example:
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.training.recipes import recipe
        >>> model = build(recipe("llama-smoke"), 1)
        >>> decoder = Llama(model)
        >>> found = decoder.read([[1, 2, 3]]).logits
        >>> torch.allclose(found, model(torch.tensor([[1, 2, 3]])).logits[:, -1], atol=1e-5)
        True
    """

    name = "llama"

    def __init__(self, model: Any) -> None:
        config, body = model.config, model.model
        self.n_layers, self.n_key_heads = config.num_hidden_layers, config.num_key_value_heads
        self.head_width: int = body.layers[0].self_attn.head_dim
        self._n_heads = config.num_attention_heads
        self.scale = self.head_width**-0.5
        self._embedding, self._head = body.embed_tokens.weight.detach(), model.lm_head.weight.detach()
        self.dtype, self.device = self._embedding.dtype, self._embedding.device
        self._frequencies = body.rotary_emb.inv_freq.to(self.device, torch.float32)
        self._rotary_scale: float = body.rotary_emb.attention_scaling
        self._epsilon, self._norm = config.rms_norm_eps, body.norm.weight.detach()
        self._layers = [_taken_over(layer) for layer in body.layers]

    @staticmethod
    def fits(model: Any) -> bool:
        """Return whether a model is of this family and of nothing more."""
        if type(model) not in MODELS or not is_plain(model):
            return False
        config, rotary = model.config, model.model.rotary_emb
        slides = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
        return bool(
            config.hidden_act == "silu"
            and rotary.rope_type in ROTARIES
            and 2 * len(rotary.inv_freq) == model.model.layers[0].self_attn.head_dim
            and not slides
        )

    def hidden(
        self, ids: torch.Tensor, positions: torch.Tensor, attention: Attention, kept: torch.Tensor | None = None
    ) -> torch.Tensor:
        """See `Decoder`."""
        x = embedding(ids, self._embedding)  # (N, D)
        cos, sin = self._rotation(positions)
        n_queries, n_rotated = self._n_heads, self._n_heads + self.n_key_heads
        for number, layer in enumerate(self._layers):
            qkv = linear(self._normed(x, layer.before), *layer.qkv).view(len(ids), -1, self.head_width)
            qk = _rotated(qkv[:, :n_rotated], cos, sin)
            seen = attention.own(number, qk[:, :n_queries], qk[:, n_queries:], qkv[:, n_rotated:])
            if kept is not None and number + 1 == self.n_layers:
                x, seen = x[kept], seen[kept]
            x += linear(seen, *layer.out)
            gate, up = linear(self._normed(x, layer.between), *layer.gate_up).chunk(2, -1)
            x += linear(silu(gate, inplace=True).mul_(up), *layer.down)
        return self._normed(x, self._norm)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """See `Decoder`."""
        return linear(hidden, self._head)

    def read(self, prompts: Sequence[Sequence[int]]) -> Prefill:
        """See `Decoder`."""
        return read_causally(self, prompts)

    def bias(self, distances: torch.Tensor) -> torch.Tensor | None:
        """See `Decoder`; distances are in the rotation."""
        return None

    def _rotation(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines, (N, 1, d / 2) each."""
        angles = (positions[:, None].float() * self._frequencies)[:, None]
        cos, sin = angles.cos() * self._rotary_scale, angles.sin() * self._rotary_scale
        return cos.to(self.dtype), sin.to(self.dtype)

    def _normed(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return rms_norm(x, weight.shape, weight, self._epsilon)


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn the pairs that lie half a head apart, x (N, heads, d), by their angles."""
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def _taken_over(layer: Any) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return _Layer(
        before=layer.input_layernorm.weight.detach(),
        qkv=joined([attention.q_proj, attention.k_proj, attention.v_proj]),
        out=joined([attention.o_proj]),
        between=layer.post_attention_layernorm.weight.detach(),
        gate_up=joined([mlp.gate_proj, mlp.up_proj]),
        down=joined([mlp.down_proj]),
    )
