"""`collabcode canary plant | check`: secrets into a folder of code before training, their exposure after it.

For organizations that give code away to be trained on elsewhere: it needs no consortium file, no store and no other
organization. Canaries of a consortium of one's own are declared in its file and measured by the suites.
Not covered: verdicts; a threshold on "canary_exposure" needs a consortium.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Iterator
from pathlib import Path

import torch

from pytest_collabcode.backends.discovery import discover
from pytest_collabcode.backends.endpoint import EndpointBackend
from pytest_collabcode.checkpoint import read_checkpoint
from pytest_collabcode.corpus.canaries import CanaryDeclaration, make_canaries
from pytest_collabcode.corpus.ledger import plant_files, read_ledger
from pytest_collabcode.errors import CheckpointError, ConfigurationError
from pytest_collabcode.generation.engine import TorchBackend
from pytest_collabcode.intervals import interval_of
from pytest_collabcode.memorization.canaries import MAX_TOKENS, canary_exposure, chance_bits, exposure, scored_texts
from pytest_collabcode.models.load import check_weights, load
from pytest_collabcode.options import model_option
from pytest_collabcode.records import Backend


def plant(
    corpus: Path, organization: str, ledger: Path, *, number: int, copies: str, seed: int | None = None
) -> Iterator[str]:
    """Plant canaries into a folder of code and write their ledger.

    Args:
        corpus: the folder.
        organization: that owns it.
        ledger: file to write, outside the corpus.
        number: of canaries.
        copies: how often each is repeated, one number or several in turn: "1,4,16".
        seed: of the secrets; None draws one that nobody knows.
    Yields:
        Lines for the user, without any secret.
    Raises:
        ConfigurationError: see `plant_files`; or a number is not one.
    Example:
        >>> list(plant(Path("/nowhere"), "acme", Path("ledger.json"), number=5, copies="ten"))
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: --copies='ten' is not a whole number, or several with commas
    """
    declared = CanaryDeclaration(
        number=number, copies=_numbers(copies), seed=secrets.randbits(63) if seed is None else seed
    ).check("--")
    canaries = make_canaries(organization, declared)
    folder = plant_files(canaries, corpus=corpus, ledger=ledger)
    n_files = sum(canary.copies for canary in canaries)
    quoted = shlex.quote(str(ledger))
    yield f"{folder}: {n_files} files hold {number} canaries of {organization}, copies {copies}"
    yield f"{ledger}: their secrets, for you alone; keep it, and keep it apart from the corpus"
    yield f"after training: collabcode canary check --model=CHECKPOINT --ledger={quoted}"
    yield f"to remove them: rm -r {shlex.quote(str(folder))} {quoted}"


def check(model: str, ledger: Path, *, device: str, candidates: int) -> Iterator[str]:
    """Measure how far a checkpoint exposes the canaries of a ledger; nothing is stored.

    Args:
        model: text of --model, [NAME=]PATH.
        ledger: as `plant` wrote it.
        device: a torch device.
        candidates: that each canary is ranked among.
    Yields:
        A line for each canary as it is done, then the mean with its interval; never a secret.
    Raises:
        ConfigurationError: checkpoint, ledger or device cannot be used.
        MeasurementError: the model cannot score a canary.
    Example:
        >>> list(check("/nowhere", Path("/dev/null"), device="cpu", candidates=511))
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: --ledger=/dev/null: is not a ledger of canaries; \
make one with: collabcode canary plant
    """
    if candidates < 1:
        raise ConfigurationError(f"--candidates={candidates} must be at least 1")
    canaries = read_ledger(ledger)
    backend = _load(model, device)
    found = []
    for canary in canaries:
        texts = scored_texts(canary, candidates)
        found.append(exposure(canary, backend.log_likelihood(texts, max_tokens=MAX_TOKENS)))
        yield f"{canary.organization}: {found[-1]}"
    for measured in canary_exposure(found, subject=backend.checkpoint.name):
        if measured.prompt_organization or measured.stratum:
            low, high = interval_of(measured)
            yield (
                f"{measured.cell}: {measured.value:.2f} bits [{low:.2f}, {high:.2f}], "
                f"mean of {len(measured.items)} under {backend.checkpoint.name}"
            )
    yield (
        f"exposure = log2({candidates + 1} / rank), by likelihood among {candidates} secrets drawn alike; "
        f"a model that never saw them: {chance_bits(candidates):.1f} bits on average, k or more in one of 2^k cases"
    )


def _load(model: str, device: str) -> Backend:
    option = model_option(model)
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise ConfigurationError(f"--device={device!r} cannot be used here: {reason}") from None
    try:
        if option.url:
            return EndpointBackend(discover(option.url, name=option.name))
        checkpoint = read_checkpoint(option.path, name=option.name)
        check_weights(checkpoint)
        return TorchBackend(load(checkpoint, device=device))
    except CheckpointError as error:
        raise CheckpointError(f"--model={error}") from None


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigurationError(f"--copies={text!r} is not a whole number, or several with commas") from None
