"""BM25 over the words of identifiers: the baseline that a retrieval score is printed beside.

Not covered: stemming, stop words, indexes for more than a few thousand texts (the counts are dense).
Source: Robertson and Zaragoza 2009, with Lucene's idf and without the constant factor (k1 + 1), which moves no rank.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

K1 = 1.5
B = 0.75

Scores = npt.NDArray[np.float64]

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|[0-9]+")


def words(text: str) -> list[str]:
    """Split text into lower-case words, identifiers at underscores, capitals and digits.

    Example:
        >>> words("readHTTPHeader(snake_case, x2)")
        ['read', 'http', 'header', 'snake', 'case', 'x', '2']

    """
    return [word.lower() for word in _WORD.findall(text)]


def bm25_scores(queries: Sequence[str], texts: Sequence[str]) -> Scores:
    """Score every text for every query.

    Args:
        queries: shape (q,).
        texts: shape (n,), n >= 1.
    Returns:
        Shape (q, n), higher is better; a word that a query repeats counts as often.
    Example:
        >>> bm25_scores(["load json"], ["def load_json(path)", "def save(path)"]).argmax()
        np.int64(0)

    Source: Robertson and Zaragoza 2009, eq. 3.15.
    """
    tokenized = [words(text) for text in texts]
    ids: dict[str, int] = {}
    for token in (token for tokens in tokenized for token in tokens):
        ids.setdefault(token, len(ids))
    frequency = _counts(tokenized, ids)  # (n, V)
    length = np.array([len(tokens) for tokens in tokenized], dtype=float)
    norm = K1 * (1 - B + B * length / max(length.mean(), 1.0))
    holding = (frequency > 0).sum(axis=0)
    idf = np.log1p((len(texts) - holding + 0.5) / (holding + 0.5))
    weights = idf * frequency / (frequency + norm[:, None])  # (n, V)
    asked = _counts([words(query) for query in queries], ids)  # (q, V)
    return np.asarray(asked @ weights.T, dtype=np.float64)


def _counts(tokenized: Sequence[Sequence[str]], ids: dict[str, int]) -> Scores:
    counts = np.zeros((len(tokenized), len(ids)))
    for row, tokens in zip(counts, tokenized, strict=True):
        np.add.at(row, [ids[token] for token in tokens if token in ids], 1.0)
    return counts
