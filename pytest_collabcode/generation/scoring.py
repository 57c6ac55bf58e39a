"""Whole texts through a model: log-likelihoods and embeddings, in chunks that fit memory and the core's cache.

Not covered: sliding windows over texts longer than the context, several poolings.
Sources: Reimers and Gurevych 2019 for mean pooling.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_collabcode.generation.forward import Forward
from pytest_collabcode.records import TextScore

EMBED_TOKENS = 256
LOGIT_BYTES = 1 << 28  # of float32 logits held at once


@torch.inference_mode()
def score_texts(forward: Forward, texts: Sequence[str], *, max_tokens: int) -> list[TextScore]:
    """Score the first max_tokens tokens of each text; the first of them has no prediction.

    Args:
        forward: model, tokenizer and device.
        texts: any strings; one of fewer than two tokens scores nothing.
        max_tokens: window, cut further where the model's context is shorter.
    Returns:
        One TextScore a text, in order; nats, float32 logits summed in float64.
    Example:
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> from pytest_collabcode.training.recipes import recipe
        >>> tokenizer = train_tokenizer(["x = 1\\n"], vocabulary_size=257)
        >>> forward = Forward(build(recipe("llama-smoke"), 1), tokenizer, "cpu")
        >>> a, b = score_texts(forward, ["x = 1\\n", ""], max_tokens=4)
        >>> (a.n_tokens, a.n_bytes, a.log_likelihood < 0), (b.n_tokens, b.log_likelihood)
        ((3, 3, True), (0, 0.0))
    """
    window = min(max_tokens, forward.context or max_tokens)
    rows = [forward.encode(text)[:window] for text in texts]
    scores = [TextScore(log_likelihood=0.0, n_tokens=0, n_bytes=0)] * len(texts)
    for chunk in _chunks(rows, _tokens_at_once(forward)):
        ids, mask = forward.pad([rows[i] for i in chunk], left=False)
        logits = forward(ids, mask)[:, :-1].float()  # (B, T-1, V)
        gold = logits.gather(2, ids[:, 1:, None])[:, :, 0] - logits.logsumexp(-1)  # (B, T-1)
        sums = (gold.double() * mask[:, 1:]).sum(-1).tolist()
        for i, total in zip(chunk, sums, strict=True):
            scores[i] = TextScore(
                log_likelihood=total,
                n_tokens=len(rows[i]) - 1,
                n_bytes=_scored_bytes(forward, texts[i], len(rows[i])),
                token_ids=tuple(rows[i][1:]),
            )
    return scores


@torch.inference_mode()
def embed_texts(forward: Forward, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the mean of the last hidden states over the first 256 tokens of each text.

    Returns:
        Float32, shape (len(texts), d), rows of unit length; the row of a text without tokens is zero.
    Example:
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> from pytest_collabcode.training.recipes import recipe
        >>> tokenizer = train_tokenizer(["x = 1\\n"], vocabulary_size=257)
        >>> forward = Forward(build(recipe("llama-smoke"), 1), tokenizer, "cpu")
        >>> found = embed_texts(forward, ["x = 1", "x = 1", ""])
        >>> found.shape, (found @ found[0]).round(3).tolist()
        ((3, 64), [1.0, 1.0, 0.0])
    """
    window = min(EMBED_TOKENS, forward.context or EMBED_TOKENS)
    rows = [forward.encode(text)[:window] for text in texts]
    width = forward.model.get_input_embeddings().weight.shape[1]
    found = np.zeros((len(texts), width), dtype=np.float32)
    for chunk in _chunks(rows, forward.prefill_tokens, at_least=1):
        ids, mask = forward.pad([rows[i] for i in chunk], left=False)
        output = forward.model.base_model(
            input_ids=ids, attention_mask=mask, use_cache=False, **forward.positions(mask)
        )
        hidden = output.last_hidden_state.float() * mask[:, :, None]  # (B, T, d)
        mean = torch.nn.functional.normalize(hidden.sum(1), dim=-1)  # the length of the sum cancels out
        found[chunk, : mean.shape[1]] = mean.cpu().numpy()
    return found


def _chunks(rows: Sequence[Sequence[int]], budget: int, *, at_least: int = 2) -> Iterator[list[int]]:
    """Yield row numbers, longest rows first, such that a padded chunk holds at most `budget` tokens."""
    order = sorted((i for i, row in enumerate(rows) if len(row) >= at_least), key=lambda i: -len(rows[i]))
    while order:
        size = max(1, budget // len(rows[order[0]]))
        yield order[:size]
        order = order[size:]


def _tokens_at_once(forward: Forward) -> int:
    vocabulary: int = forward.model.get_input_embeddings().weight.shape[0]
    return max(1, min(forward.prefill_tokens, LOGIT_BYTES // (4 * vocabulary)))


def _scored_bytes(forward: Forward, text: str, n_tokens: int) -> int:
    """Count the UTF-8 bytes from the first token's end to the last one's; a character that is cut counts whole."""
    if not getattr(forward.tokenizer, "is_fast", False):
        return len(forward.tokenizer.decode(forward.encode(text)[1:n_tokens]).encode())
    offsets = forward.tokenizer(text, return_offsets_mapping=True, verbose=False).offset_mapping
    return len(text[offsets[0][1] : offsets[n_tokens - 1][1]].encode())
