"""Settings: what the options say, parsed at the border into frozen values.

Precedence: command line, then environment (COLLABCODE_STORE only), then defaults. No torch here: a bad option is
answered in milliseconds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path

from pytest_collabcode.errors import ConfigurationError, nearest

REPORT_FORMATS = ("json", "markdown", "sarif")
_NAME = re.compile(r"[\w.:>/+-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How much is measured; every size is part of the signatures it shapes."""

    name: str
    prompts_per_organization: int  # natural training functions asked for
    heldout_prompts_per_organization: int  # the same question about functions never trained on
    extraction_prompts_per_organization: int  # of each split, whose true bodies are scored token by token
    max_prompt_characters: int  # longer prompts are not asked; the paper asks up to 512 tokens
    n_samples: int  # completions per memorization prompt
    max_new_tokens: int  # per memorization completion
    humaneval_problems: int  # the first n of the 164
    humaneval_max_new_tokens: int
    completion_functions_per_organization: int  # held-out functions for BLEU
    completion_max_new_tokens: int
    perplexity_documents_per_organization: int
    perplexity_max_tokens: int  # of each document, from its start
    retrieval_pool: int


PROFILES = (
    Profile(
        name="demo",
        prompts_per_organization=100,
        heldout_prompts_per_organization=34,
        extraction_prompts_per_organization=34,
        max_prompt_characters=1000,
        n_samples=1,
        max_new_tokens=128,
        humaneval_problems=164,
        humaneval_max_new_tokens=96,
        completion_functions_per_organization=20,
        completion_max_new_tokens=64,
        perplexity_documents_per_organization=40,
        perplexity_max_tokens=256,
        retrieval_pool=200,
    ),
    Profile(
        name="paper",
        prompts_per_organization=10_000,
        heldout_prompts_per_organization=10_000,
        extraction_prompts_per_organization=10_000,
        max_prompt_characters=1600,
        n_samples=5,
        max_new_tokens=512,
        humaneval_problems=164,
        humaneval_max_new_tokens=512,
        completion_functions_per_organization=1_000,
        completion_max_new_tokens=256,
        perplexity_documents_per_organization=10_000,
        perplexity_max_tokens=1024,
        retrieval_pool=1000,
    ),
    Profile(
        name="smoke",
        prompts_per_organization=12,
        heldout_prompts_per_organization=4,
        extraction_prompts_per_organization=4,
        max_prompt_characters=1000,
        n_samples=1,
        max_new_tokens=48,
        humaneval_problems=6,
        humaneval_max_new_tokens=16,
        completion_functions_per_organization=3,
        completion_max_new_tokens=16,
        perplexity_documents_per_organization=4,
        perplexity_max_tokens=128,
        retrieval_pool=20,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOption:
    """One `--model=[name=]path`."""

    path: Path
    name: str = ""  # "" = the manifest's name, else the directory's


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOption:
    """One `--collabcode-report=format:path`."""

    format: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a session needs to know, and nothing it has to look up again."""

    models: tuple[ModelOption, ...]
    regimes: tuple[str, ...]
    base: Path | None
    thresholds: Path | None  # None = the demo's, shipped with the package
    consortium: Path | None  # None = the demo's
    profile: Profile
    recipe: str
    store: Path
    seed: int
    device: str
    baseline: Path | None
    normalization: str  # of lines, when clones are looked for
    allow: Path | None  # fragments the organizations agreed to ignore
    reports: tuple[ReportOption, ...]
    accept_partial: bool
    workers: int
    directory: Path  # where the command was given; proposals are written here


def shipped(package: str, name: str) -> Path:
    """Return the path of a data file that ships with the package.

    Args:
        package: "suites" or "fixtures".
        name: file inside it.
    Raises:
        ConfigurationError: the installation is incomplete.
    Example:
        >>> shipped("fixtures", "consortium.toml").name
        'consortium.toml'
    """
    path = Path(str(resources.files(f"pytest_collabcode.{package}") / name))
    if not path.exists():
        raise ConfigurationError(f"{path} is missing; install the package again: pip install pytest-collabcode")
    return path


def profile(name: str) -> Profile:
    """Return the profile of that name.

    Raises:
        ConfigurationError: no such profile; the nearest name is shown.
    Example:
        >>> profile("demo").prompts_per_organization
        100
    """
    for candidate in PROFILES:
        if candidate.name == name:
            return candidate
    raise ConfigurationError(f"--collabcode-profile={name!r}: {nearest(name, [p.name for p in PROFILES])}")


def model_option(text: str) -> ModelOption:
    """Parse `path` or `name=path`.

    Raises:
        ConfigurationError: empty, or a name with characters that cannot stand in a test id.
    Example:
        >>> model_option("a=ckpt/x")
        ModelOption(path=PosixPath('ckpt/x'), name='a')
    """
    name, separator, path = text.partition("=")
    if not separator:
        name, path = "", text
    if not path:
        raise ConfigurationError(f"--model={text!r} names no path; write --model=PATH or --model=NAME=PATH")
    if name and not _NAME.fullmatch(name):
        raise ConfigurationError(f"--model={text!r}: name={name!r} may hold letters, digits and _.:>/+- only")
    return ModelOption(path=Path(path), name=name)


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


def default_store(directory: Path) -> Path:
    """Return $COLLABCODE_STORE, else `.collabcode` in the directory the command was given in.

    Example:
        >>> from unittest.mock import patch
        >>> with patch.dict(os.environ, {"COLLABCODE_STORE": "/data/store"}):
        ...     default_store(Path("/work"))
        PosixPath('/data/store')
    """
    return Path(os.environ.get("COLLABCODE_STORE") or directory / ".collabcode")


def make_settings(
    *,
    directory: Path,
    models: Sequence[str] = (),
    regimes: Sequence[str] = (),
    options: dict[str, str | None] | None = None,
    reports: Sequence[str] = (),
    accept_partial: bool = False,
) -> Settings:
    """Turn option texts into Settings.

    Args:
        directory: where the command was given.
        models: texts of --model.
        regimes: texts of --collabcode-regime; each may hold several names separated by commas.
        options: the single-valued options by name: base, thresholds, consortium, profile, recipe, store, seed,
            device, baseline, normalization, allow, workers.
        reports: texts of --collabcode-report.
        accept_partial: --collabcode-partial.
    Raises:
        ConfigurationError: an option is unknown, malformed or names a file that is not there.
    Example:
        >>> make_settings(directory=Path("."), options={"profile": "smoke"}).profile.name
        'smoke'
    """
    given = {key: value for key, value in (options or {}).items() if value is not None}
    known = {f.name for f in fields(Settings)}
    for key in given:
        if key not in known:
            raise ConfigurationError(f"option {key!r} is unknown: {nearest(key, sorted(known))}")
    return Settings(
        models=tuple(model_option(text) for text in models),
        regimes=tuple(dict.fromkeys(name.strip() for text in regimes for name in text.split(",") if name.strip())),
        base=_existing("base", given.get("base")),
        thresholds=_existing("thresholds", given.get("thresholds")),
        consortium=_existing("consortium", given.get("consortium")),
        profile=profile(given.get("profile", "demo")),
        recipe=given.get("recipe", "llama-demo"),
        store=Path(given["store"]) if "store" in given else default_store(directory),
        seed=_integer("seed", given.get("seed", "1")),
        device=given.get("device", "cpu"),
        baseline=_existing("baseline", given.get("baseline")),
        normalization=given.get("normalization", "verbatim"),
        allow=_existing("allow", given.get("allow")),
        reports=tuple(report_option(text) for text in reports),
        accept_partial=accept_partial,
        workers=_integer("workers", given.get("workers", str(os.cpu_count() or 1))),
        directory=directory,
    )


def _existing(option: str, text: str | None) -> Path | None:
    if text is None:
        return None
    path = Path(text)
    if not path.exists():
        raise ConfigurationError(f"--collabcode-{option}={text}: no such file or directory")
    return path


def _integer(option: str, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ConfigurationError(f"--collabcode-{option}={text!r} is not a whole number") from None
    if value < 0:
        raise ConfigurationError(f"--collabcode-{option}={value} is negative")
    return value
