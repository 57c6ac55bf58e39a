"""A worker: the host's hold on one zygote, to which it gives orders and files over a socket.

Starting one costs an interpreter's start; an order costs two forks inside and none of the calling process, however
large that is. Not covered: what is ordered and what the answer means (trial.py, sandbox.py).
Sources: unix(7) on SCM_RIGHTS and SCM_CREDENTIALS.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from pytest_collabcode.execution.cgroup import Group
from pytest_collabcode.execution.walls import Walls

_START_S = 60.0  # for one interpreter; beyond it the machine is at fault
_LATE_S = 60.0  # beyond a program's own deadline, which the zygote keeps
_END_S = 1.0
_ANSWER_BYTES = 4096
_CREDENTIALS = struct.Struct("iII")  # struct ucred: process, user, group


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
        self._patience_s = walls.wall_s + _LATE_S
        self._scratch = ""
        if not walls.namespaced:  # nothing can be mounted: its programs write here
            self._scratch = tempfile.mkdtemp(prefix="collabcode-")
            walls = walls._replace(scratch=self._scratch)
            self._empty_scratch()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, memory_file(walls.to_json()) as stdin:
            self._control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            try:
                self._process = subprocess.Popen(
                    [*command, str(theirs.fileno())],
                    env={},
                    stdin=stdin,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=[theirs.fileno()],
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
            WorkerLostError: there is no answer, nor will be one from this worker.
        """
        try:
            socket.send_fds(self._control, [word], files)
            answer = self._control.recv(_ANSWER_BYTES)
        except OSError as error:  # a TimeoutError is one
            raise WorkerLostError(self._last_words()) from error
        if not answer:
            raise WorkerLostError(self._last_words())
        if self._scratch:
            self._empty_scratch()
        report: dict[str, Any] = json.loads(answer)
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
        if self._scratch:
            subprocess.run(["rm", "-rf", "--", self._scratch], check=False)

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
        self._control.settimeout(self._patience_s)
        number: int = _CREDENTIALS.unpack(notes[0][2])[0]
        return number, json.loads(word)

    def _empty_scratch(self) -> None:
        folder = Path(self._scratch, "tmp")
        subprocess.run(["rm", "-rf", "--", folder], check=False)  # however deep it is
        folder.mkdir()

    def _last_words(self) -> str:
        """Kill it and return how it explained its end."""
        self.kill()
        status = self._process.wait()
        lines = self.complaint().splitlines()
        return lines[-1][:300] if lines else f"ended with exit status {status}"


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
