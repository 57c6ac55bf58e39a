"""A crew: workers for several programs at a time, replaced when they are lost, gone when their work is done.

Not covered: what is run in which order (executor.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import LifoQueue
from typing import Self, TypeVar

from pytest_collabcode.execution.sandbox import Sandbox
from pytest_collabcode.execution.trial import Ruling, try_program
from pytest_collabcode.execution.worker import Worker, WorkerLostError
from pytest_collabcode.records import Outcome, Problem

_T = TypeVar("_T")


class Crew:
    """As many workers as wanted, started when first needed; a context manager that ends them all, busy or not.

    Attributes:
        size: how many.
    Example:
        >>> from pytest_collabcode.execution.sandbox import open_sandbox
        >>> problem = Problem(task_id="t", prompt="def f():\\n", test="def check(f): assert f()", entry_point="f")
        >>> with Crew(open_sandbox(), 2) as crew:
        ...     crew.submit(crew.try_program, problem, "    return 1\\n").result().outcome.value
        'passed'
    """

    def __init__(self, sandbox: Sandbox, size: int) -> None:
        self.size = size
        self._sandbox = sandbox
        self._seats: LifoQueue[_Seat] = LifoQueue()
        self._all = [_Seat() for _ in range(size)]
        for seat in self._all:
            self._seats.put(seat)
        self._door = threading.Lock()  # whoever needs a worker comes through here
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="execution")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        if kind is not None:  # else nobody is busy any more
            for seat in self._all:
                seat.kill()
        self._threads.shutdown(wait=True)
        for seat in self._all:
            seat.empty()

    def submit(self, task: Callable[..., _T], *arguments: object) -> Future[_T]:
        """Have a task done by the next thread that is free; tasks that have not begun by the end never do."""
        return self._threads.submit(task, *arguments)

    def try_program(self, problem: Problem, completion: str) -> Ruling:
        """Run a program; when its worker is lost, run it again with a new one while no other program runs.

        Returns:
            The ruling, an internal error when the second worker is lost as well.
        """
        with self._door:
            seats = [self._seats.get()]
        try:
            return self._attempt(seats, problem, completion)
        except WorkerLostError:
            pass
        with self._door:  # nobody starts, and who runs is waited for
            seats = [self._seats.get() for _ in self._all]
            try:
                return self._attempt(seats, problem, completion)
            except WorkerLostError as error:
                return Ruling(outcome=Outcome.INTERNAL_ERROR, detail=f"the zygote did not start or was lost: {error}")

    def _attempt(self, seats: Sequence[_Seat], problem: Problem, completion: str) -> Ruling:
        try:
            return seats[0].try_program(self._sandbox, problem, completion)
        finally:
            for seat in seats:
                self._seats.put(seat)


class _Seat:
    """A place for a worker, which is started when somebody needs it and replaced after it was lost."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._lock = threading.Lock()  # held while a worker is started, so that none escapes the end
        self._over = False

    def try_program(self, sandbox: Sandbox, problem: Problem, completion: str) -> Ruling:
        """Run a program; raise WorkerLostError when the worker is lost, or all is over."""
        with self._lock:
            if self._over:
                raise WorkerLostError("the run was stopped")
            worker = self._worker = self._worker or sandbox.start()
        try:
            return try_program(worker, sandbox.limits, problem, completion)
        except WorkerLostError:
            with self._lock:
                self._worker = None
            worker.close()
            raise

    def kill(self) -> None:
        """End the worker under whoever uses it, and start none again."""
        with self._lock:
            self._over = True
            if self._worker is not None:
                self._worker.kill()

    def empty(self) -> None:
        """Free what the worker held."""
        if self._worker is not None:
            self._worker.close()
