"""Discovery: which model a server serves, described as a checkpoint before anything is measured.

The weights are the server's word: the digest is made of URL, model name and what /v1/models says of it, so results of
a server that is given other weights under the same name stay; `collabcode store clean` drops them.
Not covered: asking it anything (endpoint.py). Imports no torch.
Sources: the OpenAI API reference, models; what vLLM and llama.cpp add to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_collabcode.backends.client import COMPLETIONS, OK, PROBE, Client
from pytest_collabcode.digests import digest_of
from pytest_collabcode.errors import CheckpointError, MeasurementError, nearest
from pytest_collabcode.records import Checkpoint

MODELS = "/models"
QUICK_PAUSES_S = (0.25, 1.0)  # before the run a missing server is answered soon
IDENTITY = ("id", "root", "parent", "owned_by", "max_model_len", "meta")  # what stays from call to call
NOTES = (
    "its weights lie behind a server and are not verified",
    "a server tells no token ids, so perplexity_gain_over_unigram is not measured: judge bits_per_byte",
)


def discover(url: str, *, name: str = "") -> Checkpoint:
    """Ask a server which model it serves and describe that as a checkpoint.

    Args:
        url: of `endpoint_url`; its fragment names the model, and may be missing when the server has just one.
        name: of the subject; default: the model's name without its owner.
    Raises:
        CheckpointError: no answer, no such model, or several and none is named.
    Example:
        >>> discover("http://127.0.0.1:9/v1")
        Traceback (most recent call last):
        pytest_collabcode.errors.CheckpointError: http://127.0.0.1:9/v1: no answer (ConnectError) in 3 tries; \
start the server or correct the URL
    """
    base, _, wanted = url.partition("#")
    client = Client(base, pauses_s=QUICK_PAUSES_S)
    try:
        served = _served(client, named=bool(wanted))
        if not wanted and len(served) != 1:
            example = f"{base}#{next(iter(served), 'MODEL')}"
            raise CheckpointError(f"{base}: it serves {len(served)} models; name one: {example}")
        model = wanted or next(iter(served))
        if model not in served and not _answers(client, model):
            hint = f"; {nearest(model, list(served))}" if served else ""
            raise CheckpointError(f"{base}: it completes nothing with the model {model!r}{hint}")
    except MeasurementError as error:
        raise CheckpointError(str(error)) from None
    finally:
        client.close()
    about = served.get(model, {})
    said = {key: about[key] for key in IDENTITY if key in about}
    return Checkpoint(
        name=name or model.rpartition("/")[2],
        path=Path(),
        weights_digest=digest_of("endpoint", base, model, said),
        tokenizer_digest="",
        n_parameters=0,
        url=f"{base}#{model}",
        notes=NOTES,
    )


def _served(client: Client, *, named: bool) -> dict[str, Mapping[str, Any]]:
    """Return what the server says of each model; nothing where it cannot list them and one is named."""
    try:
        answer = client.ask(MODELS)
    except MeasurementError:
        if named:
            return {}
        raise
    models = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(models, list) or not all(isinstance(m, dict) and isinstance(m.get("id"), str) for m in models):
        raise MeasurementError(f"{client.url}{MODELS}: {client.stranger}")
    return {model["id"]: model for model in models}


def _answers(client: Client, model: str) -> bool:
    """Return whether the server completes text with a model that it does not list, as `transformers serve` does."""
    body = {"model": model, "prompt": PROBE, "max_tokens": 1, "temperature": 0.0}
    return client.status(COMPLETIONS, body) == OK
