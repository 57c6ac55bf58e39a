"""The judge's side: runs a problem's test in a process of its own and calls the generated program through a proxy.

Only this side writes verdicts, on a pipe that the program's process does not hold. Helper functions of the prompt
that the test uses are this side's own copy. A fault of the program is remembered even when the test swallows the
exception. Runs inside the sandbox: imports the standard library and this room only.
Not covered: tests that look at anything but the entry point's answers (attributes, printed text, identity).
"""

from __future__ import annotations

import builtins
import json
import os
import random
from collections.abc import Callable, Mapping
from types import CodeType, TracebackType
from typing import Any, NoReturn

from pytest_collabcode.execution.confine import confine
from pytest_collabcode.execution.walls import Walls
from pytest_collabcode.execution.wire import (
    BrokenWireError,
    Channel,
    NotPlainError,
    TooLargeError,
    decode,
    encode,
    read_json,
    update_in_place,
)

READER, WRITER, VERDICT, JOB, RULES = 3, 4, 5, 6, 7
"""The files of this process: answers in, calls out; where the verdict goes; problem and test; Landlock's rules."""

GONE = 3
"""Exit status of a judge whose program has ended, or closed its files, before it answered."""

UNLOADABLE = "the problem's own test cannot be loaded"
NEVER_CALLED = "the problem's test never calls the program"
NOT_PLAIN = "the test passes an argument that cannot cross to the program"
FAULTS_OF_PROBLEM = (UNLOADABLE, NEVER_CALLED, NOT_PLAIN)
"""How the details of internal errors begin that no other run ends without."""

Ruling = tuple[str, str]
"""Outcome and detail; the outcome "gone" is settled outside, from the program's exit status."""


class ProgramError(Exception):
    """The program did something that no honest answer can follow."""


class Proxy:
    """The generated function as the test sees it.

    Example:
        >>> (calls, asked), (answers, told) = os.pipe(), os.pipe()
        >>> Channel(calls, told, limit_bytes=100).send({"result": 9})  # what the program's side says of f(3)
        >>> proxy = Proxy(Channel(answers, asked, limit_bytes=100))
        >>> proxy(3), proxy.n_calls, proxy.fault
        (9, 1, None)
        >>> for end in (calls, asked, answers, told): os.close(end)
    """

    def __init__(self, channel: Channel) -> None:
        self.fault: Ruling | None = None
        self.raised: BaseException | None = None  # the last exception that came from the program
        self.n_calls = 0
        self._channel = channel

    def load(self) -> None:
        """Wait until the program's module has been run."""
        self._receive("while the program was loaded")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the program; arguments it changed in place are changed here as well."""
        if self.fault is not None:
            raise ProgramError
        self.n_calls += 1
        try:
            request = {"args": encode(args), "kwargs": encode(kwargs)}
            self._channel.send(request)
        except NotPlainError:
            self._fail("internal_error", NOT_PLAIN)
        except TooLargeError:  # no test has such arguments of its own, so the program's answers are in them
            self._fail("failed", "the answer is too large to be passed on")
        except OSError:
            self._fail("gone", "")
        reply = self._receive("by the program")
        try:
            for key, own in (("args", args), ("kwargs", kwargs)):
                if key in reply:  # the call has changed something in there
                    update_in_place(own, decode(reply[key]))
            return decode(reply["result"])
        except (KeyError, BrokenWireError):
            self._fail("tampered", "the program forged an answer")

    def _receive(self, when: str) -> dict[str, Any]:
        try:
            reply = self._channel.receive()
        except EOFError:
            self._fail("gone", "")
        except BrokenWireError:
            self._fail("tampered", "the program wrote on the judge's wire")
        if not isinstance(reply, dict):
            self._fail("tampered", "the program forged an answer")
        if "raised" in reply:
            self._raise(reply["raised"], when)
        if "fault" in reply:
            large = reply["fault"] == "too large"
            self._fail("failed", "the answer is too large" if large else "the answer is not plain data")
        return reply

    def _raise(self, names: object, when: str) -> None:
        kinds = find_exceptions(names)
        if not kinds:
            self._fail("tampered", "the program forged an exception")
        name = kinds[0].__name__
        if issubclass(kinds[0], MemoryError):
            self._fail("out_of_memory", f"{name} raised {when}")
        if not issubclass(kinds[0], Exception):  # SystemExit and its like end the program, never the judge
            self._fail("failed", f"{name} raised {when}")
        self.raised = make_exception(kinds)
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


def make_exception(kinds: list[type[BaseException]]) -> Exception:
    """Return an exception of the first of these classes that can be made from a message alone.

    Example:
        >>> make_exception([UnicodeDecodeError, UnicodeError, ValueError])
        UnicodeError('raised by the program')
    """
    for kind in kinds:
        try:
            error = kind("raised by the program")
        except TypeError:
            continue
        if isinstance(error, Exception):
            return error
    return ProgramError()


def judge(job: Mapping[str, Any], channel: Channel) -> Ruling:
    """Run the test against the program at the other end of the channel.

    Args:
        job: prompt, canonical_solution, test, entry_point.
        channel: to the program's process.
    Returns:
        Outcome and detail; the detail holds builtin exception names and test lines only.
    Example:
        >>> (calls, asked), (answers, told) = os.pipe(), os.pipe()
        >>> for message in ("ready", {"loaded": True}, {"result": 4}):  # what the program's side says
        ...     Channel(calls, told, limit_bytes=100).send(message)
        >>> test = "def check(g):\\n    assert g(1) == 2\\n"
        >>> job = {"prompt": "def f(x):\\n    pass", "entry_point": "f", "test": test}
        >>> judge(job, Channel(answers, asked, limit_bytes=100))
        ('failed', 'AssertionError at test line 2')
        >>> for end in (calls, asked, answers, told): os.close(end)
    """
    try:
        check = load_check(job)
    except Exception as error:
        return "internal_error", f"{UNLOADABLE}: {type(error).__name__}"
    try:
        if channel.receive() != "ready":
            raise BrokenWireError
    except (EOFError, BrokenWireError):
        return "internal_error", "the program's process did not start"
    proxy = Proxy(channel)
    random.seed(0)  # tests that draw their cases draw the same ones every time
    try:
        proxy.load()
        check(proxy)
    except MemoryError:
        return proxy.fault or ("out_of_memory", "MemoryError in the test")
    except BaseException as error:
        return proxy.fault or ("failed", describe(error, error is proxy.raised))
    if proxy.fault is None and proxy.n_calls == 0:
        return "internal_error", NEVER_CALLED
    return proxy.fault or ("passed", "")


def load_check(job: Mapping[str, Any]) -> Callable[[Proxy], None]:
    """Return a function that runs the problem's `check` with the trusted copy of the prompt's helpers.

    Example:
        >>> test = "def check(g):\\n    assert g is f"
        >>> check = load_check({"prompt": "def f(x):\\n    pass", "entry_point": "f", "test": test})
        >>> check(Proxy(Channel(0, 1, limit_bytes=9)))
    """
    namespace: dict[str, Any] = {"__name__": "test"}
    exec(_compile_prompt(job["prompt"], job.get("canonical_solution", "")), namespace)
    exec(compile(job["test"], "<test>", "exec", dont_inherit=True), namespace)
    check = namespace["check"]

    def run(proxy: Proxy) -> None:
        namespace[job["entry_point"]] = proxy  # tests also call the function by its name
        check(proxy)

    return run


def _compile_prompt(prompt: str, canonical_solution: str) -> CodeType:
    for rest in ("", canonical_solution):
        try:
            return compile(prompt + rest, "<prompt>", "exec", dont_inherit=True)
        except SyntaxError:  # a prompt that ends before the function has a body
            continue
    return compile(prompt + "    pass\n", "<prompt>", "exec", dont_inherit=True)


def describe(error: BaseException, from_program: bool) -> str:
    """Return the exception's type and the test's line, never its message: that may be the program's text.

    Example:
        >>> describe(AssertionError("secret"), False)
        'AssertionError raised while the program was loaded'
    """
    line, trace = 0, error.__traceback__
    while trace is not None:
        line = _line(trace) or line
        trace = trace.tb_next
    name = type(error).__name__
    if not line:
        return f"{name} raised while the program was loaded"
    return f"{name} raised by the program at test line {line}" if from_program else f"{name} at test line {line}"


def _line(trace: TracebackType) -> int:
    return trace.tb_lineno if trace.tb_frame.f_code.co_filename == "<test>" else 0


def main(walls: Walls) -> NoReturn:
    """Judge one program from a forked process that has these files and the standard streams only."""
    job = read_json(JOB)
    confine(walls, RULES)
    outcome, detail = judge(job, Channel(READER, WRITER, limit_bytes=walls.output_bytes))
    os.write(VERDICT, json.dumps([outcome, detail]).encode())
    os._exit(GONE if outcome == "gone" else 0)
