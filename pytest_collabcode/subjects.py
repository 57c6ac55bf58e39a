"""Subjects: the models under test, named and read before anything is measured.

Not covered: training them, loading them.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_collabcode.adapters import adapter_of, with_adapter
from pytest_collabcode.backends.discovery import discover
from pytest_collabcode.checkpoint import read_checkpoint
from pytest_collabcode.errors import CheckpointError, ConfigurationError, nearest
from pytest_collabcode.options import ModelOption
from pytest_collabcode.records import Checkpoint
from pytest_collabcode.settings import Settings
from pytest_collabcode.training.names import CENTRALIZED, parse_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model under test: a checkpoint that was given, or a regime to train."""

    name: str
    kinds: tuple[str, ...]  # "checkpoint", "regime" (origin known), "trained" (here), "compared" (with centralized)
    checkpoint: Checkpoint | None = None
    regime: str = ""


def find_subjects(settings: Settings, consortium: str, organizations: tuple[str, ...]) -> dict[str, Subject]:
    """Return every model under test by name; checkpoints are read, in milliseconds and without torch, servers asked.

    Args:
        settings: models and regimes asked for.
        consortium: name that the subjects trained on it carry before theirs.
        organizations: of the consortium.
    Raises:
        CheckpointError: a checkpoint, server or adapter cannot be used, or two subjects have one name.
        ConfigurationError: a regime is unknown, or the subject that an adapter names.
    Example:
        >>> from pathlib import Path
        >>> from pytest_collabcode.settings import make_settings
        >>> settings = make_settings(directory=Path(), regimes=["fedavg,local:acme"])
        >>> list(find_subjects(settings, "ours", ("acme", "zeta")))
        ['ours/fedavg', 'ours/local:acme']
    """
    subjects: dict[str, Subject] = {}
    for option in settings.models:
        checkpoint = _adapted(_described(option), option, settings)
        kinds = ("checkpoint", "regime") if checkpoint.regime else ("checkpoint",)
        _add(subjects, Subject(name=checkpoint.name, kinds=kinds, checkpoint=checkpoint))
    _refuse_idle_adapters(settings, [s.checkpoint for s in subjects.values() if s.checkpoint])
    regimes = [str(parse_name(text, organizations)) for text in settings.regimes]
    compared = ("compared",) if CENTRALIZED in regimes else ()
    for regime in dict.fromkeys(regimes):
        _add(subjects, Subject(name=f"{consortium}/{regime}", kinds=("regime", "trained", *compared), regime=regime))
    return subjects


def _described(option: ModelOption) -> Checkpoint:
    try:
        if option.url:
            return discover(option.url, name=option.name)
        return read_checkpoint(option.path, name=option.name)
    except CheckpointError as error:
        raise CheckpointError(f"--model={error}") from None


def _adapted(checkpoint: Checkpoint, option: ModelOption, settings: Settings) -> Checkpoint:
    path = adapter_of(settings.adapters, checkpoint.name)
    if path is None:
        return checkpoint
    if checkpoint.url:
        raise CheckpointError(
            f"--collabcode-adapter={path}: {checkpoint.name} is behind a server, which loads its adapters itself; "
            "name the checkpoint that is meant: --collabcode-adapter=NAME=PATH"
        )
    named = any(a.subject == checkpoint.name for a in settings.adapters) or bool(option.name)
    try:
        return with_adapter(checkpoint, path, named=named)
    except CheckpointError as error:
        raise CheckpointError(f"--collabcode-adapter={error}") from None


def _refuse_idle_adapters(settings: Settings, checkpoints: list[Checkpoint]) -> None:
    """Refuse an adapter that nothing is judged with: a typing error would judge the base model."""
    names = [checkpoint.name for checkpoint in checkpoints]
    for option in settings.adapters:
        if option.subject and names and option.subject not in names:
            raise ConfigurationError(
                f"--collabcode-adapter={option.subject}={option.path}: no --model is called {option.subject!r}; "
                f"{nearest(option.subject, names)}"
            )
        if not any(checkpoint.adapter == option.path.resolve() for checkpoint in checkpoints):
            raise ConfigurationError(
                f"--collabcode-adapter={option.path} has no effect; give its base with --model=PATH"
            )


def _add(subjects: dict[str, Subject], subject: Subject) -> None:
    if subject.name in subjects:
        raise CheckpointError(f"two subjects are called {subject.name!r}; name one yourself with --model=NAME=PATH")
    if any(c in "[]*?" or c.isspace() for c in subject.name):
        raise CheckpointError(f"subject {subject.name!r} cannot stand in a test id; name it with --model=NAME=PATH")
    subjects[subject.name] = subject
