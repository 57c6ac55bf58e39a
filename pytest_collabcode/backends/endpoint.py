"""An OpenAI-compatible server as a Backend: vLLM, SGLang, llama.cpp, `transformers serve`, or another.

Text goes in and text comes out, one request for each completion under a seed of its own, so a second run asks only
for what is missing. The weights are the server's word: the subject's digest is made of URL, model name and what
/v1/models says, and every signature says so. A sampling that the server would silently ignore is refused.
Not covered: embeddings, and scores of every token of the vocabulary, which no such server tells; chat; finding out
what is served (discovery.py).
Sources: the OpenAI API reference, completions; vLLM's extra parameters of the same endpoint.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from pytest_collabcode.backends.asking import asked, cut, seed_of, stops
from pytest_collabcode.backends.client import AT_ONCE, COMPLETIONS, OK, PROBE, Client
from pytest_collabcode.backends.spelling import token_places
from pytest_collabcode.drawing import Ledger, OnBatch, Request, draw_all
from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.progress import Report
from pytest_collabcode.records import Checkpoint, Generation, Problem, Sampling, TextScore, TokenScores

REFUSALS = (400, 422)
MAX_STOPS = 4  # that the API promises to take; the text is cut here anyway
CHARACTERS_PER_TOKEN = 4
MARGIN_TOKENS = 16  # at the end of a text that was cut off, which may be split otherwise than in the whole
# field -> (value that changes nothing, value that a server which reads the field must refuse)
EXTRAS: dict[str, tuple[float, float]] = {"repetition_penalty": (1.0, -1.0), "top_k": (-1, -2), "min_p": (0.0, -1.0)}


class EndpointBackend:
    """A model behind a server.

    Args:
        checkpoint: of `discover`.
        at_once: requests in flight; None takes 16.
        client: of the server; made of the checkpoint's URL by default.
    Example:
        >>> from pathlib import Path
        >>> checkpoint = Checkpoint(name="far", path=Path(), weights_digest="w", tokenizer_digest="", n_parameters=0,
        ...     url="http://127.0.0.1:9/v1#m")
        >>> EndpointBackend(checkpoint).embed(["x = 1"])
        Traceback (most recent call last):
        pytest_collabcode.errors.MeasurementError: far: a server of text completions gives no embeddings, \
so this is not measured; judge the checkpoint itself: --model=PATH
    """

    def __init__(self, checkpoint: Checkpoint, *, at_once: int | None = None, client: Client | None = None) -> None:
        self.checkpoint = checkpoint
        url, _, self._model = checkpoint.url.partition("#")
        self._client = client or Client(url, at_once=at_once or AT_ONCE)
        self._read: dict[str, bool] = {}  # extra field -> whether the server reads it

    def generate(self, problems: Sequence[Problem], sampling: Sampling) -> list[Generation]:
        """Draw n_samples completions of each prompt, ordered by problem, then sample_index."""
        return draw_all(self.draw, problems, sampling)

    def draw(
        self, requests: Sequence[Request], sampling: Sampling, *, on_batch: OnBatch, progress: Report | None = None
    ) -> None:
        """Draw just these (problem, sample_index) pairs, as `drawing.Draw` says.

        Raises:
            MeasurementError: the server fails, or would not sample as asked.
        """
        shared = self._shared(sampling)
        ledger = Ledger(len(requests), progress, on_batch)
        for _, generation in self._client.each(requests, lambda request: self._complete(*request, sampling, shared)):
            ledger.finish(generation)

    def log_likelihood(self, texts: Sequence[str], *, max_tokens: int) -> list[TextScore]:
        """Score the first max_tokens tokens of each text by what the server echoes; token ids stay unknown.

        Raises:
            MeasurementError: the server fails, or does not echo log-probabilities.
        """
        numbered = list(enumerate(texts))
        scores = dict(self._client.each(numbered, lambda pair: self._score(pair[1], max_tokens)))
        return [scores[pair] for pair in numbered]

    def token_scores(self, pairs: Sequence[tuple[str, str]], sampling: Sampling) -> list[TokenScores]:
        """Refuse: a server tells the likeliest few tokens, these scores need all of them."""
        self._refuse("tells only the likeliest tokens, and these scores need every token of the vocabulary")

    def embed(self, texts: Sequence[str]) -> object:
        """Refuse: a completion server has no embeddings."""
        self._refuse("gives no embeddings")

    def _refuse(self, why: str) -> NoReturn:
        raise MeasurementError(
            f"{self.checkpoint.name}: a server of text completions {why}, so this is not measured; "
            "judge the checkpoint itself: --model=PATH"
        )

    # --- generating

    def _shared(self, sampling: Sampling) -> dict[str, Any]:
        """Return what all requests of a sampling have in common, extra fields only if the server reads them."""
        greedy = sampling.temperature == 0
        extras = {
            "repetition_penalty": sampling.repetition_penalty,
            "top_k": sampling.top_k if sampling.top_k and not greedy else EXTRAS["top_k"][0],
            "min_p": EXTRAS["min_p"][0],
        }
        for field, value in list(extras.items()):
            if self._reads(field):
                continue  # sent even where it changes nothing: a server's own default might
            if value != EXTRAS[field][0]:
                raise MeasurementError(
                    f"{self.checkpoint.name}: the server does not read {field}, and {value:g} is asked for; "
                    "serve the model with vLLM or SGLang, or judge the checkpoint itself: --model=PATH"
                )
            del extras[field]
        stop = stops(sampling, self.checkpoint.conventions)[:MAX_STOPS]
        return {
            "model": self._model,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": 1.0 if greedy else sampling.top_p,
            **({"stop": list(stop)} if stop else {}),
            **extras,
        }

    def _reads(self, field: str) -> bool:
        """Return whether the server reads an extra field: it refuses nonsense in it and takes sense."""
        if field not in self._read:
            harmless, nonsense = EXTRAS[field]
            body = {"model": self._model, "prompt": PROBE, "max_tokens": 1, "temperature": 0.0}
            with_sense, with_nonsense = (
                self._client.status(COMPLETIONS, {**body, field: value}) for value in (harmless, nonsense)
            )
            self._read[field] = with_sense == OK and with_nonsense in REFUSALS
        return self._read[field]

    def _complete(self, problem: Problem, index: int, sampling: Sampling, shared: dict[str, Any]) -> Generation:
        began, conventions = time.perf_counter(), self.checkpoint.conventions
        prompt, seed = asked(problem.prompt, conventions), seed_of(sampling.seed, problem.task_id, index)
        answer = self._client.ask(COMPLETIONS, {**shared, "prompt": prompt, "seed": seed})
        choice = self._choice(answer)
        completion, was_cut = cut(choice["text"], stops(sampling, conventions))
        n_tokens = _usage(answer, "completion_tokens")
        return Generation(
            task_id=problem.task_id,
            sample_index=index,
            completion=completion,
            n_tokens=n_tokens if n_tokens is not None else 0,
            duration_s=time.perf_counter() - began,
            stop_reason="stop" if was_cut else _stop_reason(choice),
        )

    def _choice(self, answer: Any) -> dict[str, Any]:
        choices = answer.get("choices") if isinstance(answer, dict) else None
        first = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(first, dict) or not isinstance(first.get("text"), str):
            raise MeasurementError(f"{self._client.url}{COMPLETIONS}: {self._client.stranger}")
        return first

    # --- scoring

    def _score(self, text: str, max_tokens: int) -> TextScore:
        nothing = TextScore(log_likelihood=0.0, n_tokens=0, n_bytes=0)
        if not text:
            return nothing
        n_characters = CHARACTERS_PER_TOKEN * max_tokens
        while True:  # no more is sent than it takes: a long file would not fit the context
            sent = text[:n_characters]
            tokens, log_probs = self._echo(sent)
            if len(sent) == len(text) or len(tokens) >= max_tokens + MARGIN_TOKENS:
                break
            n_characters *= 2
        n = min(len(tokens), max_tokens)
        if n < 2:
            return nothing
        try:
            places = token_places(sent, tokens)
        except ValueError as error:
            raise MeasurementError(
                f"{self.checkpoint.name}: the tokens that the server echoes do not spell the text ({error}), "
                "so likelihoods are not measured"
            ) from None
        end = next((place for place in places[n:] if place > places[n - 1]), len(sent))
        return TextScore(
            log_likelihood=sum(log_probs[1:n]), n_tokens=n - 1, n_bytes=len(sent[places[1] : end].encode())
        )

    def _echo(self, text: str) -> tuple[list[str], list[float]]:
        """Return the tokens of a text as strings, and their log-probabilities; that of the first means nothing."""
        body = {
            "model": self._model,
            "prompt": text,
            "max_tokens": 1,
            "temperature": 0.0,
            "echo": True,
            "logprobs": 1,
        }
        answer = self._client.ask(COMPLETIONS, body)
        told, n = self._choice(answer).get("logprobs"), _usage(answer, "prompt_tokens")
        tokens, values = _told(told, "tokens"), _told(told, "token_logprobs")
        if n is None or not len(tokens) == len(values) >= max(n, 1):
            raise MeasurementError(
                f"{self.checkpoint.name}: the server does not echo a prompt with log-probabilities, so likelihoods "
                "are not measured; vLLM and SGLang do, or judge the checkpoint itself: --model=PATH"
            )
        numbers = [0.0, *values[1:n]]
        if not all(isinstance(t, str) for t in tokens[:n]) or not all(isinstance(v, float | int) for v in numbers):
            raise MeasurementError(f"{self._client.url}{COMPLETIONS}: {self._client.stranger}")
        return tokens[:n], numbers


def _told(logprobs: Any, key: str) -> list[Any]:
    value = logprobs.get(key) if isinstance(logprobs, dict) else None
    return value if isinstance(value, list) else []


def _usage(answer: Any, key: str) -> int | None:
    usage = answer.get("usage")
    value = usage.get(key) if isinstance(usage, dict) else None
    return value if isinstance(value, int) else None


def _stop_reason(choice: Mapping[str, Any]) -> str:
    """Return "length", "stop" or "eos"; a server that does not tell the last two apart says "stop"."""
    if choice.get("finish_reason") == "length":
        return "length"
    return "eos" if "stop_reason" in choice and choice["stop_reason"] is None else "stop"
