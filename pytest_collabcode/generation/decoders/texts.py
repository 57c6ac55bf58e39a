"""Attention over whole texts laid end to end: nothing is padded, nothing masked, each text sees only itself.

Matrices see all tokens at once, which is where the time goes; only attention is done text by text.
Not covered: batches of one new token a row (slots.py).
Source: the variable-length form of Dao et al. 2022 (FlashAttention), on torch's own kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import torch
from torch.nn.functional import scaled_dot_product_attention

from pytest_collabcode.generation.decoders.decoder import Decoder, Held, Prefill


class TextAttention:
    """Causal attention of texts laid end to end, whose keys and values it holds.

    Args:
        lengths: of the texts.
        scale: of the product of query and key.
        bias: of an encoder: called with a length T, returns (H, T, T); every token then sees the whole text.
        source: what an encoder made of as many texts, for `source`.
    Example:
        >>> attention = TextAttention([1, 2], scale=1.0)
        >>> q, k, v = torch.ones(3, 2, 4), torch.ones(3, 1, 4), torch.tensor([1.0, 2.0, 4.0])[:, None, None]
        >>> attention.own(0, q, k, v.expand(3, 1, 4))[:, 0].tolist()  # means of the values seen
        [1.0, 2.0, 3.0]
        >>> attention.held.lengths, len(attention.held.keys)
        ([1, 2], 1)
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        scale: float,
        bias: Callable[[int], torch.Tensor] | None = None,
        source: Held | None = None,
    ) -> None:
        self.held = Held(list(lengths))
        self._scale, self._bias, self._source = scale, bias, source
        self._spans = spans(lengths)

    def own(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return what each token finds in its text up to itself, or in all of it where there is a bias."""
        self.held.keys.append(k)
        self.held.values.append(v)
        return torch.cat([self._seen(q[s], k[s], v[s], self._bias, causal=True) for s in self._spans])

    def source(self, layer: int, q: torch.Tensor) -> torch.Tensor:
        """Return what each token finds in the source of its text."""
        assert self._source is not None, "only an encoder-decoder asks for a source"
        k, v = self._source.keys[layer], self._source.values[layer]
        pairs = zip(self._spans, spans(self._source.lengths), strict=True)
        return torch.cat([self._seen(q[own], k[s], v[s], None, causal=False) for own, s in pairs])

    def _seen(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        bias: Callable[[int], torch.Tensor] | None,
        *,
        causal: bool,
    ) -> torch.Tensor:
        """Attend within one text: q (T, H, d), k and v (S, K, d); query heads share keys in groups of H / K."""
        n, heads, width = q.shape
        group = heads // k.shape[1]
        if bias is not None:
            queries, keys, values = (x.transpose(0, 1)[None] for x in (q, k, v))  # (1, H, T, d)
            seen = scaled_dot_product_attention(queries, keys, values, attn_mask=bias(n)[None], scale=self._scale)
            return seen[0].transpose(0, 1).reshape(n, heads * width)
        queries = q.view(n, heads // group, group, width).permute(1, 2, 0, 3)  # (K, H/K, T, d)
        keys, values = (x.transpose(0, 1)[:, None].expand(-1, group, -1, -1) for x in (k, v))
        seen = scaled_dot_product_attention(queries, keys, values, is_causal=causal and n > 1, scale=self._scale)
        return seen.permute(2, 0, 1, 3).reshape(n, heads * width)


def spans(lengths: Sequence[int]) -> list[slice]:
    """Return where each of the texts laid end to end lies.

    Example:
        >>> spans([2, 3])
        [slice(0, 2, None), slice(2, 5, None)]
    """
    ends = [0, *accumulate(lengths)]
    return [slice(a, b) for a, b in pairwise(ends)]


def laid_out(texts: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return all tokens of texts end to end, the position of each in its text, and the place of each text's last.

    Example:
        >>> [x.tolist() for x in laid_out([[7, 8], [9]], torch.device("cpu"))]
        [[7, 8, 9], [0, 1, 0], [1, 2]]
    """
    ids = torch.tensor([i for text in texts for i in text], device=device)
    positions = torch.tensor([i for text in texts for i in range(len(text))], device=device)
    ends = torch.tensor(list(accumulate(map(len, texts))), device=device)
    return ids, positions, ends - 1


def read_causally(decoder: Decoder, prompts: Sequence[Sequence[int]]) -> Prefill:
    """Return what a decoder without an encoder makes of prompts.

    Example:
        >>> from pytest_collabcode.generation.decoders import own_decoder
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.training.recipes import recipe
        >>> prefill = read_causally(own_decoder(build(recipe("llama-smoke"), 1)), [[1, 2, 3], [4]])
        >>> tuple(prefill.logits.shape), prefill.own.lengths, tuple(prefill.own.keys[0].shape)
        ((2, 512), [3, 1], (4, 4, 16))
    """
    ids, positions, last = laid_out(prompts, decoder.device)
    attention = TextAttention([len(prompt) for prompt in prompts], scale=decoder.scale)
    hidden = decoder.hidden(ids, positions, attention, kept=last)
    return Prefill(logits=decoder.logits(hidden), tokens=[list(prompt) for prompt in prompts], own=attention.held)
