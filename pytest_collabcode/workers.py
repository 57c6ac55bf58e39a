"""Workers: prepare stored results in processes of one thread each, as many at once as there are cores.

On a few cores, independent single-threaded processes finish more work than one process with threads, and a worker
that is killed takes nothing else with it. Results travel through the store, never through a pipe.
Not covered: other machines.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from pytest_collabcode.errors import CollabcodeError
from pytest_collabcode.measures import Measures
from pytest_collabcode.pipeline import Pipeline
from pytest_collabcode.progress import Progress
from pytest_collabcode.settings import Settings
from pytest_collabcode.workbench import open_workbench


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Works of one subject that one process does in turn."""

    subject: str
    works: tuple[str, ...]
    cost: float  # relative; the dearest start first

    @property
    def label(self) -> str:
        """What the progress display calls it.

        Example:
            >>> Job(subject="demo/fedavg", works=("humaneval",), cost=250.0).label
            'demo/fedavg humaneval'
            >>> Job(subject="demo/fedavg", works=("train", "humaneval"), cost=320.0).label
            'demo/fedavg'
        """
        return self.subject if len(self.works) > 1 else f"{self.subject} {self.works[0]}"


def run_jobs(
    settings: Settings, jobs: Sequence[Job], progress: Progress, *, note: Callable[[str], None] = lambda text: None
) -> dict[tuple[str, str], str]:
    """Run jobs in worker processes until all have ended.

    Args:
        settings: of the session; every worker opens the same store.
        jobs: independent of each other.
        progress: shows what the workers report.
        note: told what a reader of the run should know.
    Returns:
        For each (subject, work) that did not get done, one sentence why; empty when all went well.
    Example:
        >>> from pathlib import Path
        >>> from pytest_collabcode.settings import make_settings
        >>> run_jobs(make_settings(directory=Path()), [], Progress())  # no job, so no process is started
        {}
    """
    context = multiprocessing.get_context("spawn")
    messages: multiprocessing.Queue[tuple[Job, str, Any]] = context.Queue()
    waiting = sorted(jobs, key=lambda job: job.cost)
    running: dict[str, tuple[Job, BaseProcess]] = {}
    failures: dict[tuple[str, str], str] = {}
    try:
        while waiting or running:
            while waiting and len(running) < max(1, settings.workers):
                job = waiting.pop()
                process: BaseProcess = context.Process(
                    target=_work, args=(settings, job, messages, os.getpid()), daemon=True
                )
                process.start()
                running[job.label] = (job, process)
            _drain(messages, progress, failures, note)
            for label, (job, process) in list(running.items()):
                if not process.is_alive():
                    _drain(messages, progress, failures, note)
                    del running[label]
                    _ended(job, process, progress, failures)
    finally:
        for _, process in running.values():
            process.kill()
    return failures


def _drain(
    messages: Any, progress: Progress, failures: dict[tuple[str, str], str], note: Callable[[str], None]
) -> None:
    timeout = 0.2
    while True:
        try:
            job, kind, value = messages.get(timeout=timeout)
        except queue.Empty:
            return
        timeout = 0.01
        if kind == "progress":
            progress.update(job.label, *value)
        elif kind == "note":
            note(value)
        else:
            work, text = value
            failures[job.subject, work] = text
            progress.line(f"{job.label}: {text}")


def _ended(job: Job, process: BaseProcess, progress: Progress, failures: dict[tuple[str, str], str]) -> None:
    progress.close(job.label)
    if process.exitcode == 0:
        return
    code = process.exitcode or 0
    how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
    text = f"the worker of {job.label} {how}; what it had finished is stored: run the same command again to continue"
    progress.line(text)
    for work in job.works:
        failures.setdefault((job.subject, work), text)


def _work(settings: Settings, job: Job, messages: Any, parent: int) -> None:
    torch.set_num_threads(1)

    def report(done: float, total: float, text: str) -> None:
        if os.getppid() != parent:  # the run was killed: do not go on unseen
            os._exit(1)
        messages.put((job, "progress", (done, total, text)))

    try:
        bench = open_workbench(settings)
    except CollabcodeError as error:  # a server that was there in the preflight may be gone
        for work in job.works:
            messages.put((job, "failure", (work, str(error))))
        return
    bench.report = report
    bench.note = lambda text: messages.put((job, "note", text))
    measures = Measures(Pipeline(bench))
    for work in job.works:
        try:
            measures.do(job.subject, work)
        except CollabcodeError as error:
            messages.put((job, "failure", (work, str(error))))
        except Exception as error:
            log = settings.store / "logs" / f"{os.getpid()}.txt"
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(traceback.format_exc(), encoding="utf-8")
            text = f"internal error ({type(error).__name__}: {error}); please report it with {log}"
            messages.put((job, "failure", (work, text)))
