"""A server process that offers a checkpoint of ours through /v1/completions and /v1/models, and fails when told to.

    python completion_server.py CHECKPOINT

prints its port. POST /behave with values for State says how it is to behave from then on; GET /seen returns what it
was sent.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch

from pytest_collabcode.checkpoint import read_checkpoint
from pytest_collabcode.generation.engine import TorchBackend
from pytest_collabcode.models.load import load
from pytest_collabcode.records import Problem, Sampling

KNOWN = {"model", "prompt", "max_tokens", "temperature", "top_p", "seed", "stop", "echo", "logprobs", "n"}
LEAST = {"repetition_penalty": 0.0, "top_k": -1, "min_p": 0.0}  # a field that is read may not be less


class State:
    faults = ()  # one for each of the next requests for a completion
    reads = tuple(LEAST)
    forbids = False  # fields that it does not know
    echoes = True
    models = ("tiny",)
    lists = ("tiny",)  # of those; None: it lists none


SEEN, LOCK = [], threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        """Say nothing."""

    def do_GET(self):
        if self.path == "/seen":
            self.answer(200, SEEN)
        elif self.path == "/v1/models" and State.lists is not None:
            rows = [
                {"id": name, "object": "model", "created": time.time_ns(), "owned_by": "test"} for name in State.lists
            ]
            self.answer(200, {"object": "list", "data": rows})
        else:
            self.answer(404, {"error": "no such path"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/behave":
            SEEN.clear()
            for key, value in body.items():
                setattr(State, key, value)
            return self.answer(200, {})
        with LOCK:
            SEEN.append({**body, "authorization": self.headers.get("Authorization")})
            fault, State.faults = (State.faults[0], State.faults[1:]) if State.faults else ("", ())
        if self.path != "/v1/completions":
            return self.answer(404, {"error": "no such path"})
        return self.fail(fault) if fault else self.complete(body)

    def fail(self, fault):
        kind, _, value = fault.partition(":")
        if kind == "slow":
            time.sleep(float(value))
        if kind in ("drop", "slow"):
            self.close_connection = True
        elif kind == "half":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            self.close_connection = True
        elif kind == "page":
            self.answer(200, b"<html>a page of some proxy</html>")
        elif kind == "shape":
            self.answer(200, {"choices": [{"message": {"content": "a chat"}}]})
        else:  # the server's words repeat the prompt, as those of some servers do
            self.answer(int(kind), {"error": {"message": f"refused: {SEEN[-1]['prompt']}"}}, {"Retry-After": "0"})

    def complete(self, body):
        extra = set(body) - KNOWN
        if State.forbids and extra:
            return self.answer(422, {"detail": f"unexpected {extra}"})
        read = {field: body[field] for field in extra if field in State.reads}
        if any(
            value < LEAST[field] or (field == "repetition_penalty" and not value) for field, value in read.items()
        ):
            return self.answer(400, {"error": {"message": "out of range"}})
        if body["model"] not in State.models:
            return self.answer(404, {"error": "no such model"})
        sampling = Sampling(
            temperature=body["temperature"],
            top_p=body.get("top_p", 1.0),
            top_k=max(0, read.get("top_k", 0)),
            repetition_penalty=read.get("repetition_penalty", 1.0),
            max_new_tokens=body["max_tokens"],
            seed=body.get("seed", 0),
            stop=tuple(body.get("stop", ())),
        )
        with LOCK:
            [drawn] = BACKEND.generate([Problem(task_id="", prompt=body["prompt"])], sampling)
            told = echoed(body["prompt"]) if State.echoes and body.get("echo") else None
        ids = TOKENIZER(body["prompt"]).input_ids
        choice = {"index": 0, "text": drawn.completion, "logprobs": told, "finish_reason": drawn.stop_reason}
        if drawn.stop_reason == "eos":
            choice |= {"finish_reason": "stop", "stop_reason": None}
        usage = {"prompt_tokens": len(ids), "completion_tokens": drawn.n_tokens}
        return self.answer(200, {"object": "text_completion", "choices": [choice], "usage": usage})

    def answer(self, status, content, headers=None):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@torch.inference_mode()
def echoed(prompt):
    """Return the prompt's tokens and one more, as strings, with their log-probabilities."""
    ids = TOKENIZER(prompt).input_ids
    log_p = LOADED.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    ids.append(int(log_p[-1].argmax()))
    values = [None, *(float(log_p[place, token]) for place, token in enumerate(ids[1:]))]
    return {"tokens": [TOKENIZER.decode([i]) for i in ids], "token_logprobs": values}


if __name__ == "__main__":
    torch.set_num_threads(1)
    LOADED = load(read_checkpoint(Path(sys.argv[1])))
    TOKENIZER, BACKEND = LOADED.tokenizer, TorchBackend(LOADED)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
