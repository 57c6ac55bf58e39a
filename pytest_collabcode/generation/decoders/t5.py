"""T5: an encoder that reads each prompt once, and a decoder that looks at what it made of it.

The keys and values of the cross-attention are computed once a prompt and copied to its samples; what the decoder
reads itself begins with one start token. Positions are biases that depend on the distance alone.
Not covered: float16 with its clamps; stacks with embeddings of their own.
Sources: Raffel et al. 2020; Shazeer 2020 (gated layers); transformers' T5ForConditionalGeneration as the oracle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import embedding, linear, rms_norm
from transformers import T5ForConditionalGeneration

from pytest_collabcode.generation.decoders.decoder import Attention, Held, Prefill
from pytest_collabcode.generation.decoders.texts import TextAttention, laid_out
from pytest_collabcode.generation.decoders.weights import ACTIVATIONS, is_plain, joined


@dataclass(slots=True)
class _Layer:
    """Weights (outputs, inputs) of one block; T5 has no biases in its products."""

    norms: list[torch.Tensor]  # before attention, cross-attention where there is one, and the inner layer
    qkv: torch.Tensor
    out: torch.Tensor
    inner: torch.Tensor  # of gated layers: gate and value, one after the other
    outer: torch.Tensor
    cross_q: torch.Tensor | None = None
    cross_kv: torch.Tensor | None = None
    cross_out: torch.Tensor | None = None


class T5:
    """A T5 over the weights of a T5ForConditionalGeneration, whose projections become views of joined matrices.

    Args:
        model: for which `fits` holds.
    Example:
        >>> from transformers import T5Config
        >>> shape = {"num_layers": 2, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_heads": 2, "vocab_size": 9}
        >>> model = T5ForConditionalGeneration(T5Config(**shape, decoder_start_token_id=0)).eval()
        >>> prefill = T5(model).read([[1, 2, 3], [4]])
        >>> expected = model(torch.tensor([[1, 2, 3]]), decoder_input_ids=torch.tensor([[0]])).logits[:, -1]
        >>> torch.allclose(prefill.logits[:1], expected, atol=1e-5), prefill.tokens, prefill.source.lengths
        (True, [[0], [0]], [3, 1])
    """

    name = "t5"
    scale = 1.0

    def __init__(self, model: Any) -> None:
        config = model.config
        self.n_layers, self.n_key_heads, self.head_width = config.num_decoder_layers, config.num_heads, config.d_kv
        self._embedding, self._head = model.shared.weight.detach(), model.lm_head.weight.detach()
        self.dtype, self.device = self._embedding.dtype, self._embedding.device
        self._start = start_token(model)
        scaled = getattr(config, "scale_decoder_outputs", config.tie_word_embeddings)
        self._output_scale = config.d_model**-0.5 if scaled else 1.0
        self._activation, self._gated = ACTIVATIONS[config.dense_act_fn], config.is_gated_act
        self._epsilon, self._farthest = config.layer_norm_epsilon, config.relative_attention_max_distance
        self._encoder = [_taken_over(block) for block in model.encoder.block]
        self._decoder = [_taken_over(block) for block in model.decoder.block]
        self._encoder_norm = model.encoder.final_layer_norm.weight.detach()
        self._decoder_norm = model.decoder.final_layer_norm.weight.detach()
        self._encoder_bias, self._decoder_bias = _bias_table(model.encoder), _bias_table(model.decoder)

    @staticmethod
    def fits(model: Any) -> bool:
        """Return whether a model is of this family and of nothing more."""
        if type(model) is not T5ForConditionalGeneration or not is_plain(model):
            return False
        config, stacks = model.config, (model.encoder, model.decoder)
        return bool(
            config.dense_act_fn in ACTIVATIONS
            and all(stack.embed_tokens.weight is model.shared.weight for stack in stacks)
            and 4 <= config.relative_attention_num_buckets < 2 * config.relative_attention_max_distance
        )

    def hidden(
        self, ids: torch.Tensor, positions: torch.Tensor, attention: Attention, kept: torch.Tensor | None = None
    ) -> torch.Tensor:
        """See `Decoder`; positions are in the attention's biases."""
        x = embedding(ids, self._embedding)  # (N, D)
        for number, layer in enumerate(self._decoder):
            self._attend(x, number, layer, attention)
            assert layer.cross_q is not None and layer.cross_out is not None, (
                "every decoder block looks at the source"
            )
            q = linear(self._normed(x, layer.norms[1]), layer.cross_q).view(len(x), -1, self.head_width)
            x += linear(attention.source(number, q), layer.cross_out)
            x += self._inner(x, layer)
        return self._normed(x if kept is None else x[kept], self._decoder_norm) * self._output_scale

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """See `Decoder`."""
        return linear(hidden, self._head)

    def read(self, prompts: Sequence[Sequence[int]]) -> Prefill:
        """See `Decoder`."""
        source = self._encoded(prompts)
        start = torch.full((len(prompts),), self._start, device=self.device)
        attention = TextAttention([1] * len(prompts), scale=self.scale, source=source)
        hidden = self.hidden(start, torch.zeros_like(start), attention)
        return Prefill(
            logits=self.logits(hidden), tokens=[[self._start] for _ in prompts], own=attention.held, source=source
        )

    def bias(self, distances: torch.Tensor) -> torch.Tensor | None:
        """See `Decoder`."""
        reach = self._decoder_bias[self._farthest + distances.clamp(-self._farthest, self._farthest)]
        return reach.movedim(-1, 1)  # (n, H, T)

    def _encoded(self, prompts: Sequence[Sequence[int]]) -> Held:
        """Return the keys and values that the decoder's layers see of the prompts."""
        ids, _, _ = laid_out(prompts, self.device)
        lengths = [len(prompt) for prompt in prompts]
        attention = TextAttention(lengths, scale=self.scale, bias=self._encoder_biases(max(lengths)))
        x = embedding(ids, self._embedding)
        for number, layer in enumerate(self._encoder):
            self._attend(x, number, layer, attention)
            x += self._inner(x, layer)
        x = self._normed(x, self._encoder_norm)
        source = Held(lengths)
        for layer in self._decoder:
            assert layer.cross_kv is not None, "every decoder block looks at the source"
            k, v = linear(x, layer.cross_kv).view(len(x), 2, -1, self.head_width).unbind(1)
            source.keys.append(k)
            source.values.append(v)
        return source

    def _encoder_biases(self, longest: int) -> Callable[[int], torch.Tensor]:
        """Return a function that gives the biases of a text of a length, (H, T, T)."""
        places = torch.arange(longest, device=self.device)
        distances = (places[:, None] - places).clamp(-self._farthest, self._farthest)
        whole = self._encoder_bias[self._farthest + distances].movedim(-1, 0).contiguous()
        return lambda n: whole[:, :n, :n]

    def _attend(self, x: torch.Tensor, number: int, layer: _Layer, attention: Attention) -> None:
        qkv = linear(self._normed(x, layer.norms[0]), layer.qkv)
        q, k, v = qkv.view(len(x), 3, -1, self.head_width).unbind(1)
        x += linear(attention.own(number, q, k, v), layer.out)

    def _inner(self, x: torch.Tensor, layer: _Layer) -> torch.Tensor:
        inner = linear(self._normed(x, layer.norms[-1]), layer.inner)
        if not self._gated:
            return linear(self._activation(inner), layer.outer)
        gate, value = inner.chunk(2, -1)
        return linear(self._activation(gate).mul_(value), layer.outer)

    def _normed(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return rms_norm(x, weight.shape, weight, self._epsilon)


def start_token(model: Any) -> int:
    """Return the token with which an encoder-decoder's own text begins.

    Example:
        >>> from types import SimpleNamespace
        >>> start_token(SimpleNamespace(config=SimpleNamespace(decoder_start_token_id=None, pad_token_id=7)))
        7
    """
    sources = (getattr(model, "generation_config", None), model.config)
    names = ("decoder_start_token_id", "bos_token_id", "pad_token_id")
    found = [getattr(source, name, None) for name in names for source in sources]
    return int(next(token for token in found if token is not None))


def _taken_over(block: Any) -> _Layer:
    attention, inner = block.layer[0].SelfAttention, block.layer[-1].DenseReluDense
    cross: dict[str, torch.Tensor] = {}
    if block.is_decoder:
        looking = block.layer[1].EncDecAttention
        cross = {
            "cross_q": looking.q.weight.detach(),
            "cross_kv": joined([looking.k, looking.v])[0],
            "cross_out": looking.o.weight.detach(),
        }
    return _Layer(
        norms=[layer.layer_norm.weight.detach() for layer in block.layer],
        qkv=joined([attention.q, attention.k, attention.v])[0],
        out=attention.o.weight.detach(),
        inner=joined([inner.wi_0, inner.wi_1] if hasattr(inner, "wi_0") else [inner.wi])[0],
        outer=inner.wo.weight.detach(),
        **cross,
    )


def _bias_table(stack: Any) -> torch.Tensor:
    """Return the bias of each head by distance, from -farthest to +farthest: (2 * farthest + 1, H).

    A distance is the query's place minus the key's. Near ones have a bucket each, far ones share buckets that widen
    with the logarithm; an encoder keeps half of the buckets for keys that come later.
    """
    first, config = stack.block[0].layer[0].SelfAttention, stack.config
    n_buckets, farthest = config.relative_attention_num_buckets, config.relative_attention_max_distance
    weight: torch.Tensor = first.relative_attention_bias.weight.detach()
    distances = torch.arange(-farthest, farthest + 1, device=weight.device)
    if stack.is_decoder:
        return weight[_bucket(distances.clamp(min=0), n_buckets, farthest)]
    half = n_buckets // 2
    return weight[_bucket(distances.abs(), half, farthest) + half * (distances < 0)]


def _bucket(distances: torch.Tensor, n_buckets: int, farthest: int) -> torch.Tensor:
    near = n_buckets // 2
    ratio = torch.log(distances.clamp(min=1).float() / near) / math.log(farthest / near)
    far = near + (ratio * (n_buckets - near)).long()
    return torch.where(distances < near, distances, far.clamp(max=n_buckets - 1))
