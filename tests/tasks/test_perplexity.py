"""The perplexity task: which documents, and pooled against single organizations."""

import math

import numpy as np
import pytest

from pytest_collabcode.errors import EmptyMeasurementError
from pytest_collabcode.records import Corpus, Document, Organization, TextScore
from pytest_collabcode.tasks.perplexity import document_key, heldout_documents, measure, relative


def document(organization, i, **fields):
    defaults = {"text": "a = 1", "split": "heldout"}
    return Document(path=f"{i}.py", organization=organization, **{**defaults, **fields})


def corpus(*documents):
    names = dict.fromkeys(d.organization for d in documents)
    return Corpus(
        name="c",
        organizations=tuple(
            Organization(name=n, documents=tuple(d for d in documents if d.organization == n)) for n in names
        ),
    )


DOCUMENTS = [document(o, i) for o in ("bolt", "acme") for i in range(5)]
SCORES = [
    TextScore(log_likelihood=-n * math.log(2 + i), n_tokens=n, n_bytes=3 * n, token_ids=(0,) * n)
    for i, n in enumerate([4, 1, 9, 2, 6, 3, 3, 8, 1, 5])
]


def test_only_natural_heldout_text_is_scored():
    others = [
        document("acme", 7, split="training"),
        document("acme", 8, planted=True),
        document("acme", 9, text="\n"),
    ]
    assert set(heldout_documents(corpus(*DOCUMENTS, *others))) == set(DOCUMENTS)


def test_fewer_documents_are_the_beginning_of_more_in_any_order():
    few, many = (heldout_documents(corpus(*DOCUMENTS), per_organization=n) for n in (2, 4))
    assert [document_key(d) for d in many[:2]] == [document_key(d) for d in few[:2]]
    shuffled = heldout_documents(corpus(*DOCUMENTS[4::-1], *DOCUMENTS[5:]), per_organization=2)
    assert shuffled == few


def test_a_corpus_without_heldout_text_is_an_error():
    with pytest.raises(EmptyMeasurementError, match="corpus='c'"):
        heldout_documents(corpus(document("acme", 1, split="training")))


def test_the_pooled_loss_is_the_token_weighted_mean_of_the_organizations():
    measured = measure(DOCUMENTS, SCORES, subject="s", max_tokens=64)
    losses = {m.prompt_organization: math.log(m.value) for m in measured if m.name == "perplexity"}
    tokens = {"bolt": 22, "acme": 20}
    assert losses[""] == pytest.approx(sum(losses[o] * n for o, n in tokens.items()) / 42)


def test_every_organization_has_its_three_measurements():
    counts = np.array([10, 5])
    measured = measure(DOCUMENTS, SCORES, subject="s", max_tokens=64, train_token_counts=counts)
    names = ["perplexity", "bits_per_byte", "perplexity_gain_over_unigram"]
    assert [(m.name, m.prompt_organization) for m in measured] == [
        (n, o) for o in ("", "bolt", "acme") for n in names
    ]
    assert dict(measured[0].signature) == {"documents": "10", "tokens": "64"}
    assert measured[0].items[0].key == "bolt:0.py"


def test_a_worse_reference_makes_the_subject_less_than_one_everywhere():
    worse = [
        TextScore(log_likelihood=s.log_likelihood - s.n_tokens * math.log(2), n_tokens=s.n_tokens, n_bytes=s.n_bytes)
        for s in SCORES
    ]
    compared = relative(DOCUMENTS, SCORES, worse, subject="a", reference_subject="b", max_tokens=64)
    assert [m.value for m in compared] == pytest.approx([0.5, 0.5, 0.5])
    assert ("reference", "b") in compared[0].signature


def test_documents_and_scores_come_in_pairs():
    with pytest.raises(ValueError):
        measure(DOCUMENTS, SCORES[1:], subject="s", max_tokens=64)
