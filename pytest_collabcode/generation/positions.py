"""Scores of texts place by place, for decoders and encoder-decoders alike: tokens, chunks, columns of numbers.

Not covered: running the model (scoring.py, targets.py).
Source: Zhang et al. 2024, arXiv 2404.02936, for mean and deviation of the log-probability over the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from pytest_collabcode.generation import sampler
from pytest_collabcode.generation.forward import Forward
from pytest_collabcode.records import Sampling

LOGIT_BYTES = 1 << 28  # of float32 logits held at once
POSITION_BYTES = 1 << 24  # of those, worked on at once where the whole vocabulary counts
LOWEST = -1e4  # stands for the log-probability of a token that the model masks


def score_end(ids: torch.Tensor, logits: torch.Tensor, sampling: Sampling) -> tuple[tuple[float, ...], ...]:
    """Score the last tokens of one text.

    Args:
        ids: (T,).
        logits: (P, V); each row predicts one of the last P tokens.
        sampling: the scheme.
    Returns:
        log p, log p under the scheme, mean and deviation of log p over the vocabulary, P values each.
    Example:
        >>> columns = score_end(torch.tensor([0, 1]), torch.tensor([[0.0, 0.0]]), Sampling(temperature=1.0))
        >>> [[round(x, 3) for x in column] for column in columns]
        [[-0.693], [-0.693], [-0.693], [0.0]]

    Source: Zhang et al. 2024, equation 4, for mean and deviation.
    """
    first, at_once = len(ids) - len(logits), max(1, POSITION_BYTES // (4 * logits.shape[-1]))
    columns: tuple[list[float], ...] = ([], [], [], [])
    for start in range(0, len(logits), at_once):
        own = logits[start : start + at_once].float()  # (p, V)
        place = torch.arange(first + start, first + start + len(own), device=ids.device)
        tokens = ids[place]
        earlier = torch.arange(len(ids), device=ids.device) < place[:, None]
        history = torch.where(earlier, ids, ids[0])  # (p, T); repeats are harmless to the penalty
        log_p = own.log_softmax(-1).clamp_(min=LOWEST)
        p = log_p.exp()
        mean = (p * log_p).sum(-1)
        deviation = (p * (log_p - mean[:, None]).square_()).sum(-1).sqrt()
        scheme = sampler.log_probabilities(own, history, tokens, sampling)
        found = (log_p.gather(1, tokens[:, None])[:, 0], scheme, mean, deviation)
        for column, values in zip(columns, found, strict=True):
            column += values.tolist()
    return tuple(map(tuple, columns))


def continuation(forward: Forward, prompt: str, text: str) -> tuple[list[int], list[int]]:
    """Return the token ids of a continuation and the character of it at which each begins.

    Example:
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> from pytest_collabcode.training.recipes import recipe
        >>> tokenizer = train_tokenizer(["x = 1\\n"], vocabulary_size=257)
        >>> ids, starts = continuation(Forward(build(recipe("llama-smoke"), 1), tokenizer, "cpu"), "x =", " 1")
        >>> tokenizer.decode(ids), starts
        (' 1', [0, 1])
    """
    before, whole = forward.encode(prompt), forward.encode(prompt + text)
    together = whole[: len(before)] == before
    tokenizer = forward.tokenizer
    ids = whole[len(before) :] if together else list(tokenizer(text, add_special_tokens=False).input_ids)
    if not getattr(tokenizer, "is_fast", False):
        return ids, [len(tokenizer.decode(ids[:i])) for i in range(len(ids))]
    source = tokenizer(prompt + text if together else text, return_offsets_mapping=True, add_special_tokens=together)
    skipped, shift = (len(before), len(prompt)) if together else (0, 0)
    return ids, [first - shift for first, _ in source.offset_mapping[skipped : skipped + len(ids)]]


def chunks(rows: Sequence[Sequence[int]], budget: int, *, at_least: int = 2) -> Iterator[list[int]]:
    """Yield row numbers, longest rows first, such that a padded chunk holds at most `budget` tokens.

    Example:
        >>> list(chunks([[1, 2], [3, 4, 5], [], [6, 7]], 5))
        [[1], [0, 3]]
    """
    order = sorted((i for i, row in enumerate(rows) if len(row) >= at_least), key=lambda i: -len(rows[i]))
    while order:
        size = max(1, budget // len(rows[order[0]]))
        yield order[:size]
        order = order[size:]


def tokens_at_once(forward: Forward) -> int:
    """Return how many tokens' logits may be held at once.

    Example:
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> from pytest_collabcode.training.recipes import recipe
        >>> tokenizer = train_tokenizer(["x = 1\\n"], vocabulary_size=257)
        >>> tokens_at_once(Forward(build(recipe("llama-smoke"), 1), tokenizer, "cpu"))
        1024
    """
    vocabulary: int = forward.model.get_input_embeddings().weight.shape[0]
    return max(1, min(forward.prefill_tokens, LOGIT_BYTES // (4 * vocabulary)))
