"""Digests of trained checkpoints and tokenizers, from all that they depend on, known before anything is trained.

Not covered: the digest of the weights that come out (checkpoint.py). Imports no torch, so that a session can see
in milliseconds what is in the store.
"""

from __future__ import annotations

from pytest_collabcode.digests import digest_of
from pytest_collabcode.records import Checkpoint, Recipe
from pytest_collabcode.training.names import FEDERATED, RegimeName
from pytest_collabcode.training.strategies import STRATEGIES

CODE_VERSION = 1  # raise when the same inputs would train other weights


def checkpoint_digest(
    regime: RegimeName, corpus_digest: str, recipe: Recipe, *, base: Checkpoint | None = None
) -> str:
    """Return the digest under which the store keeps what this regime trains.

    Args:
        regime: of `parse_name`.
        corpus_digest: of the whole corpus, since the tokenizer is trained on all of it.
        recipe: all of it counts, but its name.
        base: pretrained checkpoint that training starts from.
    Example:
        >>> from pytest_collabcode.training.recipes import recipe
        >>> a, b = (checkpoint_digest(RegimeName("local", (o,)), "c", recipe("llama-demo")) for o in ("x", "y"))
        >>> a == b
        False
    """
    settings = STRATEGIES[regime.strategy] if regime.kind == FEDERATED else ()
    start = (base.weights_digest, base.tokenizer_digest) if base else ()
    return digest_of("checkpoint", CODE_VERSION, start, corpus_digest, _plain(recipe), regime, settings)


def tokenizer_key(corpus_digest: str, vocabulary_size: int) -> str:
    """Return the digest under which the store keeps the tokenizer that all regimes of a corpus share.

    Example:
        >>> tokenizer_key("c", 512) == tokenizer_key("c", 4096)
        False
    """
    return digest_of("tokenizer", CODE_VERSION, corpus_digest, vocabulary_size)


def _plain(recipe: Recipe) -> dict[str, object]:
    return {field: getattr(recipe, field) for field in Recipe.__slots__ if field != "name"}
