"""Trained once, found again, resumed after kill -9, the same every time."""

import pickle
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
import torch

from pytest_collabcode.checkpoint import read_checkpoint
from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.models.load import check_weights, load
from pytest_collabcode.records import Corpus, PromptConventions, Recipe
from pytest_collabcode.training.centralized import Centralized, Local
from pytest_collabcode.training.history import read_history
from pytest_collabcode.training.identity import checkpoint_digest
from pytest_collabcode.training.incremental import Incremental
from pytest_collabcode.training.regimes import name_of, parse_regime
from pytest_collabcode.training.train import Resources, train

REGIMES = ("local:meta", "centralized", "fedavg", "incremental:google>meta>microsoft")


def forbidden(label: str, done: int, total: int) -> None:
    raise AssertionError(f"{label} was trained again")


@pytest.mark.parametrize("text", REGIMES)
def test_the_same_seed_gives_the_same_weights_and_a_third_run_trains_nothing(
    text: str, corpus: Corpus, tiny: Recipe, elsewhere: Callable[[str], Resources]
) -> None:
    regime = parse_regime(text, corpus.names)
    first = train(regime, corpus, tiny, resources=elsewhere("first"))
    second = train(regime, corpus, tiny, resources=elsewhere("second"))
    assert first.weights_digest == second.weights_digest
    assert first.tokenizer_digest == second.tokenizer_digest
    third = train(regime, corpus, tiny, resources=replace(elsewhere("first"), progress=forbidden), name="mine")
    assert replace(third, name=first.name) == first
    assert third.name == "mine"


def test_the_checkpoint_says_what_it_is(corpus: Corpus, tiny: Recipe, resources: Resources) -> None:
    checkpoint = train(Centralized(corpus.names), corpus, tiny, resources=resources)
    assert (checkpoint.regime, checkpoint.organizations) == ("centralized", corpus.names)
    assert (checkpoint.corpus_digest, checkpoint.notes) == (corpus.digest, ())
    assert checkpoint.path == resources.store.checkpoint(
        checkpoint_digest(name_of(Centralized(corpus.names)), corpus.digest, tiny)
    )
    check_weights(checkpoint)
    history = read_history(checkpoint.path)
    assert history.stages[0].losses[-1][1] < history.stages[0].losses[0][1]
    assert dict(history.hyperparameters)["learning_rate"] == "0.01"
    assert not list((resources.store.root / "partial").iterdir())


def test_the_first_incremental_stage_is_local_and_is_not_trained_twice(
    corpus: Corpus, tiny: Recipe, resources: Resources
) -> None:
    local = train(Local("google"), corpus, tiny, resources=resources)
    labels: set[str] = set()
    watched = replace(resources, progress=lambda label, done, total: labels.add(label))
    last = train(Incremental(("google", "meta", "microsoft")), corpus, tiny, resources=watched)
    assert labels == {"stage 2: meta", "stage 3: microsoft"}
    history = read_history(last.path)
    assert history.stages[0] == read_history(local.path).stages[0]
    assert [s.organizations for s in history.stages] == [("google",), ("meta",), ("microsoft",)]
    middle = train(Incremental(("google", "meta")), corpus, tiny, resources=replace(resources, progress=forbidden))
    assert middle.organizations == ("google", "meta")
    assert len({local.weights_digest, middle.weights_digest, last.weights_digest}) == 3


def test_all_regimes_see_each_organization_equally_often(corpus: Corpus, tiny: Recipe, resources: Resources) -> None:
    texts = ("centralized", "fedavg", "incremental:google>meta>microsoft")
    trained = [train(parse_regime(text, corpus.names), corpus, tiny, resources=resources) for text in texts]
    steps = [read_history(checkpoint.path).n_steps for checkpoint in trained]
    assert max(steps) - min(steps) <= len(corpus.names)  # rounding of each schedule to whole steps


@pytest.mark.parametrize(
    "change", [{"seed": 2}, {"learning_rate": 2e-2}, {"passes": 1.0}, {"dtype": "float32"}, {"width": 32}]
)
def test_whatever_changes_the_result_changes_its_digest(change: dict[str, object], tiny: Recipe) -> None:
    name = name_of(Local("meta"))
    assert checkpoint_digest(name, "c", replace(tiny, **change)) != checkpoint_digest(name, "c", tiny)  # type: ignore[arg-type]
    assert checkpoint_digest(name, "d", tiny) != checkpoint_digest(name, "c", tiny)
    assert checkpoint_digest(name, "c", replace(tiny, name="other")) == checkpoint_digest(name, "c", tiny)


def test_training_goes_on_from_a_base_with_its_tokenizer_and_conventions(
    corpus: Corpus, tiny: Recipe, resources: Resources
) -> None:
    conventions = PromptConventions(prefix="#", stop=("x",))
    base = replace(train(Local("meta"), corpus, tiny, resources=resources), conventions=conventions)
    tuned = train(Centralized(corpus.names), corpus, tiny, resources=resources, base=base)
    scratch = train(Centralized(corpus.names), corpus, tiny, resources=resources)
    assert tuned.conventions == conventions
    assert tuned.path != scratch.path
    losses = [read_history(c.path).stages[0].losses[0][1] for c in (tuned, scratch)]
    assert losses[0] < losses[1]
    with pytest.raises(ConfigurationError, match="takes 1024 at most"):
        train(Local("meta"), corpus, replace(tiny, sequence_tokens=2048), resources=resources, base=base)


def test_the_caller_keeps_its_random_state_and_threads(corpus: Corpus, tiny: Recipe, resources: Resources) -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    train(Local("meta"), corpus, tiny, resources=resources)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_kill_minus_nine_in_the_middle_changes_nothing(
    tmp_path: Path, corpus: Corpus, tiny: Recipe, elsewhere: Callable[[str], Resources]
) -> None:
    shape = replace(tiny, passes=6.0)
    whole = train(Local("meta"), corpus, shape, resources=elsewhere("whole"))
    # The child sends itself SIGKILL in the middle of the run: no handler, no cleaning up.
    (tmp_path / "corpus").write_bytes(pickle.dumps(corpus))
    (tmp_path / "child.py").write_text(
        textwrap.dedent(f"""
        import os, pickle, signal
        from pathlib import Path
        from pytest_collabcode.records import *
        from pytest_collabcode.store import Store
        from pytest_collabcode.training.centralized import Local
        from pytest_collabcode.training.train import Resources, train
        def progress(label, done, total):
            if done >= total // 2:
                os.kill(os.getpid(), signal.SIGKILL)
        resources = Resources(store=Store(Path({str(tmp_path / "killed")!r})), progress=progress, save_every_s=0.0)
        corpus = pickle.loads(Path({str(tmp_path / "corpus")!r}).read_bytes())
        train(Local("meta"), corpus, {shape!r}, resources=resources)
        """)
    )
    child = subprocess.run([sys.executable, str(tmp_path / "child.py")], cwd=Path.cwd(), check=False)
    assert child.returncode == -9
    assert list((tmp_path / "killed" / "partial").glob("*.state"))
    steps: list[int] = []
    resources = replace(elsewhere("killed"), progress=lambda label, done, total: steps.append(done))
    resumed = train(Local("meta"), corpus, shape, resources=resources)
    assert steps[0] > 10
    assert resumed.weights_digest == whole.weights_digest
    assert load(read_checkpoint(resumed.path)).model is not None
    assert not list((tmp_path / "killed" / "partial").iterdir())


def test_two_processes_train_the_same_thing_once(corpus: Corpus, tiny: Recipe, resources: Resources) -> None:
    started: list[float] = []
    watched = replace(resources, progress=lambda label, done, total: started.append(time.monotonic()))
    threads = [Thread(target=train, args=(Local("meta"), corpus, tiny), kwargs={"resources": watched}) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = read_history(train(Local("meta"), corpus, tiny, resources=resources).path)
    assert len(started) == len(history.stages[0].losses)
