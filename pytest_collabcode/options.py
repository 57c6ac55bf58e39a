"""Options that have a syntax of their own, parsed at the border: models, adapters, reports.

Not covered: whether what they name is there and sound (checkpoint.py, adapters.py, backends/discovery.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pytest_collabcode.errors import ConfigurationError, nearest
from pytest_collabcode.urls import endpoint_url, is_url

REPORT_FORMATS = ("json", "markdown", "sarif")
_NAME = re.compile(r"[\w.:>/+-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOption:
    """One `--model=[name=]path` or `--model=[name=]url`."""

    path: Path
    name: str = ""  # "" = the manifest's name, else the directory's or the server's
    url: str = ""  # of an endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterOption:
    """One `--collabcode-adapter=[name=]path`."""

    path: Path
    subject: str = ""  # "" = every checkpoint that --model names


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOption:
    """One `--collabcode-report=format:path`."""

    format: str
    path: Path


def model_option(text: str) -> ModelOption:
    """Parse `path`, `name=path`, or the same with the URL of an endpoint.

    Raises:
        ConfigurationError: empty, a wrong URL, or a name with characters that cannot stand in a test id.
    Example:
        >>> model_option("a=ckpt/x")
        ModelOption(path=PosixPath('ckpt/x'), name='a', url='')
    """
    name, separator, path = text.partition("=")
    if separator and not name:
        raise ConfigurationError(f"--model={text!r} begins with =; write --model=PATH or --model=NAME=PATH")
    if not separator or is_url(text):
        name, path = "", text
    if not path:
        raise ConfigurationError(f"--model={text!r} names no path; write --model=PATH or --model=NAME=PATH")
    if name and not _NAME.fullmatch(name):
        raise ConfigurationError(f"--model={text!r}: name={name!r} may hold letters, digits and _.:>/+- only")
    if is_url(path):
        return ModelOption(path=Path(), name=name, url=endpoint_url(path))
    return ModelOption(path=Path(path), name=name)


def adapter_option(text: str) -> AdapterOption:
    """Parse `path` or `name=path`.

    Raises:
        ConfigurationError: no path.
    Example:
        >>> adapter_option("tuned=lora/1")
        AdapterOption(path=PosixPath('lora/1'), subject='tuned')
    """
    subject, separator, path = text.partition("=")
    if not separator:
        subject, path = "", text
    if not path:
        raise ConfigurationError(
            f"--collabcode-adapter={text!r} names no path; write --collabcode-adapter=PATH or ...=NAME=PATH"
        )
    return AdapterOption(path=Path(path), subject=subject)


def report_option(text: str) -> ReportOption:
    """Parse `format:path`.

    Raises:
        ConfigurationError: unknown format or no path.
    Example:
        >>> report_option("json:gate.json")
        ReportOption(format='json', path=PosixPath('gate.json'))
    """
    kind, _, path = text.partition(":")
    if kind not in REPORT_FORMATS:
        raise ConfigurationError(f"--collabcode-report={text!r}: {nearest(kind, REPORT_FORMATS)}; write FORMAT:PATH")
    if not path:
        raise ConfigurationError(f"--collabcode-report={text!r} names no path; write {kind}:PATH")
    return ReportOption(format=kind, path=Path(path))
