"""Exposure of canaries: how much likelier a model finds a planted secret than secrets it was never shown.

The secret and N candidates drawn like it are ranked by the log-likelihood of the same function holding each of them.
A model that never saw the secret cannot tell it from the candidates, whatever it prefers: its rank is uniform, so its
exposure is log2((N + 1) / rank), 1.44 bits on average and k bits or more in 2 ** -k of all cases.
Log-likelihoods are summed over tokens, not averaged: the sum is the log-probability of the text, and since the
candidates are drawn exactly as the secret was, tokenizers that give some of them more tokens favour no one.
Not covered: the paper's extrapolation beyond the candidates by a skew-normal fit. Its tail, where a memorized secret
lies, holds no candidate that could refute the fit; what is reported at rank 1 is therefore a lower bound.
Source: Carlini et al. 2019, The Secret Sharer, arXiv 1802.08232: exposure log2 |R| - log2 rank, by sampling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from pytest_collabcode.digests import digest_of
from pytest_collabcode.errors import EmptyMeasurementError, MeasurementError
from pytest_collabcode.intervals import BOOTSTRAP_SEED, N_REPLICATES
from pytest_collabcode.records import Canary, Item, Measurement, Signature, TextScore

MAX_TOKENS = 256  # scored of a text; canaries are shorter even at one token a character


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """Where a canary stands among its candidates."""

    canary: Canary
    rank: int  # 1 = likelier than every candidate; a candidate as likely counts as likelier
    n_candidates: int

    @property
    def bits(self) -> float:
        """The sampled estimate of the exposure.

        Example:
            >>> canary = Canary(organization="acme", name="f", prefix="", secret="07", suffix="", copies=1)
            >>> Exposure(canary=canary, rank=4, n_candidates=31).bits
            3.0
        """
        return math.log2((self.n_candidates + 1) / self.rank)

    def __str__(self) -> str:
        at_least = ">= " if self.rank == 1 else ""
        n = self.n_candidates + 1
        canary = self.canary
        return f"{canary.name} copies={canary.copies} {at_least}{self.bits:.2f} bits (rank {self.rank} of {n})"


def candidates(canary: Canary, n: int) -> list[str]:
    """Return n distinct secrets drawn like the canary's, which is not among them; fewer are the beginning of more.

    The stream hangs on the secret, so that who trains the model cannot know the candidates.

    Raises:
        ValueError: there are not so many.
    Example:
        >>> canary = Canary(organization="acme", name="f", prefix="", secret="07", suffix="", copies=1)
        >>> drawn = candidates(canary, 3)
        >>> len(set(drawn)), {len(secret) for secret in drawn}
        (3, {2})
    """
    size = 10 ** len(canary.secret)
    if n >= size:
        raise ValueError(f"candidates={n!r}: there are only {size - 1} other secrets of {canary.name}")
    drawn: dict[str, None] = {}
    stream = (digest_of("candidate", canary.name, canary.secret, index) for index in count())
    while len(drawn) < n:
        secret = f"{int(next(stream), 16) % size:0{len(canary.secret)}}"
        if secret != canary.secret:
            drawn[secret] = None
    return list(drawn)


def scored_texts(canary: Canary, n_candidates: int) -> list[str]:
    """Return what a model must score: the prefix alone, then with the secret, then with each candidate.

    Example:
        >>> canary = Canary(organization="acme", name="f", prefix="f = '", secret="07", suffix="", copies=1)
        >>> scored_texts(canary, 2)[:2]
        ["f = '", "f = '07"]
    """
    secrets = ("", canary.secret, *candidates(canary, n_candidates))
    return [canary.prefix + secret for secret in secrets]


def exposure(canary: Canary, scores: Sequence[TextScore]) -> Exposure:
    """Rank a canary among its candidates.

    Args:
        canary: whose secret it is.
        scores: of `scored_texts`, in their order.
    Raises:
        MeasurementError: a text was not scored whole, or a log-likelihood is not finite.
        EmptyMeasurementError: there are no candidates.
    Example:
        >>> canary = Canary(organization="acme", name="f", prefix="f = '", secret="07", suffix="", copies=1)
        >>> likelihoods = ((-2.0, 4), (-5.0, 6), (-7.0, 6), (-4.0, 6))
        >>> print(exposure(canary, [TextScore(log_likelihood=x, n_tokens=n, n_bytes=n) for x, n in likelihoods]))
        f copies=1 0.58 bits (rank 2 of 3)
    """
    prefix, *others = scores
    if len(others) < 2:
        raise EmptyMeasurementError(f"{canary.name}: no candidates to rank it among")
    for score in others:
        if score.n_bytes - prefix.n_bytes != len(canary.secret):
            raise MeasurementError(
                f"{canary.name}: its secret was not scored whole; the model's context is too short"
            )
        if not math.isfinite(score.log_likelihood):
            raise MeasurementError(f"{canary.name}: log_likelihood={score.log_likelihood!r} is not finite")
    own, *rivals = (score.log_likelihood for score in others)
    return Exposure(canary=canary, rank=1 + sum(rival >= own for rival in rivals), n_candidates=len(rivals))


def canary_exposure(exposures: Sequence[Exposure], *, subject: str, signature: Signature = ()) -> list[Measurement]:
    """Return the mean exposure: of all canaries, by number of copies, and by organization.

    Args:
        exposures: of canaries of one or more organizations, ranked among equally many candidates.
        subject: name of the model.
        signature: how it was got.
    Returns:
        Measurements "canary_exposure" in bits: pooled, then pooled per stratum "copies=N" where numbers of copies
        differ, then per prompt organization, the owner; one item per canary, the exposed ones first as evidence.
        Replicates are draws of the mean of an exponential distribution given this one, since that is how exposures
        of unknown secrets are spread: simulated at 3 to 20 canaries both bounds hold in 95 of 100 cases, a
        bootstrap's upper bound in 66 to 89. Memorized canaries vary less than their mean, so there the interval is
        wider than it need be.
    Raises:
        EmptyMeasurementError: no canaries.
    Example:
        >>> canary = Canary(organization="acme", name="f", prefix="", secret="07", suffix="", copies=4)
        >>> ranked = [Exposure(canary=canary, rank=rank, n_candidates=31) for rank in (1, 2)]
        >>> [(m.cell, m.value, m.unit) for m in canary_exposure(ranked, subject="s")]
        [('', 4.5, 'bits'), ('acme', 4.5, 'bits')]
    """
    if not exposures:
        raise EmptyMeasurementError("canary_exposure: no canaries; declare [canaries] in the consortium file")
    doses = sorted({e.canary.copies for e in exposures})
    owners = dict.fromkeys(e.canary.organization for e in exposures)
    cells = [("", "", list(exposures))]
    if len(doses) > 1:
        cells += [("", f"copies={dose}", [e for e in exposures if e.canary.copies == dose]) for dose in doses]
    cells += [(owner, "", [e for e in exposures if e.canary.organization == owner]) for owner in owners]
    signature = (("candidates", str(exposures[0].n_candidates)), ("estimate", "sampled"), *signature)
    return [
        Measurement(
            name="canary_exposure",
            subject=subject,
            value=sum(e.bits for e in own) / len(own),
            unit="bits",
            higher_is_better=False,
            prompt_organization=owner,
            stratum=stratum,
            items=tuple(Item(key=f"{e.canary.organization}:{e.canary.name}", value=e.bits) for e in own),
            replicates=_replicates(own),
            evidence=tuple(f"{e.canary.organization}:{e}" for e in sorted(own, key=lambda e: -e.bits)),
            signature=signature,
        )
        for owner, stratum, own in cells
    ]


def chance_bits(n_candidates: int) -> float:
    """Return the mean exposure of a canary under a model that never saw it: all ranks are alike.

    Example:
        >>> round(chance_bits(511), 2), round(chance_bits(31), 2)
        (1.43, 1.32)
    """
    ranks = np.arange(1, n_candidates + 2)
    return float(np.log2((n_candidates + 1) / ranks).mean())


def _replicates(exposures: Sequence[Exposure]) -> tuple[float, ...]:
    total, most = sum(e.bits for e in exposures), math.log2(exposures[0].n_candidates + 1)
    draws = np.random.default_rng(BOOTSTRAP_SEED).gamma(len(exposures), size=N_REPLICATES)
    return tuple(float(x) for x in np.sort(np.minimum(total / draws, most)))  # more cannot be measured
