"""What each organization runs in a federation: a Flower ClientApp that trains on its own code and nothing else.

The app keeps nothing between messages but Flower's Context.state (the optimizer's state and the step), so it runs
unchanged in this process over `LocalGrid` or under `flwr run` on the organization's own machine. Only floating-point
parameters cross, tied weights once. Not covered: encryption of the update (Flower's TLS and mods).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.training.flower import (
    Array,
    ArrayRecord,
    ClientApp,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from pytest_collabcode.training.loop import MOMENTS, Trainer

ORGANIZATION = "organization"  # key of a node's config: whose code it holds
WEIGHT = "num-examples"  # Flower's key of an update's weight; here the tokens trained on
ROUND, ROUNDS, PROXIMAL = "server-round", "rounds", "proximal-mu"

Prepare = Callable[[str], Trainer]
"""Organization -> trainer on its code at step 0, its model's weights to be overwritten."""


def client_app(prepare: Prepare, *, after_reading: Callable[[Trainer], None] = lambda trainer: None) -> Any:
    """Return the ClientApp of every organization.

    Args:
        prepare: makes the trainer of one organization; its Context's node_config says which.
        after_reading: called each time the trainer read its loss.
    Returns:
        flwr.clientapp.ClientApp that answers train messages.
    Example:
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.training.flower import ConfigRecord
        >>> from pytest_collabcode.training.grid import flower_session
        >>> from pytest_collabcode.training.packing import Stream, TokenizedDocuments
        >>> from pytest_collabcode.training.recipes import recipe
        >>> tiny, tokens = recipe("llama-smoke"), (np.zeros(1024, np.int32),)
        >>> stream = Stream(
        ...     documents=(TokenizedDocuments(organization="meta", tokens=tokens, copies=(1,)),), recipe=tiny
        ... )
        >>> app = client_app(lambda organization: Trainer(build(tiny, 1), stream, device="cpu"))
        >>> config = ConfigRecord({ROUND: 1, ROUNDS: 2})
        >>> with flower_session():  # the first of two rounds: half of the four steps
        ...     content = RecordDict({"arrays": weights_record(build(tiny, 1)), "config": config})
        ...     reply = app(Message(content, 2, "train"), new_context(2, "meta"))
        >>> int(reply.content["metrics"]["n-steps"])
        2
    """
    app = ClientApp()

    @app.train()  # type: ignore[untyped-decorator]
    def train(message: Any, context: Any) -> Any:
        trainer = prepare(str(context.node_config[ORGANIZATION]))
        return Message(_turn(trainer, message, context, after_reading), reply_to=message)

    return app


def weights_record(model: Any) -> Any:
    """Return the model's trainable and frozen floating-point parameters as a Flower ArrayRecord, tied ones once.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 9, bias=False))
        >>> model[1].weight = model[0].weight
        >>> list(weights_record(model))
        ['0.weight']
    """
    return record_of({n: p.detach() for n, p in model.named_parameters() if p.is_floating_point()})


def load_weights(model: Any, arrays: Mapping[str, Any]) -> None:
    """Overwrite the model's floating-point parameters.

    Raises:
        MeasurementError: names or shapes are not the model's.
    Example:
        >>> ours, theirs = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
        >>> load_weights(ours, weights_record(theirs))
        >>> torch.equal(ours.weight, theirs.weight)
        True
    """
    own = {n: p for n, p in model.named_parameters() if p.is_floating_point()}
    if set(own) != set(arrays):
        odd = sorted(set(own) ^ set(arrays))[0]
        raise MeasurementError(f"federated round: parameter {odd!r} is on one side only; the models differ")
    with torch.no_grad():
        for name, parameter in own.items():
            values = arrays[name].numpy()
            if values.shape != tuple(parameter.shape):
                raise MeasurementError(
                    f"federated round: parameter {name!r} has shape {values.shape}, not {tuple(parameter.shape)}"
                )
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(values)))


def record_of(tensors: Mapping[str, Tensor]) -> Any:
    """Return named tensors as a Flower ArrayRecord, in float32.

    Example:
        >>> record_of({"w": torch.tensor([1, 2])})["w"].numpy()
        array([1., 2.], dtype=float32)
    """
    return ArrayRecord({name: Array(tensor.float().cpu().numpy()) for name, tensor in tensors.items()})


def tensors_of(record: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a Flower ArrayRecord as named tensors, which share no memory with it.

    Example:
        >>> tensors_of(record_of({"w": torch.tensor([1.0, 2.0])}))
        {'w': tensor([1., 2.])}
    """
    return {name: torch.from_numpy(np.array(array.numpy())) for name, array in record.items()}


def new_context(node_id: int, organization: str) -> Any:
    """Return the Flower Context of an organization that has not trained yet.

    Example:
        >>> context = new_context(2, "meta")
        >>> context.node_config["organization"], list(context.state)
        ('meta', [])
    """
    return Context(
        run_id=1, node_id=node_id, node_config={ORGANIZATION: organization}, state=RecordDict(), run_config={}
    )


def _turn(trainer: Trainer, message: Any, context: Any, after_reading: Callable[[Trainer], None]) -> Any:
    config = message.content["config"]
    load_weights(trainer.model, message.content["arrays"])
    if "progress" in context.state:
        moments = {m: tensors_of(context.state[m]) for m in MOMENTS}
        trainer.resume(int(context.state["progress"]["step"]), moments)
    first = trainer.step
    until = trainer.stream.n_steps * int(config[ROUND]) // int(config[ROUNDS])
    trainer.run(until, after_reading=lambda: after_reading(trainer), proximal_mu=float(config.get(PROXIMAL, 0.0)))
    for moment, tensors in trainer.moments().items():
        context.state[moment] = record_of(tensors)
    context.state["progress"] = MetricRecord({"step": trainer.step})
    recipe = trainer.stream.recipe
    steps = [0, *(step - first for step, _ in trainer.losses)]
    nats = sum((b - a) * loss for a, b, (_, loss) in zip(steps, steps[1:], trainer.losses, strict=False))
    metrics = {
        WEIGHT: (trainer.step - first) * recipe.batch_size * recipe.sequence_tokens,
        "n-steps": trainer.step - first,
        "loss": nats / max(1, trainer.step - first),
        "duration-s": trainer.duration_s,
    }
    return RecordDict({"arrays": weights_record(trainer.model), "metrics": MetricRecord(metrics)})
