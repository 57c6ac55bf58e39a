"""The retrieval task: find the code of a docstring's first sentence in a fixed, seeded pool.

The code has its docstring removed. Ties count against the model: a candidate as near as the right one is ranked
before it, so that constant embeddings come last, below chance, and never first.
Not covered: fine-tuned embedding heads; the Backend's pooling is part of the signature.
Source: CodeSearchNet, Husain et al. 2019, arXiv 1909.09436.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from pytest_collabcode.digests import digest_of
from pytest_collabcode.errors import EmptyMeasurementError, MeasurementError
from pytest_collabcode.metrics.mrr import mrr, mrr_over_chance
from pytest_collabcode.records import Function, Measurement
from pytest_collabcode.tasks.bm25 import bm25_scores
from pytest_collabcode.tasks.memorization import task_id

POOL = 200
MIN_WORDS = 3  # a query of fewer says too little, as in CodeSearchNet
TIE = 1e-6  # scores nearer than this are equal: above float32 noise, below any real difference

_SENTENCE = re.compile(r"(.+?[.!?])(?:\s|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A query and the code it asks for."""

    key: str
    query: str = field(repr=False)
    code: str = field(repr=False)


def pool(functions: Sequence[Function], *, size: int = POOL, seed: int = 1) -> list[Pair]:
    """Draw the pool; it depends on the functions and the seed, not on their order.

    Args:
        functions: held-out ones.
        size: of the pool, which is also the number of queries.
        seed: of the draw.
    Returns:
        Pairs with distinct queries and distinct codes, queries of at least MIN_WORDS words.
    Raises:
        EmptyMeasurementError: fewer than `size` functions qualify.
    Example:
        >>> f = Function(organization="acme", path="x.py", name="f", split="heldout", first_line=3, last_line=5,
        ...     prompt="def f():\\n    'Return the number one. Always.'", docstring="Return the number one. Always.",
        ...     body="    return 1", significant_lines=1)
        >>> [(pair.key, pair.query, pair.code) for pair in pool([f], size=1)]
        [('acme:x.py:3', 'Return the number one.', 'def f():\\n    return 1')]
    """
    drawn: list[Pair] = []
    queries: set[str] = set()
    codes: set[str] = set()
    for f in sorted(functions, key=lambda f: (digest_of(seed, task_id(f)), task_id(f))):
        pair = Pair(key=task_id(f), query=first_sentence(f.docstring), code=code_text(f))
        if len(drawn) == size:
            break
        if len(pair.query.split()) >= MIN_WORDS and pair.query not in queries and pair.code not in codes:
            drawn.append(pair)
            queries.add(pair.query)
            codes.add(pair.code)
    if len(drawn) < size:
        raise EmptyMeasurementError(
            f"retrieval: {len(drawn)} of {len(functions)} functions qualify for a pool of size={size!r}; "
            "ask for a smaller pool or add code"
        )
    return drawn


def first_sentence(docstring: str) -> str:
    """Return the first sentence of a docstring's first paragraph, on one line.

    Example:
        >>> first_sentence("Load a file\\n    from disk. Then parse it.\\n\\nArgs: none")
        'Load a file from disk.'

    """
    paragraph = " ".join(re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)[0].split())
    sentence = _SENTENCE.match(paragraph)
    return sentence.group(1) if sentence else paragraph


def code_text(function: Function) -> str:
    """Return the function's signature and body without the docstring.

    Raises:
        ValueError: the prompt is no signature with a docstring.
    Example:
        >>> code_text(Function(organization="", path="", name="f", split="", first_line=1, last_line=3,
        ...     prompt="def f(x):\\n    'Say x.'", docstring="Say x.", body="    return x", significant_lines=1))
        'def f(x):\\n    return x'

    """
    try:
        definition = ast.parse(function.prompt).body[0]
        docstring = definition.body[0]  # type: ignore[attr-defined]
    except (SyntaxError, IndexError, AttributeError) as error:
        raise ValueError(f"{task_id(function)}: the prompt is no signature with a docstring") from error
    lines = function.prompt.split("\n")[: docstring.lineno]
    lines[-1] = lines[-1].encode()[: docstring.col_offset].decode()  # columns count UTF-8 bytes
    return "\n".join([*(line for line in lines if line.strip()), function.body])


def ranks(scores: npt.ArrayLike) -> list[int]:
    """Return the 1-based rank of each query's own candidate, ties and near ties counted against it.

    Args:
        scores: shape (n, n), row = query, the right candidate on the diagonal; higher is better.
    Raises:
        MeasurementError: a score is not finite.
        ValueError: scores is not square.
    Example:
        >>> ranks([[0.9, 0.1], [0.5, 0.5]])
        [1, 2]

    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise ValueError(f"scores: shape {table.shape} is not square")
    if not np.isfinite(table).all():
        raise MeasurementError("retrieval: an embedding is not finite; are the weights finite?")
    own = np.diagonal(table)[:, None]
    return [int(rank) for rank in (table >= own - TIE).sum(axis=1)]


def embedding_ranks(query_embeddings: npt.ArrayLike, code_embeddings: npt.ArrayLike) -> list[int]:
    """Return the ranks by dot product.

    Args:
        query_embeddings: shape (n, d), rows of unit length, query i asks for code i.
        code_embeddings: shape (n, d).
    Raises:
        MeasurementError: an embedding is not finite.
        ValueError: the shapes differ.
    Example:
        >>> embedding_ranks([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.6, 0.8]])
        [1, 1]
        >>> embedding_ranks([[1.0], [1.0]], [[1.0], [1.0]])
        [2, 2]

    """
    queries, codes = (np.asarray(e, dtype=np.float64) for e in (query_embeddings, code_embeddings))
    if queries.shape != codes.shape:
        raise ValueError(f"embeddings: queries {queries.shape} and codes {codes.shape} differ in shape")
    return ranks(queries @ codes.T)


def bm25_ranks(queries: Sequence[str], codes: Sequence[str]) -> list[int]:
    """Return the ranks by BM25 over words of identifiers.

    Example:
        >>> bm25_ranks(["load json", "save text"], ["def load_json(p)", "def saveText(p)"])
        [1, 1]

    """
    return ranks(bm25_scores(queries, codes))


def measure(
    pairs: Sequence[Pair],
    query_embeddings: npt.ArrayLike,
    code_embeddings: npt.ArrayLike,
    *,
    subject: str,
    pooling: str,
    seed: int = 1,
) -> list[Measurement]:
    """Measure retrieval over the pool, BM25 on the same pool as control.

    Args:
        pairs: the pool.
        query_embeddings: shape (n, d), rows of unit length.
        code_embeddings: shape (n, d), rows of unit length.
        subject: name of the model.
        pooling: how the Backend makes one vector of many: "mean", "last", ...
        seed: the pool's.
    Returns:
        Measurements "mrr@pool=<n>" and "mrr_over_chance@pool=<n>"; `.control` is BM25's.
    Raises:
        EmptyMeasurementError: the pool is empty.
        MeasurementError: an embedding is not finite.
        ValueError: pool and embeddings differ in number.
    Example:
        >>> pairs = [Pair(key="a", query="load json", code="load_json"), Pair(key="b", query="x", code="x")]
        >>> m = measure(pairs, [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], subject="s", pooling="mean")
        >>> [(x.name, x.value, x.control.value) for x in m][0]
        ('mrr@pool=2', 1.0, 1.0)

    """
    keys = [pair.key for pair in pairs]
    shared = (("query", "first-sentence"), ("ties", "last"), ("seed", str(seed)))
    by_model = embedding_ranks(query_embeddings, code_embeddings)
    by_words = bm25_ranks([pair.query for pair in pairs], [pair.code for pair in pairs])
    measurements = []
    for metric in (mrr, mrr_over_chance):
        signature = (("pooling", pooling), *shared)
        control = metric(keys, by_words, pool=len(pairs), subject="bm25", signature=shared)
        own = metric(keys, by_model, pool=len(pairs), subject=subject, signature=signature)
        measurements.append(replace(own, control=control))
    return measurements
