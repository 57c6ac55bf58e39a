"""Duplicates within one organization: exact ones ignoring white space, near ones by MinHash and exact Jaccard.

Not covered: duplicates across organizations, which stay on purpose: they are what makes cross-organization clones.
Sources: Chen & Jiang (ASE 2024, arXiv 2409.12020): exact copies by a hash of the text without white space; near ones
by datasketch's MinHashLSH, 256 permutations, Jaccard 0.85 of the word sets, removal off by default.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_collabcode.minhash import Banding, jaccard
from pytest_collabcode.records import Document

NEAR_JACCARD = 0.85
BANDING = Banding(permutations=256, bands=25, rows=10)
"""LSH then proposes over 99 % of the pairs with Jaccard 0.85. Left to centre itself there, it proposes 45 %."""
MIN_WORDS = 10
"""A document with fewer distinct words is never a near duplicate; two short files are alike by chance."""

_WORD = re.compile(r"\w+")
_WHITE_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """What de-duplication of one organization found. The first document of a group, by path, is never in it.

    Example:
        >>> a, b = (Document(path=path, text="x = 1", organization="acme") for path in ("a.py", "b.py"))
        >>> found = Duplicates(kept=(a,), exact=((b, a),), near=(), n_documents=2)
        >>> found.exact_ratio, found.near_ratio
        (0.5, 0.0)
    """

    kept: tuple[Document, ...]
    exact: tuple[tuple[Document, Document], ...]  # (copy, the document it repeats)
    near: tuple[tuple[Document, Document], ...]  # among those without exact copies
    n_documents: int  # before

    @property
    def exact_ratio(self) -> float:
        """Share of all documents that repeat another one exactly, white space aside."""
        return len(self.exact) / self.n_documents

    @property
    def near_ratio(self) -> float:
        """Share of all documents that nearly repeat another one without repeating it exactly."""
        return len(self.near) / self.n_documents


def deduplicate(documents: Sequence[Document], *, remove_near_duplicates: bool = False) -> Duplicates:
    """Find the duplicates of one organization; remove the exact ones, and on request the near ones.

    Args:
        documents: of one organization, at least one.
        remove_near_duplicates: also leave near duplicates out of `kept`.
    Returns:
        Kept documents in path order, and the pairs.
    Raises:
        ValueError: there are no documents.
    Example:
        >>> files = [Document(path=f"{i}.py", text=t, organization="acme") for i, t in enumerate(["a = 1", "a=1\\n"])]
        >>> found = deduplicate(files)
        >>> [d.path for d in found.kept], found.exact_ratio
        (['0.py'], 0.5)
    """
    if not documents:
        raise ValueError("documents is empty; there is nothing to deduplicate")
    ordered = sorted(documents, key=lambda document: (document.path, document.text))
    unique, exact = _exact(ordered)
    near = _near(unique)
    removed = {copy.path for copy, _ in near} if remove_near_duplicates else set()
    return Duplicates(
        kept=tuple(document for document in unique if document.path not in removed),
        exact=tuple(exact),
        near=tuple(near),
        n_documents=len(documents),
    )


def words_of(text: str) -> frozenset[str]:
    """Return the distinct words of a text: runs of letters, digits and underscores.

    Example:
        >>> sorted(words_of("x_1 = f(x_1, 2)"))
        ['2', 'f', 'x_1']
    """
    return frozenset(_WORD.findall(text))


def _exact(ordered: Sequence[Document]) -> tuple[list[Document], list[tuple[Document, Document]]]:
    first: dict[bytes, Document] = {}
    copies = []
    for document in ordered:
        key = hashlib.sha256(_WHITE_SPACE.sub("", document.text).encode("utf-8", "replace")).digest()
        original = first.setdefault(key, document)
        if original is not document:
            copies.append((document, original))
    return list(first.values()), copies


def _near(documents: Sequence[Document]) -> list[tuple[Document, Document]]:
    """Return (document, earlier kept document) pairs; LSH proposes, the exact Jaccard index decides."""
    index = BANDING.index()
    words = {n: words for n, document in enumerate(documents) if len(words := words_of(document.text)) >= MIN_WORDS}
    encoded = ([word.encode("utf-8", "replace") for word in chosen] for chosen in words.values())
    pairs = []
    for number, signature in zip(words, BANDING.signatures(encoded), strict=True):
        similar = [n for n in index.query(signature) if jaccard(words[n], words[number]) >= NEAR_JACCARD]
        if similar:
            pairs.append((documents[number], documents[min(similar)]))
        else:
            index.insert(number, signature)
    return pairs
