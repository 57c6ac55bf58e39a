"""Corpora named on the command line: folders, files, indexes and sealed indexes, as one index or as documents.

    acme=code/            a folder of text files, or one file
    acme=dir:code/        its Python files only; also wheel:NAME==VERSION and jsonl:FILE, as in a consortium file
    acme=acme.index       an index on disk; without "acme=" with all its organizations
    acme=acme.sealed      a sealed index; its key is named by --key-file=acme=FILE

Not covered: curation; that is a consortium file's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_collabcode.clones.bodies import Body, bodies_of
from pytest_collabcode.clones.files import read_texts
from pytest_collabcode.clones.folder import documents_of
from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.clones.near import NearIndex
from pytest_collabcode.clones.opening import is_index, is_sealed, open_any
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.corpus.consortium import WORDS_OF_THRESHOLDS, parse_source
from pytest_collabcode.corpus.reading import SourceFile
from pytest_collabcode.corpus.sources import default_prefix, read_source
from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.lines import split_licence_header
from pytest_collabcode.records import Document

SCHEMES = ("dir:", "wheel:", "jsonl:")
JSON_LINES = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCorpus:
    """One `--corpus=organization=target`."""

    organization: str  # "" = all that the index holds
    target: str


def named_corpus(text: str) -> NamedCorpus:
    """Parse `organization=target`, or a target alone.

    Raises:
        ConfigurationError: it names no target.
    Example:
        >>> named_corpus("acme=code/")
        NamedCorpus(organization='acme', target='code/')
    """
    organization, separator, target = text.partition("=")
    if not separator or "/" in organization or ":" in organization:
        organization, target = "", text
    if organization in WORDS_OF_THRESHOLDS:
        raise ConfigurationError(f"--corpus={text!r}: {organization!r} is a word of thresholds; choose another name")
    if not target:
        raise ConfigurationError(f"--corpus={text!r} names no folder or index; write --corpus=ORGANIZATION=PATH")
    return NamedCorpus(organization=organization, target=target)


def key_files(texts: Sequence[str]) -> dict[str, Path]:
    """Parse every `--key-file=organization=FILE`.

    Raises:
        ConfigurationError: one names no organization.
    Example:
        >>> key_files(["acme=acme.key"])
        {'acme': PosixPath('acme.key')}
    """
    keys = {}
    for text in texts:
        organization, separator, path = text.partition("=")
        if not separator or not path:
            raise ConfigurationError(f"--key-file={text!r}: write --key-file=ORGANIZATION=FILE")
        keys[organization] = Path(path)
    return keys


def open_corpora(
    corpora: Sequence[NamedCorpus], *, shape: Shape | None, keys: Mapping[str, Path], downloads: Path
) -> CloneIndex:
    """Return one index over everything that is named; folders are indexed in memory.

    Args:
        corpora: at least one.
        shape: of the index; None takes that of the first index on disk, else six verbatim lines.
        keys: key files of sealed indexes, by organization.
        downloads: where `wheel:` sources were fetched to.
    Raises:
        ConfigurationError: an index has another shape, another organization or no key.
        CorpusError: a folder or file is missing.
        StoreError: an index is damaged.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "a.py").write_text("a\\nb\\n")
        ...     corpus = NamedCorpus(organization="acme", target=folder)
        ...     open_corpora([corpus], shape=None, keys={}, downloads=Path(folder)).organizations
        ('acme',)
    """
    indexes: list[CloneIndex] = []
    documents: list[Document] = []
    unused = set(keys) - {c.organization for c in corpora if is_sealed(Path(c.target))}
    if unused:
        raise ConfigurationError(f"--key-file={min(unused)}=...: no sealed index is named for {min(unused)!r}")
    for corpus in corpora:
        index = _opened(corpus, keys)
        if index is None:
            documents += read_documents(corpus, downloads=downloads)
        else:
            indexes.append(index.chosen(corpus.organization) if corpus.organization else index)
    wanted = shape or (indexes[0].shape if indexes else Shape())
    return CloneIndex.joined([CloneIndex.of(documents, wanted), *indexes])


def near_index(corpora: Sequence[NamedCorpus], *, downloads: Path) -> NearIndex:
    """Return an index of every function body in what is named, to find near copies with.

    Raises:
        ConfigurationError: a corpus is sealed, so that there is nothing to compare with.
        CorpusError: a folder or file is missing.
        StoreError: an index is damaged.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "a.py").write_text("def f(x):\\n" + "    x = x + 1 * (2 + x)\\n" * 6)
        ...     index = near_index([NamedCorpus(organization="acme", target=folder)], downloads=Path(folder))
        >>> len(index.shingles)
        1
    """
    bodies: list[Body] = []
    for corpus in corpora:
        path = Path(corpus.target)
        if is_sealed(path):
            raise ConfigurationError(f"--near: {path} is sealed; near copies are compared with the code itself")
        documents = documents_of(path) if is_index(path) else read_documents(corpus, downloads=downloads)
        for document in documents:
            if document.organization == (corpus.organization or document.organization):
                bodies += bodies_of(replace(document, header_lines=0))  # the header stands in the text here
    return NearIndex.build(bodies)


def read_documents(corpus: NamedCorpus, *, downloads: Path) -> Iterator[Document]:
    """Yield the documents of a folder, a file or a source, whole and not curated.

    Raises:
        ConfigurationError: no organization is named.
        CorpusError: it is missing, cannot be read or is empty.
    Example:
        >>> list(read_documents(NamedCorpus(organization="acme", target="/nowhere"), downloads=Path()))
        Traceback (most recent call last):
        pytest_collabcode.errors.CorpusError: acme=/nowhere: no such file or folder
    """
    if not corpus.organization:
        raise ConfigurationError(
            f"--corpus={corpus.target!r} names no organization; write --corpus=ORGANIZATION={corpus.target}"
        )
    if is_index(Path(corpus.target)):
        raise ConfigurationError(f"--corpus={corpus.organization}={corpus.target} is an index; name the code itself")
    if corpus.target.endswith(JSON_LINES) and not corpus.target.startswith(SCHEMES):
        raise ConfigurationError(
            f"--corpus={corpus.organization}={corpus.target}: write {corpus.organization}=jsonl:{corpus.target}"
        )
    if not corpus.target.startswith(SCHEMES):
        yield from read_texts(Path(corpus.target), corpus.organization)
        return
    source = parse_source(corpus.target, folder=Path.cwd(), where="--corpus")
    for file in read_source(source, downloads=downloads, prefix=default_prefix(source)).files:
        yield _document(file, corpus.organization)


def _document(file: SourceFile, organization: str) -> Document:
    header, _ = split_licence_header(file.text)
    return Document(
        path=file.path,
        text=file.text,
        organization=organization,
        licence=file.licence,
        header_lines=header.count("\n"),
    )


def _opened(corpus: NamedCorpus, keys: Mapping[str, Path]) -> CloneIndex | None:
    path = Path(corpus.target)
    return open_any(path, key_file=keys.get(corpus.organization)) if is_index(path) else None
