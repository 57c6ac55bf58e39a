"""The fingerprint step as one pure function over Arrow batches, so that any engine can run it, on any machine.

It keeps no state, can be pickled, and gives the same bits as segment.py, whose functions it calls. A process pool,
DuckDB's side of engines/ and Ray Data call it as it stands.
Not covered: Spark, whose columns know no unsigned integers: its mapInArrow needs a wrapper that views them as signed.
Needs the extra `scale`: nothing outside engines/ imports this module.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import pyarrow as pa

from pytest_collabcode.clones.fingerprints import Hashes, low_halves, text_hashes, window_fingerprints, window_starts
from pytest_collabcode.clones.segment import Shape

ROWS = pa.schema(
    [
        pa.field("document", pa.uint64(), nullable=False),
        pa.field("place", pa.uint32(), nullable=False),  # in the document's significant lines, from 0
        pa.field("half", pa.uint32(), nullable=False),  # low half of the line's hash
        pa.field("fingerprint", pa.uint64()),  # of the window that begins here; null where none is indexed
    ]
)
Batch = TypeVar("Batch", pa.RecordBatch, pa.Table)


def fingerprint_batch(batch: Batch, *, min_lines: int = 6, normalization: str = "verbatim", sparse: bool) -> Batch:
    """Return one row per significant line of the documents of a batch, in their order.

    Args:
        batch: columns `document` (a number) and `text` (binary or string, UTF-8, never null); others are passed over.
        min_lines: of the shortest clone.
        normalization: one of normalize.NORMALIZATIONS.
        sparse: whether only every fourth window of three lines is indexed (for min_lines=6).
    Returns:
        Rows of the schema ROWS, as a record batch or a table like what was given.
    Raises:
        ConfigurationError: no such normalization, or min_lines is below 1.
    Example:
        >>> texts = pa.record_batch({"document": pa.array([7, 8], pa.uint64()), "text": ["a\\n\\nb\\nc", "b\\nc"]})
        >>> rows = fingerprint_batch(texts, min_lines=2, sparse=False).to_pydict()
        >>> rows["document"], rows["place"], [f is None for f in rows["fingerprint"]]
        ([7, 7, 7, 8, 8], [0, 1, 2, 0, 1], [False, False, True, False, True])
        >>> rows["fingerprint"][1] == rows["fingerprint"][3]
        True
    """
    shape = Shape(min_lines=min_lines, normalization=normalization, sparse=sparse)
    texts = batch.column("text").cast(pa.large_binary()).to_pylist()
    hashes: list[Hashes] = [text_hashes(text, normalization) for text in texts]
    counts = np.array([len(own) for own in hashes], dtype=np.int64)
    bounds = np.append(0, np.cumsum(counts))
    flat = np.concatenate([np.empty(0, dtype=np.uint64), *hashes])
    starts = window_starts(bounds, width=shape.width, stride=shape.stride)
    fingerprints, absent = np.zeros(len(flat), dtype=np.uint64), np.ones(len(flat), dtype=bool)
    fingerprints[starts], absent[starts] = window_fingerprints(flat, shape.width)[starts], False
    columns = [
        pa.array(np.repeat(np.asarray(batch.column("document"), dtype=np.uint64), counts)),
        pa.array((np.arange(len(flat)) - np.repeat(bounds[:-1], counts)).astype(np.uint32)),
        pa.array(low_halves(flat)),
        pa.array(fingerprints, mask=absent),
    ]
    return type(batch).from_arrays(columns, schema=ROWS)


def windows_of(rows: Batch) -> Batch:
    """Keep the rows where an indexed window begins, without the line hashes.

    Example:
        >>> texts = pa.table({"document": pa.array([7], pa.uint64()), "text": ["a\\nb"]})
        >>> windows_of(fingerprint_batch(texts, min_lines=2, sparse=False)).column_names
        ['document', 'place', 'fingerprint']
    """
    return rows.filter(rows.column("fingerprint").is_valid()).select(["document", "place", "fingerprint"])
