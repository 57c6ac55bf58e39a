"""Workers: prepare stored results in processes, as many at once as there are cores and memory.

On a few cores, independent single-threaded processes finish more work than one process with threads, and a worker
that is killed takes nothing else with it. Where cores are left over, those that ask a large model share them.
Results travel through the store, never through a pipe.
Not covered: other machines.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from pytest_collabcode.errors import CollabcodeError
from pytest_collabcode.machine import free_memory
from pytest_collabcode.measures import Measures
from pytest_collabcode.pipeline import Pipeline
from pytest_collabcode.progress import Progress
from pytest_collabcode.settings import Settings
from pytest_collabcode.workbench import open_workbench

PROCESS_BYTES = 5 << 29  # interpreter, torch, and what the engine takes for keys and values (measured: 2.6 GB)
ASKED_BYTES, TRAINED_BYTES = 6, 20  # a parameter: as read and in float32; with gradient, AdamW and what is averaged
MANY_PARAMETERS = 10_000_000  # below, two threads gain 1.5x alone (16 M: 1.7x), and lose beside other work


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Works of one subject that one process does in turn."""

    subject: str
    works: tuple[str, ...]
    cost: float  # relative; the dearest start first
    n_parameters: int = 0  # of the model that is asked or trained, about

    @property
    def n_bytes(self) -> int:
        """Memory that its process takes, about.

        Example:
            >>> Job(subject="smollm2-135m", works=("humaneval",), cost=70.0, n_parameters=134_515_008).n_bytes / 1e9
            3.49...
        """
        return PROCESS_BYTES + self.n_parameters * (TRAINED_BYTES if "train" in self.works else ASKED_BYTES)

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
    at_once = _at_once(settings.workers, jobs, note)
    waiting = sorted(jobs, key=lambda job: job.cost)
    running: dict[str, tuple[Job, BaseProcess]] = {}
    failures: dict[tuple[str, str], str] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop()
                threads = settings.workers // at_once if job.n_parameters >= MANY_PARAMETERS else 1
                process: BaseProcess = context.Process(
                    target=_work, args=(settings, job, threads, at_once, messages, os.getpid()), daemon=True
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


def _at_once(workers: int, jobs: Sequence[Job], note: Callable[[str], None]) -> int:
    """Return how many processes may run at a time, at least one: as many as the dearest in memory fit together."""
    wanted, free = max(1, min(workers, len(jobs))), free_memory()
    if free is None:
        return wanted
    needed = accumulate(sorted((job.n_bytes for job in jobs), reverse=True)[:wanted])
    fitting = max(1, sum(n_bytes <= free for n_bytes in needed))
    if fitting < wanted:
        note(f"{free / 1e9:.1f} GB of memory are free, so {fitting} instead of {wanted} processes prepare results")
    return fitting


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


def _work(settings: Settings, job: Job, threads: int, at_once: int, messages: Any, parent: int) -> None:
    torch.set_num_threads(threads)

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
    bench.programs = max(1, bench.programs // at_once)  # the other processes run programs too
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
