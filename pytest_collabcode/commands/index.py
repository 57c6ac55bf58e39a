"""`collabcode index build | add | info | verify | compare`: an organization's code, ready to be asked.

Not covered: asking it (clones.py and the suites), sealing it (seal.py).
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytest_collabcode.clones.comparing import shared_code
from pytest_collabcode.clones.engines import DEFAULT_MEMORY_BYTES, add_with_engine, screen_with_engine
from pytest_collabcode.clones.folder import create_index, open_index, verify_index
from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.clones.manifest import read_manifest
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.commands.corpora import NamedCorpus, read_documents
from pytest_collabcode.commands.wording import counted
from pytest_collabcode.errors import CollabcodeError, ConfigurationError, NegativeAnswerError, StoreError
from pytest_collabcode.progress import QUIET_S, Progress
from pytest_collabcode.records import Document

Pairs = dict[tuple[str, str], list[int]]  # of organizations: fragments, significant lines


def build(
    folder: Path,
    corpora: Sequence[NamedCorpus],
    shape: Shape,
    *,
    engine: str,
    downloads: Path,
    workers: int | None = None,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
) -> Iterator[str]:
    """Make an index of everything that is named.

    Args:
        folder: new or empty.
        corpora: each with its organization.
        shape: which windows of which lines.
        engine: "local", "pool", "duckdb" or "ray".
        downloads: where `wheel:` sources were fetched to.
        workers: processes of the engines that have some, None for one per core.
        memory_bytes: what batches or a sort may take.
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
        >>> [*build(folder / "i", [acme], Shape(min_lines=2), engine="local", downloads=folder)][0]
        '1 document added'
    """
    create_index(folder, shape)
    try:
        yield from add(
            folder, corpora, engine=engine, downloads=downloads, workers=workers, memory_bytes=memory_bytes
        )
    except (CollabcodeError, KeyboardInterrupt):
        if not read_manifest(folder).segments:  # nothing was indexed: leave no empty index in the way
            shutil.rmtree(folder)
        raise


def add(
    folder: Path,
    corpora: Sequence[NamedCorpus],
    *,
    engine: str,
    downloads: Path,
    workers: int | None = None,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
) -> Iterator[str]:
    """Add everything that is named to an index; documents that stand in it already are passed over. See `build`.

    Raises:
        ConfigurationError: it is no index.
        CorpusError: a corpus is missing or empty.
        StoreError: the disk is full; what was there is unharmed.
    Example:
        >>> list(add(Path("/nowhere"), [], engine="local", downloads=Path()))
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: /nowhere is no index: it has no collabcode-index.json; ...
    """
    read_manifest(folder)
    progress, n_bytes, began = Progress(), 0, time.monotonic()
    n_changed = 0

    def tell(size: int) -> None:
        nonlocal n_bytes
        n_bytes += size
        if time.monotonic() - began > QUIET_S:
            progress.line(f"{folder}: {n_bytes / 1e6:,.0f} MB of text indexed")

    def tell_changed(document: Document) -> None:
        nonlocal n_changed
        n_changed += 1

    documents = (document for corpus in corpora for document in read_documents(corpus, downloads=downloads))
    n_added = add_with_engine(
        folder,
        documents,
        engine=engine,
        workers=workers,
        memory_bytes=memory_bytes,
        progress=tell,
        changed=tell_changed,
    )
    yield f"{counted(n_added, 'document')} added"
    if n_changed:
        yield (
            f"{n_changed:,} of them had the path of a document that was there, with another text: both versions are "
            "asked from now on; build the index anew to forget the old ones"
        )
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
        ConfigurationError: it is no index.
        NegativeAnswerError: something is damaged; each segment is named.
        StoreError: it cannot be rebuilt for want of space.
    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp()) / "i"
        >>> create_index(folder, Shape())
        >>> list(verify(folder))[0].endswith("i is whole")
        True
    """
    try:
        read_manifest(folder)
    except StoreError as error:
        raise NegativeAnswerError(str(error)) from error
    problems = verify_index(folder, rebuild=rebuild)
    if problems:
        hint = "" if rebuild else " (--rebuild does, if the texts it holds are sound)"
        raise NegativeAnswerError("\n".join(f"{problem}{hint}" for problem in problems))
    yield f"{folder} is whole"


def compare(
    folders: Sequence[Path],
    *,
    engine: str = "local",
    workers: int | None = None,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    as_json: bool = False,
) -> Iterator[str]:
    """Yield the code that stands in two organizations of some indexes: what a model may give back across them.

    Args:
        folders: of indexes of one normalization and min_lines.
        engine: "local" asks for every document, "duckdb" joins all windows first and asks for those that share some.
        workers: threads and processes of the join, None for one per core.
        memory_bytes: what the join may take.
        as_json: yield one JSON document.
    Raises:
        ConfigurationError: one is no index, they differ in normalization or min_lines, or DuckDB is missing.
        StoreError: one is damaged, or the disk is full.
    Example:
        >>> from tempfile import mkdtemp
        >>> from pytest_collabcode.clones.folder import add_documents
        >>> from pytest_collabcode.records import Document
        >>> folders = [Path(mkdtemp()) / name for name in ("acme", "zeta")]
        >>> for folder in folders:
        ...     create_index(folder, Shape(min_lines=2))
        ...     _ = add_documents(folder, [Document(path="x.py", text="a\\nb\\n", organization=folder.name)])
        >>> print(*compare(folders), sep="\\n")
        acme:x.py:1-2 = zeta:x.py:1-2
        acme and zeta: 1 fragment, 2 significant lines
    """
    if not folders:
        raise ConfigurationError("no index is named; write --index=DIR, or several of them")
    index = CloneIndex.joined([open_index(folder) for folder in dict.fromkeys(map(Path.resolve, folders))])
    screen = screen_with_engine(engine, workers=workers, memory_bytes=memory_bytes)
    pairs = {(a, b): [0, 0] for a in index.organizations for b in index.organizations if a < b}
    fragments = []
    for shared in shared_code(index, screen=screen):
        pair = pairs[shared.first.organization, shared.second.organization]
        pair[0] += 1
        pair[1] += shared.significant_lines
        if as_json:
            fragments.append(asdict(shared))
        else:
            yield f"{shared.first} = {shared.second}"
    yield from _compared_json(index, pairs, fragments) if as_json else _compared(index, pairs)


def _compared(index: CloneIndex, pairs: Pairs) -> Iterator[str]:
    if not pairs:
        yield f"{counted(len(index.organizations), 'organization')} indexed, so there is nothing to compare"
    for (first, second), (n_fragments, n_lines) in pairs.items():
        yield f"{first} and {second}: {counted(n_fragments, 'fragment')}, {counted(n_lines, 'significant line')}"


def _compared_json(index: CloneIndex, pairs: Pairs, fragments: list[dict[str, Any]]) -> Iterator[str]:
    totals = [
        {"organizations": pair, "fragments": n_fragments, "significant_lines": n_lines}
        for pair, (n_fragments, n_lines) in pairs.items()
    ]
    about = {"min_lines": index.min_lines, "normalization": index.normalization, "organizations": index.organizations}
    yield json.dumps({**about, "pairs": totals, "fragments": fragments}, indent=1)
