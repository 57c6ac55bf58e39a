"""The perplexity task: how well held-out documents are predicted, pooled and organization by organization.

Covered: which documents, their keys, and the list of measurements; the Backend scores the first max_tokens tokens of
each text in between.
Not covered: the rest of long documents.
Source: Chen and Jiang 2024, arXiv 2409.12020, for held-out perplexity; sums are divided once, unlike there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pytest_collabcode.digests import digest_of
from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.metrics.perplexity import (
    bits_per_byte,
    perplexity,
    perplexity_gain_over_unigram,
    perplexity_relative,
)
from pytest_collabcode.records import Corpus, Document, Measurement, Signature, TextScore

Group = tuple[str, list[str], list[TextScore]]  # prompt organization, keys, scores


def heldout_documents(corpus: Corpus, *, per_organization: int | None = None, seed: int = 1) -> list[Document]:
    """Return the held-out documents that are scored, in the order of organizations.

    Args:
        corpus: split; planted documents are left out.
        per_organization: at most this many of each, drawn by seed so that fewer are the beginning of more.
        seed: of the draw.
    Raises:
        EmptyMeasurementError: there are none.
    Example:
        >>> from pytest_collabcode.records import Organization
        >>> d = Document(path="x.py", text="a = 1", organization="acme", split="heldout")
        >>> corpus = Corpus(name="c", organizations=(Organization(name="acme", documents=(d,)),))
        >>> [document_key(d) for d in heldout_documents(corpus)]
        ['acme:x.py']

    """
    chosen: list[Document] = []
    for organization in corpus.organizations:
        natural = [d for d in organization.split("heldout") if not d.planted and d.text.strip()]
        chosen += sorted(natural, key=lambda d: (digest_of(seed, d.path), d.path))[:per_organization]
    if not chosen:
        raise EmptyMeasurementError(f"perplexity: corpus={corpus.name!r} has no held-out documents")
    return chosen


def document_key(document: Document) -> str:
    """Return the key of a document's score: organization and path.

    Example:
        >>> document_key(Document(path="x.py", text="", organization="acme"))
        'acme:x.py'

    """
    return f"{document.organization}:{document.path}"


def measure(
    documents: Sequence[Document],
    scores: Sequence[TextScore],
    *,
    subject: str,
    max_tokens: int,
    train_token_counts: npt.NDArray[np.int64] | None = None,
) -> list[Measurement]:
    """Measure perplexity, bits per byte and the gain over a unigram model, pooled first, then by organization.

    Args:
        documents: the scored ones.
        scores: one per document, in their order.
        subject: name of the model.
        max_tokens: scored of each document.
        train_token_counts: of the training split under the same tokenizer, shape (vocabulary,); without it the
            gain is left out.
    Returns:
        Measurements "perplexity", "bits_per_byte" and "perplexity_gain_over_unigram", each pooled (no prompt
        organization) and for every organization.
    Raises:
        EmptyMeasurementError: an organization has no scored token.
        MeasurementError: a log-likelihood is not finite, or a score came without its token ids.
        ValueError: documents and scores differ in number.
    Example:
        >>> d = Document(path="x.py", text="a = 1", organization="acme", split="heldout")
        >>> score = TextScore(log_likelihood=-4.0, n_tokens=4, n_bytes=5)
        >>> [(m.name, m.cell) for m in measure([d], [score], subject="s", max_tokens=8)]
        [('perplexity', ''), ('bits_per_byte', ''), ('perplexity', 'acme'), ('bits_per_byte', 'acme')]

    """
    signature = _signature(documents, max_tokens)
    measured = []
    for organization, keys, own in _groups(documents, scores):
        for metric in (perplexity, bits_per_byte):
            measured.append(metric(keys, own, subject=subject, prompt_organization=organization, signature=signature))
        if train_token_counts is not None:
            measured.append(
                perplexity_gain_over_unigram(
                    keys,
                    own,
                    train_token_counts,
                    subject=subject,
                    prompt_organization=organization,
                    signature=(*signature, ("unigram", "add1")),
                )
            )
    return measured


def relative(
    documents: Sequence[Document],
    scores: Sequence[TextScore],
    reference: Sequence[TextScore],
    *,
    subject: str,
    reference_subject: str,
    max_tokens: int,
) -> list[Measurement]:
    """Compare a subject with a reference model of the same tokenizer, pooled first, then by organization.

    Args:
        documents: the scored ones.
        scores: of the subject, one per document.
        reference: of the reference model, one per document.
        subject: name of the model.
        reference_subject: name of the reference model.
        max_tokens: scored of each document.
    Returns:
        Measurements "perplexity_relative": the subject's perplexity over the reference's, paired.
    Raises:
        EmptyMeasurementError: an organization has no scored token.
        MeasurementError: a log-likelihood is not finite.
        ValueError: numbers of documents, scores or tokens differ.
    Example:
        >>> d = Document(path="x.py", text="a = 1", organization="acme", split="heldout")
        >>> score = TextScore(log_likelihood=-4.0, n_tokens=4, n_bytes=5)
        >>> m = relative([d], [score], [score], subject="fedavg", reference_subject="centralized", max_tokens=8)
        >>> [(x.cell, x.value) for x in m]
        [('', 1.0), ('acme', 1.0)]

    """
    signature = (*_signature(documents, max_tokens), ("reference", reference_subject))
    pairs = zip(_groups(documents, scores), _groups(documents, reference), strict=True)
    return [
        perplexity_relative(keys, own, other, subject=subject, prompt_organization=organization, signature=signature)
        for (organization, keys, own), (_, _, other) in pairs
    ]


def _signature(documents: Sequence[Document], max_tokens: int) -> Signature:
    return (("documents", str(len(documents))), ("tokens", str(max_tokens)))


def _groups(documents: Sequence[Document], scores: Sequence[TextScore]) -> list[Group]:
    pairs = list(zip(documents, scores, strict=True))
    names = ["", *dict.fromkeys(d.organization for d in documents)]
    return [
        (
            name,
            [document_key(d) for d, _ in pairs if name in ("", d.organization)],
            [s for d, s in pairs if name in ("", d.organization)],
        )
        for name in names
    ]
