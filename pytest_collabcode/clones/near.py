"""Near-miss clones (type 3): a text begins with nearly the tokens of a function's body.

Tokens stand without comments and layout, five in a row make a shingle; MinHash proposes bodies, the Jaccard index of
the shingle sets decides. A text goes on where a body ends, so a body is compared with every beginning of the text and
the most alike one counts. A shingle is known by 64 bits: a collision would shift an index by one shingle.
Not covered: renamed identifiers (type 2); a body that begins later in the text; a text that stops early in a body.
Sources: Broder 1997 for shingles; Roy and Cordy 2007 for clone types; datasketch for LSH.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_collabcode.clones.bodies import Body
from pytest_collabcode.clones.fingerprints import Hashes, Integers, line_hashes, window_fingerprints
from pytest_collabcode.clones.index import MIN_LINES
from pytest_collabcode.clones.normalize import significant
from pytest_collabcode.digests import digest_bytes
from pytest_collabcode.minhash import Banding
from pytest_collabcode.records import Signature

SHINGLE_TOKENS = 5
JACCARD = 0.7
MIN_TOKENS = 16
"""A body of comments or one long string has lines but few tokens, and would be found everywhere."""
BANDING = Banding(permutations=128, bands=32, rows=4)
"""Proposes half of the pairs at Jaccard 0.38 and 99.98 % at 0.7; at 0.62, see GROWTH, still 99.4 %."""
PROPOSED = 0.99  # of the pairs that are just alike enough
GROWTH = 9 / 8
"""Beginnings of these relative sizes are asked for. The next longer one has at most this many times the shingles of
the one most alike, so its Jaccard index is at most that much lower: 0.62 for 0.7."""

_TOKEN = re.compile(
    r"""\#[^\n]* | \\(?=\n|\Z)                                      # neither a comment nor a continuation is a token
    |([rbfut]{0,2}\"{3}(?:[^"\\]++|\\[\s\S]|"(?!""))*+(?:\"{3})?     # an open string goes on to the end
    |[rbfut]{0,2}'{3}(?:[^'\\]++|\\[\s\S]|'(?!''))*+(?:'{3})?
    |[rbfut]{0,2}"(?:[^"\\\n]++|\\[\s\S])*+"?                        # or to that of its line
    |[rbfut]{0,2}'(?:[^'\\\n]++|\\[\s\S])*+'?
    |\.?\d(?:e[+-]|[\w.])*+
    |\w+
    |\*\*=?|//=?|<<=?|>>=?|->|\.\.\.|[-+*/%@&|^=!<>:]=|[^\w\s])""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NearMatch:
    """A body that a text nearly begins with; equal bodies of one organization are one match."""

    body: Body  # the first by path and line
    jaccard: float
    n_lines: int  # significant lines of the text, from its first, that are most alike
    fingerprint: str  # of the body's shingles
    copies: int  # bodies of this organization, planted or not like this one, with the same shingles


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NearIndex:
    """Function bodies by their shingles; equal bodies are kept once per organization, planted and natural apart."""

    jaccard: float
    min_lines: int
    shingles: tuple[Hashes, ...]  # (n,) distinct and sorted, of each known set
    holders: tuple[tuple[tuple[Body, int], ...], ...]  # (first body, how many) per organization, of each known set
    sizes: tuple[int, int]  # fewest and most shingles that a beginning alike enough can have
    lsh: Any  # MinHashLSH, keys are places in shingles

    @staticmethod
    def build(bodies: Iterable[Body], *, jaccard: float = JACCARD, min_lines: int = MIN_LINES) -> NearIndex:
        """Index function bodies.

        Args:
            bodies: usually of the training split; what is given is what can be found.
            jaccard: what decides; at least 0.69, since of less alike pairs too many would never be proposed.
            min_lines: significant lines a body must have, as in exact clones; and it must have MIN_TOKENS.
        Raises:
            ValueError: jaccard is out of range.
        Example:
            >>> from pytest_collabcode.records import Fragment
            >>> place = Fragment(organization="acme", path="x.py", first_line=2, last_line=4)
            >>> body = Body(place=place, text="a = f(1, 2, 3)\\nb = a + 2\\nreturn b\\n")
            >>> index = NearIndex.build([body], min_lines=3)
            >>> len(index.shingles)
            1
        """
        if jaccard > 1 or BANDING.probability(jaccard / GROWTH) < PROPOSED:
            raise ValueError(f"jaccard={jaccard!r} must be between 0.69 and 1")
        known: dict[bytes, list[Body]] = {}
        for body in bodies:
            tokens = list(tokens_of(body.text))
            if body.significant_lines >= min_lines and len(tokens) >= MIN_TOKENS:
                shingles = np.unique(shingles_of(tokens)[0])
                known.setdefault(shingles.tobytes(), []).append(body)
        sets = tuple(np.frombuffer(key, dtype=np.uint64) for key in known)
        lsh = BANDING.index()
        for number, signature in enumerate(BANDING.signatures(map(_elements, sets))):
            lsh.insert(number, signature, check_duplication=False)
        lengths = [len(shingles) for shingles in sets] or [0]
        return NearIndex(
            jaccard=jaccard,
            min_lines=min_lines,
            shingles=sets,
            holders=tuple(tuple(_holders(equal)) for equal in known.values()),
            sizes=(int(min(lengths) * jaccard), math.ceil(max(lengths) / jaccard)),
            lsh=lsh,
        )

    @property
    def signature(self) -> Signature:
        """How near copies are found, as it stands on every verdict."""
        return (
            ("clones", "type-3"),
            ("alike", f"jaccard>={self.jaccard:g} with the best beginning"),
            ("shingles", f"{SHINGLE_TOKENS} tokens"),
            ("lsh", f"{BANDING.bands}x{BANDING.rows}"),
            ("min_lines", str(self.min_lines)),
            ("min_tokens", str(MIN_TOKENS)),
        )

    def find(self, text: str) -> list[NearMatch]:
        """Find the bodies that a text nearly begins with.

        Args:
            text: such as a completion; need not parse.
        Returns:
            Matches whose Jaccard index with some beginning of the text is at least self.jaccard, the most alike
            first, then by organization, path and line.
        Example:
            >>> from pytest_collabcode.records import Fragment
            >>> place = Fragment(organization="acme", path="x.py", first_line=2, last_line=4)
            >>> body = Body(place=place, text="a = f(1, 2, 3)\\nb = a + 2\\nreturn b\\n")
            >>> index = NearIndex.build([body], min_lines=3)
            >>> text = "a = f(1, 2, 3)  # 1\\n\\nb = a + 2\\nreturn b\\nc = 3\\nd"
            >>> [(m.jaccard, m.n_lines) for m in index.find(text)]
            [(1.0, 3)]
        """
        windows, ends = shingles_of(list(tokens_of(text)))
        distinct, first = np.unique(windows, return_index=True)
        order = np.argsort(first)
        distinct, ends = distinct[order], ends[first[order]]
        matches: list[NearMatch] = []
        for number in self._proposed(distinct):
            alike, size = most_alike(distinct, self.shingles[number])
            if alike >= self.jaccard:
                matches += self._matches(number, alike, int(ends[size - 1]))
        return sorted(matches, key=lambda m: (-m.jaccard, *_by_place(m.body)))

    def _proposed(self, distinct: Hashes) -> list[int]:
        parts = (_elements(part) for part in np.split(distinct, grid(*self.sizes, len(distinct)))[:-1])
        return sorted({key for signature in BANDING.growing(parts) for key in self.lsh.query(signature)})

    def _matches(self, number: int, alike: float, n_lines: int) -> Iterator[NearMatch]:
        fingerprint = digest_bytes(self.shingles[number].astype("<u8").tobytes())
        for body, copies in self.holders[number]:
            yield NearMatch(body=body, jaccard=alike, n_lines=n_lines, fingerprint=fingerprint, copies=copies)


def tokens_of(text: str) -> Iterator[tuple[str, int]]:
    """Yield (token, significant line it ends on, from 1) of Python text that need not parse.

    Lines are stripped before, so that the indentation inside a string of several lines does not count either.

    Example:
        >>> list(tokens_of("if x:  # why\\n\\n    y **= 'a b'"))
        [('if', 1), ('x', 1), (':', 1), ('y', 2), ('**=', 2), ("'a b'", 2)]
    """
    stripped = "\n".join(significant(text)[1])
    line, before = 1, 0
    for match in _TOKEN.finditer(stripped):
        line += stripped.count("\n", before, match.end())
        before = match.end()
        if match[1] is not None:
            yield match[1], line


def shingles_of(tokens: Sequence[tuple[str, int]]) -> tuple[Hashes, Integers]:
    """Return the shingles of a text in order, shape (n,), and the significant line each ends on.

    Args:
        tokens: as `tokens_of` yields them.
    Example:
        >>> windows, ends = shingles_of(list(tokens_of("a = b\\n# all of it\\nreturn  a")))
        >>> len(windows), ends.tolist()
        (1, [3])
    """
    hashes = line_hashes(token for token, _ in tokens)
    ends = np.array([line for _, line in tokens[SHINGLE_TOKENS - 1 :]], dtype=np.int64)
    return window_fingerprints(hashes, SHINGLE_TOKENS), ends


def most_alike(distinct: Hashes, known: Hashes) -> tuple[float, int]:
    """Return the highest Jaccard index of a set with a beginning of a sequence, and that beginning's length.

    Args:
        distinct: the sequence, without repetitions, shape (n,), n >= 1.
        known: the set, shape (m,).
    Example:
        >>> most_alike(np.array([3, 1, 9, 2, 7]), np.array([1, 2, 3]))
        (0.75, 4)
    """
    shared = np.cumsum(np.isin(distinct, known))
    index = shared / (len(known) + np.arange(1, len(distinct) + 1) - shared)
    best = int(np.argmax(index))
    return float(index[best]), best + 1


def grid(smallest: int, longest: int, n: int) -> list[int]:
    """Return lengths from `smallest` on, growing by GROWTH or one, the last at least `longest` or n, what is shorter.

    Example:
        >>> grid(6, 20, 1000), grid(6, 1000, 11), grid(6, 1000, 5)
        ([6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20], [6, 7, 8, 9, 10, 11], [5])
    """
    if n == 0 or longest == 0:
        return []
    sizes = [min(max(smallest, 1), n)]
    while sizes[-1] < min(longest, n):
        sizes.append(min(max(sizes[-1] + 1, int(sizes[-1] * GROWTH)), n))
    return sizes


def _elements(shingles: Hashes) -> list[bytes]:
    elements: list[bytes] = shingles.astype("<u8").view("V8").tolist()
    return elements


def _by_place(body: Body) -> tuple[str, str, int, bool]:
    return body.place.organization, body.place.path, body.place.first_line, body.planted


def _holders(equal: Sequence[Body]) -> Iterator[tuple[Body, int]]:
    """Yield the first body of every (organization, planted) and how many there are."""
    groups: dict[tuple[str, bool], list[Body]] = {}
    for body in sorted(equal, key=_by_place):
        groups.setdefault((body.place.organization, body.planted), []).append(body)
    for group in groups.values():
        yield group[0], len(group)
