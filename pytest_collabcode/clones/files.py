"""Documents out of a folder of any text files: what an index is built of when no consortium file says otherwise.

Every regular file is a document, whatever its name, unless it holds a NUL byte near its beginning. Symbolic links are
never followed; indexes and folders whose names begin with a dot are passed over.
Not covered: curation (corpus/), archives.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from pytest_collabcode.clones.manifest import MANIFEST
from pytest_collabcode.errors import CorpusError
from pytest_collabcode.licences import tagged_licence
from pytest_collabcode.lines import decode, split_licence_header
from pytest_collabcode.records import Document

PEEK_BYTES = 1 << 13  # that tell text from binary data, as git does


def read_texts(root: Path, organization: str, *, licence: str = "") -> Iterator[Document]:
    """Yield a document for every text file of a folder, or for one file, in the order of their paths.

    Args:
        root: folder or file.
        organization: their owner.
        licence: SPDX identifier of those without a tag of their own.
    Returns:
        Documents with the licence header in their text, counted in `header_lines`.
    Raises:
        CorpusError: there is no such folder or file, it cannot be read, or holds no text file.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "a.txt").write_text("# Copyright acme\\na = 1\\n")
        ...     [document] = read_texts(Path(folder), "acme")
        >>> document.path, document.header_lines
        ('a.txt', 1)
    """
    if not root.exists():
        raise CorpusError(f"{organization}={root}: no such file or folder")
    n_documents = 0
    for path, name in [(str(root), root.name)] if root.is_file() else _files(root):
        try:
            with FileIO(path) as stream:
                data = stream.readall()
        except OSError as error:
            raise CorpusError(f"{path} cannot be read: {error.strerror}") from error
        if b"\0" in data[:PEEK_BYTES]:
            continue
        text = decode(data)
        header, _ = split_licence_header(text)
        n_documents += 1
        yield Document(
            path=name,
            text=text,
            organization=organization,
            licence=tagged_licence(text) or licence,
            header_lines=header.count("\n"),
        )
    if not n_documents:
        raise CorpusError(f"{organization}={root}: holds no text file")


def _files(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (path, path from the root on) of the regular files below a folder.

    A stack instead of recursion, so that no depth overflows; strings, because a million Paths would cost more than
    reading what they name.
    """
    pending = [(str(root), "")]
    while pending:
        folder, prefix = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise CorpusError(f"{folder} cannot be read: {error.strerror}") from error
        if any(entry.name == MANIFEST for entry in entries):
            continue  # an index of ours
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                yield entry.path, prefix + entry.name
        pending += [(e.path, f"{prefix}{e.name}/") for e in reversed(entries) if _is_entered(e)]


def _is_entered(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
