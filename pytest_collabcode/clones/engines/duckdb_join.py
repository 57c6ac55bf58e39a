"""DuckDB: the documents that share a window with another organization, by a join of all windows out of core.

Windows stream from the index into DuckDB; what its memory does not hold is spilled to the folder of temporary files,
which TMPDIR names. Where an index holds some windows only (sparse), all windows of the documents are made anew, by
the fingerprint step (batches.py) in a process pool.
Not covered: what these documents share: that is asked of the index (comparing.py).
Source: DuckDB's external aggregation and join, https://duckdb.org/2024/03/29/external-aggregation.html.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import pyarrow as pa

from pytest_collabcode.clones.batches import fingerprint_batch, windows_of
from pytest_collabcode.clones.comparing import Flags, owner_ranks
from pytest_collabcode.clones.engines.duckdb_engine import ROWS_AT_ONCE, connected
from pytest_collabcode.clones.engines.pool_engine import mapped
from pytest_collabcode.clones.engines.spool import GROUP_BYTES
from pytest_collabcode.clones.fingerprints import Hashes, Integers
from pytest_collabcode.clones.folder import grouped
from pytest_collabcode.clones.segment import Segment, Shape
from pytest_collabcode.errors import CollabcodeError, StoreError

INDEXED = pa.schema([("fingerprint", pa.uint64()), ("owner", pa.uint16())])
ASKED = pa.schema([("fingerprint", pa.uint64()), ("document", pa.uint64())])
ALL_ASKED, SOME_ASKED = "min(owner) < max(owner)", "max(owner) > 0"  # whether who asks is indexed, too
JOINED = """
    SELECT document, last FROM asked JOIN (
        SELECT fingerprint, max(owner) AS last FROM indexed GROUP BY fingerprint HAVING {}
    ) USING (fingerprint)
"""


def screen(segments: Sequence[Segment], *, workers: int, memory_bytes: int) -> list[Flags]:
    """Return which documents share a window with an organization that comes later by name.

    Args:
        segments: of one normalization and min_lines.
        workers: threads of DuckDB, processes of the fingerprint step.
        memory_bytes: what the join may take.
    Raises:
        StoreError: a segment is damaged, the disk is full or the memory too small.
        WorkerError: a worker was killed.
    Example:
        >>> from pytest_collabcode.records import Document
        >>> texts = {("zeta", "x"): "a\\nb", ("acme", "y"): "b\\nc", ("acme", "z"): "a\\nb\\nc"}
        >>> documents = [Document(path=path, text=text, organization=name) for (name, path), text in texts.items()]
        >>> segments = [Segment.build(documents, Shape(min_lines=2))]
        >>> [flags.tolist() for flags in screen(segments, workers=1, memory_bytes=0)]
        [[False, True, False]]
    """
    ranks = owner_ranks(segments)
    everyone = np.concatenate([np.empty(0, dtype=np.int64), *ranks])  # documents numbered through all segments
    firsts = np.cumsum([0, *map(len, ranks)])
    flags, may_ask = np.zeros(len(everyone), dtype=bool), everyone < everyone.max(initial=0)
    for shape in dict.fromkeys(segment.shape for segment in segments):
        own = [(segment, rank) for segment, rank in zip(segments, ranks, strict=True) if segment.shape == shape]
        asked = _asked(segments, shape, may_ask, firsts=firsts.tolist(), workers=workers)
        having = ALL_ASKED if len(own) == len(segments) and not shape.sparse else SOME_ASKED
        for documents, owners in _joined(asked, _indexed(own), having, workers=workers, memory_bytes=memory_bytes):
            flags[documents[everyone[documents] < owners]] = True
    return np.split(flags, firsts[1:-1])


def _indexed(segments: Iterable[tuple[Segment, Integers]]) -> Iterator[pa.RecordBatch]:
    """Yield all windows of segments, each with the rank of its owner."""
    for segment, ranks in segments:
        for fingerprints, numbers in _windows(segment):
            yield pa.record_batch([fingerprints, ranks[numbers].astype(np.uint16)], schema=INDEXED)


def _asked(
    segments: Sequence[Segment], shape: Shape, may_ask: Flags, *, firsts: Sequence[int], workers: int
) -> Iterator[pa.RecordBatch]:
    """Yield all windows that a shape may hold of the documents that may ask, numbered through all segments."""
    remade = []
    for segment, first, stop in zip(segments, firsts, firsts[1:], strict=False):
        if segment.shape != shape or shape.sparse:
            remade.append((segment, may_ask[first:stop], first))
            continue
        for fingerprints, numbers in _windows(segment):
            kept = may_ask[first + numbers]
            yield pa.record_batch([fingerprints[kept], (first + numbers[kept]).astype(np.uint64)], schema=ASKED)
    step = partial(fingerprint_batch, min_lines=shape.width, normalization=shape.normalization, sparse=False)
    texts = (batch for segment, flags, first in remade for batch in _texts(segment, flags, first))
    for rows in mapped(step, texts, workers=workers if remade else 1):
        windows = windows_of(rows)
        yield pa.record_batch([windows.column("fingerprint"), windows.column("document")], schema=ASKED)


def _windows(segment: Segment) -> Iterator[tuple[Hashes, Integers]]:
    """Yield the fingerprints of a segment's windows, in its order, and the numbers of their documents."""
    for begin in range(0, len(segment.fingerprints), ROWS_AT_ONCE):
        rows = slice(begin, begin + ROWS_AT_ONCE)
        segment.check_rows(np.arange(begin, min(begin + ROWS_AT_ONCE, len(segment.fingerprints))))
        numbers = np.searchsorted(segment.bounds, segment.places[rows], side="right") - 1
        yield segment.fingerprints[rows], numbers


def _texts(segment: Segment, flags: Flags, first: int) -> Iterator[pa.RecordBatch]:
    documents = ((number, segment.documents.document(number)) for number in np.flatnonzero(flags).tolist())
    for group in grouped(documents, GROUP_BYTES, size=lambda pair: len(pair[1].text)):
        texts = [(document.header + document.text).encode("utf-8", "surrogatepass") for _, document in group]
        numbers = pa.array([first + number for number, _ in group], pa.uint64())
        yield pa.record_batch({"document": numbers, "text": pa.array(texts, pa.large_binary())})


def _joined(
    asked: Iterator[pa.RecordBatch],
    indexed: Iterator[pa.RecordBatch],
    having: str,
    *,
    workers: int,
    memory_bytes: int,
) -> Iterator[tuple[Integers, Integers]]:
    """Yield (document, rank of the last owner) of every asked window that stands somewhere."""
    failures: list[CollabcodeError] = []
    try:
        with (
            TemporaryDirectory(prefix="joining-") as scratch,
            connected(Path(scratch), workers=workers, memory_bytes=memory_bytes) as connection,
        ):
            # Nothing is known of streams beforehand, so the optimizer could only guess which side is small.
            connection.sql("SET disabled_optimizers = 'join_order,build_side_probe_side'")
            connection.register("asked", _reader(ASKED, asked, failures))
            connection.register("indexed", _reader(INDEXED, indexed, failures))
            for batch in connection.sql(JOINED.format(having)).to_arrow_reader(ROWS_AT_ONCE):
                documents, owners = (np.asarray(batch.column(n), dtype=np.int64) for n in ("document", "last"))
                yield documents, owners
    except duckdb.Error as error:
        if failures:
            raise failures[0] from error
        raise StoreError(
            f"joining windows failed ({error}); free some space (TMPDIR) or allow more memory"
        ) from error


def _reader(
    schema: pa.Schema, batches: Iterator[pa.RecordBatch], failures: list[CollabcodeError]
) -> pa.RecordBatchReader:
    """Return a stream for DuckDB, which would turn errors into its own."""

    def watched() -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
        except CollabcodeError as error:
            failures.append(error)
            raise

    return pa.RecordBatchReader.from_batches(schema, watched())
