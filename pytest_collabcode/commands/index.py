"""`collabcode index build | add | info | verify | compare`: an organization's code, ready to be asked.

Not covered: asking it (clones.py and the suites), sealing it (seal.py).
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from pytest_collabcode.clones.engines import add_with_engine
from pytest_collabcode.clones.folder import create_index, documents_of, open_index, verify_index
from pytest_collabcode.clones.manifest import read_manifest
from pytest_collabcode.clones.normalize import significant
from pytest_collabcode.clones.runs import Run, by_organization, maximal
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.commands.corpora import NamedCorpus, read_documents
from pytest_collabcode.errors import CollabcodeError, MeasurementError
from pytest_collabcode.progress import QUIET_S, Progress
from pytest_collabcode.records import Document

ASKED_AT_ONCE = 256  # documents


def build(
    folder: Path, corpora: Sequence[NamedCorpus], shape: Shape, *, engine: str, workers: int, downloads: Path
) -> Iterator[str]:
    """Make an index of everything that is named.

    Args:
        folder: new or empty.
        corpora: each with its organization.
        shape: which windows of which lines.
        engine: "local", "pool", "duckdb" or "ray".
        workers: processes of the engines that have some.
        downloads: where `wheel:` sources were fetched to.
    Yields:
        What is there afterwards, as `info` does.
    Raises:
        ConfigurationError: the folder is not empty, or an engine's package is missing.
        CorpusError: a corpus is missing or empty.
        StoreError: the disk is full.
    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> _ = (folder / "x.py").write_text("a\\nb\\n")
        >>> acme = NamedCorpus(organization="acme", target=str(folder))
        >>> [*build(folder / "i", [acme], Shape(min_lines=2), engine="local", workers=1, downloads=folder)][0]
        '1 document added'
    """
    create_index(folder, shape)
    try:
        yield from add(folder, corpora, engine=engine, workers=workers, downloads=downloads)
    except CollabcodeError:
        if not read_manifest(folder).segments:  # nothing was indexed: leave no empty index in the way
            shutil.rmtree(folder)
        raise


def add(folder: Path, corpora: Sequence[NamedCorpus], *, engine: str, workers: int, downloads: Path) -> Iterator[str]:
    """Add everything that is named to an index; documents that stand in it already are passed over.

    Raises:
        ConfigurationError: it is no index.
        CorpusError: a corpus is missing or empty.
        StoreError: the disk is full; what was there is unharmed.
    Example:
        >>> list(add(Path("/nowhere"), [], engine="local", workers=1, downloads=Path()))
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: /nowhere is no index: it has no collabcode-index.json; ...
    """
    read_manifest(folder)
    progress, n_bytes, began = Progress(), 0, time.monotonic()

    def tell(size: int) -> None:
        nonlocal n_bytes
        n_bytes += size
        if time.monotonic() - began > QUIET_S:
            progress.line(f"{folder}: {n_bytes / 1e6:,.0f} MB of text indexed")

    documents = (document for corpus in corpora for document in read_documents(corpus, downloads=downloads))
    n_added = add_with_engine(folder, documents, engine=engine, workers=workers, progress=tell)
    yield f"{n_added:,} document{'' if n_added == 1 else 's'} added"
    yield from info(folder)


def info(folder: Path, *, as_json: bool = False) -> Iterator[str]:
    """Yield what an index holds: its shape, organizations, sizes.

    Raises:
        ConfigurationError: it is no index.
        StoreError: it is damaged.
    Example:
        >>> from tempfile import mkdtemp
        >>> create_index(Path(mkdtemp()) / "i", Shape())
    """
    manifest, index = read_manifest(folder), open_index(folder)
    totals = {key: sum(asdict(e)[key] for e in manifest.segments) for key in ("documents", "lines", "windows")}
    texts = sum(e.text_bytes for e in manifest.segments)
    size = sum(e.bytes for e in manifest.segments)
    if as_json:
        about = {"shape": asdict(manifest.shape), "organizations": index.organizations, **totals}
        yield json.dumps({**about, "text_bytes": texts, "bytes": size, "segments": len(manifest.segments)}, indent=1)
        return
    yield f"{folder}: {manifest.shape}; organizations: {', '.join(index.organizations) or 'none'}"
    yield (
        f"documents {totals['documents']:,}, significant lines {totals['lines']:,}, windows {totals['windows']:,}, "
        f"segments {len(manifest.segments)}; {texts / 1e3:,.0f} kB of text in {size / 1e3:,.0f} kB"
    )


def verify(folder: Path, *, rebuild: bool = False) -> Iterator[str]:
    """Compare everything with its checksums.

    Raises:
        MeasurementError: something is damaged; each segment is named.
    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp()) / "i"
        >>> create_index(folder, Shape())
        >>> list(verify(folder))[0].endswith("i is whole")
        True
    """
    problems = verify_index(folder, rebuild=rebuild)
    if problems:
        hint = "" if rebuild else " (--rebuild does, if the texts it holds are sound)"
        raise MeasurementError("\n".join(f"{problem}{hint}" for problem in problems))
    yield f"{folder} is whole"


def compare(folder: Path) -> Iterator[str]:
    """Yield the code that stands in two organizations of one index: what a model may give back across them.

    Every document of an organization is looked up in those of the others; a fragment is said once for each pair.

    Raises:
        ConfigurationError: it is no index.
        StoreError: it is damaged.
    Example:
        >>> from tempfile import mkdtemp
        >>> from pytest_collabcode.clones.folder import add_documents
        >>> folder = Path(mkdtemp()) / "i"
        >>> create_index(folder, Shape(min_lines=2))
        >>> owners = ("acme", "zeta")
        >>> _ = add_documents(folder, [Document(path="x.py", text="a\\nb\\n", organization=o) for o in owners])
        >>> print(*compare(folder), sep="\\n")
        acme:x.py:1-2 = zeta:x.py:1-2
        acme and zeta: 1 fragment, 2 significant lines
    """
    index = open_index(folder)
    if len(index.organizations) < 2:
        yield f"{folder} holds {len(index.organizations)} organization, so there is nothing to compare"
    fragments: Counter[tuple[str, str]] = Counter()
    n_lines: Counter[tuple[str, str]] = Counter()
    for batch in _batches(documents_of(folder)):
        texts = [significant(document.text, index.normalization) for document in batch]
        found = index.find_all([lines for _, lines in texts])
        for document, (numbers, _), runs in zip(batch, texts, found, strict=True):
            for other, run in _foreign(document, runs):
                fragments[document.organization, other] += 1
                n_lines[document.organization, other] += run.stop - run.first
                ours = f"{document.organization}:{document.path}:{numbers[run.first]}-{numbers[run.stop - 1]}"
                yield f"{ours} = {other}:{run.origin.path}:{run.first_line}-{run.last_line}"
    names = index.organizations
    for pair in ((a, b) for a in names for b in names if a < b):
        many = "" if fragments[pair] == 1 else "s"
        yield f"{pair[0]} and {pair[1]}: {fragments[pair]:,} fragment{many}, {n_lines[pair]:,} significant lines"


def _foreign(document: Document, runs: Sequence[Run]) -> Iterator[tuple[str, Run]]:
    """Yield the maximal runs in organizations that come later by name, so that each pair is said once."""
    for other, own in sorted(by_organization(runs).items()):
        if other > document.organization:
            yield from ((other, run) for run in maximal(own))


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    for document in documents:
        batch.append(document)
        if len(batch) == ASKED_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
