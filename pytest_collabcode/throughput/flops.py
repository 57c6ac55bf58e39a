"""What a decoder's work needs at least, from its shape alone: floating-point operations, and bytes read.

Counted is what the mathematics asks for, once: nothing computed again, no padding, no copies. The square of attention
scores is counted whole, as is usual, though a causal model needs half of it; so is the last position of a training
sequence, whose logits nobody needs.
Not covered: encoder-decoders, mixtures of experts, sliding windows; softmax, norms and biases (below 0.1 %).
Sources: Chowdhery et al. 2022 (PaLM), arXiv 2204.02311, appendix B, for model FLOP utilization (MFU); Databricks
2023, "LLM Inference Performance Engineering: Best Practices", for model bandwidth utilization (MBU).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """What of a decoder decides its work; models/shape reads it off a model.

    Example:
        >>> gpt2 = ModelShape(n_layers=12, query_width=768, key_width=768, n_body=84_934_656, n_head=38_597_376,
        ...     bytes_per_number=2)
        >>> gpt2.weight_bytes, gpt2.token_bytes
        (247064064, 36864)
    """

    n_layers: int
    query_width: int  # heads x size of one head
    key_width: int  # heads of keys x size of one head; less where several queries share a key
    n_body: int  # parameters of the matrices that every token is multiplied with, without the head
    n_head: int  # parameters of the matrix that makes logits; an embedding that is only looked up is none of the two
    bytes_per_number: int  # of weights, keys and values

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that one pass through the model reads."""
        return (self.n_body + self.n_head) * self.bytes_per_number

    @property
    def token_bytes(self) -> int:
        """Bytes of keys and values that one token leaves behind."""
        return 2 * self.n_layers * self.key_width * self.bytes_per_number


def training_flops(shape: ModelShape, *, sequence_tokens: int) -> float:
    """Return the operations per trained token: 6 N + 12 L D T, forward and backward.

    Args:
        shape: of the model.
        sequence_tokens: T, to which every token of a packed sequence attends.
    Example:
        >>> gpt2 = ModelShape(n_layers=12, query_width=768, key_width=768, n_body=84_934_656, n_head=38_597_376,
        ...     bytes_per_number=2)
        >>> training_flops(gpt2, sequence_tokens=1024) / 1e6
        854.4384

    Source: PaLM, appendix B.
    """
    return 6.0 * (shape.n_body + shape.n_head) + 12.0 * shape.n_layers * shape.query_width * sequence_tokens


def generation_flops(shape: ModelShape, *, prompt_tokens: int, new_tokens: int) -> float:
    """Return the operations of completing one prompt: its prefill, then 2 N + 4 L D S per token that is fed back.

    Args:
        shape: of the model.
        prompt_tokens: of one row; a row that shares its prompt with others needs the prefill once.
        new_tokens: drawn, at least 1; the first comes out of the prefill, the last is not fed back.
    Example:
        >>> shape = ModelShape(n_layers=1, query_width=1, key_width=1, n_body=10, n_head=5, bytes_per_number=4)
        >>> generation_flops(shape, prompt_tokens=2, new_tokens=1)  # 2 * 10 * 2 + 4 * 2 * 2 + 2 * 5
        66.0
        >>> generation_flops(shape, prompt_tokens=2, new_tokens=2) - 66.0  # 2 * 15 + 4 * 3
        42.0
    """
    attention = 4.0 * shape.n_layers * shape.query_width  # per pair of a query and a key
    prefill = 2.0 * (shape.n_body * prompt_tokens + shape.n_head) + attention * prompt_tokens**2
    n_fed = new_tokens - 1
    keys = n_fed * prompt_tokens + n_fed * (n_fed + 1) // 2  # seen by the tokens fed back, each by itself too
    return prefill + 2.0 * (shape.n_body + shape.n_head) * n_fed + attention * keys


def decoding_bytes(shape: ModelShape, *, prompt_tokens: Sequence[int], new_tokens: Sequence[int]) -> float:
    """Return the bytes that decoding rows together must read: weights once a step, and every row's keys and values.

    Over the time of decoding and the bandwidth of the device this is the model bandwidth utilization: reading less is
    impossible, so a fraction below 1 is what other work, or waiting, cost.

    Args:
        shape: of the model.
        prompt_tokens: of each row.
        new_tokens: drawn for each row, as long; a row leaves after its last one.
    Example:
        >>> shape = ModelShape(n_layers=1, query_width=1, key_width=1, n_body=10, n_head=5, bytes_per_number=4)
        >>> decoding_bytes(shape, prompt_tokens=[7, 7], new_tokens=[3, 2])  # 2 steps of 60; 8 + 9 and 8 tokens of 8
        320.0

    Source: Databricks 2023: (parameters + keys and values) / time per step / peak bandwidth.
    """
    n_steps = max(new_tokens) - 1
    held = sum(
        (drawn - 1) * prompt + drawn * (drawn - 1) // 2
        for prompt, drawn in zip(prompt_tokens, new_tokens, strict=True)
    )
    return float(n_steps * shape.weight_bytes + held * shape.token_bytes)
