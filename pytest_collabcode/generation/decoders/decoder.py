"""What a running batch asks of a model family: tokens in, hidden states and logits out, attention left to the caller.

A decoder works on a flat matrix of tokens, one a row, whichever texts they are of; only attention knows which tokens
see each other, and keeps the keys and values. So one function serves prompts laid end to end (texts.py), a step of a
running batch (slots.py) and a CUDA graph of that step (graphs.py).
Not covered: sampling, the tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch


class Attention(Protocol):
    """Who sees whom; H query heads, K key heads, d numbers each."""

    def own(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Keep the tokens' keys and values, (N, K, d), and return what queries (N, H, d) find: (N, H * d)."""
        ...

    def source(self, layer: int, q: torch.Tensor) -> torch.Tensor:
        """Return what queries (N, H, d) find in the text that an encoder read: (N, H * d)."""
        ...


@dataclass(slots=True)
class Held:
    """Keys and values of texts laid end to end: per layer (N, K, d) each, N being the sum of the lengths."""

    lengths: list[int]
    keys: list[torch.Tensor] = field(default_factory=list)
    values: list[torch.Tensor] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefill:
    """P prompts that a decoder has read."""

    logits: torch.Tensor  # (P, V), of the first new token
    tokens: list[list[int]]  # that `own` holds of each: the prompt; for an encoder-decoder its start token
    own: Held
    source: Held | None = None  # what an encoder made of the prompts


class Decoder(Protocol):
    """A model family over the weights of a transformers model."""

    name: str
    n_layers: int
    n_key_heads: int
    head_width: int
    scale: float  # of the product of query and key
    dtype: torch.dtype
    device: torch.device

    def hidden(
        self, ids: torch.Tensor, positions: torch.Tensor, attention: Attention, kept: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the last hidden states, (N, D), of tokens (N,) at their positions in their texts (N,).

        Of the others than the `kept` ones nothing is computed behind the last attention.
        """
        ...

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, V) of the tokens that follow hidden states (N, D)."""
        ...

    def read(self, prompts: Sequence[Sequence[int]]) -> Prefill:
        """Read prompts, each of at least one token."""
        ...

    def bias(self, distances: torch.Tensor) -> torch.Tensor | None:
        """Return what is added to the scores of keys so many tokens (n, T) before the query: (n, H, T), or None."""
        ...
