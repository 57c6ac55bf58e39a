"""Drawing the next token: repetition penalty, temperature, top-k and nucleus, exactly as transformers defines them.

The nucleus is found without sorting the vocabulary: the log-sum-exp of a row gives every token's mass, the K largest
are taken, and K grows for those rows whose K largest do not reach the mass yet. Each (seed, task, sample) has its own
stream of uniforms, so a draw depends neither on batch size nor on order nor on sharding.
Not covered: beams, min-p, typical and contrastive sampling; ties at the boundary of top-k (transformers keeps all of
them, here exactly k stay).
Sources: Holtzman et al. 2020 (nucleus), Keskar et al. 2019 (repetition penalty), Salmon et al. 2011 (Philox).
"""

from __future__ import annotations

import hashlib

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


def _draw_nucleus(scores: torch.Tensor, sampling: Sampling, u: torch.Tensor) -> torch.Tensor:
    """Take the K largest of each row, widening K only for rows whose mass is not reached yet."""
    n_tokens = scores.shape[1]
    limit = min(sampling.top_k or n_tokens, n_tokens)
    cut = limit < n_tokens
    k = limit if cut else min(FIRST_K, limit)
    # Top-k comes before the nucleus: then mass is relative to the k that are left.
    total = (scores.topk(limit).values if cut else scores).logsumexp(-1).double()
    wanted = torch.full_like(u, sampling.top_p) if sampling.top_p < 1 else u
    drawn = torch.empty(scores.shape[0], dtype=torch.int64, device=scores.device)
    rows = torch.arange(scores.shape[0], device=scores.device)
    while True:
        values, ids = (scores if len(rows) == len(scores) else scores[rows]).topk(k)
        mass = (values.double() - total[rows, None]).exp().cumsum(-1)  # (r, k)
        done = (mass[:, -1] > wanted[rows]) | (k == limit)
        place = _inverse(mass[done], sampling.top_p, u[rows[done]])
        drawn[rows[done]] = ids[done].gather(1, place[:, None])[:, 0]
        rows = rows[~done]
        if rows.numel() == 0:
            return drawn
        k = min(k * WIDENING, limit)


def _inverse(mass: torch.Tensor, top_p: float, u: torch.Tensor) -> torch.Tensor:
    """Invert the cumulative mass inside the nucleus: the tokens whose predecessors hold less than top_p."""
    if top_p >= 1:
        target, last = u, mass.shape[1] - 1
        return torch.searchsorted(mass, target[:, None], right=True)[:, 0].clamp(max=last)
    size = 1 + (mass < top_p).sum(-1, keepdim=True)
    size = size.clamp(max=mass.shape[1])  # (r, 1)
    target = u[:, None] * mass.gather(1, size - 1)
    return torch.minimum(torch.searchsorted(mass, target, right=True), size - 1)[:, 0]
