"""The spool: the documents of one segment to be, and their fingerprint rows, as Parquet files.

It lies in the index's folder for the time of an addition, readable for its owner only: it holds the documents' text.
Not covered: sorting (duckdb_engine.py, ray_engine.py), the segment that comes of it (sorted_segment.py).
Source: Apache Parquet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pytest_collabcode.clones import batches
from pytest_collabcode.clones.disk import document_digest
from pytest_collabcode.clones.folder import grouped
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.records import Document

GROUP_BYTES = 1 << 23  # of text in one Parquet row group: what is fingerprinted at once
NAMED = {"organizations": "organization", "licences": "licence"}  # kept as numbers: column -> field of a document
TEXTS, ROWS = "texts", "rows"  # folders of files, read in the order of their names
SCHEMA = pa.schema(
    [
        ("document", pa.uint64()),
        ("text", pa.large_binary()),
        ("path", pa.large_binary()),
        ("organizations", pa.uint16()),
        ("licences", pa.uint16()),
        ("planted", pa.uint8()),
        ("header_lines", pa.uint32()),
        ("digests", pa.uint64()),
    ]
)


class Spool:
    """Documents numbered in the order of their segment, in files `texts/*`; their rows are to be put in `rows/*`.

    Args:
        folder: is made.
    Example:
        >>> from tempfile import mkdtemp
        >>> spool = Spool(Path(mkdtemp()) / "0")
        >>> spool.add([Document(path=f"{name}.py", text="a\\nb\\n", organization="acme") for name in "yx"])
        >>> [table.column("path").to_pylist() for table in tables(spool.texts, ["path"])]
        [[b'x.py', b'y.py']]
        >>> spool.n_documents, spool.most_lines, spool.rows
        (2, 8, [])
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.n_documents = 0
        self.most_lines = 0  # never fewer than there are
        self.names: dict[str, dict[str, int]] = {column: {} for column in NAMED}
        for part in (TEXTS, ROWS):
            (folder / part).mkdir(parents=True)

    @property
    def texts(self) -> list[Path]:
        """The files that hold documents, in their order."""
        return sorted((self.folder / TEXTS).iterdir())

    @property
    def rows(self) -> list[Path]:
        """The files that hold rows, in no order that means anything."""
        return sorted((self.folder / ROWS).iterdir())

    def add(self, documents: Sequence[Document]) -> None:
        """Write one batch of documents to a file."""
        ordered = sorted(documents, key=lambda d: (d.organization, d.planted, d.path))
        path = self.folder / TEXTS / f"{self.n_documents:012}.parquet"
        with pq.ParquetWriter(path, SCHEMA, use_dictionary=False, write_statistics=False) as writer:
            for group in grouped(ordered, GROUP_BYTES, size=lambda d: len(d.text)):
                writer.write_table(self._table(group))
        self.most_lines += most_lines(documents)

    def _table(self, documents: Sequence[Document]) -> pa.Table:
        first = self.n_documents
        self.n_documents += len(documents)
        columns: dict[str, Sequence[Any]] = {
            "document": range(first, self.n_documents),
            "text": [(d.header + d.text).encode("utf-8", "surrogatepass") for d in documents],
            "path": [d.path.encode("utf-8", "surrogatepass") for d in documents],
            "planted": [int(d.planted) for d in documents],
            "header_lines": [d.header_lines for d in documents],
            "digests": [document_digest(d) for d in documents],
        }
        for column, field in NAMED.items():
            known = self.names[column]
            columns[column] = [known.setdefault(getattr(d, field), len(known)) for d in documents]
        return pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def fingerprint_file(source: Path, *, shape: Shape) -> Path:
    """Fingerprint one file of a spool's texts into one of its rows, which is returned.

    Example:
        >>> from tempfile import mkdtemp
        >>> spool = Spool(Path(mkdtemp()) / "0")
        >>> spool.add([Document(path="x.py", text="a\\nb\\n", organization="acme")])
        >>> fingerprint_file(spool.texts[0], shape=Shape(min_lines=2)) in spool.rows
        True
        >>> [len(table) for table in tables(spool.rows, ["place"])]
        [2]
    """
    target = source.parent.parent / ROWS / source.name
    with pq.ParquetWriter(target, batches.ROWS, use_dictionary=["document"], write_statistics=False) as writer:
        for table in tables([source], ["document", "text"]):
            rows = batches.fingerprint_batch(
                table, min_lines=shape.min_lines, normalization=shape.normalization, sparse=shape.sparse
            )
            writer.write_table(rows)
    return target


def tables(paths: Iterable[Path], columns: list[str]) -> Iterator[pa.Table]:
    """Yield columns of Parquet files, one row group at a time.

    Example:
        >>> list(tables([], ["document"]))
        []
    """
    for path in paths:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=columns, use_threads=False)


def most_lines(documents: Iterable[Document]) -> int:
    """Return a number of lines that documents do not exceed, without splitting them.

    Example:
        >>> most_lines([Document(path="x.py", text="a\\nb", header="# (c)\\n", organization="acme")])
        4
    """
    texts = (text for d in documents for text in (d.header, d.text))
    return sum(1 + text.count("\n") + text.count("\r") for text in texts)
