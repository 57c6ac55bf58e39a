"""TOML tables that remember where they stand, so that every complaint can say it.

Not covered: what the keys mean (consortium.py, plants.py).
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_collabcode.errors import ConfigurationError, nearest

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Table:
    """A TOML table that remembers where it stands, so that every complaint can say it.

    Example:
        >>> Table({"sede": 2}, "consortium.toml").only("name", "seed")
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: consortium.toml: unknown key 'sede'; \
did you mean 'seed'? valid: name, seed
    """

    values: dict[str, Any]
    where: str  # "consortium.toml [organizations.meta]"

    def only(self, *valid: str) -> None:
        """Raise ConfigurationError, with the nearest valid name, for a key that is not among `valid`."""
        for key in self.values:
            if key not in valid:
                raise ConfigurationError(f"{self.where}: unknown key {key!r}; {nearest(key, valid)}")

    def get(self, key: str, kind: type, default: Any = _MISSING) -> Any:
        """Return a value of exactly that type; ConfigurationError when it is missing or of another type."""
        value = self.values.get(key, default)
        if value is _MISSING:
            raise ConfigurationError(f"{self.where}: {key} is missing; a {_TYPE_NAMES[kind]} is expected")
        if value is not default and type(value) is not kind:
            raise ConfigurationError(f"{self.where}: {key}={value!r} is not a {_TYPE_NAMES[kind]}")
        return value

    def sha256(self, key: str) -> str:
        """Return 64 hex digits; ConfigurationError for anything else."""
        value = str(self.get(key, str))
        if not _SHA256.fullmatch(value):
            raise ConfigurationError(f"{self.where}: {key}={value!r} is not 64 hex digits in lower case")
        return value

    def table(self, key: str) -> Table:
        """Return the sub-table of that name, empty when there is none."""
        return Table(self.get(key, dict, {}), f"{self.where} [{key}]")


_TYPE_NAMES = {
    str: "string",
    bool: "true or false",
    int: "whole number",
    float: "decimal number",
    dict: "table",
    list: "list",
}


def read_toml(path: Path) -> Table:
    """Read a TOML file whole.

    Raises:
        ConfigurationError: it is missing, unreadable or not TOML; the message names the file and line.
    Example:
        >>> read_toml(Path("/nowhere/a.toml"))
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: /nowhere/a.toml: cannot be read (No such file or directory)
    """
    try:
        return Table(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path}: is not valid TOML ({error})") from error
