"""Laws of federated training, on Flower's own strategies."""

import os
import random
from collections.abc import Callable
from dataclasses import replace

import flwr.supercore.telemetry
import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.models.architectures import build
from pytest_collabcode.models.load import load
from pytest_collabcode.records import Checkpoint, Corpus, Recipe
from pytest_collabcode.training.centralized import Local
from pytest_collabcode.training.client import WEIGHT, load_weights, new_context, weights_record
from pytest_collabcode.training.federated import Federated, build_strategy
from pytest_collabcode.training.grid import LocalGrid, flower_session
from pytest_collabcode.training.history import read_history
from pytest_collabcode.training.strategies import STRATEGIES
from pytest_collabcode.training.train import Resources, train

START = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.float32)}


def fixed_app(updates: dict[str, dict[str, np.ndarray]], weight: float = 10) -> ClientApp:
    """A ClientApp that answers with a given update of its organization."""
    app = ClientApp()

    @app.train()  # type: ignore[untyped-decorator]
    def answer(message: Message, context: object) -> Message:
        arrays = ArrayRecord({k: Array(v) for k, v in updates[context.node_config["organization"]].items()})  # type: ignore[attr-defined]
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord({WEIGHT: weight})})
        return Message(content, reply_to=message)

    return app


def one_round(strategy: str, updates: dict[str, dict[str, np.ndarray]], weight: float = 10) -> dict[str, np.ndarray]:
    with flower_session():
        contexts = {i: new_context(i, name) for i, name in enumerate(updates, start=2)}
        grid = LocalGrid(fixed_app(updates, weight), contexts)
        flower = build_strategy(strategy, len(updates))
        arrays = ArrayRecord({k: Array(v) for k, v in START.items()})
        replies = grid.send_and_receive(flower.configure_train(1, arrays, ConfigRecord(), grid))
        return {k: v.numpy() for k, v in flower.aggregate_train(1, replies)[0].items()}


UPDATE = {"w": np.full((2, 3), 0.5, np.float32), "b": np.array([1, -2], np.float32)}


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedmedian", "fedtrimmedavg"])
def test_fedavg_of_identical_clients_is_the_client(strategy: str, n: int) -> None:
    for name, values in one_round(strategy, {str(i): UPDATE for i in range(n)}).items():
        np.testing.assert_allclose(values, UPDATE[name], rtol=1e-6)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_without_an_update_nothing_moves(strategy: str) -> None:
    for name, values in one_round(strategy, {"a": START, "b": START}).items():
        np.testing.assert_array_equal(values, START[name])


def test_the_first_round_of_fedyogi_is_its_formula() -> None:
    settings = dict(STRATEGIES["fedyogi"][1])
    first, second = 1 - settings["beta_1"], (1 - settings["beta_2"]) ** 0.5
    for name, values in one_round("fedyogi", {"a": UPDATE, "b": UPDATE}).items():
        delta = UPDATE[name]
        expected = settings["eta"] * first * delta / (second * np.abs(delta) + settings["tau"])
        np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"b": np.array([1, np.nan], np.float32)}, "NaN or infinite numbers in 'b'"),
        ({"w": np.ones((1, 3), np.float32)}, "'w' as float32"),  # Flower would broadcast it
        ({"w": np.ones((2, 3), np.int64)}, "'w' as int64"),
        ({"extra": np.ones(1, np.float32)}, "lacks or adds parameter 'extra'"),
    ],
)
def test_a_wrong_update_is_stopped_and_its_organization_named(change: dict[str, np.ndarray], complaint: str) -> None:
    with pytest.raises(MeasurementError, match="organization 'microsoft'") as raised:
        one_round("fedavg", {"meta": UPDATE, "microsoft": UPDATE | change})
    assert complaint in str(raised.value)


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_a_weight_that_is_no_number_of_tokens_is_stopped(weight: float) -> None:
    with pytest.raises(MeasurementError, match=WEIGHT):
        one_round("fedavg", {"meta": UPDATE}, weight)


def weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return dict(load(checkpoint).model.named_parameters())


def test_with_one_organization_fedavg_is_local(corpus: Corpus, tiny: Recipe, resources: Resources) -> None:
    alone = replace(corpus, organizations=corpus.organizations[:1], plants=(), digest="one")
    local = weights(train(Local("meta"), alone, tiny, resources=resources))
    federated = weights(train(Federated(("meta",)), alone, tiny, resources=resources))
    assert all(torch.equal(federated[name], local[name]) for name in local)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_trains(strategy: str, corpus: Corpus, tiny: Recipe, resources: Resources) -> None:
    shape = replace(tiny, rounds=4, passes=4.0)
    checkpoint = train(Federated(corpus.names, strategy), corpus, shape, resources=resources)
    history = read_history(checkpoint.path)
    by_round = [np.mean([s.losses[-1][1] for s in history.stages if s.name == f"round {r}"]) for r in (1, 4)]
    assert by_round[1] < by_round[0] - 0.1
    model = load(checkpoint).model
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    said = dict(history.hyperparameters)
    assert all(float(said[f"strategy.{key}"]) == value for key, value in STRATEGIES[strategy][1])


def test_every_organization_makes_its_passes_in_even_rounds(
    corpus: Corpus, tiny: Recipe, resources: Resources
) -> None:
    history = read_history(train(Federated(corpus.names), corpus, tiny, resources=resources).path)
    for name in corpus.names:
        local = read_history(train(Local(name), corpus, tiny, resources=resources).path)
        turns = [s.n_steps for s in history.stages if s.organizations == (name,)]
        assert len(turns) == tiny.rounds
        assert max(turns) - min(turns) <= 1
        assert sum(turns) == local.n_steps


def test_a_run_with_an_unlucky_kill_after_any_round_ends_the_same(
    corpus: Corpus, tiny: Recipe, elsewhere: Callable[[str], Resources], monkeypatch: pytest.MonkeyPatch
) -> None:
    regime = Federated(corpus.names, "fedyogi")
    whole = train(regime, corpus, tiny, resources=elsewhere("whole"))

    def killed(label: str, done: int, total: int) -> None:
        if "round 3" in label:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(regime, corpus, tiny, resources=replace(elsewhere("killed"), progress=killed))
    labels: list[str] = []
    resources = replace(elsewhere("killed"), progress=lambda label, done, total: labels.append(label))
    resumed = train(regime, corpus, tiny, resources=resources)
    assert all("round 3" in label for label in labels)
    assert resumed.weights_digest == whole.weights_digest


def test_tied_weights_cross_once_and_stay_tied(tiny: Recipe) -> None:
    model = build(replace(tiny, architecture="gpt2"), 1)
    record = weights_record(model)
    assert "transformer.wte.weight" in record
    assert "lm_head.weight" not in record
    load_weights(model, {k: Array(v.numpy() + 1) for k, v in record.items()})
    assert torch.equal(model.lm_head.weight, model.transformer.wte.weight)
    with pytest.raises(MeasurementError, match="one side only"):
        load_weights(model, {k: v for k, v in record.items() if k != "transformer.wte.weight"})


def test_flower_neither_phones_home_nor_talks_nor_disturbs(
    corpus: Corpus,
    tiny: Recipe,
    resources: Resources,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[object] = []
    monkeypatch.setattr(flwr.supercore.telemetry, "create_event", lambda *event: events.append(event))
    random.seed(7)
    before, environment = random.getstate(), dict(os.environ)
    train(Federated(corpus.names), corpus, tiny, resources=resources)
    assert random.getstate() == before
    assert not events
    assert {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"} == {
        k: v for k, v in environment.items() if k != "PYTEST_CURRENT_TEST"
    }
    assert capfd.readouterr() == ("", "")
    with flower_session():
        assert flwr.supercore.telemetry.FLWR_TELEMETRY_ENABLED == "0"
