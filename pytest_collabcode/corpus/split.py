"""The split of one organization's documents into training and held-out, by file, from a seed.

Not covered: near duplicates that fall on both sides; their rate is reported with the corpus.
Source: Chen & Jiang (ASE 2024, arXiv 2409.12020) hold out 20 % of each organization's files. There a shuffle picks
them; here the files with the smallest keyed digests, so that one added file moves at most one other across.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pytest_collabcode.digests import digest_of
from pytest_collabcode.records import Document


def split_documents(documents: Sequence[Document], *, seed: int, heldout_ratio: float) -> tuple[Document, ...]:
    """Mark each document as "training" or "heldout".

    Args:
        documents: of one organization, at least two.
        seed: another seed holds out other documents.
        heldout_ratio: 0-1; the number held out is this share rounded, but both sides get at least one.
    Returns:
        The documents in the order given.
    Raises:
        ValueError: there are fewer than two.
    Example:
        >>> files = [Document(path=f"{i}.py", text="", organization="acme") for i in range(10)]
        >>> [d.path for d in split_documents(files, seed=1, heldout_ratio=0.2) if d.split == "heldout"]
        ['4.py', '5.py']
    """
    if len(documents) < 2:
        raise ValueError(f"n_documents={len(documents)}; a split needs at least 2")
    n_heldout = min(max(round(heldout_ratio * len(documents)), 1), len(documents) - 1)
    order = sorted(documents, key=lambda d: digest_of("split", seed, d.organization, d.path))
    heldout = {document.path for document in order[:n_heldout]}
    return tuple(replace(d, split="heldout" if d.path in heldout else "training") for d in documents)
