"""Whole texts through a decoder: likelihoods, also token by token, and embeddings, in chunks that fit memory.

Not covered: encoder-decoders (targets.py), sliding windows over texts longer than the context, several poolings.
Source: Reimers and Gurevych 2019 for mean pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_collabcode.generation import positions
from pytest_collabcode.generation.forward import Forward
from pytest_collabcode.generation.positions import chunks, score_end, tokens_at_once
from pytest_collabcode.records import Sampling, TextScore, TokenScores

EMBED_TOKENS = 256
COLUMNS = tuple(f.name for f in fields(TokenScores))
DIGITS = 6


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
    for chunk in chunks(rows, tokens_at_once(forward)):
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
def score_continuations(forward: Forward, pairs: Sequence[tuple[str, str]], sampling: Sampling) -> list[TokenScores]:
    """Score the first max_new_tokens tokens of each continuation, teacher-forced.

    Args:
        forward: model, tokenizer and device.
        pairs: prompt as the model is asked, and the continuation of it.
        sampling: the scheme whose probabilities are wanted; the prompt is cut at the left as for generating.
    Returns:
        One TokenScores a pair, in order. Tokens are those of prompt and continuation written together, or, where
        that would split the prompt otherwise than alone, those of the continuation by itself.
    Raises:
        MeasurementError: max_new_tokens leaves no room for a prompt.
    Example:
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> from pytest_collabcode.training.recipes import recipe
        >>> tokenizer = train_tokenizer(["x = 1\\n"], vocabulary_size=257)
        >>> forward = Forward(build(recipe("llama-smoke"), 1), tokenizer, "cpu")
        >>> [scores] = score_continuations(forward, [("x =", " 1\\n")], Sampling(max_new_tokens=2))
        >>> scores.starts, [log_p < 0 for log_p in scores.log_probs]
        ((0, 1), [True, True])

    Source: Zhang et al. 2024, equation 4, for mean and deviation.
    """
    room = sampling.max_new_tokens
    prompts = [forward.encode_prompt(prompt, room=room)[0] for prompt, _ in pairs]
    continuations = [positions.continuation(forward, prompt, text) for prompt, text in pairs]
    rows = [prompt + ids[:room] for prompt, (ids, _) in zip(prompts, continuations, strict=True)]
    scores = [TokenScores(starts=(), log_probs=(), scheme_log_probs=(), means=(), deviations=())] * len(pairs)
    for chunk in chunks(rows, tokens_at_once(forward)):
        ids, mask = forward.pad([rows[i] for i in chunk], left=True)
        sizes = [len(rows[i]) - len(prompts[i]) for i in chunk]
        logits = forward(
            ids, mask, last=max(sizes) + 1
        )  # of the prompts' last token and all continuations, (B, L, V)
        for i, size, own_ids, own_logits in zip(chunk, sizes, ids, logits, strict=True):
            own = own_ids[-len(rows[i]) :]
            columns = score_end(own, own_logits[-size - 1 : -1], sampling) if size else ((),) * 4
            scores[i] = TokenScores(
                starts=tuple(continuations[i][1][:size]),
                **dict(zip(COLUMNS[1:], columns, strict=True)),
            )
    return scores


def to_row(scores: TokenScores) -> list[list[float]]:
    """Return the columns of a TokenScores as the store keeps them, to a millionth of a nat.

    Example:
        >>> to_row(TokenScores(starts=(0,), log_probs=(-0.25,), scheme_log_probs=(float("-inf"),), means=(-2.0,),
        ...     deviations=(0.12345678,)))
        [[0], [-0.25], [-inf], [-2.0], [0.123457]]
    """
    return [[round(x, DIGITS) for x in getattr(scores, name)] for name in COLUMNS]


def from_row(row: Sequence[Sequence[Any]]) -> TokenScores:
    """Return the TokenScores that to_row made these columns of.

    Example:
        >>> from_row([[0], [-0.25], [0.0], [-2.0], [0.5]]).log_probs
        (-0.25,)
    """
    return TokenScores(**{name: tuple(column) for name, column in zip(COLUMNS, row, strict=True)})


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
    for chunk in chunks(rows, forward.prefill_tokens, at_least=1):
        ids, mask = forward.pad([rows[i] for i in chunk], left=False)
        output = forward.model.base_model(
            input_ids=ids, attention_mask=mask, use_cache=False, **forward.positions(mask)
        )
        mean = unit_means(output.last_hidden_state, mask)
        found[chunk, : mean.shape[1]] = mean
    return found


def unit_means(states: torch.Tensor, mask: torch.Tensor) -> NDArray[np.float32]:
    """Return the mean of the states (B, T, d) of tokens that are there, mask (B, T), as rows of unit length.

    Example:
        >>> unit_means(torch.tensor([[[3.0, 0.0], [1.0, 3.0], [9.0, 9.0]]]), torch.tensor([[1, 1, 0]])).tolist()
        [[0.800000011920929, 0.6000000238418579]]
    """
    total = (states.float() * mask[:, :, None]).sum(1)  # (B, d); its length cancels out
    unit: NDArray[np.float32] = torch.nn.functional.normalize(total, dim=-1).cpu().numpy()
    return unit


def _scored_bytes(forward: Forward, text: str, n_tokens: int) -> int:
    """Count the UTF-8 bytes from the first token's end to the last one's; a character that is cut counts whole."""
    if not getattr(forward.tokenizer, "is_fast", False):
        return len(forward.tokenizer.decode(forward.encode(text)[1:n_tokens]).encode())
    offsets = forward.tokenizer(text, return_offsets_mapping=True, verbose=False).offset_mapping
    return len(text[offsets[0][1] : offsets[n_tokens - 1][1]].encode())
