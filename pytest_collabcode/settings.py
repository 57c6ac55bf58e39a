"""Settings: what the options say, parsed at the border into frozen values.

Precedence: command line, then environment (COLLABCODE_STORE only), then defaults. No torch here: a bad option is
answered in milliseconds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path

from pytest_collabcode.errors import ConfigurationError, nearest
from pytest_collabcode.machine import usable_cores
from pytest_collabcode.options import (
    AdapterOption,
    ModelOption,
    ReportOption,
    adapter_option,
    model_option,
    report_option,
)

BACKENDS = ("torch", "transformers", "vllm")


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
class Settings:
    """Everything a session needs to know, and nothing it has to look up again."""

    models: tuple[ModelOption, ...]
    regimes: tuple[str, ...]
    adapters: tuple[AdapterOption, ...]
    base: Path | None
    thresholds: Path | None  # None = the demo's, shipped with the package
    consortium: Path | None  # None = the demo's
    profile: Profile
    recipe: str
    store: Path
    seed: int
    device: str
    backend: str  # one of BACKENDS
    batch_size: int | None  # rows, or requests to a server, at once; None = as many as fit
    baseline: Path | None
    normalization: str  # of lines, when clones are looked for
    allow: Path | None  # fragments the organizations agreed to ignore
    reports: tuple[ReportOption, ...]
    accept_partial: bool
    unsafe_execution: bool  # generated programs run even where nothing isolates them
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
    adapters: Sequence[str] = (),
    reports: Sequence[str] = (),
    accept_partial: bool = False,
    unsafe_execution: bool = False,
) -> Settings:
    """Turn option texts into Settings.

    Args:
        directory: where the command was given.
        models: texts of --model.
        regimes: texts of --collabcode-regime; each may hold several names separated by commas.
        options: the single-valued options by name: base, thresholds, consortium, profile, recipe, store, seed,
            device, backend, batch_size, baseline, normalization, allow, workers.
        adapters: texts of --collabcode-adapter.
        reports: texts of --collabcode-report.
        accept_partial: --collabcode-partial.
        unsafe_execution: --collabcode-unsafe-execution.
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
    device = given.get("device", "cpu")
    return Settings(
        models=tuple(model_option(text) for text in models),
        regimes=tuple(dict.fromkeys(name.strip() for text in regimes for name in text.split(",") if name.strip())),
        adapters=tuple(adapter_option(text) for text in adapters),
        base=_existing("base", given.get("base")),
        thresholds=_existing("thresholds", given.get("thresholds")),
        consortium=_existing("consortium", given.get("consortium")),
        profile=profile(given.get("profile", "demo")),
        recipe=given.get("recipe", "llama-demo"),
        store=Path(given["store"]) if "store" in given else default_store(directory),
        seed=_integer("seed", given.get("seed", "1")),
        device=device,
        backend=_backend(given.get("backend", BACKENDS[0])),
        batch_size=_integer("batch-size", given["batch_size"], at_least=1) if "batch_size" in given else None,
        baseline=_existing("baseline", given.get("baseline")),
        normalization=given.get("normalization", "verbatim"),
        allow=_existing("allow", given.get("allow")),
        reports=tuple(report_option(text) for text in reports),
        accept_partial=accept_partial,
        unsafe_execution=unsafe_execution,
        workers=_integer("workers", given.get("workers", str(usable_cores() if device == "cpu" else 1))),
        directory=directory,
    )


def _existing(option: str, text: str | None) -> Path | None:
    if text is None:
        return None
    path = Path(text)
    if not path.exists():
        raise ConfigurationError(f"--collabcode-{option}={text}: no such file or directory")
    return path


def _backend(name: str) -> str:
    if name not in BACKENDS:
        raise ConfigurationError(f"--collabcode-backend={name!r}: {nearest(name, BACKENDS)}")
    return name


def _integer(option: str, text: str, *, at_least: int = 0) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ConfigurationError(f"--collabcode-{option}={text!r} is not a whole number") from None
    if value < at_least:
        wrong = f"is less than {at_least}" if at_least else "is negative"
        raise ConfigurationError(f"--collabcode-{option}={value} {wrong}")
    return value
