"""Drawing the next token: repetition penalty, temperature, top-k and nucleus, exactly as transformers defines them.

`draw` draws, `log_probabilities` says how likely a given token was to be drawn; both see the same nucleus.

The nucleus is found without sorting the vocabulary: the log-sum-exp of a row gives every token's mass, the K largest
are taken, and K grows for those rows whose K largest do not reach the mass yet. Each (seed, task, sample) has its own
stream of uniforms, so a draw depends neither on batch size nor on order nor on sharding.
Not covered: beams, min-p, typical and contrastive sampling; ties at the boundary of top-k (transformers keeps all of
them, here exactly k stay).
Sources: Holtzman et al. 2020 (nucleus), Keskar et al. 2019 (repetition penalty), Salmon et al. 2011 (Philox).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_collabcode.records import Sampling

FIRST_K = 64  # a trained model's nucleus nearly always fits
WIDENING = 8


def uniforms(seed: int, task_id: str, sample_index: int, *, n: int) -> NDArray[np.float64]:
    """Return the first n uniforms of the stream of one sample; a longer request only appends.

    Args:
        seed: of the run.
        task_id: of the problem.
        sample_index: of the completion.
        n: how many, one per token.
    Returns:
        Float64 in [0, 1), shape (n,).
    Example:
        >>> a, b = uniforms(1, "HumanEval/0", 0, n=2), uniforms(1, "HumanEval/0", 0, n=3)
        >>> bool((a == b[:2]).all()), bool((a == uniforms(1, "HumanEval/0", 1, n=2)).any())
        (True, False)

    Source: Salmon et al. 2011, numpy's Philox under a key of BLAKE2b.
    """
    name = f"{seed}\x1f{sample_index}\x1f{task_id}".encode()
    key = int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key)).random(n)


def penalize(logits: torch.Tensor, history: torch.Tensor, penalty: float) -> torch.Tensor:
    """Divide positive and multiply negative logits of the tokens that a row holds already.

    Args:
        logits: (R, V) float.
        history: (R, T) int64, the row's prompt and generated tokens; repeats are harmless.
        penalty: 1.0 changes nothing.
    Returns:
        (R, V); `logits` is left alone.
    Example:
        >>> penalize(torch.tensor([[2.0, -2.0, 1.0]]), torch.tensor([[0, 1, 0]]), 2.0).tolist()
        [[1.0, -4.0, 1.0]]

    Source: Keskar et al. 2019, section 4.1, with the sign rule of transformers.
    """
    if penalty == 1.0:
        return logits
    seen = logits.gather(1, history)  # (R, T)
    return logits.scatter(1, history, torch.where(seen < 0, seen * penalty, seen / penalty))


def draw(logits: torch.Tensor, history: torch.Tensor, sampling: Sampling, u: torch.Tensor) -> torch.Tensor:
    """Draw one token per row.

    Args:
        logits: (R, V), any float dtype; computed in float32.
        history: (R, T) int64, the tokens that the repetition penalty is for.
        sampling: how; temperature 0 is greedy.
        u: (R,) float64 in [0, 1), one of each row's own stream.
    Returns:
        (R,) int64 token ids.
    Example:
        >>> row = torch.tensor([[0.0, 3.0, 1.0]])
        >>> draw(row, torch.tensor([[0]]), Sampling(), torch.zeros(1)).tolist()
        [1]
    """
    scores = penalize(logits.float(), history, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return scores.argmax(-1)
    return _draw_nucleus(scores / sampling.temperature, sampling, u)


def log_probabilities(
    logits: torch.Tensor, history: torch.Tensor, tokens: torch.Tensor, sampling: Sampling
) -> torch.Tensor:
    """Return the log-probability with which `draw` takes each row's token.

    Args:
        logits: (R, V), any float dtype; computed in float32.
        history: (R, T) int64, the tokens that the repetition penalty is for.
        tokens: (R,) int64, the token asked about in each row.
        sampling: how; under temperature 0 only the largest is ever drawn.
    Returns:
        (R,) float64, nats; -inf for a token outside of top-k or nucleus, renormalized to their mass inside.
    Example:
        >>> row, seen, asked = torch.tensor([[0.0, 3.0, 1.0]]), torch.tensor([[0]]), torch.tensor([1])
        >>> log_probabilities(row, seen, asked, Sampling()).tolist()
        [0.0]
        >>> log_probabilities(row, seen, torch.tensor([2]), Sampling(temperature=1.0, top_p=0.6)).tolist()
        [-inf]

    """
    scores = penalize(logits.float(), history, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return torch.where(scores.argmax(-1) == tokens, 0.0, -math.inf).double()
    scores = scores / sampling.temperature
    if sampling.top_p >= 1 and not 0 < sampling.top_k < scores.shape[1]:
        return (scores.gather(1, tokens[:, None])[:, 0] - scores.logsumexp(-1)).double()
    found = torch.empty(scores.shape[0], dtype=torch.float64, device=scores.device)
    wanted = torch.full_like(found, sampling.top_p)
    for rows, ids, log_p, mass in _largest(scores, sampling, wanted):
        size = _nucleus_size(mass, sampling.top_p)  # (r, 1)
        kept = torch.arange(ids.shape[1], device=ids.device) < size
        own = torch.where(kept & (ids == tokens[rows, None]), log_p, -math.inf).amax(-1)
        found[rows] = own - mass.gather(1, size - 1)[:, 0].log()
    return found


def _draw_nucleus(scores: torch.Tensor, sampling: Sampling, u: torch.Tensor) -> torch.Tensor:
    wanted = torch.full_like(u, sampling.top_p) if sampling.top_p < 1 else u
    drawn = torch.empty(scores.shape[0], dtype=torch.int64, device=scores.device)
    for rows, ids, _, mass in _largest(scores, sampling, wanted):
        place = _inverse(mass, sampling.top_p, u[rows])
        drawn[rows] = ids.gather(1, place[:, None])[:, 0]
    return drawn


def _largest(
    scores: torch.Tensor, sampling: Sampling, wanted: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Take the K largest of each row, widening K only for rows whose mass does not exceed what is wanted yet.

    Yields:
        Row numbers (r,), their largest tokens in falling order (r, k), and in float64 the log mass of each and the
        mass up to and with each, (r, k).
    """
    n_tokens = scores.shape[1]
    limit = min(sampling.top_k or n_tokens, n_tokens)
    cut = limit < n_tokens
    k = limit if cut else min(FIRST_K, limit)
    # Top-k comes before the nucleus: then mass is relative to the k that are left.
    total = (scores.topk(limit).values if cut else scores).logsumexp(-1).double()
    rows = torch.arange(scores.shape[0], device=scores.device)
    while rows.numel():
        values, ids = (scores if len(rows) == len(scores) else scores[rows]).topk(k)
        log_p = values.double() - total[rows, None]  # (r, k)
        mass = log_p.exp().cumsum(-1)
        done = (mass[:, -1] > wanted[rows]) | (k == limit)
        yield rows[done], ids[done], log_p[done], mass[done]
        rows = rows[~done]
        k = min(k * WIDENING, limit)


def _inverse(mass: torch.Tensor, top_p: float, u: torch.Tensor) -> torch.Tensor:
    """Invert the cumulative mass, shape (r, k), inside the nucleus."""
    if top_p >= 1:
        return torch.searchsorted(mass, u[:, None], right=True)[:, 0].clamp(max=mass.shape[1] - 1)
    size = _nucleus_size(mass, top_p)
    target = u[:, None] * mass.gather(1, size - 1)
    return torch.minimum(torch.searchsorted(mass, target, right=True), size - 1)[:, 0]


def _nucleus_size(mass: torch.Tensor, top_p: float) -> torch.Tensor:
    """Count the tokens whose predecessors hold less than top_p, shape (r, 1); all k of them where top_p is 1."""
    if top_p >= 1:
        return torch.full_like(mass[:, :1], mass.shape[1], dtype=torch.int64)
    return (1 + (mass < top_p).sum(-1, keepdim=True)).clamp(max=mass.shape[1])
