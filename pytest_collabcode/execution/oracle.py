"""The judge's side: runs a problem's test in a process of its own and calls the generated program through a proxy.

Only this side writes verdicts, on a pipe that the program's process does not hold. Helper functions of the prompt
that the test uses are this side's own copy. A fault of the program is remembered even when the test swallows the
exception. Runs inside the sandbox: imports the standard library and this room only.
Not covered: tests that look at anything but the entry point's answers (its attributes, printed text).
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Mapping
from types import CodeType, TracebackType
from typing import Any, NoReturn

from pytest_collabcode.execution.confine import confine
from pytest_collabcode.execution.proxy import NOT_PLAIN, Proxy, Ruling, Step
from pytest_collabcode.execution.walls import Walls
from pytest_collabcode.execution.wire import BrokenWireError, Channel, read_json

READER, WRITER, VERDICT, JOB, RULES = 3, 4, 5, 6, 7
"""The files of this process: answers in, calls out; where the verdict goes; problem and test; Landlock's rules."""

GONE = 3
"""Exit status of a judge whose program has ended, or closed its files, before it answered."""

UNLOADABLE = "the problem's own test cannot be loaded"
NEVER_CALLED = "the problem's test never calls the program"
UNCALLED = "the problem's test ended before it called the program"
FAULTS_OF_PROBLEM = (UNLOADABLE, NEVER_CALLED, NOT_PLAIN, UNCALLED)
"""How the details of internal errors begin that no other run ends without."""

STEP = b" "
"""Said at each step, in front of the verdict."""

INNOCENT = (0, 2)
"""After so many steps only the test runs: however that ends, the program has no part in it."""


def judge(job: Mapping[str, Any], channel: Channel, step: Step = lambda: None) -> Ruling:
    """Run the test against the program at the other end of the channel.

    Args:
        job: prompt, canonical_solution, test, entry_point.
        channel: to the program's process.
        step: called at each step.
    Returns:
        Outcome and detail; the detail holds names of exceptions and test lines only.
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
    except BaseException as error:  # SystemExit as well: this process ends when it has a verdict
        return "internal_error", f"{UNLOADABLE}: {type(error).__name__}"
    step()
    try:
        if channel.receive() != "ready":
            raise BrokenWireError
    except (EOFError, BrokenWireError):
        return "internal_error", "the program's process did not start"
    proxy = Proxy(channel, step)
    try:
        proxy.load()
    except Exception as error:
        outcome = "out_of_memory" if isinstance(error, MemoryError) else "failed"
        return proxy.fault or (outcome, f"{type(error).__name__} raised while the program was loaded")
    random.seed(0)  # tests that draw their cases draw the same ones every time
    try:
        check(proxy)
    except BaseException as error:
        if proxy.n_calls == 0:  # so nothing of the program is in it
            return "internal_error", f"{UNCALLED}: {describe(error, False)}"
        if isinstance(error, MemoryError):
            return proxy.fault or ("out_of_memory", "MemoryError in the test")
        return proxy.fault or ("failed", describe(error, error is proxy.raised))
    if proxy.n_calls == 0:
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
        'AssertionError in the test'
    """
    line, trace = 0, error.__traceback__
    while trace is not None:
        line = _line(trace) or line
        trace = trace.tb_next
    name = type(error).__name__
    if not line:  # in what calls `check`, or where it is no function of the test
        return f"{name} in the test"
    return f"{name} raised by the program at test line {line}" if from_program else f"{name} at test line {line}"


def _line(trace: TracebackType) -> int:
    return trace.tb_lineno if trace.tb_frame.f_code.co_filename == "<test>" else 0


def main(walls: Walls) -> NoReturn:
    """Judge one program from a forked process that has these files and the standard streams only."""
    job = read_json(JOB)
    confine(walls, RULES)
    channel = Channel(READER, WRITER, limit_bytes=walls.output_bytes)
    outcome, detail = judge(job, channel, lambda: os.write(VERDICT, STEP))
    os.write(VERDICT, json.dumps([outcome, detail]).encode())
    os._exit(GONE if outcome == "gone" else 0)
