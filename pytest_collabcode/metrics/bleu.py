"""Corpus BLEU in two named variants, since implementations disagree: sacreBLEU's and CodeXGLUE's for generation.

Not covered: several references per problem, sentence-level means, CodeBLEU.
Sources: Papineni et al. 2002; Post 2018, arXiv 1804.08771, and its package sacrebleu; Lin and Och 2004 for adding one
to every order, as CodeXGLUE's and CodeT5's generation scripts do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sacrebleu.metrics import BLEU

from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.intervals import BOOTSTRAP_SEED, N_REPLICATES
from pytest_collabcode.records import Measurement, Signature

MAX_ORDER = 4

Statistics = npt.NDArray[np.int64]  # (problems, 2 + 2 * MAX_ORDER): lengths of hypothesis, reference; hits; totals


def sacrebleu(
    predictions: Sequence[str], references: Sequence[str], *, subject: str, signature: Signature = ()
) -> Measurement:
    """Return corpus BLEU as the sacrebleu package computes it by default.

    Args:
        predictions: one text per problem.
        references: the true texts, same length.
        subject: name of the model.
        signature: how the predictions were got; sacreBLEU's own signature is appended.
    Returns:
        Measurement "bleu.sacrebleu", 0 to 100, with bootstrap replicates over problems.
    Raises:
        EmptyMeasurementError: there are no problems.
        ValueError: predictions and references differ in number.
    Example:
        >>> m = sacrebleu(["return a + b"], ["return a + b"], subject="s")
        >>> round(m.value, 6), m.signature[0]
        (100.0, ('nrefs', '1'))

    Source: Post 2018; sacrebleu.metrics.BLEU.
    """
    _check(predictions, references)
    corpus, sentence = BLEU(force=True), BLEU(force=True, effective_order=True)
    scores = [sentence.sentence_score(p, [r]) for p, r in zip(predictions, references, strict=True)]
    statistics = np.array([[s.sys_len, s.ref_len, *s.counts, *s.totals] for s in scores], dtype=np.int64)
    value = corpus.corpus_score(list(predictions), [list(references)]).score
    replicates = [_sacrebleu_of(row) for row in _resampled(statistics).tolist()]
    own = tuple(tuple(pair.split(":", 1)) for pair in str(corpus.get_signature()).split("|"))
    return Measurement(
        name="bleu.sacrebleu",
        subject=subject,
        value=float(value),
        unit="",
        replicates=tuple(sorted(replicates)),
        signature=(*signature, *((key, text) for key, text in own)),
    )


def codexglue(
    predictions: Sequence[str], references: Sequence[str], *, subject: str, signature: Signature = ()
) -> Measurement:
    """Return CodeXGLUE's BLEU-4 for code generation: corpus, split at white space, one added to every order.

    Args:
        predictions: one text per problem.
        references: the true texts, same length.
        subject: name of the model.
        signature: how the predictions were got.
    Returns:
        Measurement "bleu4.codexglue", 0 to 100, with bootstrap replicates over problems.
    Raises:
        EmptyMeasurementError: there are no problems, or no reference has a word.
        ValueError: predictions and references differ in number.
    Example:
        >>> round(codexglue(["return a + b"], ["return a - b"], subject="s").value, 2)
        50.81

    Source: CodeXGLUE text-to-code and CodeT5, evaluator `bleu.py`, there rounded to two digits.
    """
    _check(predictions, references)
    statistics = np.array(
        [_statistics(p.split(), r.split()) for p, r in zip(predictions, references, strict=True)], dtype=np.int64
    )
    if not statistics[:, 1].any():
        raise EmptyMeasurementError("bleu4.codexglue: no reference has a word")
    return Measurement(
        name="bleu4.codexglue",
        subject=subject,
        value=float(_codexglue_of(statistics.sum(axis=0, keepdims=True))[0]),
        unit="",
        replicates=tuple(np.sort(_codexglue_of(_resampled(statistics))).tolist()),
        signature=(*signature, ("bleu", "corpus,split:space,add1:all-orders")),
    )


def _check(predictions: Sequence[str], references: Sequence[str]) -> None:
    if len(predictions) != len(references):
        raise ValueError(f"predictions: {len(predictions)} texts for {len(references)} references")
    if not predictions:
        raise EmptyMeasurementError("bleu: there are no problems")


def _resampled(statistics: Statistics) -> Statistics:
    """Sum the statistics of problems drawn with replacement, shape (N_REPLICATES, 2 + 2 * MAX_ORDER)."""
    n = len(statistics)
    counts = np.random.default_rng(BOOTSTRAP_SEED).multinomial(n, np.full(n, 1 / n), size=N_REPLICATES)
    return np.asarray(counts @ statistics, dtype=np.int64)


def _sacrebleu_of(row: list[int]) -> float:
    hypothesis, reference, *orders = row
    score = BLEU.compute_bleu(orders[:MAX_ORDER], orders[MAX_ORDER:], hypothesis, reference, smooth_method="exp")
    return float(score.score)


def _statistics(hypothesis: list[str], reference: list[str]) -> list[int]:
    hits, totals = [], []
    for order in range(1, MAX_ORDER + 1):
        ours, theirs = _ngrams(hypothesis, order), _ngrams(reference, order)
        hits.append((ours & theirs).total())
        totals.append(ours.total())
    return [len(hypothesis), len(reference), *hits, *totals]


def _ngrams(words: list[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[i:] for i in range(order)), strict=False))


def _codexglue_of(statistics: Statistics) -> npt.NDArray[np.float64]:
    """Return the score of every row of summed statistics, shape (rows,)."""
    hypothesis, reference = statistics[:, 0].astype(float), statistics[:, 1].astype(float)
    hits, totals = statistics[:, 2 : 2 + MAX_ORDER], statistics[:, 2 + MAX_ORDER :]
    precision = np.exp(np.log((hits + 1) / (totals + 1)).mean(axis=1))  # geometric mean over orders
    with np.errstate(divide="ignore", invalid="ignore"):  # an empty output has brevity penalty 0
        brevity = np.exp(np.minimum(0.0, 1 - reference / hypothesis))
    return np.asarray(100 * precision * np.where(hypothesis > 0, brevity, 0.0))
