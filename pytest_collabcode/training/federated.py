"""The federated regimes: Flower's strategies over one ClientApp per organization, in this process.

A round is a strategy's configure_train, the organizations' turns, and its aggregate_train, as in Flower's
`Strategy.start`, one by one so that a killed run goes on after its last round. Every organization takes part in every
round; its schedule runs over all rounds, its optimizer lives on between them. Not covered: drop-outs, privacy
mechanisms, compression.
Source: McMahan et al. 2017, arXiv 1602.05629; Reddi et al. 2021, arXiv 2003.00295; `flwr.serverapp.strategy`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.records import Signature
from pytest_collabcode.training.client import (
    ORGANIZATION,
    ROUNDS,
    WEIGHT,
    client_app,
    load_weights,
    new_context,
    record_of,
    tensors_of,
    weights_record,
)
from pytest_collabcode.training.flower import (
    FLOWER_VERSION,
    ArrayRecord,
    ConfigRecord,
    MetricRecord,
    flower_strategies,
)
from pytest_collabcode.training.grid import SERVER_ID, LocalGrid, flower_session
from pytest_collabcode.training.history import Stage
from pytest_collabcode.training.job import Job
from pytest_collabcode.training.loop import MOMENTS, Trainer
from pytest_collabcode.training.names import FEDERATED, RegimeName
from pytest_collabcode.training.strategies import STRATEGIES


@dataclass(frozen=True, slots=True)
class Federated:
    """All organizations train the same model at once; only weights leave their hands.

    Example:
        >>> Federated(("meta", "google"), "fedyogi").name
        'fedyogi'
    """

    organizations: tuple[str, ...]
    strategy: str = "fedavg"  # a key of STRATEGIES

    @property
    def name(self) -> str:
        """The strategy's."""
        return str(RegimeName(FEDERATED, self.organizations, self.strategy))

    @property
    def before(self) -> None:
        """It starts from the base."""
        return None

    @property
    def hyperparameters(self) -> Signature:
        """Flower's class and version, and every setting it runs with, defaults included."""
        strategy = build_strategy(self.strategy, len(self.organizations))
        settings = {k: v for k, v in vars(strategy).items() if isinstance(v, bool | int | float | str)}
        return (
            ("strategy", type(strategy).__name__),
            ("flwr", FLOWER_VERSION),
            *((f"strategy.{key}", str(value)) for key, value in sorted(settings.items())),
        )

    def train(self, job: Job) -> tuple[Stage, ...]:
        """Run all rounds and leave the last global weights in the job's model."""
        with flower_session(), _seeded(job.recipe.seed):
            federation = _Federation(self, job)
            saved = job.state.load()
            if saved is not None:
                federation.restore(saved)
            while federation.round < federation.n_rounds:
                federation.next_round()
                if job.state.due:
                    job.state.save(federation.state())
            load_weights(job.model, federation.arrays)
        return tuple(federation.stages)


def build_strategy(name: str, n_organizations: int) -> Any:
    """Return the Flower strategy of that name, waiting for and taking all organizations in every round.

    Args:
        name: a key of STRATEGIES.
        n_organizations: 1 or more; Flower's own minimum of 2 would wait for ever with one.
    Example:
        >>> strategy = build_strategy("fedyogi", 3)
        >>> type(strategy).__name__, strategy.min_available_nodes
        ('FedYogi', 3)
    """
    flower_class, settings = STRATEGIES[name]
    return getattr(flower_strategies, flower_class)(
        fraction_train=1.0,
        min_train_nodes=n_organizations,
        min_evaluate_nodes=n_organizations,
        min_available_nodes=n_organizations,
        weighted_by_key=WEIGHT,
        **dict(settings),
    )


@dataclass(slots=True)
class _Federation:
    """The server's side of a federation between two rounds."""

    regime: Federated
    job: Job
    round: int = 0
    n_rounds: int = field(init=False)
    arrays: Any = field(init=False)
    strategy: Any = field(init=False)
    contexts: dict[int, Any] = field(init=False)
    stages: list[Stage] = field(default_factory=list)
    _grid: LocalGrid = field(init=False)
    _n_steps: int = field(init=False)

    def __post_init__(self) -> None:
        names, job = self.regime.organizations, self.job
        streams = {name: job.stream([name]) for name in names}
        steps = [stream.n_steps for stream in streams.values()]
        # A round without a step for someone would have weight 0.
        self.n_rounds = max(1, min(job.recipe.rounds, *steps))
        self._n_steps = sum(steps)
        self.arrays = weights_record(job.model)
        self.strategy = build_strategy(self.regime.strategy, len(names))
        self.contexts = {SERVER_ID + i: new_context(SERVER_ID + i, name) for i, name in enumerate(names, start=1)}
        app = client_app(lambda name: Trainer(job.model, streams[name], device=job.device), after_reading=self._tell)
        self._grid = LocalGrid(app, self.contexts)

    def next_round(self) -> None:
        """Let every organization train its part, then aggregate."""
        number = self.round + 1
        config = ConfigRecord({ROUNDS: self.n_rounds})
        replies = self._grid.send_and_receive(self.strategy.configure_train(number, self.arrays, config, self._grid))
        arrays, _ = self.strategy.aggregate_train(number, replies)
        if arrays is None or not all(np.isfinite(a.numpy()).all() for a in arrays.values()):
            raise MeasurementError(
                f"federated round {number}: {self.regime.name} gave no finite weights; lower its server's rate"
            )
        self.arrays, self.round = arrays, number
        self.stages += [self._stage(reply) for reply in replies]

    def state(self) -> dict[str, Any]:
        """Return all that a later process needs, as tensors and plain values."""
        return {
            "round": self.round,
            "arrays": tensors_of(self.arrays),
            "strategy": {k: _frozen(v) for k, v in vars(self.strategy).items() if _holds_arrays(v)},
            "contexts": {
                node: {
                    "step": int(context.state["progress"]["step"]),
                    "moments": {m: tensors_of(context.state[m]) for m in MOMENTS},
                }
                for node, context in self.contexts.items()
            },
            "stages": [
                [s.name, list(s.organizations), s.n_steps, s.n_tokens, [list(p) for p in s.losses], s.duration_s]
                for s in self.stages
            ],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a saved state."""
        self.round = state["round"]
        self.arrays = record_of(state["arrays"])
        for key, value in state["strategy"].items():
            setattr(self.strategy, key, _thawed(value))
        for node, saved in state["contexts"].items():
            self.contexts[node].state["progress"] = MetricRecord({"step": saved["step"]})
            for moment, tensors in saved["moments"].items():
                self.contexts[node].state[moment] = record_of(tensors)
        self.stages = [
            Stage(
                name=name,
                organizations=tuple(organizations),
                n_steps=n_steps,
                n_tokens=n_tokens,
                losses=tuple((int(step), float(loss)) for step, loss in losses),
                duration_s=duration_s,
            )
            for name, organizations, n_steps, n_tokens, losses, duration_s in state["stages"]
        ]

    def _stage(self, reply: Any) -> Stage:
        metrics = next(iter(reply.content.metric_records.values()))
        context = self.contexts[reply.metadata.src_node_id]
        return Stage(
            name=f"round {self.round}",
            organizations=(str(context.node_config[ORGANIZATION]),),
            n_steps=int(metrics["n-steps"]),
            n_tokens=int(metrics[WEIGHT]),
            losses=((int(context.state["progress"]["step"]), float(metrics["loss"])),),
            duration_s=float(metrics["duration-s"]),
        )

    def _tell(self, trainer: Trainer) -> None:
        name = trainer.stream.names[0]
        others = [c.state for c in self.contexts.values() if c.node_config[ORGANIZATION] != name]
        done = trainer.step + sum(int(s["progress"]["step"]) for s in others if "progress" in s)
        label = f"{self.regime.name} round {self.round + 1}/{self.n_rounds} {name}"
        self.job.progress(label, done, self._n_steps)


def _holds_arrays(value: Any) -> bool:
    items = list(
        value.values() if isinstance(value, dict | ArrayRecord) else value if isinstance(value, list) else ()
    )
    return bool(items) and all(isinstance(i, np.ndarray) or isinstance(value, ArrayRecord) for i in items)


def _frozen(value: Any) -> dict[str, Any]:
    """Return a strategy's arrays (momentum, second moments, last weights) as tensors, with the form they came in."""
    if isinstance(value, ArrayRecord):
        return {"form": "record", "tensors": tensors_of(value)}
    if isinstance(value, dict):
        return {"form": "dict", "tensors": {k: torch.from_numpy(np.array(v)) for k, v in value.items()}}
    return {"form": "list", "tensors": [torch.from_numpy(np.array(v)) for v in value]}


def _thawed(saved: dict[str, Any]) -> Any:
    if saved["form"] == "record":
        return record_of(saved["tensors"])
    if saved["form"] == "dict":
        return {k: v.numpy() for k, v in saved["tensors"].items()}
    return [v.numpy() for v in saved["tensors"]]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global random state, from which Flower samples nodes, and put it back."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
