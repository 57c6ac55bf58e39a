"""As many processes as cores and memory allow, and no more; cores that are left over go to large models."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pytest_collabcode import pipeline, workers
from pytest_collabcode.pipeline import Pipeline
from pytest_collabcode.progress import Progress
from pytest_collabcode.records import Generation, Problem
from pytest_collabcode.settings import make_settings
from pytest_collabcode.workbench import open_workbench
from pytest_collabcode.workers import Job, run_jobs

GB = 10**9
SMALL, LARGE = 1_000_000, 1_000_000_000


def jobs(n, n_parameters, *, work="humaneval"):
    return [Job(subject=f"s{i}", works=(work,), cost=1.0, n_parameters=n_parameters) for i in range(n)]


class Started:
    """A process that only notes that it was started, and ends at once."""

    exitcode = 0

    def __init__(self, log, target, args, daemon):
        self._log, self._threads = log, args[2]

    def start(self):
        self._log.append(self._threads)

    def is_alive(self):
        return False


@pytest.fixture
def started(monkeypatch):
    """Run jobs on so many cores and so much memory; return the threads of each process, and what was noted."""

    def run(wanted, *, n_cores, free):
        log, notes = [], []
        monkeypatch.setattr(workers, "free_memory", lambda: free)
        context = workers.multiprocessing.get_context("spawn")
        monkeypatch.setattr(context, "Process", lambda **options: Started(log, **options), raising=False)
        monkeypatch.setattr(workers.multiprocessing, "get_context", lambda method: context)
        settings = make_settings(directory=Path(), options={"workers": str(n_cores)})
        assert run_jobs(settings, wanted, Progress(), note=notes.append) == {}
        return log, notes

    return run


@pytest.mark.parametrize(
    ("wanted", "n_cores", "threads"),
    [
        (jobs(3, LARGE), 2, [1, 1, 1]),
        (jobs(1, LARGE), 2, [2]),
        (jobs(3, LARGE), 32, [10, 10, 10]),
        (jobs(3, SMALL), 32, [1, 1, 1]),
        ([*jobs(1, SMALL), *jobs(1, LARGE)], 8, [4, 1]),
    ],
)
def test_cores_that_are_left_over_go_to_large_models(started, wanted, n_cores, threads):
    assert started(wanted, n_cores=n_cores, free=1000 * GB) == (threads, [])


@pytest.mark.parametrize(
    ("wanted", "free", "n"),
    [
        (jobs(8, SMALL), 24 * GB, 8),
        (jobs(8, LARGE), 24 * GB, 2),  # 8.7 GB each
        (jobs(8, LARGE), 4 * GB, 1),  # it may just work, and nothing else would
        (jobs(8, LARGE, work="train"), 24 * GB, 1),
        ([*jobs(1, LARGE), *jobs(7, SMALL)], 24 * GB, 6),
        (jobs(8, LARGE), None, 8),
    ],
)
def test_no_more_processes_than_memory_holds(started, wanted, free, n):
    threads, notes = started(wanted, n_cores=8, free=free)
    assert len(threads) == len(wanted) and max(threads) == (
        8 // n if max(j.n_parameters for j in wanted) == LARGE else 1
    )
    assert bool(notes) == (n < 8)
    if notes:
        assert f"so {n} instead of 8 processes" in notes[0] and "GB of memory are free" in notes[0]


@pytest.mark.parametrize(("at_once", "programs"), [(1, 8), (3, 2), (20, 1)])
def test_processes_share_the_cores_for_generated_programs_as_well(monkeypatch, at_once, programs):
    bench = SimpleNamespace(programs=8)
    monkeypatch.setattr(workers, "open_workbench", lambda settings: bench)
    monkeypatch.setattr(workers, "Pipeline", lambda given: given)
    monkeypatch.setattr(workers, "Measures", lambda given: SimpleNamespace(do=lambda *work: None))
    workers._work(None, jobs(1, SMALL)[0], torch.get_num_threads(), at_once, None, 0)
    assert bench.programs == programs


@pytest.mark.parametrize(("options", "programs"), [({"workers": "3"}, 3), ({"workers": "1", "device": "cuda"}, 5)])
def test_as_many_programs_run_at_a_time_as_there_are_workers_and_beside_a_gpu_all_cores(
    monkeypatch, tmp_path, options, programs
):
    monkeypatch.setattr("pytest_collabcode.workbench.usable_cores", lambda: 5)
    asked = []

    def execute_each(problems, generations, numbers, *, workers, unsafe):
        asked.append(workers)
        raise KeyboardInterrupt  # nothing is to be run

    monkeypatch.setattr(pipeline, "execute_each", execute_each)
    monkeypatch.setattr(pipeline.humaneval, "self_check", lambda problems, *, workers, unsafe: asked.append(workers))
    settings = make_settings(directory=tmp_path, options={"store": str(tmp_path), **options})
    problem = Problem(task_id="t", prompt="def f():\n", test="def check(f): assert f()", entry_point="f")
    drawn = Generation(
        task_id="t", sample_index=0, completion="    return 1\n", n_tokens=1, duration_s=0.0, stop_reason="eos"
    )
    with pytest.raises(KeyboardInterrupt):
        Pipeline(open_workbench(settings)).executions([problem], [drawn])
    assert asked == [programs, programs]
