"""A worker: the host's hold on one zygote, to which it gives orders and files over a socket.

Starting one costs an interpreter's start; an order costs two forks inside and none of the calling process, however
large that is. Not covered: what is ordered and what the answer means (trial.py, sandbox.py).
Sources: unix(7) on SCM_RIGHTS and SCM_CREDENTIALS; Documentation/scheduler/sched-stats.rst of Linux on
/proc/PID/schedstat.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import struct
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from pytest_collabcode.execution.cgroup import Group
from pytest_collabcode.execution.scratch import make_scratch, remove_scratch
from pytest_collabcode.execution.walls import PROBE, STOP, TRIAL, Walls

_START_S = 60.0  # for one interpreter; beyond it the machine is at fault
_LATE_S = 60.0  # for the answer once a trial was stopped
_LOOK_S = 0.05  # between two looks at what kept a trial waiting
_END_S = 1.0
_ANSWER_BYTES = 4096
_CREDENTIALS = struct.Struct("iII")  # struct ucred: process, user, group
_END: dict[str, object] = {"signal": int, "status": int, "cpu_s": float}
_REPORTS: dict[bytes, dict[str, object]] = {  # what a report has, but for the number of its order
    TRIAL: {"wall_s": float, "timed_out": bool, "judge": _END, "program": _END},
    PROBE: {"program": _END},
}


class WorkerLostError(Exception):
    """The zygote is gone, or never came; the message is bubblewrap's or the interpreter's."""


class Worker:
    """A running zygote.

    Example:
        >>> from pytest_collabcode.execution.sandbox import open_sandbox
        >>> worker = open_sandbox().start()
        >>> os.path.exists(f"/proc/{worker.pid}"), worker.close()
        (True, None)
    """

    def __init__(self, command: Sequence[str], walls: Walls, *, group: Group | None = None) -> None:
        """Start a zygote and wait for its first word.

        Args:
            command: of the zygote, but for the number of its socket.
            walls: that it puts around each program.
            group: a control group for it and all that it forks.
        Raises:
            WorkerLostError: it did not start.
        """
        self.group = group
        self._wall_s = walls.wall_s
        self._namespaced = walls.namespaced
        self._scratch: Path | None = None  # of a program that runs where nothing can be mounted
        self._n_orders = 0
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, memory_file(walls.to_json()) as stdin:
            self._control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self.socket_number = theirs.fileno()  # as the zygote gets it
            try:
                self._process = subprocess.Popen(
                    [*command, str(self.socket_number)],
                    env={},
                    stdin=stdin,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=[self.socket_number],
                )
            except OSError as error:
                self._control.close()
                raise WorkerLostError(f"{command[0]} cannot be started: {error.strerror}") from error
        self.pid, word = self._greet()
        self.landlock: int = word["landlock"]  # its version
        self.interfaces: list[str] = word["interfaces"]  # of the network that it sees
        if group is not None:
            group.add(self.pid)

    def order(self, word: bytes, files: Sequence[int]) -> dict[str, Any]:
        """Give an order and wait for the answer.

        Args:
            word: TRIAL or PROBE.
            files: of a trial, the program's job, the judge's job and where the verdict goes; of a probe, where the
                findings go and the paths to look for.
        Raises:
            WorkerLostError: there is no answer to this order, nor will be one from this worker.
        """
        self._n_orders += 1
        if not self._namespaced:
            self._make_scratch()
        message = b" ".join([word, b"%d" % self._n_orders, os.fsencode(self._scratch or "")])
        try:
            socket.send_fds(self._control, [message], files)
            answer = self._wait_for_answer()
        except OSError as error:  # a TimeoutError is one
            raise WorkerLostError(self._last_words()) from error
        if not answer:
            raise WorkerLostError(self._last_words())
        report = _read_report(answer, word, self._n_orders)
        if report is None:
            self.kill()
            raise WorkerLostError("what it answered is no report on what it was asked for")
        self._remove_scratch()
        return report

    def cpu_s(self) -> float:
        """Return the CPU time of the zygote and of all it has forked and waited for.

        bwrap does not wait for its children, so this process's own count of its children's time lacks them.
        """
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # user and system, own and children's

    def complaint(self) -> str:
        """Return what a forked process said on standard error before its walls stood."""
        if self._process.stderr is None:
            return ""
        os.set_blocking(self._process.stderr.fileno(), False)
        return (self._process.stderr.read() or b"").decode(errors="replace").strip()

    def kill(self) -> None:
        """End the zygote and all that it forked; from any thread, whatever another one waits for."""
        self._process.kill()

    def close(self) -> None:
        """End it and free what it held; calling it again does nothing."""
        self._control.close()  # upon which an idle zygote ends by itself
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
        if self.group is not None:
            self.group.close()
        with contextlib.suppress(WorkerLostError):  # it is
            self._remove_scratch()

    def _greet(self) -> tuple[int, dict[str, Any]]:
        """Return the zygote's number, as it is here, and its first word."""
        word, notes = b"", list[tuple[int, int, bytes]]()
        self._control.settimeout(_START_S)
        with contextlib.suppress(OSError):  # a TimeoutError is one
            word, notes, _, _ = self._control.recvmsg(_ANSWER_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size))
        if not word:
            reason = self._last_words()
            self.close()
            raise WorkerLostError(reason)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        number: int = _CREDENTIALS.unpack(notes[0][2])[0]
        return number, json.loads(word)

    def _wait_for_answer(self) -> bytes:
        """Return the answer; a trial that has had its time by the clock is stopped.

        Time in which it was ready to run while the machine ran others is not counted, so that the clock never ends
        a program that only works, however busy the machine is: that is for the limit on CPU time to do.
        """
        asked = time.monotonic()
        left_s = self._wall_s
        while left_s > 0:
            self._control.settimeout(max(left_s, _LOOK_S))
            try:
                return self._control.recv(_ANSWER_BYTES)
            except TimeoutError:
                left_s = asked + self._wall_s + self._kept_waiting_s() - time.monotonic()
        self._control.send(STOP)
        self._control.settimeout(_LATE_S)
        return self._control.recv(_ANSWER_BYTES)

    def _kept_waiting_s(self) -> float:
        """Return how long program and judge, which take turns, were ready to run while the machine ran others.

        Of threads the one that waited longest counts, since they wait at the same time; those that have ended are
        not known any more. A program that makes its own threads wait for each other gains no more than the CPU time
        it may use. Where the kernel does not tell, it is 0.
        """
        waited_ns = 0
        for child in _words(f"/proc/{self.pid}/task/{self.pid}/children"):
            threads = Path(f"/proc/{child}/task").glob("*/schedstat")
            waited_ns += max((int(words[1]) for path in threads if len(words := _words(path)) > 1), default=0)
        return waited_ns / 1e9

    def _make_scratch(self) -> None:
        try:
            self._scratch = make_scratch()
        except OSError as error:
            raise WorkerLostError(f"no directory can be made for a program to write to: {error}") from error

    def _remove_scratch(self) -> None:
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            try:
                remove_scratch(scratch)
            except OSError as error:
                self.kill()
                raise WorkerLostError(str(error)) from error

    def _last_words(self) -> str:
        """Kill it and return how it explained its end."""
        self.kill()
        status = self._process.wait()
        lines = self.complaint().splitlines()
        return lines[-1][:300] if lines else f"ended with exit status {status}"


def _words(path: str | Path) -> list[str]:
    """Return the words of a file of the kernel's, none when what it tells of has ended."""
    try:
        return Path(path).read_text().split()
    except OSError:
        return []


def _read_report(answer: bytes, word: bytes, number: int) -> dict[str, Any] | None:
    """Return a report on this order, or None when it is anything else: nothing that is answered may end the host."""
    try:
        report: dict[str, Any] = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    if not _has_form(report, {"order": int, **_REPORTS[word]}) or report["order"] != number:
        return None
    return report


def _has_form(data: object, form: object) -> bool:
    """Say whether data is what it must be: numbers of their types, neither negative nor endless, by name."""
    if isinstance(form, dict):
        return (
            isinstance(data, dict) and data.keys() == form.keys() and all(_has_form(data[k], form[k]) for k in form)
        )
    return type(data) is form and isinstance(data, int | float) and 0 <= data < math.inf


def memory_file(data: bytes) -> BinaryIO:
    """Return an open file in memory with this content, at its beginning.

    Example:
        >>> with memory_file(b"x") as file: file.read()
        b'x'
    """
    file = os.fdopen(os.memfd_create("collabcode"), "w+b")
    file.write(data)
    file.seek(0)
    return file
