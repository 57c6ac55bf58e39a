"""The generated program's side: runs it in a process of its own and answers calls with plain data.

Nothing here is trusted once the program has started: what this side sends is only ever data to the judge, and no
verdict is made here. Runs inside the sandbox: imports the standard library and this room only.
"""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NoReturn

from pytest_collabcode.execution.confine import confine
from pytest_collabcode.execution.values import Heap, NotPlainError
from pytest_collabcode.execution.walls import Walls
from pytest_collabcode.execution.wire import BrokenWireError, Channel, TooLargeError, read_json

READER, WRITER, JOB, RULES = 3, 4, 5, 6
"""The files of this process: calls come in, answers go out; the program and its entry point; Landlock's rules."""

_SAID_CHARACTERS = 1000  # of an exception's message that the test may look at; no verdict shows any


def main(walls: Walls) -> NoReturn:
    """Serve one program from a forked process that has these files and the standard streams only."""
    job = read_json(JOB)
    confine(walls, RULES)
    channel = Channel(READER, WRITER, limit_bytes=walls.output_bytes)
    channel.send("ready")  # whatever ends this process from here on, the program did
    try:
        function = load(job["program"], job["entry_point"])
    except BaseException as error:  # SystemExit and KeyboardInterrupt are answers too
        _send(channel, {"raised": builtin_names(error)})
        os._exit(1)
    _send(channel, {"loaded": True})
    heap = Heap()
    while True:
        try:
            request = channel.receive()
        except (EOFError, BrokenWireError):
            os._exit(0)
        _send(channel, answer(function, request, heap))


def load(program: str, entry_point: str) -> Callable[..., Any]:
    """Run a program as a module of its own and return the function it was asked for.

    Example:
        >>> load("def f(x):\\n    return x + 1\\n", "f")(1)
        2
    """
    module = ModuleType("candidate")
    sys.modules["candidate"] = module  # dataclasses and typing look modules up by name
    exec(compile(program, "<program>", "exec", dont_inherit=True), module.__dict__)
    if entry_point not in module.__dict__:
        raise NameError(entry_point)
    function: Callable[..., Any] = module.__dict__[entry_point]
    return function


def answer(function: Callable[..., Any], request: Mapping[str, Any], heap: Heap) -> dict[str, Any]:
    """Call the function as the judge asked and return what becomes of it, as plain data.

    Example:
        >>> heap = Heap()
        >>> answer(lambda x: x.append(1) or x, {"args": [[0]]}, heap)
        {'result': {'ref': 0}, 'changes': [[0, [0, 1]]]}
        >>> answer(iter, {"args": ["ab"]}, heap), answer(iter, {"next": [0, 9]}, heap)
        ({'result': {'iterator': 0}}, {'result': ['a', 'b']})
    """
    try:
        reply = _call(function, request, heap)
    except NotPlainError:
        return {"fault": "not plain"}
    except TooLargeError:
        return {"fault": "too large"}
    except BaseException as error:  # for want of memory, say
        return {"raised": builtin_names(error)}
    if kept := heap.release():  # what the program still has, so that the next call finds it as the test left it
        reply["kept"] = kept
    return reply


def _call(function: Callable[..., Any], request: Mapping[str, Any], heap: Heap) -> dict[str, Any]:
    args = [heap.decode(data) for data in request.get("args", ())]
    kwargs = {name: heap.decode(data) for name, data in request.get("kwargs", {}).items()}
    heap.apply(request.get("changes", ()))
    heap.mark()
    if "next" in request:
        function, args = heap.advance, request["next"]
    reply: dict[str, Any]
    try:
        reply = {"result": heap.encode(function(*args, **kwargs))}
    except (NotPlainError, TooLargeError):
        raise
    except BaseException as error:
        reply = {"raised": builtin_names(error)}
        if len(error.args) == 1 and type(error.args[0]) is str and len(error.args[0]) <= _SAID_CHARACTERS:
            reply["said"] = error.args[0]
    if changes := heap.changes():  # before it raised as well
        reply["changes"] = changes
    return reply


def builtin_names(error: BaseException) -> list[str]:
    """Return the builtin exception classes an exception belongs to, nearest first.

    Example:
        >>> builtin_names(ZeroDivisionError())[:2]
        ['ZeroDivisionError', 'ArithmeticError']
    """
    return [kind.__name__ for kind in type(error).__mro__ if getattr(builtins, kind.__name__, None) is kind]


def _send(channel: Channel, message: Mapping[str, Any]) -> None:
    try:
        channel.send(message)
    except TooLargeError:
        channel.send({"fault": "too large"})
    except MemoryError:
        channel.send({"raised": ["MemoryError"]})
