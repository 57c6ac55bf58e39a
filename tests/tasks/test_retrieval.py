"""The retrieval task: the pool is fixed, ties never help, BM25 is bm25s's."""

from dataclasses import replace

import numpy as np
import pytest

from pytest_collabcode.errors import EmptyMeasurementError, MeasurementError
from pytest_collabcode.metrics.mrr import chance_mrr
from pytest_collabcode.records import Function
from pytest_collabcode.tasks.bm25 import bm25_scores, words
from pytest_collabcode.tasks.retrieval import bm25_ranks, code_text, embedding_ranks, first_sentence, measure, pool

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]


def function(i, docstring=None, name=None):
    docstring = docstring or f"Return the number {NUMBERS[i]}. More text."
    name = name or f"make_{NUMBERS[i]}"
    return Function(
        organization="acme",
        path="x.py",
        name=name,
        split="heldout",
        first_line=i,
        last_line=i + 3,
        prompt=f"def {name}(x):\n    '''{docstring}'''",
        docstring=docstring,
        body=f"    return {i}",
        significant_lines=1,
    )


FUNCTIONS = [function(i) for i in range(12)]


def test_the_pool_depends_on_the_seed_and_not_on_the_order():
    assert pool(FUNCTIONS, size=6, seed=1) == pool(FUNCTIONS[::-1], size=6, seed=1)
    assert pool(FUNCTIONS, size=6, seed=1) != pool(FUNCTIONS, size=6, seed=2)


def test_queries_and_codes_of_a_pool_are_distinct_and_say_something():
    same_code = replace(function(5, name="make_one"), body=function(1).body)
    same_query = function(2, docstring="Return the number one.")
    doubtful = [function(1), same_code, same_query, function(3, docstring="Return it.")]
    drawn = {pair.key for seed in range(9) for pair in pool(doubtful, size=1, seed=seed)}
    assert drawn == {"acme:x.py:1", "acme:x.py:2", "acme:x.py:5"}
    assert len(pool([function(1), same_query, function(6)], size=2)) == 2
    with pytest.raises(EmptyMeasurementError, match="1 of 3 functions"):
        pool([function(1), same_code, function(3, docstring="Return it.")], size=2)
    with pytest.raises(EmptyMeasurementError, match="1 of 2 functions"):
        pool([function(1), same_query], size=2)
    with pytest.raises(EmptyMeasurementError):
        pool(doubtful, size=3)


@pytest.mark.parametrize(
    "docstring, sentence",
    [
        ("Load it. Then run.", "Load it."),
        ("Load version 1.2 of it\nfrom disk", "Load version 1.2 of it from disk"),
        ("Load it\n\nArgs: x.", "Load it"),
        ("Is it there? Yes.", "Is it there?"),
    ],
)
def test_the_query_is_the_first_sentence(docstring, sentence):
    assert first_sentence(docstring) == sentence


def test_the_code_has_no_docstring_left():
    for pair in pool(FUNCTIONS, size=12):
        assert "Return the number" not in pair.code and pair.code.startswith("def make_")
    assert code_text(function(1, name="größe")) == "def größe(x):\n    return 1"


def test_constant_embeddings_score_no_better_than_chance():
    constant = np.full((12, 4), 0.5)
    [score, over_chance] = measure(pool(FUNCTIONS, size=12), constant, constant, subject="s", pooling="mean")
    assert score.value == pytest.approx(1 / 12) and score.value < chance_mrr(12)
    assert over_chance.value < 1.0


def test_constant_embeddings_with_rounding_noise_are_still_ties():
    noisy = 0.5 + np.random.default_rng(0).normal(0, 1e-8, (12, 4))
    assert embedding_ranks(noisy, noisy) == [12] * 12


def test_random_embeddings_score_about_chance():
    rng = np.random.default_rng(0)
    queries, codes = (rng.normal(size=(400, 16)) for _ in range(2))
    score = np.mean([1 / rank for rank in embedding_ranks(queries, codes)])
    assert 0.6 * chance_mrr(400) < score < 1.5 * chance_mrr(400)


def test_equal_orthogonal_embeddings_rank_first():
    assert embedding_ranks(np.eye(5), np.eye(5)) == [1] * 5


def test_embeddings_that_are_not_finite_never_rank_first():
    with pytest.raises(MeasurementError, match="not finite"):
        embedding_ranks(np.full((2, 2), np.nan), np.eye(2))


@pytest.mark.parametrize("codes", [np.eye(3), np.ones((2, 3))])
def test_embeddings_of_another_shape_are_refused(codes):
    with pytest.raises(ValueError, match="differ in shape"):
        embedding_ranks(np.eye(2), codes)


def test_bm25_is_the_control_and_says_so():
    pairs = pool(FUNCTIONS, size=12)
    [score, _] = measure(pairs, np.eye(12), np.eye(12), subject="s", pooling="last")
    assert score.control is not None and score.control.subject == "bm25"
    assert score.control.value == 1.0  # each number word stands in one query and one name
    assert dict(score.signature)["pooling"] == "last"


def test_bm25_scores_are_those_of_bm25s():
    """Golden numbers: bm25s 0.3.16, method "lucene", k1 1.5, b 0.75, on the same words."""
    codes = [
        "def load_json(path): return json.loads(read_text(path))",
        "def save_json(path, value): write_text(dumps(value))",
        "def add(a, b): return a + b",
        "def mean(values): return sum(values) / len(values)",
    ]
    golden = [[1.19581, 0.54022, 0, 0], [0, 0, 0, 1.30931], [0, 0, 1.25249, 0]]
    scores = bm25_scores(["load json from path", "mean of values", "add b"], codes)
    assert scores == pytest.approx(np.array(golden), abs=1e-5)


def test_queries_without_a_known_word_rank_last():
    assert bm25_ranks(["zzz", "yyy"], ["a", "b"]) == [2, 2]


@pytest.mark.parametrize(
    "text, expected",
    [("getHTTPResponse2", ["get", "http", "response", "2"]), ("_a__b_", ["a", "b"]), ("größe", ["größe"])],
)
def test_words_of_identifiers(text, expected):
    assert words(text) == expected
