"""Drawing the next token: repetition penalty, temperature, top-k and nucleus, exactly as transformers defines them.

`draw` draws, `log_probabilities` says how likely a given token was to be drawn; both see the same nucleus.

The nucleus is found without sorting the vocabulary: the log-sum-exp of a row gives every token's mass, the K largest
are looked for among the K stretches of the vocabulary with the largest maxima, and K grows for those rows whose K
largest do not reach the mass yet. Of tokens with equal logits the one with the smaller id comes first, as it would
after a stable sort. Each (seed, task, sample) has its own stream of uniforms, so a draw depends neither on batch size
nor on order nor on sharding.
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

FIRST_K = 16  # a trained model's nucleus nearly always fits
WIDENING = 8
STRETCH = 64  # tokens of which only the largest is looked at first


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

    Source: Salmon et al. 2011, numpy's Philox under a key of BLAKE2b; of its raw words the upper 53 bits, since numpy
    keeps only those the same in every version (NEP 19).
    """
    name = f"{seed}\x1f{sample_index}\x1f{task_id}".encode()
    key = int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "little")
    words: NDArray[np.uint64] = np.random.Philox(key=key).random_raw(n)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


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
        u: (R,) float64 in [0, 1), one of each row's own stream; not read under temperature 0.
    Returns:
        (R,) int64 token ids.
    Example:
        >>> row = torch.tensor([[0.0, 3.0, 1.0]])
        >>> draw(row, torch.tensor([[0]]), Sampling(), torch.zeros(1)).tolist()
        [1]
    """
    if sampling.temperature == 0:
        return penalize(logits.float(), history, sampling.repetition_penalty).argmax(-1)
    scores = _scores(logits, history, sampling)
    wanted = torch.full_like(u, sampling.top_p) if sampling.top_p < 1 else u
    drawn = torch.empty(scores.shape[0], dtype=torch.int64, device=scores.device)
    for rows, ids, _, mass in _largest(scores, sampling, wanted):
        drawn[rows] = ids.gather(1, _inverse(mass, sampling.top_p, u[rows]))[:, 0]
    return drawn


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
    if sampling.temperature == 0:
        likeliest = penalize(logits.float(), history, sampling.repetition_penalty).argmax(-1)
        return torch.where(likeliest == tokens, 0.0, -math.inf).double()
    scores = _scores(logits, history, sampling)
    if sampling.top_p >= 1 and not 0 < sampling.top_k < scores.shape[1]:
        return (scores.gather(1, tokens[:, None])[:, 0] - _log_mass(scores)).double()
    found = torch.empty(scores.shape[0], dtype=torch.float64, device=scores.device)
    wanted = torch.full_like(found, sampling.top_p)
    for rows, ids, log_p, mass in _largest(scores, sampling, wanted):
        size = _nucleus_size(mass, sampling.top_p)  # (r, 1)
        kept = torch.arange(ids.shape[1], device=ids.device) < size
        own = torch.where(kept & (ids == tokens[rows, None]), log_p, -math.inf).amax(-1)
        found[rows] = own - mass.gather(1, size - 1)[:, 0].log()
    return found


def _scores(logits: torch.Tensor, history: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Return penalized logits over the temperature, (R, V) float32; `logits` is left alone."""
    scores = penalize(logits.float(), history, sampling.repetition_penalty)
    if sampling.temperature == 1.0:
        return scores
    return scores / sampling.temperature if scores is logits else scores.div_(sampling.temperature)


def _largest(
    scores: torch.Tensor, sampling: Sampling, wanted: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Take the K largest of each row, widening K only for rows whose mass does not exceed what is wanted yet.

    One answer of the device is waited for each time K grows, usually once.

    Yields:
        Row numbers (r,), their largest tokens in falling order (r, k), and in float64 the log mass of each and the
        mass up to and with each, (r, k).
    """
    n_tokens = scores.shape[1]
    limit = min(sampling.top_k or n_tokens, n_tokens)
    k = min(FIRST_K if limit == n_tokens else max(FIRST_K, limit + 1), n_tokens)
    total = _log_mass(scores).double() if limit == n_tokens else None
    rows = torch.arange(scores.shape[0], device=scores.device)
    while True:
        values, ids, n_certain = _top(scores if len(rows) == len(scores) else scores[rows], k)
        values, ids, n_certain = values[:, :limit], ids[:, :limit], n_certain.clamp(max=limit)
        # Top-k comes before the nucleus: then mass is relative to the k that are left.
        mine = values.logsumexp(-1).double() if total is None else total[rows]
        log_p = values.double() - mine[:, None]  # (r, k)
        mass = log_p.exp().cumsum(-1)
        reached = torch.where(n_certain > 0, mass.gather(1, (n_certain - 1).clamp(min=0)), 0.0)[:, 0]
        done = (reached > wanted[rows]) | (n_certain[:, 0] == limit)
        if bool(done.all()):
            yield rows, ids, log_p, mass
            return
        yield rows[done], ids[done], log_p[done], mass[done]
        rows = rows[~done]
        k = min(k * WIDENING, n_tokens)


def _log_mass(scores: torch.Tensor) -> torch.Tensor:
    """Return the log-sum-exp of each row, (R,), by torch's fused log-softmax: half the time of its logsumexp."""
    return scores.amax(-1) - scores.log_softmax(-1).amax(-1)


def _top(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the k largest scores of each row in falling order, their ids, and how many of those are certain.

    A token in none of the k stretches with the largest maxima is no larger than any of these maxima, so it is none of
    the k largest. All tokens above the k-th are certain; of those equal to it some may be missing.

    Returns:
        Values (R, k), ids (R, k), equal values by rising id, and the number of certain ones (R, 1).
    """
    n_rows, n_tokens = scores.shape
    if k == n_tokens:
        values, ids = scores.sort(dim=-1, descending=True, stable=True)
        return values, ids, torch.full((n_rows, 1), k, device=scores.device)
    n_stretches = n_tokens // STRETCH
    if 2 * k < n_stretches:
        stretches = scores[:, : n_stretches * STRETCH].view(n_rows, n_stretches, STRETCH)
        best = stretches.amax(-1).topk(k, sorted=False).indices  # (R, k)
        rest = torch.arange(n_stretches * STRETCH, n_tokens, device=scores.device).expand(n_rows, -1)
        offsets = torch.arange(STRETCH, device=scores.device)
        candidates = torch.cat([(best[:, :, None] * STRETCH + offsets).flatten(1), rest], 1)
        values, places = scores.gather(1, candidates).topk(k)
        ids = candidates.gather(1, places)
    else:
        values, ids = scores.topk(k)
    n_certain = (values > values[:, -1:]).sum(-1, keepdim=True)
    ids, order = ids.sort(-1)
    values, falling = values.gather(1, order).sort(dim=-1, descending=True, stable=True)
    return values, ids.gather(1, falling), n_certain


def _inverse(mass: torch.Tensor, top_p: float, u: torch.Tensor) -> torch.Tensor:
    """Invert the cumulative mass, shape (r, k), inside the nucleus; shape (r, 1)."""
    size = _nucleus_size(mass, top_p)
    target = u[:, None] * mass.gather(1, size - 1) if top_p < 1 else u[:, None]
    return torch.minimum(torch.searchsorted(mass, target, right=True), size - 1)


def _nucleus_size(mass: torch.Tensor, top_p: float) -> torch.Tensor:
    """Count the tokens whose predecessors hold less than top_p, shape (r, 1); all k of them where top_p is 1."""
    if top_p >= 1:
        return torch.full_like(mass[:, :1], mass.shape[1], dtype=torch.int64)
    return (1 + (mass < top_p).sum(-1, keepdim=True)).clamp(max=mass.shape[1])
