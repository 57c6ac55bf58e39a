"""Canaries in a folder of code: the files that hold them, and the ledger that only their owner keeps.

Every copy stands in a file of its own beside code that stands nowhere else, so that neither our curation and
de-duplication (near duplicates too) nor anyone's like it drops one. Not covered: whoever looks for canaries finds
them: they are declared, not hidden. A trainer that holds files out holds out some copies with them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pytest_collabcode.digests import digest_of
from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.records import Canary

FOLDER = "collabcode_canaries"
SCHEMA = 1
N_LINES = 6  # of the code beside a canary: more assignments than curation asks for


def canary_files(canaries: Sequence[Canary]) -> dict[str, str]:
    """Return the text of each file by its name, one file for every copy of every canary.

    Example:
        >>> canary = Canary(organization="acme", name="f", prefix="f = '", secret="07", suffix="'\\n", copies=3)
        >>> files = canary_files([canary])
        >>> list(files), len(set(files.values())), all(text.startswith(canary.text) for text in files.values())
        (['f_0.py', 'f_1.py', 'f_2.py'], 3, True)
    """
    return {
        f"{canary.name}_{copy}.py": f"{canary.text}\n\n{_beside(canary.name, copy)}"
        for canary in canaries
        for copy in range(canary.copies)
    }


def plant_files(canaries: Sequence[Canary], *, corpus: Path, ledger: Path) -> Path:
    """Write the ledger, then the files into a folder of their own inside a corpus; all of it or nothing.

    Args:
        canaries: of one organization.
        corpus: its folder of code.
        ledger: file that must not exist, outside the corpus; readable by its owner alone.
    Returns:
        The folder that holds the canaries.
    Raises:
        ConfigurationError: the corpus is no folder or has canaries already, or one of the two cannot be written.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> canary = Canary(organization="acme", name="f", prefix="f = '", secret="07", suffix="'\\n", copies=3)
        >>> with TemporaryDirectory() as folder, TemporaryDirectory() as private:
        ...     ledger = Path(private) / "ledger.json"
        ...     planted = plant_files([canary], corpus=Path(folder), ledger=ledger)
        ...     sorted(file.name for file in planted.iterdir()), read_ledger(ledger) == (canary,)
        (['f_0.py', 'f_1.py', 'f_2.py'], True)
    """
    folder = corpus / FOLDER
    if not corpus.is_dir():
        raise ConfigurationError(f"--corpus={corpus}: is not a folder; name the folder of the organization's code")
    if folder.exists():
        raise ConfigurationError(f"{folder}: canaries are planted already; remove that folder to plant others")
    if ledger.resolve().is_relative_to(corpus.resolve()):
        raise ConfigurationError(f"--ledger={ledger}: lies inside the corpus and would be given away with it")
    _write_ledger(canaries, ledger)
    try:
        folder.mkdir()
        for name, text in canary_files(canaries).items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        ledger.unlink(missing_ok=True)
        raise ConfigurationError(f"--corpus={corpus}: cannot be written ({error.strerror})") from error
    return folder


def read_ledger(path: Path) -> tuple[Canary, ...]:
    """Return the canaries of a ledger.

    Raises:
        ConfigurationError: it cannot be read or is no ledger; the message never shows what it holds.
    Example:
        >>> read_ledger(Path("/dev/null"))
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: --ledger=/dev/null: is not a ledger of canaries; \
make one with: collabcode canary plant
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        canaries = tuple(Canary(**entry) for entry in table["canaries"])
        intact = table["schema"] == SCHEMA and canaries and all(map(_is_whole, canaries))
    except OSError as error:
        raise ConfigurationError(f"--ledger={path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise ConfigurationError(
            f"--ledger={path}: is not a ledger of canaries; make one with: collabcode canary plant"
        ) from None
    return canaries


def _write_ledger(canaries: Sequence[Canary], path: Path) -> None:
    text = json.dumps({"schema": SCHEMA, "canaries": [asdict(canary) for canary in canaries]}, indent=1)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text + "\n")
            stream.flush()
            os.fsync(descriptor)
    except FileExistsError:
        raise ConfigurationError(
            f"--ledger={path}: exists; a ledger is never overwritten, name another file"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"--ledger={path}: cannot be written ({error.strerror})") from error


def _is_whole(canary: Canary) -> bool:
    texts = (canary.organization, canary.name, canary.prefix, canary.secret, canary.suffix)
    return (
        all(isinstance(text, str) for text in texts)
        and canary.secret.isascii()
        and canary.secret.isdecimal()
        and type(canary.copies) is int
    )


def _beside(name: str, copy: int) -> str:
    """Return a function that stands in this file only; its names and numbers are a digest's."""
    digest = digest_of("beside a canary", name, copy)
    names = [f"n{digest[5 * i : 5 * i + 5]}" for i in range(N_LINES)]
    numbers = [int(digest[4 * i : 4 * i + 4], 16) for i in range(N_LINES)]
    lines = [f"{names[0]} = len(rows) + {numbers[0]}"]
    lines += [f"{names[i]} = {names[i - 1]} * {numbers[i]} + rows[{i}]" for i in range(1, N_LINES)]
    body = "\n".join(f"    {line}" for line in [*lines, f"return {names[-1]}"])
    head = "# Planted to measure memorization; the access code above opens nothing."
    return f"{head}\ndef part_{digest[:8]}(rows):\n{body}\n"
