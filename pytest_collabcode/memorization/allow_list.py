"""The allow-list file: fragments that the organizations agreed to ignore, each with a reason and an expiry date.

    schema = 1

    [[allow]]
    reason = "MIT header that all of us use"
    expires = 2027-06-30                # the last day it is in force
    file = "boilerplate.txt"            # or text = '''...''', or fingerprint = "3a2e..." of a whole reported fragment

Any run of min_lines lines or more of a text is allowed, a fingerprint only as the whole fragment that a report named.
Not covered: wildcards; what an entry does to a count (allowed.py).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from pytest_collabcode.clones.normalize import significant
from pytest_collabcode.digests import DIGEST_CHARACTERS
from pytest_collabcode.errors import ConfigurationError, nearest
from pytest_collabcode.lines import decode
from pytest_collabcode.memorization.allowed import Allowed, AllowEntry

_TOP_KEYS = ("schema", "allow")
_KEYS = ("reason", "expires", "fingerprint", "text", "file")
_WAYS = _KEYS[2:]


def load_allowed(path: Path, *, today: date, min_lines: int = 6, normalization: str = "verbatim") -> Allowed:
    """Read an allow-list.

    Args:
        path: of the TOML file; a `file` in it is relative to its folder.
        today: entries that expired before it have no effect.
        min_lines: of a clone.
        normalization: of the index, one of normalize.NORMALIZATIONS.
    Raises:
        ConfigurationError: not TOML, or an entry with an unknown key, without reason or date, or that could never
            match; the message names file, line and the way out.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder) / "allow.toml"
        ...     _ = file.write_text("schema=1\\n[[allow]]\\nreason='ours'\\nexpires=2026-01-01\\ntext='a'\\n")
        ...     allowed = load_allowed(file, today=date(2026, 1, 2), min_lines=1)
        >>> len(allowed.entries), [entry.reason for entry in allowed.expired]
        (0, ['ours'])
    """
    form = (min_lines, normalization)
    entries = [
        replace(_entry(values, f"{path}{place}", path.parent, form), where=f"{path.name}{place}")
        for place, values in _read(path)
    ]
    return Allowed(
        entries=tuple(e for e in entries if today <= e.expires),
        expired=tuple(e for e in entries if today > e.expires),
        min_lines=min_lines,
    )


def _read(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return each entry with its place in the file, ":3"."""
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path}: not a readable TOML file: {error}") from error
    for key in table:
        if key not in _TOP_KEYS:
            raise ConfigurationError(f"{path}: key {key!r} is unknown; {nearest(key, _TOP_KEYS)}")
    if table.get("schema") != 1:
        found = f"schema={table['schema']!r}; this version reads" if "schema" in table else "begin it with the line"
        raise ConfigurationError(f"{path}: {found} schema = 1")
    entries = table.get("allow", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigurationError(f"{path}: write each entry as a table of its own that begins with [[allow]]")
    lines = [n for n, line in enumerate(text.split("\n"), 1) if re.match(r"\s*\[\[\s*allow\s*\]\]", line)]
    if len(lines) == len(entries):
        return [(f":{n}", entry) for n, entry in zip(lines, entries, strict=True)]
    return [(f": entry {n}", entry) for n, entry in enumerate(entries, 1)]  # an allowed text holds "[[allow]]"


def _entry(values: Mapping[str, Any], where: str, folder: Path, form: tuple[int, str]) -> AllowEntry:
    for key in values:
        if key not in _KEYS:
            raise ConfigurationError(f"{where}: key {key!r} is unknown; {nearest(key, _KEYS)}")
    given = [key for key in _WAYS if key in values]
    for key in ("reason", *given):
        if not isinstance(values.get(key, ""), str):
            raise ConfigurationError(f"{where}: {key} is not a text")  # its value may be code: never shown
    if not values.get("reason", "").strip():
        raise ConfigurationError(f"{where}: reason is missing; say why the organizations agreed to ignore this")
    if type(values.get("expires")) is not date:
        got = repr(values["expires"]) if "expires" in values else "missing"
        raise ConfigurationError(f"{where}: expires is {got}; write a date without quotes: expires = 2027-06-30")
    if len(given) != 1:
        raise ConfigurationError(f"{where}: give exactly one of {', '.join(_WAYS)}; got {', '.join(given) or 'none'}")
    fingerprint = values.get("fingerprint", "")
    if given == ["fingerprint"] and not re.fullmatch(rf"[0-9a-f]{{{DIGEST_CHARACTERS}}}", fingerprint):
        raise ConfigurationError(
            f"{where}: fingerprint={fingerprint!r} is not the {DIGEST_CHARACTERS} hex digits of a reported fragment"
        )
    return AllowEntry(
        reason=" ".join(values["reason"].split()),
        expires=values["expires"],
        where=where,
        fingerprint=fingerprint,
        lines=() if fingerprint else _lines(values, where, folder, form),
    )


def _lines(values: Mapping[str, Any], where: str, folder: Path, form: tuple[int, str]) -> tuple[str, ...]:
    text = values.get("text", "")
    if "file" in values:
        try:
            text = decode((folder / values["file"]).read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{where}: file={values['file']!r} cannot be read: {error}") from error
    min_lines, normalization = form
    lines = significant(text, normalization)[1]
    if len(lines) < min_lines:
        raise ConfigurationError(
            f"{where}: {len(lines)} significant lines are allowed, but a clone has at least min_lines={min_lines}; "
            "give the whole fragment"
        )
    return tuple(lines)
