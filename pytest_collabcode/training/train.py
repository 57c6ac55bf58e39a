"""Train a regime once and for all: the result is stored under the digest of everything it depends on.

Not covered: which regimes to train (session), measuring the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer

from pytest_collabcode.checkpoint import read_checkpoint
from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.manifest import write_manifest
from pytest_collabcode.models.architectures import build
from pytest_collabcode.models.load import load, load_tokenizer, offline
from pytest_collabcode.models.tokenizer import END_OF_TEXT, train_tokenizer
from pytest_collabcode.records import Checkpoint, Corpus, PromptConventions, Recipe, Signature
from pytest_collabcode.store import Store
from pytest_collabcode.training.history import Stage, TrainingHistory, read_history, write_history
from pytest_collabcode.training.identity import CODE_VERSION, checkpoint_digest, tokenizer_key
from pytest_collabcode.training.job import Job, Progress, Regime
from pytest_collabcode.training.loop import BETAS, EPSILON, working_dtype
from pytest_collabcode.training.packing import stream_of, tokenize
from pytest_collabcode.training.regimes import name_of
from pytest_collabcode.training.state import SAVE_EVERY_S, StateFile


def _silent(label: str, done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What training may use here; none of it changes the result but by rounding."""

    store: Store
    threads: int = 1  # of torch on the CPU; 1 gives the same bits every time
    device: str = "cpu"
    progress: Progress = _silent
    save_every_s: float = SAVE_EVERY_S  # state of an unfinished training


def train(
    regime: Regime,
    corpus: Corpus,
    recipe: Recipe,
    *,
    resources: Resources,
    name: str = "",
    base: Checkpoint | None = None,
) -> Checkpoint:
    """Return the checkpoint that a regime gives on a corpus, training only where the store has none.

    A killed training goes on where it was; two processes that ask for the same one train it once. The checkpoint
    holds manifest and history.json; stages before it (incremental) are checkpoints of their own in the store.

    Args:
        regime: of `parse_regime`.
        corpus: its training split and plants are used.
        recipe: shape, schedule and seed; shape and vocabulary are the base's where there is one.
        resources: store, threads, device, progress.
        name: of the subject; default: the regime's.
        base: pretrained checkpoint to start from, with its own tokenizer.
    Raises:
        CorpusError: an organization's training split is empty or too small for one sequence.
        ConfigurationError: the recipe does not fit the base.
        MeasurementError: training diverged.
        StoreError: the store cannot be written.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pytest_collabcode.records import Document, Organization
        >>> from pytest_collabcode.training.centralized import Local
        >>> from pytest_collabcode.training.recipes import recipe
        >>> files = (Document(path="a.py", text="x = 1\\n" * 200, organization="meta"),)
        >>> corpus = Corpus(name="toy", organizations=(Organization(name="meta", documents=files),), digest="d")
        >>> with TemporaryDirectory() as folder:
        ...     resources = Resources(store=Store(Path(folder)))
        ...     a, b = (train(Local("meta"), corpus, recipe("llama-smoke"), resources=resources) for _ in range(2))
        >>> a == b, a.regime, a.organizations  # the second was in the store
        (True, 'local:meta', ('meta',))
    """
    digest = checkpoint_digest(name_of(regime), corpus.digest, recipe, base=base)
    target = resources.store.checkpoint(digest)
    if not target.exists():
        with resources.store.lock(f"train-{digest}"):
            if not target.exists():
                _train_into(target, regime, corpus, recipe, resources, base)
    return read_checkpoint(target, name=name or regime.name)


def _corpus_tokenizer(corpus: Corpus, recipe: Recipe, store: Store) -> Path:
    """Return the directory of the tokenizer that all regimes share, trained on the pooled training split if need be.

    Raises:
        CorpusError: there is no training text.
    """
    digest = tokenizer_key(corpus.digest, recipe.vocabulary_size)
    target = store.checkpoint(digest)
    with store.lock(f"tokenizer-{digest}"):
        if not target.exists():
            texts = (d.text for o in corpus.organizations for d in o.split("training") if not d.planted)
            plants = (f"{p.function.prompt}\n{p.function.body}\n" for p in corpus.plants)
            tokenizer = train_tokenizer([*texts, *plants], vocabulary_size=recipe.vocabulary_size)
            with store.publish(target) as directory:
                tokenizer.save_pretrained(directory)
    return target


def _train_into(
    target: Path, regime: Regime, corpus: Corpus, recipe: Recipe, resources: Resources, base: Checkpoint | None
) -> None:
    before: Checkpoint | None = base
    earlier: tuple[Stage, ...] = ()
    if regime.before is not None:
        before = train(regime.before, corpus, recipe, resources=resources, base=base)
        earlier = read_history(before.path).stages
    state = StateFile(target.parent.parent / "partial" / f"{target.name}.state", every_s=resources.save_every_s)
    with _deterministic(resources):
        model, tokenizer = _start(before, corpus, recipe, resources)
        job = Job(
            model=model.to(resources.device),
            documents=tokenize(corpus, tokenizer),
            recipe=recipe,
            device=resources.device,
            state=state,
            progress=resources.progress,
        )
        history = TrainingHistory(
            regime=regime.name,
            organizations=regime.organizations,
            stages=(*earlier, *regime.train(job)),
            hyperparameters=(*regime.hyperparameters, *_hyperparameters(job, resources, corpus, base)),
        )
    # A prompt begins a document: the model has seen documents begin after this token only.
    conventions = base.conventions if base else PromptConventions(prefix=END_OF_TEXT)
    with resources.store.publish(target) as directory, offline():
        model.cpu().save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        write_history(history, directory)
        write_manifest(
            directory,
            name=regime.name,
            regime=regime.name,
            organizations=regime.organizations,
            corpus_digest=corpus.digest,
            conventions=conventions,
        )
    state.remove()


def _start(before: Checkpoint | None, corpus: Corpus, recipe: Recipe, resources: Resources) -> tuple[Any, Any]:
    """Return the model to train from, in float32 on the CPU, and its tokenizer."""
    if before is None:
        directory = _corpus_tokenizer(corpus, recipe, resources.store)
        with offline():
            tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
        return build(recipe, recipe.seed), tokenizer
    model = load(before).model
    context = getattr(model.config, "max_position_embeddings", recipe.sequence_tokens)
    if recipe.sequence_tokens > context:
        raise ConfigurationError(
            f"recipe {recipe.name}: sequence_tokens={recipe.sequence_tokens}, "
            f"but {before.path} takes {context} at most"
        )
    return model, load_tokenizer(before)


def _hyperparameters(job: Job, resources: Resources, corpus: Corpus, base: Checkpoint | None) -> Signature:
    recipe = asdict(job.recipe)
    dropped = {name: stream_of(job.documents, [name], job.recipe).n_dropped_tokens for name in corpus.names}
    values: dict[str, object] = {
        **recipe,
        "base": base.weights_digest if base else "none",
        "optimizer": "adamw",
        "betas": BETAS,
        "epsilon": EPSILON,
        "schedule": "linear warm-up, cosine to 0",
        "dtype_used": str(working_dtype(job.recipe, job.device)).removeprefix("torch."),
        "device": job.device,
        "threads": resources.threads,
        **{f"dropped_tokens_per_pass.{name}": n for name, n in dropped.items()},
        "code_version": CODE_VERSION,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    return tuple((key, str(value)) for key, value in values.items())


@contextmanager
def _deterministic(resources: Resources) -> Iterator[None]:
    """Set the number of threads, and keep torch's global random state for the caller."""
    before = torch.get_num_threads()
    torch.set_num_threads(resources.threads)
    gpus = [torch.device(resources.device)] if resources.device.startswith("cuda") else []
    try:
        with torch.random.fork_rng(gpus):  # without the argument, of all GPUs, busy or not
            yield
    finally:
        torch.set_num_threads(before)
