"""Sealed indexes: asked like open ones by who holds the key, who learns which windows stand there and nothing else.

A run is what consecutive windows of a text share with one document. As places are not known, two places of one
document are taken for one run where the text joins them without a line between: then the run is as long as both.
Covered lines, and whether there is a clone at all, are those of an open index; lengths and the number of clones can
differ where a document repeats a window. Hits are not verified on text: two windows would have to share a keyed
128-bit fingerprint. Windows that stand in more than MAX_PLACES documents are looked at in the first of these only, so
a run through one may come as two.
Not covered: making them (sealing.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from pytest_collabcode.clones.container import Array, Container
from pytest_collabcode.clones.fingerprints import Integers, window_starts
from pytest_collabcode.clones.keys import DIGEST_BYTES, Key
from pytest_collabcode.clones.matching import Found, Matches
from pytest_collabcode.clones.normalize import NORMALIZER_VERSION
from pytest_collabcode.clones.pairs import MAX_PLACES
from pytest_collabcode.clones.query import Query
from pytest_collabcode.clones.runs import Origin, Run
from pytest_collabcode.clones.sealing import FINGERPRINT, FORMAT, Bytes, document_name, run_fingerprint
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.errors import ConfigurationError, StoreError

Holders = frozenset[int]  # numbers of documents
_NOBODY: Holders = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SealedPart:
    """The sealed documents of one organization.

    Example:
        >>> from tempfile import mkdtemp
        >>> from pytest_collabcode.clones.sealing import seal
        >>> from pytest_collabcode.records import Document
        >>> path, key = Path(mkdtemp()) / "acme.sealed", Key(secret=b"k" * 32, source="acme.key")
        >>> document = Document(path="x.py", text="a\\nb\\nc\\n", organization="acme")
        >>> _ = seal([document], path, key, shape=Shape(min_lines=2))
        >>> part = open_sealed(path, key)
        >>> [(_, run)] = part.match(Query.of([["z", "a", "b", "c"]])).runs
        >>> part.organizations, run.first, run.stop, run.origin.path, run.first_line
        (('acme',), 1, 4, 'sealed:0', 0)
    """

    path: Path
    key: Key
    shape: Shape
    organization: str
    fingerprints: Bytes  # (R,) sorted; a row for each window and document that holds it
    documents: Array  # (R,) ascending where fingerprints are equal
    counts: Array  # (R,) places of the window in the document
    in_header: Array  # (R,) whether all of them begin in the licence header
    planted: Array  # (D,)
    licences: tuple[str, ...]  # (D,)

    @property
    def organizations(self) -> tuple[str, ...]:
        """Whose documents it holds."""
        return (self.organization,)

    def match(self, query: Query) -> Matches:
        """Return all runs of a query, with lines and places unknown."""
        counts = np.zeros(len(query.lines), dtype=np.int64)
        starts = window_starts(query.bounds, width=self.shape.min_lines)
        blobs, which = _distinct(query, starts, self)
        windows = np.array(self.key.joined(blobs), dtype=FINGERPRINT)
        low, high = _ranges(self.fingerprints, windows)
        totals = np.zeros(len(windows), dtype=np.int64)
        once = high - low == 1
        totals[once] = self.counts[low[once]]
        for window in np.flatnonzero(high - low > 1).tolist():
            totals[window] = self.counts[low[window] : high[window]].sum()
        counts[starts] = totals[which]
        rows = _Rows(self, blobs, low, high)
        runs: list[Found] = []
        for first, stretch in _stretches(query, starts, which, totals):
            text = int(query.text_of(np.array([first]))[0])
            begin = first - int(query.bounds[text])
            runs += [
                (text, replace(run, first=run.first + begin, stop=run.stop + begin)) for run in rows.runs(stretch)
            ]
        return Matches(runs=runs, counts=counts)


def open_sealed(path: Path, key: Key) -> SealedPart:
    """Open a sealed index and verify it from end to end.

    Raises:
        ConfigurationError: it is no sealed index, was made by another version, or sealed with another key.
        StoreError: it is damaged.
    Example:
        >>> from tempfile import mkdtemp
        >>> open_sealed(Path(mkdtemp()) / "acme.sealed", Key(secret=b"k" * 32, source="acme.key"))
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: ...acme.sealed cannot be read: No such file or ...
    """
    try:
        container = Container(path)
        about = container.about
        if about.get("kind") != "sealed":
            raise ConfigurationError(f"{path} is no sealed index; one is made with collabcode index seal")
        _check(path, key, about)
        arrays = {
            name: container.whole(name) for name in ("fingerprints", "documents", "counts", "in_header", "planted")
        }
        licences = container.whole("licences").tolist()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}; name a sealed index") from error
    except StoreError as error:
        raise StoreError(f"{path} is damaged; ask the organization that sealed it for the file again") from error
    return SealedPart(
        path=path,
        key=key,
        shape=Shape(min_lines=about["min_lines"], normalization=about["normalization"]),
        organization=about["organization"],
        licences=tuple(about["licences"][number] for number in licences),
        **arrays,
    )


def _check(path: Path, key: Key, about: dict[str, Any]) -> None:
    """Refuse what must not be asked: another version's windows, or any with a wrong key, would never be found."""
    made_by = (about["format"], about["normalizer_version"])
    if made_by != (FORMAT, NORMALIZER_VERSION):
        raise ConfigurationError(
            f"{path}: format {made_by[0]}, normalizer {made_by[1]}; this version reads format {FORMAT}, normalizer "
            f"{NORMALIZER_VERSION}: ask {about['organization']} to seal it again"
        )
    if about["key_check"] != key.check:
        raise ConfigurationError(
            f"{path}: wrong key: it was not sealed with {key.source}; ask {about['organization']} for the right one"
        )


def _distinct(query: Query, starts: Integers, part: SealedPart) -> tuple[list[bytes], Integers]:
    """Return (the distinct windows as keyed digests of their lines end to end, which of them each start has)."""
    lines = dict.fromkeys(query.lines)
    digests = dict(zip(lines, part.key.lines(lines), strict=True))
    joined = b"".join(map(digests.__getitem__, query.lines))
    size = part.shape.min_lines * DIGEST_BYTES
    numbers: dict[bytes, int] = {}
    which = [numbers.setdefault(joined[i : i + size], len(numbers)) for i in (starts * DIGEST_BYTES).tolist()]
    return list(numbers), np.array(which, dtype=np.int64)


def _ranges(fingerprints: Bytes, windows: Bytes) -> tuple[Integers, Integers]:
    """Return the rows [low, high) of each window."""
    low, order = np.empty(len(windows), dtype=np.int64), np.argsort(windows)
    low[order] = np.searchsorted(fingerprints, windows[order])  # in order, for the cache's sake
    high = low.copy()
    known = fingerprints[np.minimum(low, len(fingerprints) - 1)] == windows
    high[known] = np.searchsorted(fingerprints, windows[known], side="right")
    return low, high


def _stretches(
    query: Query, starts: Integers, which: Integers, totals: Integers
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield (start, numbers of the windows) of consecutive windows of one text that all stand somewhere."""
    known = np.flatnonzero(totals[which])
    places, texts = starts[known], query.text_of(starts[known])
    breaks = np.flatnonzero((np.diff(places) != 1) | (np.diff(texts) != 0)) + 1
    for a, b in pairwise([0, *breaks.tolist(), len(known)]):
        if a < b:
            yield int(places[a]), tuple(which[known[a:b]].tolist())


class _Rows:
    """The rows of a query's distinct windows."""

    def __init__(self, part: SealedPart, blobs: Sequence[bytes], low: Integers, high: Integers) -> None:
        self._part, self._blobs, self._low, self._high = part, blobs, low, high
        self._planted = frozenset(np.flatnonzero(part.planted).tolist())
        self._sets = {_NOBODY: _NOBODY}  # equal ones are one object, which makes comparing them free
        self._held: dict[int, tuple[Holders, Holders]] = {}
        self._runs: dict[tuple[int, ...], list[Run]] = {}

    def runs(self, stretch: tuple[int, ...]) -> list[Run]:
        """Return the runs of consecutive windows, as if their text began there."""
        if stretch not in self._runs:  # samples repeat each other
            natural, planted = zip(*map(self._holders, stretch), strict=True)
            self._runs[stretch] = [self._run(stretch, span) for kind in (natural, planted) for span in _spans(kind)]
        return self._runs[stretch]

    def _holders(self, window: int) -> tuple[Holders, Holders]:
        """Return the natural and the planted documents that hold a window, of many the first."""
        if window not in self._held:
            documents = self._part.documents[self._low[window] : self._high[window]].tolist()
            planted = [document for document in documents if document in self._planted]
            natural = [document for document in documents if document not in self._planted] if planted else documents
            few = (frozenset(natural[:MAX_PLACES]), frozenset(planted[:MAX_PLACES]))
            self._held[window] = (self._sets.setdefault(few[0], few[0]), self._sets.setdefault(few[1], few[1]))
        return self._held[window]

    def _run(self, stretch: tuple[int, ...], span: tuple[int, int, int]) -> Run:
        first, stop, document = span
        part, windows = self._part, stretch[first:stop]
        lines = self._blobs[windows[0]] + b"".join(self._blobs[window][-DIGEST_BYTES:] for window in windows[1:])
        return Run(
            first=first,
            stop=stop - 1 + part.shape.min_lines,
            origin=Origin(
                organization=part.organization,
                path=document_name(document),
                planted=bool(part.planted[document]),
                licence=part.licences[document],
            ),
            first_line=0,
            last_line=0,
            n_header=sum(1 for _ in takewhile(lambda window: self._begins_in_header(window, document), windows)),
            fingerprint=run_fingerprint(part.key.joined([self._blobs[windows[0]]])[0], part.key.run(lines)),
        )

    def _begins_in_header(self, window: int, document: int) -> bool:
        low, high = int(self._low[window]), int(self._high[window])
        return bool(self._part.in_header[low + np.searchsorted(self._part.documents[low:high], document)])


def _spans(holders: Sequence[Holders]) -> Iterator[tuple[int, int, int]]:
    """Yield (first, stop, document) of every span of windows that one document holds and no longer one contains."""
    since: dict[int, int] = {}  # documents that hold the window before, and from where on without a gap
    before = _NOBODY
    for place, now in enumerate([*holders, _NOBODY]):
        if now is before:
            continue
        kept = {document: first for document, first in since.items() if document in now}
        earliest = min(since.values(), default=place)
        if earliest < min(kept.values(), default=place):
            yield earliest, place, min(document for document, first in since.items() if first == earliest)
        since = dict.fromkeys(now, place) | kept
        before = now
