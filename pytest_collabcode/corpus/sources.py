"""Code in: one function reads a source of any kind, in bounded time and memory.

Kinds: `wheel:name==version` (wheels.py), `dir:path` (folders.py), `jsonl:path[.gz]` (jsonlines.py).
Not covered: curation, de-duplication and split.
"""

from __future__ import annotations

from pathlib import Path

from pytest_collabcode.corpus.consortium import Source
from pytest_collabcode.corpus.folders import read_folder
from pytest_collabcode.corpus.jsonlines import read_jsonl
from pytest_collabcode.corpus.reading import Reading
from pytest_collabcode.corpus.wheels import find_wheel, read_wheel, verify
from pytest_collabcode.errors import CorpusError


def read_source(source: Source, *, downloads: Path, prefix: str = "") -> Reading:
    """Read all usable Python files of one source.

    Args:
        source: as the consortium declares it.
        downloads: folder that wheels were fetched to.
        prefix: put before each path; by default the source's own name. JSON lines bring their repository's.
    Returns:
        The files in no particular order, and what was skipped with the reason.
    Raises:
        CorpusError: it is missing, altered, has nothing usable, is mostly not UTF-8 or too large.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "a.py").write_text("x = 1\\n")
        ...     reading = read_source(Source(kind="dir", target=folder), downloads=Path(folder), prefix="ours")
        >>> [file.path for file in reading.files]
        ['ours/a.py']
    """
    reading, prefix = Reading(str(source)), prefix or default_prefix(source)
    if source.kind == "wheel":
        _read_wheel(source, downloads, reading, prefix)
    elif source.kind == "dir":
        read_folder(Path(source.target), reading, prefix=prefix, licence=source.licence)
    else:
        path = Path(source.target)
        if source.sha256 and path.is_file():
            verify(path, source.sha256)
        read_jsonl(path, reading, licence=source.licence)
    reading.check()
    return reading


def default_prefix(source: Source) -> str:
    """Return the name that a source's paths begin with.

    Example:
        >>> default_prefix(Source(kind="wheel", target="etils==1.14.0"))
        'etils-1.14.0'
    """
    if source.kind == "wheel":
        return source.target.replace("==", "-")
    return Path(source.target).resolve().name or "root"


def _read_wheel(source: Source, downloads: Path, reading: Reading, prefix: str) -> None:
    path = find_wheel(source.target, downloads)
    if path is None:
        raise CorpusError(f"{source}: is not in {downloads}; run: collabcode fetch")
    verify(path, source.sha256)
    read_wheel(path, reading, prefix=prefix, licence=source.licence)
