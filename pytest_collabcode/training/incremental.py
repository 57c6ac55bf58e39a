"""The incremental regime: the model goes from organization to organization and is trained on by each.

Every stage has a warm-up, schedule and optimizer of its own and starts from the stage before, whose model is a
checkpoint in its own right: "trained without the organizations that come later". The first stage is Local.
Source: arXiv 2409.12020, incremental training.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_collabcode.records import Signature
from pytest_collabcode.training.centralized import Local
from pytest_collabcode.training.history import Stage
from pytest_collabcode.training.job import Job, Regime, train_stage
from pytest_collabcode.training.names import INCREMENTAL, RegimeName


@dataclass(frozen=True, slots=True)
class Incremental:
    """The last organization of the order trains what those before it made.

    Example:
        >>> Incremental(("meta", "microsoft", "google")).before
        Incremental(order=('meta', 'microsoft'))
        >>> Incremental(("meta", "microsoft")).before
        Local(organization='meta')
    """

    order: tuple[str, ...]  # two or more

    @property
    def name(self) -> str:
        """incremental:<first>><second>..."""
        return str(RegimeName(INCREMENTAL, self.order))

    @property
    def organizations(self) -> tuple[str, ...]:
        """In order of training."""
        return self.order

    @property
    def before(self) -> Regime:
        """The same order without its last organization."""
        return Incremental(self.order[:-1]) if len(self.order) > 2 else Local(self.order[0])

    @property
    def hyperparameters(self) -> Signature:
        """The number of schedules."""
        return (("stages", str(len(self.order))),)

    def train(self, job: Job) -> tuple[Stage, ...]:
        """Train the last stage's schedule on the model of the stage before."""
        return (train_stage(job, self.order[-1:], f"stage {len(self.order)}: {self.order[-1]}"),)
