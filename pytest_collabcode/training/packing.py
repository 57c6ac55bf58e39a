"""From documents to sequences of equal length: whole files, separated, packed, in another order at each pass.

Plants and canaries stand among the documents as often as they say. A file is never cut off; only the remainder of a
pass that does not fill a sequence is left out, and its size is known. Not covered: attention across documents is not
masked, as in the paper.
Source: arXiv 2409.12020's ConstantLengthDataset, without its truncation of files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_collabcode.digests import digest_of
from pytest_collabcode.errors import ConfigurationError, CorpusError
from pytest_collabcode.records import Corpus, Recipe

Tokens = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedDocuments:
    """One organization's training split as token ids.

    Example:
        >>> tokens = (np.array([5, 6, 0], np.int32), np.array([7, 0], np.int32))
        >>> TokenizedDocuments(organization="meta", tokens=tokens, copies=(1, 4)).n_tokens
        11
    """

    organization: str
    tokens: tuple[Tokens, ...]  # per document, separator at its end
    copies: tuple[int, ...]  # per document, times per pass

    @property
    def n_tokens(self) -> int:
        """Tokens of one pass, separators and repeats included."""
        return sum(len(t) * n for t, n in zip(self.tokens, self.copies, strict=True))


def tokenize(corpus: Corpus, tokenizer: Any) -> dict[str, TokenizedDocuments]:
    """Return every organization's training split as tokens.

    Documents marked planted are left out: `corpus.plants` and `corpus.canaries` stand for them, with their copies.

    Args:
        corpus: at least one organization.
        tokenizer: a transformers tokenizer; special tokens written out in a text stay ordinary text.
    Returns:
        By organization, in the corpus's order.
    Example:
        >>> from pytest_collabcode.models.tokenizer import train_tokenizer
        >>> from pytest_collabcode.records import Document, Organization
        >>> files = (Document(path="a.py", text="x = 1\\n", organization="meta"),)
        >>> corpus = Corpus(name="toy", organizations=(Organization(name="meta", documents=files),))
        >>> found = tokenize(corpus, train_tokenizer(["x = 1\\n"], vocabulary_size=257))
        >>> found["meta"].n_tokens  # six characters and the separator
        7
    """
    return {
        organization.name: _tokenize(
            organization.name,
            [(d.text, 1) for d in organization.split("training") if not d.planted and d.text]
            + [
                (f"{plant.function.prompt}\n{plant.function.body.rstrip()}\n", plant.copies)
                for plant in corpus.plants
                if organization.name in plant.organizations
            ]
            + [
                (canary.text, canary.copies) for canary in corpus.canaries if canary.organization == organization.name
            ],
            tokenizer,
        )
        for organization in corpus.organizations
    }


def _tokenize(name: str, texts: Sequence[tuple[str, int]], tokenizer: Any) -> TokenizedDocuments:
    if not texts:
        raise CorpusError(f"organization={name!r}: its training split is empty; nothing can be trained on it")
    encoded = tokenizer(
        [text for text, _ in texts],
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        verbose=False,
    )["input_ids"]
    if tokenizer.eos_token_id is None:
        raise ConfigurationError("the base's tokenizer has no end-of-text token to put between documents")
    separator = [tokenizer.eos_token_id]
    return TokenizedDocuments(
        organization=name,
        tokens=tuple(np.asarray(ids + separator, dtype=np.int32) for ids in encoded),
        copies=tuple(copies for _, copies in texts),
    )


@dataclass(slots=True, kw_only=True)
class Stream:
    """The batches of one schedule: every step's batch can be asked for on its own, so resuming needs one integer.

    The same organizations give the same stream in every regime.

    Example:
        >>> from dataclasses import replace
        >>> from pytest_collabcode.training.recipes import recipe
        >>> tiny = replace(recipe("llama-smoke"), sequence_tokens=4, batch_size=2, passes=2.0)
        >>> meta = TokenizedDocuments(organization="meta", tokens=(np.arange(9, dtype=np.int32),), copies=(1,))
        >>> stream = Stream(documents=(meta,), recipe=tiny)
        >>> stream.n_steps, stream.n_dropped_tokens, stream.batch(1).tolist()
        (2, 1, [[0, 1, 2, 3], [4, 5, 6, 7]])
    """

    documents: tuple[TokenizedDocuments, ...]
    recipe: Recipe
    _passes: dict[int, Tokens] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.n_sequences == 0:
            raise CorpusError(
                f"organization={' + '.join(self.names)}: {self._n_tokens} training tokens do not fill one sequence "
                f"of {self.recipe.sequence_tokens}; add code or choose a recipe with shorter sequences"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The organizations whose documents are in it."""
        return tuple(d.organization for d in self.documents)

    @property
    def n_sequences(self) -> int:
        """Sequences of one pass."""
        return self._n_tokens // self.recipe.sequence_tokens

    @property
    def n_dropped_tokens(self) -> int:
        """Tokens left out of each pass: the remainder at its end, other ones each time."""
        return self._n_tokens % self.recipe.sequence_tokens

    @property
    def n_steps(self) -> int:
        """Steps of the whole schedule: all passes, batches running on across their borders; at least 1."""
        return max(1, round(self.n_sequences * self.recipe.passes / self.recipe.batch_size))

    def batch(self, step: int) -> Tokens:
        """Return the token ids of one step, shape (batch_size, sequence_tokens)."""
        first = step * self.recipe.batch_size
        rows = range(first, first + self.recipe.batch_size)
        return np.stack([self._pass(row // self.n_sequences)[row % self.n_sequences] for row in rows])

    @property
    def _n_tokens(self) -> int:
        return sum(d.n_tokens for d in self.documents)

    def _pass(self, index: int) -> Tokens:
        """Return one pass over the documents, shape (n_sequences, sequence_tokens)."""
        if index not in self._passes:
            self._passes = {k: v for k, v in self._passes.items() if k == index - 1}
            self._passes[index] = self._packed(index)
        return self._passes[index]

    def _packed(self, index: int) -> Tokens:
        pool = [
            tokens
            for documents in self.documents
            for tokens, copies in zip(documents.tokens, documents.copies, strict=True)
            for _ in range(copies)
        ]
        seed = int(digest_of("order", self.recipe.seed, self.names, index), 16)
        order = np.random.default_rng(seed).permutation(len(pool))
        length = self.recipe.sequence_tokens
        flat = np.concatenate([pool[i] for i in order])
        return flat[: self.n_sequences * length].reshape(self.n_sequences, length)  # (N, T)


def stream_of(documents: Mapping[str, TokenizedDocuments], names: Sequence[str], recipe: Recipe) -> Stream:
    """Return the stream over some organizations' documents, pooled.

    Raises:
        CorpusError: they do not fill one sequence.
    Example:
        >>> from pytest_collabcode.training.recipes import recipe
        >>> tokens = (np.zeros(1024, np.int32),)
        >>> documents = {
        ...     name: TokenizedDocuments(organization=name, tokens=tokens, copies=(1,)) for name in ("meta", "google")
        ... }
        >>> stream_of(documents, ["meta"], recipe("llama-smoke")).n_sequences
        8
    """
    return Stream(documents=tuple(documents[name] for name in names), recipe=recipe)
