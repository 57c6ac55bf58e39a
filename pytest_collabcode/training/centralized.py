"""The two regimes without collaboration: one organization alone, and all code in one place.

Not covered: equal passes are the recipe's, not the regime's: each sees an organization's code as often as any other.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_collabcode.records import Signature
from pytest_collabcode.training.history import Stage
from pytest_collabcode.training.job import Job, train_stage
from pytest_collabcode.training.names import CENTRALIZED, LOCAL, RegimeName


@dataclass(frozen=True, slots=True)
class Local:
    """One organization trains on its own code alone.

    Example:
        >>> Local("meta").name
        'local:meta'
    """

    organization: str

    @property
    def name(self) -> str:
        """local:<organization>."""
        return str(RegimeName(LOCAL, self.organizations))

    @property
    def organizations(self) -> tuple[str, ...]:
        """The one."""
        return (self.organization,)

    @property
    def before(self) -> None:
        """It starts from the base."""
        return None

    @property
    def hyperparameters(self) -> Signature:
        """None beyond the recipe's."""
        return ()

    def train(self, job: Job) -> tuple[Stage, ...]:
        """Train one schedule on the organization's documents."""
        return (train_stage(job, self.organizations, self.name),)


@dataclass(frozen=True, slots=True)
class Centralized:
    """All organizations hand over their code, which is shuffled together.

    Example:
        >>> regime = Centralized(("meta", "google"))
        >>> regime.name, regime.before
        ('centralized', None)
    """

    organizations: tuple[str, ...]

    @property
    def name(self) -> str:
        """centralized."""
        return CENTRALIZED

    @property
    def before(self) -> None:
        """It starts from the base."""
        return None

    @property
    def hyperparameters(self) -> Signature:
        """None beyond the recipe's."""
        return ()

    def train(self, job: Job) -> tuple[Stage, ...]:
        """Train one schedule on the pooled documents."""
        return (train_stage(job, self.organizations, self.name),)
