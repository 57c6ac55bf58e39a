"""The proxy: the generated function as the test sees it, on the judge's side of the wire.

It calls the program with what the test passes and hands over the answer, the changes the call has made to what
program and test share, or the exception. What no honest answer can follow is a fault, which no test can swallow.
Runs inside the sandbox: imports the standard library and this room only.
Not covered: calls at the same time (the test's threads take turns).
"""

from __future__ import annotations

import builtins
from _thread import allocate_lock  # all that is needed of `threading`, which is not loaded otherwise
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from pytest_collabcode.execution.values import Heap, NotPlainError
from pytest_collabcode.execution.wire import BrokenWireError, Channel, TooLargeError

NOT_PLAIN = "the test passes an argument that cannot cross to the program"
MAX_CHUNK = 64
"""Items of an iterator that are asked for at once; the first ones singly, so that it does nothing before its time."""

Ruling = tuple[str, str]
"""Outcome and detail; the outcome "gone" is settled outside, from the program's exit status."""

Step = Callable[[], object]
"""Called when the test is loaded, when the program is, and when it is called at first."""


class ProgramError(Exception):
    """The program did something that no honest answer can follow."""


class Proxy:
    """The generated function.

    Example:
        >>> import os
        >>> (calls, asked), (answers, told) = os.pipe(), os.pipe()
        >>> Channel(calls, told, limit_bytes=100).send({"result": 9})  # what the program's side says of f(3)
        >>> proxy = Proxy(Channel(answers, asked, limit_bytes=100))
        >>> proxy(3), proxy.n_calls, proxy.fault
        (9, 1, None)
        >>> for end in (calls, asked, answers, told): os.close(end)
    """

    def __init__(self, channel: Channel, step: Step = lambda: None) -> None:
        self.fault: Ruling | None = None
        self.raised: BaseException | None = None  # the last exception that came from the program
        self.n_calls = 0
        self._channel = channel
        self._step = step
        self._heap = Heap(self._pull)
        self._turn = allocate_lock()

    def load(self) -> None:
        """Wait until the program's module has been run."""
        reply = self._receive()
        if "raised" in reply:
            self._raise(reply, "while the program was loaded")
        self._step()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the program; what it changed in place is changed here as well."""
        with self._turn:
            if self.n_calls == 0:
                self._step()
            self.n_calls += 1
            return self._ask({}, args, kwargs)

    def _pull(self, number: int) -> Iterator[Any]:
        """Yield the items of an iterator that the program has answered with."""
        n_taken, n_items, items = 0, 1, [None]
        while len(items) == n_items:
            n_items = min(1 + n_taken // 8, MAX_CHUNK)
            with self._turn:
                items = self._ask({"next": [number, n_items]}, (), {})
            if not isinstance(items, list) or len(items) > n_items:
                self._fail("tampered", "the program forged an answer")
            yield from items
            n_taken += n_items

    def _ask(self, request: dict[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if self.fault is not None:
            raise ProgramError
        heap = self._heap
        try:
            request["args"] = [heap.encode(value) for value in args]
            if kwargs:
                request["kwargs"] = {name: heap.encode(value) for name, value in kwargs.items()}
            if changes := heap.changes():
                request["changes"] = changes
            self._channel.send(request)
        except NotPlainError:
            self._fail("internal_error", NOT_PLAIN)
        except TooLargeError:  # no test has such arguments of its own, so the program's answers are in them
            self._fail("failed", "the answer is too large to be passed on")
        except OSError:
            self._fail("gone", "")
        reply = self._receive()
        try:
            result = None if "raised" in reply else heap.decode(reply["result"])
            if "changes" in reply:
                heap.apply(reply["changes"])
            heap.keep(reply.get("kept", ()))
            heap.mark()
        except (KeyError, BrokenWireError):
            self._fail("tampered", "the program forged an answer")
        if "raised" in reply:
            self._raise(reply, "by the program")
        return result

    def _receive(self) -> dict[str, Any]:
        try:
            reply = self._channel.receive()
        except EOFError:
            self._fail("gone", "")
        except BrokenWireError:
            self._fail("tampered", "the program wrote on the judge's wire")
        if not isinstance(reply, dict):
            self._fail("tampered", "the program forged an answer")
        if "fault" in reply:
            large = reply["fault"] == "too large"
            self._fail("failed", "the answer is too large" if large else "the answer is not plain data")
        return reply

    def _raise(self, reply: Mapping[str, Any], when: str) -> NoReturn:
        kinds = find_exceptions(reply["raised"])
        if not kinds:
            self._fail("tampered", "the program forged an exception")
        name = kinds[0].__name__
        if issubclass(kinds[0], MemoryError):
            self._fail("out_of_memory", f"{name} raised {when}")
        if not issubclass(kinds[0], Exception):  # SystemExit and its like end the program, never the judge
            self._fail("failed", f"{name} raised {when}")
        if issubclass(
            kinds[0], StopIteration | StopAsyncIteration
        ):  # it would end the test's own loop, as in PEP 479
            kinds = [RuntimeError]
        said = reply.get("said")
        self.raised = make_exception(kinds, said if isinstance(said, str) else "raised by the program")
        raise self.raised

    def _fail(self, outcome: str, detail: str) -> NoReturn:
        self.fault = self.fault or (outcome, detail)
        raise ProgramError


def find_exceptions(names: object) -> list[type[BaseException]]:
    """Return the builtin exception classes of these names; none when the names are not what a program's side sends.

    Example:
        >>> find_exceptions(["ValueError", "print"]), find_exceptions("ValueError"), find_exceptions([[]])
        ([<class 'ValueError'>], [], [])
    """
    if not isinstance(names, list):
        return []
    values = [getattr(builtins, name, None) for name in names if isinstance(name, str)]
    return [value for value in values if isinstance(value, type) and issubclass(value, BaseException)]


def make_exception(kinds: list[type[BaseException]], message: str) -> Exception:
    """Return an exception of the first of these classes that can be made from a message alone.

    Example:
        >>> make_exception([UnicodeDecodeError, UnicodeError, ValueError], "raised by the program")
        UnicodeError('raised by the program')
    """
    for kind in kinds:
        try:
            error = kind(message)
        except TypeError:
            continue
        if isinstance(error, Exception):
            return error
    return ProgramError()
