"""A client of one OpenAI-compatible server: several requests in flight, and what may pass is tried again.

Neither the key nor anything sent comes into a message, and the server's own words do not either: they may quote the
prompt. Redirects are not followed.
Not covered: streaming, chat.
Source: the OpenAI API reference, completions; RFC 9110, sections 15.5 and 10.2.3 for Retry-After.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, TypeVar

import httpx

from pytest_collabcode.errors import ConfigurationError, MeasurementError
from pytest_collabcode.urls import KEY, is_loopback

COMPLETIONS = "/completions"
PROBE = "def add(a, b):"  # nobody's code
OK = 200
AT_ONCE = 16  # requests in flight
CONNECT_S, ANSWER_S = 10.0, 600.0
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # before trying again
MAX_PAUSE_S = 60.0  # that a server may ask for
PASSING = frozenset({408, 429, 500, 502, 503, 504})
HINTS = {
    **dict.fromkeys((301, 302, 303, 307, 308), "give the URL that it redirects to"),
    **dict.fromkeys((401, 403), f"set ${KEY} to a key that may use this model"),
    **dict.fromkeys((404, 405), "end the URL in /v1, and serve the model for text completions"),
    **dict.fromkeys(
        (400, 413, 422), "its log says why; most often a prompt and what is to follow do not fit its context"
    ),
}

T = TypeVar("T")
R = TypeVar("R")


class Client:
    """One server.

    Args:
        url: up to and with /v1.
        at_once: requests in flight.
        pauses_s: before each new try of a request that failed in passing.
        answer_s: within which an answer must begin to come.
    Raises:
        ConfigurationError: the key in the environment cannot be sent.
    Example:
        >>> Client("http://127.0.0.1:9/v1", pauses_s=()).ask("/models")
        Traceback (most recent call last):
        pytest_collabcode.errors.MeasurementError: http://127.0.0.1:9/v1: no answer (ConnectError) in 1 try; \
start the server or correct the URL
    """

    def __init__(
        self, url: str, *, at_once: int = AT_ONCE, pauses_s: Sequence[float] = PAUSES_S, answer_s: float = ANSWER_S
    ) -> None:
        self.url, self.at_once = url, at_once
        self._pauses_s, self._answer_s = tuple(pauses_s), answer_s
        self._http = httpx.Client(
            headers=_headers(),
            timeout=httpx.Timeout(answer_s, connect=min(CONNECT_S, answer_s), pool=None),
            limits=httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once),
            trust_env=not is_loopback(url),  # a proxy has no business between two processes of one machine
        )

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the JSON answer to a POST of this body, or to a GET.

        Raises:
            MeasurementError: no answer, an error, or no JSON.
        """
        response = self._send(path, body)
        if response.status_code != OK:
            hint = HINTS.get(response.status_code, "its log says why")
            raise MeasurementError(f"{self.url}{path}: the server answered {response.status_code}; {hint}")
        try:
            return response.json()
        except ValueError:
            raise MeasurementError(f"{self.url}{path}: {self.stranger}") from None

    @property
    def stranger(self) -> str:
        """What to say of an answer that is none."""
        return "what it answered is not what an OpenAI-compatible server answers; correct the URL or the server"

    def status(self, path: str, body: dict[str, Any]) -> int:
        """Return the status code of the answer to a POST of this body.

        Raises:
            MeasurementError: no answer, or one that says to come again later.
        """
        return self._send(path, body).status_code

    def each(self, requests: Iterable[T], ask: Callable[[T], R]) -> Iterator[tuple[T, R]]:
        """Yield every request with its answer as it comes, several in flight; the first failure ends it.

        Args:
            requests: any values, read as they are sent.
            ask: called with each of them in a thread.
        """
        with ThreadPoolExecutor(self.at_once) as pool:
            unsent = iter(requests)
            futures: dict[Future[R], T] = {}
            try:
                while True:
                    for request in islice(unsent, 2 * self.at_once - len(futures)):
                        futures[pool.submit(ask, request)] = request
                    if not futures:
                        return
                    for future in wait(futures, return_when=FIRST_COMPLETED).done:
                        yield futures.pop(future), future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def _send(self, path: str, body: dict[str, Any] | None) -> httpx.Response:
        for pause_s in (*self._pauses_s, None):
            try:
                method = "GET" if body is None else "POST"
                response = self._http.request(method, self.url + path, json=body)
            except httpx.ReadTimeout:
                raise MeasurementError(
                    f"{self.url}: no answer within {self._answer_s:g} s; "
                    f"lower --collabcode-batch-size ({self.at_once} requests at once), or use a faster server"
                ) from None
            except httpx.TransportError as error:
                problem, wait_s = f"no answer ({type(error).__name__})", pause_s
            except httpx.RequestError:
                raise MeasurementError(f"{self.url}{path}: {self.stranger}") from None
            else:
                if response.status_code not in PASSING:
                    return response
                problem = f"the server answered {response.status_code}"
                wait_s = pause_s and max(pause_s, _asked_pause_s(response))
            if wait_s is not None:
                time.sleep(wait_s)
        tries = len(self._pauses_s) + 1
        said = f"{tries} tries" if tries > 1 else "1 try"
        raise MeasurementError(f"{self.url}: {problem} in {said}; start the server or correct the URL")


def _headers() -> dict[str, str]:
    key = os.environ.get(KEY, "").strip()
    if not key:
        return {}
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigurationError(f"${KEY} holds characters that no key has; set it again")
    return {"Authorization": f"Bearer {key}"}


def _asked_pause_s(response: httpx.Response) -> float:
    """Return the seconds that the server asks to wait, 0 where it names none."""
    text = response.headers.get("retry-after", "")
    return min(float(text), MAX_PAUSE_S) if text.isdecimal() else 0.0
