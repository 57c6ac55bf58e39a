"""What happened while a checkpoint was trained: a frozen record, kept as history.json beside the weights.

Not covered: measurements of the result.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pytest_collabcode.records import Signature

HISTORY = "history.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One uninterrupted stretch of one schedule: a regime's stage, or one organization's turn in a round."""

    name: str  # "centralized", "local:meta", "stage 2", "round 3"
    organizations: tuple[str, ...]  # whose code
    n_steps: int
    n_tokens: int  # that went through the model, repeats included
    losses: tuple[tuple[int, float], ...]  # (step, mean loss in nats per token since the point before)
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingHistory:
    """All stages of a regime, and every hyperparameter.

    Example:
        >>> rest = {"organizations": ("meta",), "n_tokens": 80, "losses": ((5, 3.5),), "duration_s": 0.5}
        >>> stages = tuple(Stage(name=f"round {i}", n_steps=5, **rest) for i in (1, 2))
        >>> history = TrainingHistory(regime="fedavg", organizations=("meta",), stages=stages, hyperparameters=())
        >>> history.n_steps, history.n_tokens, history.duration_s
        (10, 160, 1.0)
    """

    regime: str
    organizations: tuple[str, ...]  # in order of training
    stages: tuple[Stage, ...]
    hyperparameters: Signature

    @property
    def n_steps(self) -> int:
        """Optimizer steps over all stages."""
        return sum(stage.n_steps for stage in self.stages)

    @property
    def n_tokens(self) -> int:
        """Tokens trained on over all stages, repeats included."""
        return sum(stage.n_tokens for stage in self.stages)

    @property
    def duration_s(self) -> float:
        """Wall-clock seconds of training over all stages, those before an interruption included."""
        return sum(stage.duration_s for stage in self.stages)


def write_history(history: TrainingHistory, directory: Path) -> None:
    """Write history.json into a checkpoint directory that is being made.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> history = TrainingHistory(regime="local:meta", organizations=("meta",), stages=(), hyperparameters=())
        >>> with TemporaryDirectory() as folder:
        ...     write_history(history, Path(folder))
        ...     [path.name for path in Path(folder).iterdir()]
        ['history.json']
    """
    (directory / HISTORY).write_text(json.dumps(asdict(history), indent=1), encoding="utf-8")


def read_history(directory: Path) -> TrainingHistory:
    """Return the history of a checkpoint trained here.

    Raises:
        FileNotFoundError: the checkpoint was trained elsewhere.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> history = TrainingHistory(
        ...     regime="local:meta", organizations=("meta",), stages=(), hyperparameters=(("seed", "1"),)
        ... )
        >>> with TemporaryDirectory() as folder:
        ...     write_history(history, Path(folder))
        ...     read_history(Path(folder)) == history
        True
    """
    values = json.loads((directory / HISTORY).read_text(encoding="utf-8"))
    stages = tuple(
        Stage(
            **{
                **stage,
                "organizations": tuple(stage["organizations"]),
                "losses": tuple((int(step), float(loss)) for step, loss in stage["losses"]),
            }
        )
        for stage in values["stages"]
    )
    return TrainingHistory(
        regime=values["regime"],
        organizations=tuple(values["organizations"]),
        stages=stages,
        hyperparameters=tuple((key, text) for key, text in values["hyperparameters"]),
    )
