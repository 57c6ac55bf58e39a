"""Opening whatever answers for an organization's code: an index folder, or a sealed file with its key.

Not covered: folders of code (files.py).
"""

from __future__ import annotations

from pathlib import Path

from pytest_collabcode.clones.container import MAGIC, Container
from pytest_collabcode.clones.folder import open_index
from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.clones.keys import read_key
from pytest_collabcode.clones.manifest import MANIFEST
from pytest_collabcode.clones.sealed import open_sealed
from pytest_collabcode.errors import ConfigurationError


def open_any(path: Path, *, key_file: Path | None = None) -> CloneIndex:
    """Open an index on disk.

    Args:
        path: of an index folder or a sealed index.
        key_file: of a sealed index.
    Raises:
        ConfigurationError: it is neither, another version's, sealed without a key, or the key is wrong.
        StoreError: it is damaged.
    Example:
        >>> open_any(Path("/nowhere"))
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: /nowhere is no index: it has no collabcode-index.json; ...
    """
    if is_sealed(path):
        if key_file is None:
            raise ConfigurationError(
                f"{path} is sealed; name its key: --key-file=ORGANIZATION=FILE, or key_file in the consortium file"
            )
        part = open_sealed(path, read_key(key_file))
        digest = Container(path).digest[:8]
        return CloneIndex(shape=part.shape, parts=(part,), sealed=part.organizations, digests=(digest,))
    return open_index(path)


def is_index(path: Path) -> bool:
    """Whether something is an index, open or sealed, as far as its outside tells.

    Example:
        >>> is_index(Path("/nowhere"))
        False
    """
    return (path / MANIFEST).is_file() or is_sealed(path)


def is_sealed(path: Path) -> bool:
    """Whether a file is a container, which outside an index folder is a sealed index.

    Example:
        >>> is_sealed(Path("/dev/null"))
        False
    """
    try:
        with path.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError:
        return False
