"""What a regime is handed to train with: model, data, recipe, where to keep state, whom to tell.

Not covered: choosing any of these (train.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pytest_collabcode.records import Recipe, Signature
from pytest_collabcode.training.history import Stage
from pytest_collabcode.training.loop import Trainer
from pytest_collabcode.training.packing import Stream, TokenizedDocuments, stream_of
from pytest_collabcode.training.state import StateFile

Progress = Callable[[str, int, int], None]
"""Called with (what is trained, steps done, steps in all), every few steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training, ready to start or to go on.

    Example:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from pytest_collabcode.training.recipes import recipe
        >>> files = (("meta", 1024), ("google", 2048))  # one of so many tokens each
        >>> documents = {
        ...     name: TokenizedDocuments(organization=name, tokens=(np.zeros(n, np.int32),), copies=(1,))
        ...     for name, n in files
        ... }
        >>> rest = {"model": None, "device": "cpu", "state": StateFile(Path("x.state")), "progress": lambda *_: None}
        >>> job = Job(documents=documents, recipe=recipe("llama-smoke"), **rest)
        >>> job.stream(["meta"]).n_sequences, job.stream(["meta", "google"]).n_sequences
        (8, 24)
    """

    model: Any  # on the device, in float32; trained in place
    documents: Mapping[str, TokenizedDocuments]  # of every organization of the corpus
    recipe: Recipe
    device: str
    state: StateFile
    progress: Progress

    def stream(self, names: Sequence[str]) -> Stream:
        """Return the stream over these organizations' documents, pooled.

        Raises:
            CorpusError: they do not fill one sequence.
        """
        return stream_of(self.documents, names, self.recipe)


class Regime(Protocol):
    """A way in which organizations train one model; a frozen dataclass."""

    @property
    def name(self) -> str:
        """As in `names.parse_name`."""
        ...

    @property
    def organizations(self) -> tuple[str, ...]:
        """Whose code the result was trained on, in order."""
        ...

    @property
    def before(self) -> Regime | None:
        """The regime whose result this one starts from, None where it starts from the base."""
        ...

    @property
    def hyperparameters(self) -> Signature:
        """What it adds to the recipe."""
        ...

    def train(self, job: Job) -> tuple[Stage, ...]:
        """Train the job's model in place and return what was done."""
        ...


def train_stage(job: Job, names: Sequence[str], label: str) -> Stage:
    """Train one whole schedule on the pooled documents of some organizations, going on where a killed run was.

    Returns:
        The record of the stage, named label.
    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.training.recipes import recipe
        >>> tiny, tokens = recipe("llama-smoke"), (np.zeros(1024, np.int32),)
        >>> meta = TokenizedDocuments(organization="meta", tokens=tokens, copies=(1,))
        >>> rest = {"device": "cpu", "progress": lambda label, done, total: None}
        >>> with TemporaryDirectory() as folder:
        ...     state = StateFile(Path(folder, "a.state"))
        ...     job = Job(model=build(tiny, 1), documents={"meta": meta}, recipe=tiny, state=state, **rest)
        ...     stage = train_stage(job, ["meta"], "local:meta")
        >>> stage.name, stage.n_steps, stage.n_tokens  # two passes over 1024 tokens
        ('local:meta', 4, 2048)
    """
    trainer = Trainer(job.model, job.stream(names), device=job.device)
    saved = job.state.load()
    if saved is not None:
        trainer.restore(saved)

    def after_reading() -> None:
        job.progress(label, trainer.step, trainer.stream.n_steps)
        if job.state.due:
            job.state.save(trainer.state())

    trainer.run(trainer.stream.n_steps, after_reading=after_reading)
    return trainer.stage(label)
