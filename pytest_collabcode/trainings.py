"""Trainings: the regimes of a session, each trained once, and the models that serve as controls.

Not covered: how a regime trains (training/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from pytest_collabcode.checkpoint import read_checkpoint
from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.records import Checkpoint, Recipe
from pytest_collabcode.training.centralized import Local
from pytest_collabcode.training.history import read_history
from pytest_collabcode.training.identity import checkpoint_digest
from pytest_collabcode.training.incremental import Incremental
from pytest_collabcode.training.job import Regime
from pytest_collabcode.training.names import INCREMENTAL, parse_name
from pytest_collabcode.training.recipes import recipe
from pytest_collabcode.training.train import Resources, train
from pytest_collabcode.workbench import NotStoredError, Workbench


class Trainings:
    """Checkpoints of regimes on the session's corpus, by its recipe and seed.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from pytest_collabcode.settings import make_settings
        >>> from pytest_collabcode.workbench import open_workbench
        >>> with TemporaryDirectory() as folder:
        ...     options = {"store": folder, "recipe": "llama-smoke", "seed": "7"}
        ...     trainings = Trainings(open_workbench(make_settings(directory=Path(folder), options=options)))
        >>> trainings.recipe.name, trainings.recipe.seed, trainings.base
        ('llama-smoke', 7, None)
    """

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._settings = bench.settings
        self._checkpoints: dict[str, Checkpoint] = {}

    def trained(self, regime: Regime) -> Checkpoint:
        """Return the checkpoint of a regime, trained now if the store does not hold it."""
        if regime.name not in self._checkpoints:
            if self._bench.only_stored and not self._bench.store.checkpoint(self._digest(regime)).exists():
                raise NotStoredError(regime.name)
            self._checkpoints[regime.name] = train(
                regime,
                self._bench.material.corpus,
                self.recipe,
                resources=Resources(
                    store=self._bench.store,
                    device=self._settings.device,
                    progress=lambda text, done, total: self._bench.report(done, total, f"training {text}"),
                ),
                name=f"{self._bench.material.corpus.name}/{regime.name}",
                base=self.base,
            )
        return self._checkpoints[regime.name]

    @property
    def known(self) -> dict[str, str]:
        """Where the checkpoints trained or read in this session lie, by regime, controls among them."""
        return {regime: str(checkpoint.path) for regime, checkpoint in self._checkpoints.items()}

    def learn_of(self, known: Mapping[str, str]) -> None:
        """Take over what another process of this session knows.

        Raises:
            CheckpointError: a checkpoint is gone.
        """
        for regime, path in known.items():
            if regime not in self._checkpoints:
                name = f"{self._bench.material.corpus.name}/{regime}"
                self._checkpoints[regime] = read_checkpoint(Path(path), name=name)

    def hyperparameters(self) -> tuple[tuple[str, str], ...]:
        """Return every hyperparameter of every regime trained or read in this session, for the report."""
        return tuple(
            (f"{checkpoint.name} {key}", value)
            for _, checkpoint in sorted(self._checkpoints.items())
            for key, value in read_history(checkpoint.path).hyperparameters
        )

    def _digest(self, regime: Regime) -> str:
        name = parse_name(regime.name, regime.organizations)
        return checkpoint_digest(name, self._bench.material.corpus.digest, self.recipe, base=self.base)

    @cached_property
    def recipe(self) -> Recipe:
        """The session's recipe, with its seed."""
        return replace(recipe(self._settings.recipe), seed=self._settings.seed)

    @cached_property
    def base(self) -> Checkpoint | None:
        """The pretrained checkpoint that regimes start from, or None."""
        return read_checkpoint(self._settings.base) if self._settings.base else None

    def control(self, organization: str) -> Checkpoint:
        """Return a model of the same recipe that was trained without an organization.

        A stage of an incremental regime under test serves when there is one, the most trained first; otherwise
        another organization's local model is trained.
        """
        names = self._bench.material.corpus.names
        regimes = [s.regime for s in self._bench.subjects.values() if s.regime]
        orders = [n.organizations for n in (parse_name(r, names) for r in regimes) if n.kind == INCREMENTAL]
        stages = [order[:n] for order in orders for n in range(1, len(order)) if organization not in order[:n]]
        if stages:
            order = max(stages, key=len)
            return self.trained(Incremental(order) if len(order) > 1 else Local(order[0]))
        others = [name for name in names if name != organization]
        if not others:
            raise MeasurementError(f"organization={organization!r} is alone: no model is trained without its code")
        return self.trained(Local(others[0]))
