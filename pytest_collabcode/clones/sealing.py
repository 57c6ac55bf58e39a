"""Sealing: what an organization does to be audited without showing its code, and to learn what was found.

A sealed index holds, for every window of `min_lines` significant lines, its keyed 128-bit fingerprint, the number of
each document it stands in, how often it stands there, and whether it begins in the licence header; and of each
document whether it is planted, and its licence. Documents are numbered in the order of keyed digests, so that a
number says nothing. There is no text, path, line number or place in it, and no digest that could be tested without
the key. What it still tells: how many documents and windows there are, how often each repeats, and which fingerprints
share a document, so how large documents are. Who holds the key can test any window that can be guessed, for ever.
Not covered: asking (sealed.py); hiding counts (private set intersection, differential privacy). The windows of one
sealed index are sorted in memory, about 100 bytes a line.
Source: RFC 7693 for BLAKE2.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pytest_collabcode.clones.container import create
from pytest_collabcode.clones.keys import DIGEST_BYTES, Key
from pytest_collabcode.clones.normalize import NORMALIZER_VERSION, significant
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.errors import ConfigurationError, CorpusError
from pytest_collabcode.records import Document, Fragment

FORMAT = 1
FINGERPRINT = np.dtype(f"S{DIGEST_BYTES}")  # compared as unsigned bytes; arrays pad with the zeros that they strip

Bytes = npt.NDArray[np.bytes_]
Place = tuple[str, Fragment]  # what reports call the document, and where its owner finds it
_HALF = DIGEST_BYTES // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Windows:
    """The windows of one document."""

    order: bytes  # keyed digest of the document
    fingerprints: bytes  # in the document's order, end to end; sealing forgets that order
    n_header: int  # how many begin in its licence header
    planted: bool
    licence: str


def seal(documents: Iterable[Document], target: Path, key: Key, *, shape: Shape | None = None) -> tuple[int, int]:
    """Write the sealed index of one organization's documents.

    Args:
        documents: of one organization, licence headers separated or not; taken one at a time, in any order.
        target: the file to give away; replaced if it is there.
        key: to give to the auditing partner, by another way than the file. One for each partner.
        shape: min_lines and normalization; by default those of `CloneIndex.build`. Sealed indexes are dense.
    Returns:
        How many documents and distinct windows it holds. The same documents and key give the same file.
    Raises:
        CorpusError: no document has min_lines significant lines.
        ConfigurationError: the documents belong to several organizations.
        StoreError: the file cannot be written.
    Example:
        >>> from tempfile import mkdtemp
        >>> document = Document(path="x.py", text="a\\nb\\nc\\na\\nb\\n", organization="acme")
        >>> key = Key(secret=b"k" * 32, source="acme.key")
        >>> seal([document], Path(mkdtemp()) / "acme.sealed", key, shape=Shape(min_lines=2))
        (1, 3)
    """
    shape = shape or Shape()
    organizations: set[str] = set()
    known: list[_Windows] = []
    for document in documents:
        organizations.add(document.organization)
        if len(organizations) > 1:
            raise ConfigurationError(
                f"{target}: the documents belong to {' and '.join(sorted(organizations))}; an organization seals its "
                "own code only: one file and one key for each"
            )
        windows = _windows(document, key, shape)
        known += [windows] if windows.fingerprints else []
    if not known:
        raise CorpusError(
            f"{target}: no document has {shape.min_lines} significant lines, so there is nothing to seal"
        )
    known.sort(key=lambda w: w.order)
    about = {
        "kind": "sealed",
        "format": FORMAT,
        "normalizer_version": NORMALIZER_VERSION,
        "min_lines": shape.min_lines,
        "normalization": shape.normalization,
        "organization": organizations.pop(),
        "licences": sorted({w.licence for w in known}),
        "key_check": key.check,
    }
    return len(known), _write(target, known, about)


def resolve(
    documents: Iterable[Document], key: Key, fingerprints: Sequence[str], *, shape: Shape | None = None
) -> dict[str, tuple[Place, ...]]:
    """Say where reported fingerprints stand, which takes the documents: only their owner can.

    Args:
        documents: all that were sealed.
        key: they were sealed with.
        fingerprints: of clones in a report, see `run_fingerprint`.
        shape: they were sealed in.
    Returns:
        For each fingerprint every place of its clone's first window, and what the report calls the document there;
        the clone begins where that is the document the report names. None if no document holds the window: it was
        made with another key, in another shape, or of other documents.
    Raises:
        ConfigurationError: one is no fingerprint of a sealed index.
    Example:
        >>> document = Document(path="x.py", text="a\\n\\nb\\nc\\n", organization="acme")
        >>> key = Key(secret=b"k" * 32, source="acme.key")
        >>> lines = ["a", "b", "c"]
        >>> fingerprint = run_fingerprint(key.windows(lines, 2)[0], key.run(b"".join(key.lines(lines))))
        >>> [(name, fragment)] = resolve([document], key, [fingerprint], shape=Shape(min_lines=2))[fingerprint]
        >>> name, str(fragment)
        ('sealed:0', 'acme:x.py:1-3')
    """
    shape = shape or Shape()
    begins = {fingerprint: _begin(fingerprint) for fingerprint in fingerprints}
    wanted = set(begins.values())
    orders: list[bytes] = []
    found: list[tuple[bytes, bytes, Fragment]] = []  # order of the document, begin of the fingerprint, place
    for document in documents:
        numbers, lines = significant(document.header + document.text, shape.normalization)
        windows = key.windows(lines, shape.min_lines)
        orders += [_order(document, key)] if windows else []
        found += [
            (orders[-1], window[:_HALF], _fragment(document, numbers[i : i + shape.min_lines]))
            for i, window in enumerate(windows)
            if window[:_HALF] in wanted
        ]
    orders.sort()
    places: dict[bytes, list[Place]] = {begin: [] for begin in wanted}
    for order, begin, fragment in found:
        places[begin].append((document_name(bisect_left(orders, order)), fragment))
    return {fingerprint: tuple(places[begin]) for fingerprint, begin in begins.items()}


def run_fingerprint(window: bytes, run: bytes) -> str:
    """Return what stands for a run in reports: half of it says where the run begins, half of it what it is.

    Args:
        window: keyed fingerprint of its first window, by which its owner finds it.
        run: keyed digest of all its lines, so that two runs of one beginning are told apart.
    Example:
        >>> run_fingerprint(bytes(range(16)), bytes(range(16, 32)))
        '00010203040506071011121314151617'
    """
    return (window[:_HALF] + run[:_HALF]).hex()


def document_name(number: int) -> str:
    """Return what reports call a sealed document.

    Example:
        >>> document_name(17)
        'sealed:17'
    """
    return f"sealed:{number}"


def _fragment(document: Document, numbers: Sequence[int]) -> Fragment:
    return Fragment(
        organization=document.organization, path=document.path, first_line=numbers[0], last_line=numbers[-1]
    )


def _begin(fingerprint: str) -> bytes:
    try:
        halves = bytes.fromhex(fingerprint)
    except ValueError:
        halves = b""
    if len(halves) != 2 * _HALF:
        raise ConfigurationError(
            f"fingerprint={fingerprint!r} is none of a sealed index: {4 * _HALF} hex digits are expected, as they "
            "stand in the report"
        )
    return halves[:_HALF]


def _windows(document: Document, key: Key, shape: Shape) -> _Windows:
    numbers, lines = significant(document.header + document.text, shape.normalization)
    fingerprints = key.windows(lines, shape.min_lines)
    return _Windows(
        order=_order(document, key),
        fingerprints=b"".join(fingerprints),
        n_header=min(sum(number <= document.header_lines for number in numbers), len(fingerprints)),
        planted=document.planted,
        licence=document.licence,
    )


def _order(document: Document, key: Key) -> bytes:
    fields = (document.path, str(document.planted), document.licence, str(document.header_lines))
    return key.document("\0".join((*fields, document.header + document.text)).encode("utf-8", "surrogatepass"))


def _write(target: Path, known: Sequence[_Windows], about: dict[str, object]) -> int:
    sizes = np.array([len(w.fingerprints) // DIGEST_BYTES for w in known])
    fingerprints: Bytes = np.frombuffer(b"".join(w.fingerprints for w in known), dtype=FINGERPRINT)
    documents = np.repeat(np.arange(len(known), dtype=np.uint32), sizes)
    within = np.arange(len(documents)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    in_header = within < np.repeat([w.n_header for w in known], sizes)
    order = np.argsort(fingerprints, kind="stable")  # of equal ones, the documents ascend
    fingerprints, documents, in_header = fingerprints[order], documents[order], in_header[order]
    new_window = np.append(True, fingerprints[1:] != fingerprints[:-1])
    rows = np.flatnonzero(new_window | np.append(True, documents[1:] != documents[:-1]))
    n_rows, licences = len(rows), sorted({w.licence for w in known})
    layout: dict[str, tuple[npt.DTypeLike, int]] = {
        "fingerprints": (FINGERPRINT, n_rows),
        "documents": (np.uint32, n_rows),
        "counts": (np.uint32, n_rows),
        "in_header": (np.uint8, n_rows),
        "planted": (np.uint8, len(known)),
        "licences": (np.uint16, len(known)),
    }
    with create(target, layout, about) as arrays:
        arrays["fingerprints"][:], arrays["documents"][:] = fingerprints[rows], documents[rows]
        arrays["counts"][:] = np.diff(rows, append=len(documents))
        arrays["in_header"][:] = np.logical_and.reduceat(in_header, rows)  # a place in the code makes it code
        arrays["planted"][:] = [w.planted for w in known]
        arrays["licences"][:] = [licences.index(w.licence) for w in known]
    return int(np.count_nonzero(new_window))
