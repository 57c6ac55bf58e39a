"""A tiny checkpoint, and a server process on loopback that serves it and fails when told to."""

import json
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_collabcode.checkpoint import read_checkpoint
from pytest_collabcode.models.architectures import build
from pytest_collabcode.models.tokenizer import train_tokenizer
from pytest_collabcode.training.recipes import recipe

SERVER = Path(__file__).parent / "completion_server.py"
TEXTS = ["def total(rows):\n    return sum(row['é漢'] for row in rows)\n"] * 3


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Random weights, larger than usual: flat logits would have nothing to tell apart."""
    folder = tmp_path_factory.mktemp("served") / "tiny"
    shape = replace(recipe("llama-smoke"), vocabulary_size=300, sequence_tokens=128)
    model = build(shape, 1)
    for weight in model.parameters():
        weight.data *= 1.5
    model.save_pretrained(folder)
    train_tokenizer(TEXTS, vocabulary_size=300).save_pretrained(folder)
    return read_checkpoint(folder)


class Server:
    """The process and how to talk to it."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}/v1"

    def behave(self, **how):
        """Behave from now on as said, otherwise well."""
        well = {"faults": [], "reads": ["repetition_penalty", "top_k", "min_p"], "forbids": False, "echoes": True}
        how = {"lists": how.get("models", ["tiny"]), **how}
        request = urllib.request.Request(
            self.url.replace("/v1", "/behave"), json.dumps({**well, "models": ["tiny"], **how}).encode()
        )
        urllib.request.urlopen(request).close()
        return self

    def seen(self):
        """Return the requests for completions since it was told how to behave."""
        with urllib.request.urlopen(self.url.replace("/v1", "/seen")) as answer:
            return json.loads(answer.read())


@pytest.fixture(scope="session")
def process(checkpoint):
    with subprocess.Popen([sys.executable, SERVER, checkpoint.path], stdout=subprocess.PIPE, text=True) as running:
        try:
            yield Server(int(running.stdout.readline()))
        finally:
            running.kill()


@pytest.fixture
def server(process):
    return process.behave()
