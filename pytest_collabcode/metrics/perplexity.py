"""Perplexity and its relatives from log-likelihoods: sums first, one division, then the exponential.

Not covered: striding windows (each text is scored over its first tokens), comparison between tokenizers other than by
bits per byte.
Sources: Jelinek et al. 1977 for perplexity; Gao et al. 2020, arXiv 2101.00027, for bits per byte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pytest_collabcode.errors import EmptyMeasurementError, MeasurementError
from pytest_collabcode.records import Item, Measurement, Signature, TextScore

Counts = npt.NDArray[np.int64]


def perplexity(
    keys: Sequence[str],
    scores: Sequence[TextScore],
    *,
    subject: str,
    prompt_organization: str = "",
    signature: Signature = (),
) -> Measurement:
    """Return exp of the token-weighted mean loss.

    Args:
        keys: of the documents.
        scores: one per document; texts without a scored token are left out.
        subject: name of the model.
        prompt_organization: whose documents they are; "" if pooled.
        signature: how they were scored.
    Returns:
        Measurement "perplexity" per token, lower is better, one item per document.
    Raises:
        EmptyMeasurementError: no token was scored.
        MeasurementError: a log-likelihood is not finite.
        ValueError: keys and scores differ in length.
    Example:
        >>> scores = [TextScore(log_likelihood=-2.0, n_tokens=1, n_bytes=4),
        ...     TextScore(log_likelihood=-1.0, n_tokens=2, n_bytes=4)]
        >>> round(perplexity(["a", "b"], scores, subject="s").value, 4)
        2.7183

    """
    items = [
        Item(key=key, value=-score.log_likelihood, weight=score.n_tokens) for key, score in _scored(keys, scores)
    ]
    return _measurement(
        "perplexity", items, subject=subject, prompt_organization=prompt_organization, signature=signature
    )


def bits_per_byte(
    keys: Sequence[str],
    scores: Sequence[TextScore],
    *,
    subject: str,
    prompt_organization: str = "",
    signature: Signature = (),
) -> Measurement:
    """Return the loss in bits per UTF-8 byte, comparable between tokenizers.

    Args:
        keys: of the documents.
        scores: one per document; texts without a scored token are left out.
        subject: name of the model.
        prompt_organization: whose documents they are; "" if pooled.
        signature: how they were scored.
    Returns:
        Measurement "bits_per_byte", lower is better, one item per document.
    Raises:
        EmptyMeasurementError: no token was scored.
        MeasurementError: a log-likelihood is not finite.
        ValueError: keys and scores differ in length.
    Example:
        >>> score = TextScore(log_likelihood=-4 * math.log(2), n_tokens=1, n_bytes=2)
        >>> bits_per_byte(["a"], [score], subject="s").value
        2.0

    """
    items = [
        Item(key=key, value=-score.log_likelihood / math.log(2), weight=score.n_bytes)
        for key, score in _scored(keys, scores)
    ]
    return _measurement(
        "bits_per_byte", items, subject=subject, prompt_organization=prompt_organization, signature=signature
    )


def unigram_log_likelihood(train_token_counts: Counts, token_ids: Sequence[int]) -> float:
    """Return the log-likelihood of tokens under an add-one-smoothed unigram model, in nats.

    Args:
        train_token_counts: how often each token stands in the training text, shape (vocabulary,).
        token_ids: of the text.
    Returns:
        Sum of log((count + 1) / (tokens + vocabulary)); 0.0 for no tokens.
    Raises:
        ValueError: a token id is outside of the vocabulary.
    Example:
        >>> round(unigram_log_likelihood(np.array([3, 0, 1]), [0, 1]), 4) == round(math.log(4 / 7 * 1 / 7), 4)
        True

    Source: Laplace's rule of succession.
    """
    ids = np.asarray(token_ids, dtype=np.int64)
    outside = ids[(ids < 0) | (ids >= len(train_token_counts))]
    if len(outside):
        raise ValueError(f"token_id={int(outside[0])!r} is outside of a vocabulary of {len(train_token_counts)}")
    total = int(train_token_counts.sum()) + len(train_token_counts)
    return float(np.log((train_token_counts[ids] + 1) / total).sum())


def perplexity_gain_over_unigram(
    keys: Sequence[str],
    scores: Sequence[TextScore],
    train_token_counts: Counts,
    *,
    subject: str,
    prompt_organization: str = "",
    signature: Signature = (),
) -> Measurement:
    """Return how many times lower the model's perplexity is than a unigram model's on the same tokens.

    Args:
        keys: of the documents.
        scores: one per document, with token_ids.
        train_token_counts: of the unigram model, shape (vocabulary,).
        subject: name of the model.
        prompt_organization: whose documents they are; "" if pooled.
        signature: how they were scored.
    Returns:
        Measurement "perplexity_gain_over_unigram", unit "x", higher is better, one item per document.
    Raises:
        EmptyMeasurementError: no token was scored.
        MeasurementError: a log-likelihood is not finite, or a score came without its token ids.
        ValueError: keys and scores differ in length, or a token is outside of the vocabulary.
    Example:
        >>> score = TextScore(log_likelihood=-math.log(2), n_tokens=1, n_bytes=1, token_ids=(0,))
        >>> m = perplexity_gain_over_unigram(["a"], [score], np.array([0, 0, 0, 0]), subject="s")
        >>> round(m.value, 6)
        2.0

    """
    items = []
    for key, score in _scored(keys, scores):
        if len(score.token_ids) != score.n_tokens:
            raise MeasurementError(f"{key}: {len(score.token_ids)} token ids for n_tokens={score.n_tokens!r}")
        gain = score.log_likelihood - unigram_log_likelihood(train_token_counts, score.token_ids)
        items.append(Item(key=key, value=gain, weight=score.n_tokens))
    return _measurement(
        "perplexity_gain_over_unigram",
        items,
        subject=subject,
        prompt_organization=prompt_organization,
        signature=signature,
    )


def perplexity_relative(
    keys: Sequence[str],
    scores: Sequence[TextScore],
    reference: Sequence[TextScore],
    *,
    subject: str,
    prompt_organization: str = "",
    signature: Signature = (),
) -> Measurement:
    """Return the subject's perplexity over a reference model's, paired document by document.

    Args:
        keys: of the documents.
        scores: of the subject, one per document.
        reference: of the reference model on the same documents, with the same tokenizer.
        subject: name of the model.
        prompt_organization: whose documents they are; "" if pooled.
        signature: how they were scored; name the reference in it.
    Returns:
        Measurement "perplexity_relative", unit "x", lower is better, 1.0 = no difference, one item per document.
    Raises:
        EmptyMeasurementError: no token was scored.
        MeasurementError: a log-likelihood is not finite.
        ValueError: the sequences differ in length, or a document in its number of tokens.
    Example:
        >>> ours = [TextScore(log_likelihood=-3.0, n_tokens=2, n_bytes=8)]
        >>> round(perplexity_relative(["a"], ours, ours, subject="s").value, 1)
        1.0

    """
    pairs = list(zip(_checked(keys, scores), _checked(keys, reference), strict=True))
    items = []
    for (key, score), (_, other) in pairs:
        if score.n_tokens != other.n_tokens:
            raise ValueError(
                f"{key}: n_tokens={score.n_tokens!r} against {other.n_tokens!r}; only models of one tokenizer compare"
            )
        if score.n_tokens:
            items.append(Item(key=key, value=other.log_likelihood - score.log_likelihood, weight=score.n_tokens))
    return _measurement(
        "perplexity_relative", items, subject=subject, prompt_organization=prompt_organization, signature=signature
    )


_FORMS = {  # name -> (unit, exponential, higher is better)
    "perplexity": ("", True, False),
    "bits_per_byte": ("bits/byte", False, False),
    "perplexity_gain_over_unigram": ("x", True, True),
    "perplexity_relative": ("x", True, False),
}


def _checked(keys: Sequence[str], scores: Sequence[TextScore]) -> list[tuple[str, TextScore]]:
    pairs = list(zip(keys, scores, strict=True))
    for key, score in pairs:
        if not math.isfinite(score.log_likelihood):
            raise MeasurementError(
                f"{key}: log_likelihood={score.log_likelihood!r}; no finite loss; are its weights finite?"
            )
    return pairs


def _scored(keys: Sequence[str], scores: Sequence[TextScore]) -> list[tuple[str, TextScore]]:
    return [(key, score) for key, score in _checked(keys, scores) if score.n_tokens]


def _measurement(
    name: str, items: Sequence[Item], *, subject: str, prompt_organization: str, signature: Signature
) -> Measurement:
    if not items:
        raise EmptyMeasurementError(f"{name}: no token was scored")
    unit, exponential, higher_is_better = _FORMS[name]
    mean = sum(item.value for item in items) / sum(item.weight for item in items)
    return Measurement(
        name=name,
        subject=subject,
        value=_exp(mean) if exponential else mean,
        unit=unit,
        higher_is_better=higher_is_better,
        prompt_organization=prompt_organization,
        items=tuple(items),
        exponential=exponential,
        signature=signature,
    )


def _exp(mean: float) -> float:
    try:
        return math.exp(mean)
    except OverflowError:  # a broken model; infinity fails every threshold
        return math.inf
