"""`collabcode index seal | resolve`: an index that others can ask without seeing code, and its owner's way back.

Not covered: the format (clones/sealing.py) and what it leaks (README).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_collabcode.clones.folder import documents_of
from pytest_collabcode.clones.keys import make_key, read_key
from pytest_collabcode.clones.manifest import read_manifest
from pytest_collabcode.clones.opening import is_sealed
from pytest_collabcode.clones.sealing import resolve, seal
from pytest_collabcode.errors import CollabcodeError, ConfigurationError, NegativeAnswerError


def seal_index(folder: Path, key_file: Path, target: Path) -> Iterator[str]:
    """Seal the documents of an index.

    Args:
        folder: of an index of one organization.
        key_file: made if it is not there.
        target: the file to give away.
    Yields:
        What was sealed and what to do with it.
    Raises:
        ConfigurationError: it is no index, holds several organizations, the key is none, or the target is something
            else, which stays.
        CorpusError: there is nothing to seal.
        StoreError: the index is damaged, or the file cannot be written.
    Example:
        >>> list(seal_index(Path("/nowhere"), Path("acme.key"), Path("acme.sealed")))
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: /nowhere is no index: it has no collabcode-index.json; ...
    """
    shape = read_manifest(folder).shape
    if target.exists() and not is_sealed(target):
        raise ConfigurationError(f"--out={target} is there and is no sealed index; name another --out")
    made = not key_file.exists()
    key = make_key(key_file) if made else read_key(key_file)
    try:
        n_documents, n_windows = seal(documents_of(folder), target, key, shape=shape)
    except (CollabcodeError, KeyboardInterrupt):
        if made:
            key_file.unlink()
        raise
    yield f"{target}: documents {n_documents:,}, distinct windows of {shape.min_lines} lines {n_windows:,}, sealed"
    if made:
        yield f"{key_file}: a new key; give it to the auditing partner alone, by another way than the file"


def resolve_fingerprints(folder: Path, key_file: Path, fingerprints: Sequence[str]) -> Iterator[str]:
    """Say where the clones of a report begin: the lines of the first window; the length stands in the report.

    Args:
        folder: of the index that was sealed.
        key_file: it was sealed with.
        fingerprints: of clones of sealed documents, as reports print them.
    Yields:
        A line for each place: the document's sealed name, organization, path and lines.
    Raises:
        ConfigurationError: it is no index, or something is no fingerprint.
        NegativeAnswerError: nothing has one of the fingerprints.
    Example:
        >>> list(resolve_fingerprints(Path("/nowhere"), Path("acme.key"), []))
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: /nowhere is no index: it has no collabcode-index.json; ...
    """
    shape = read_manifest(folder).shape
    found = resolve(documents_of(folder), read_key(key_file), fingerprints, shape=shape)
    for fingerprint, places in found.items():
        for name, fragment in places:
            yield f"{fingerprint} = {name}, begins at {fragment}"
    unknown = [fingerprint for fingerprint, places in found.items() if not places]
    if unknown:
        raise NegativeAnswerError(
            f"{', '.join(unknown)}: stands nowhere in {folder}; was it sealed with another key, or since changed?"
        )
