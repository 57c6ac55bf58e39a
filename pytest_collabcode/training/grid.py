"""Flower's Grid inside one process: every organization's ClientApp is called in turn, with its own Context.

No server, no Ray, no telemetry. Each reply is judged before a strategy sees it. Not covered: several machines, which
is `flwr run` with the same ClientApp.
Source: `flwr.serverapp.Grid`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.training.client import ORGANIZATION, WEIGHT
from pytest_collabcode.training.flower import Grid, Message, TaskIdentity, telemetry

SERVER_ID = 1  # organizations follow from 2


class LocalGrid(Grid):  # type: ignore[misc]
    """Answers a strategy's messages by calling the ClientApp, organization after organization, always in one order.

    Args:
        app: the ClientApp.
        contexts: by node id; what an organization keeps between rounds.
    Example:
        >>> from pytest_collabcode.training.client import new_context
        >>> LocalGrid(app=None, contexts={2: new_context(2, "meta"), 3: new_context(3, "google")}).get_node_ids()
        [2, 3]
    """

    def __init__(self, app: Any, contexts: Mapping[int, Any]) -> None:
        self._app = app
        self._contexts = contexts

    def get_node_ids(self) -> list[int]:
        """Return one node per organization."""
        return list(self._contexts)

    def send_and_receive(self, messages: Iterable[Any], *, timeout: float | None = None) -> list[Any]:
        """Return each organization's checked reply.

        Raises:
            MeasurementError: a reply is not the update it should be; the organization is named.
        """
        # A strategy samples nodes in random order; sums of floats must not depend on it.
        ordered = sorted(messages, key=lambda message: int(message.metadata.dst_node_id))
        return [self._ask(message) for message in ordered]

    def _ask(self, message: Any) -> Any:
        context = self._contexts[message.metadata.dst_node_id]
        reply = self._app(message, context)
        _check_reply(str(context.node_config[ORGANIZATION]), message.content["arrays"], reply)
        return reply

    def set_run(self, run: Any) -> None:
        """Do nothing: there is one run."""

    @property
    def run(self) -> Any:
        """Not there: nothing is registered with a server."""
        raise NotImplementedError

    def create_message(
        self, content: Any, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Any:
        """Return a new message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def push_messages(self, messages: Iterable[Any]) -> Iterable[str]:
        """Not there: messages are answered at once by `send_and_receive`."""
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Any]:
        """Not there: messages are answered at once by `send_and_receive`."""
        raise NotImplementedError


def _check_reply(organization: str, sent: Mapping[str, Any], reply: Any) -> None:
    """Check that a reply is a finite update of exactly the parameters that were sent, with an honest weight.

    Flower's strategies average whatever broadcasts, NaN included.

    Args:
        organization: who answered.
        sent: the arrays it was sent.
        reply: its Flower Message.
    Raises:
        MeasurementError: it is not; the sentence names organization and parameter.
    """
    subject = f"federated round: the update of organization {organization!r}"
    if reply.has_error() or len(reply.content.array_records) != 1 or len(reply.content.metric_records) != 1:
        raise MeasurementError(f"{subject} is an error or not one set of arrays with its metrics")
    arrays = next(iter(reply.content.array_records.values()))
    metrics = next(iter(reply.content.metric_records.values()))
    if set(arrays) != set(sent):
        raise MeasurementError(f"{subject} lacks or adds parameter {sorted(set(arrays) ^ set(sent))[0]!r}")
    for name, array in arrays.items():
        values = array.numpy()
        if values.shape != tuple(sent[name].shape) or not np.issubdtype(values.dtype, np.floating):
            raise MeasurementError(
                f"{subject} gives {name!r} as {values.dtype} {values.shape}, "
                f"not {sent[name].dtype} {sent[name].shape}"
            )
        if not np.isfinite(values).all():
            raise MeasurementError(f"{subject} holds NaN or infinite numbers in {name!r}; its training diverged")
    weight = metrics.get(WEIGHT)
    if not isinstance(weight, int | float) or not np.isfinite(weight) or weight <= 0:
        raise MeasurementError(f"{subject} has weight {WEIGHT}={weight!r}; the tokens it trained on are expected")


@contextmanager
def flower_session() -> Iterator[None]:
    """Let Flower's classes work outside its own processes: identity set for good, else silent inside.

    Example:
        >>> with flower_session():
        ...     telemetry.FLWR_TELEMETRY_ENABLED, logging.getLogger("flwr").isEnabledFor(logging.WARNING)
        ('0', False)
    """
    # Messages ask for the identity of the task that makes them, which Flower's own launchers set.
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = SERVER_ID
    logger = logging.getLogger("flwr")
    enabled, level = telemetry.FLWR_TELEMETRY_ENABLED, logger.level
    telemetry.FLWR_TELEMETRY_ENABLED = "0"
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        telemetry.FLWR_TELEMETRY_ENABLED = enabled
