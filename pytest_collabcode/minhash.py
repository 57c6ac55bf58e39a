"""MinHash: sets that may be alike, proposed by datasketch's LSH; the exact Jaccard index decides.

A banding says how likely a pair is proposed, so its cut-off can be set well below the one that decides.
Not covered: what the elements are: words of a document (corpus/deduplicate), shingles of a function (clones/near).
Sources: Broder 1997 for MinHash; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3, for bands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass

from datasketch import MinHash, MinHashLSH
from xxhash import xxh32_intdigest


@dataclass(frozen=True, slots=True, kw_only=True)
class Banding:
    """How many permutations are taken, and how they are cut into bands: a pair equal in one band is proposed."""

    permutations: int
    bands: int
    rows: int  # permutations in a band

    def __post_init__(self) -> None:
        if self.bands * self.rows > self.permutations:
            raise ValueError(f"bands={self.bands!r} of rows={self.rows!r} need more than {self.permutations!r}")

    def probability(self, jaccard: float) -> float:
        """Return how likely two sets of this Jaccard index are proposed.

        Example:
            >>> b = Banding(permutations=128, bands=32, rows=4)
            >>> [round(b.probability(j), 4) for j in (0.1, 0.38, 0.7)]
            [0.0032, 0.4905, 0.9998]
        """
        return float(1 - (1 - jaccard**self.rows) ** self.bands)

    def signatures(self, sets: Iterable[Iterable[bytes]]) -> Iterator[MinHash]:
        """Yield the signature of each set.

        Example:
            >>> a, b = Banding(permutations=64, bands=16, rows=4).signatures([[b"x", b"y"], [b"y", b"x", b"x"]])
            >>> a.jaccard(b)
            1.0
        """
        yield from MinHash.generator(sets, num_perm=self.permutations, hashfunc=xxh32_intdigest)

    def growing(self, parts: Iterable[Iterable[bytes]]) -> Iterator[MinHash]:
        """Yield the signature of a set after each part that is added to it; it is one object that changes.

        Example:
            >>> b = Banding(permutations=64, bands=16, rows=4)
            >>> [whole] = b.signatures([[b"x", b"y"]])
            >>> [round(whole.jaccard(so_far)) for so_far in b.growing([[b"x", b"y"], [b"x"], [b"y"]])]
            [1, 1, 1]
        """
        signature = MinHash(num_perm=self.permutations, hashfunc=xxh32_intdigest)
        for part in parts:
            signature.update_batch(part)
            yield signature

    def index(self) -> MinHashLSH:
        """Return an empty index: `insert(key, signature)`, `query(signature)` gives the keys it proposes.

        Example:
            >>> b = Banding(permutations=64, bands=16, rows=4)
            >>> index, [signature] = b.index(), b.signatures([[b"x", b"y"]])
            >>> index.insert(7, signature)
            >>> index.query(signature)
            [7]
        """
        return MinHashLSH(num_perm=self.permutations, params=(self.bands, self.rows))


def jaccard(left: Set[object], right: Set[object]) -> float:
    """Return the size of the intersection over that of the union, 0-1; two empty sets are equal.

    Example:
        >>> jaccard(set("abc"), set("bcd"))
        0.5
    """
    union = len(left | right)
    return len(left & right) / union if union else 1.0
