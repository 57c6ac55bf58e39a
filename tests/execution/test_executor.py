import itertools
import os
import signal
import threading
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_collabcode.errors import ConfigurationError, InternalSampleError
from pytest_collabcode.execution import bubblewrap, crew, executor
from pytest_collabcode.execution.executor import LOOK_AHEAD, execute, execute_each, execute_in_order
from pytest_collabcode.execution.policy import Limits
from pytest_collabcode.records import Generation, Outcome, Problem

RIGHT, WRONG = "    return x + 1\n", "    return x\n"


def problem(task_id: str = "t", test: str = "assert candidate(1) == 2", prompt: str = "def f(x):\n") -> Problem:
    return Problem(task_id=task_id, prompt=prompt, test=f"def check(candidate):\n    {test}\n", entry_point="f")


def generation(completion: str, sample_index: int = 0, task_id: str = "t") -> Generation:
    return Generation(
        task_id=task_id, sample_index=sample_index, completion=completion, n_tokens=0, duration_s=0, stop_reason="eos"
    )


def test_executions_stand_in_the_order_of_the_generations():
    texts = [RIGHT, WRONG, "    syntax error\n", WRONG, RIGHT]
    executions = execute({"t": problem()}, [generation(text, i) for i, text in enumerate(texts)], workers=2)
    assert [e.sample_index for e in executions] == [0, 1, 2, 3, 4]
    assert [e.passed for e in executions] == [True, False, False, False, True]


def test_equal_programs_run_once_per_problem_and_share_the_outcome(monkeypatch):
    ran = []
    original = crew.try_program
    monkeypatch.setattr(crew, "try_program", lambda *a: ran.append(a[2].task_id) or original(*a))
    problems = {"t": problem(), "u": problem("u", test="assert candidate(1) == 1")}
    steps = []
    executions = execute(
        problems,
        [generation(WRONG, 0), generation(WRONG, 1), generation(WRONG, 0, "u")],
        progress=lambda done, total: steps.append((done, total)),
    )
    assert sorted(ran) == ["t", "u"]
    assert [e.passed for e in executions] == [False, False, True]
    assert steps[-1] == (3, 3)


def test_nothing_to_run_is_no_error():
    assert execute({}, []) == []


def test_a_generation_without_its_problem_is_refused_before_anything_runs():
    with pytest.raises(ConfigurationError, match="task_id='x'"):
        execute({"t": problem()}, [generation(RIGHT, task_id="x")])


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("syntax error", "cannot be loaded: SyntaxError"),
        ("pass", "never calls the program"),
        ("candidate(lambda: 1)", "argument that cannot cross"),
        ("try: candidate(lambda: 1)\n    except Exception: pass", "argument that cannot cross"),
    ],
)
def test_a_fault_of_the_problem_ends_the_run_and_names_the_sample(test, reason):
    with pytest.raises(InternalSampleError, match=f"t#7: .*{reason}"):
        execute({"t": problem(test=test)}, [generation(RIGHT, 7)])


def test_a_sandbox_that_does_not_start_is_an_internal_error(monkeypatch):
    opened = executor.open_sandbox()
    interpreter = str(bubblewrap._base_interpreter())
    broken = replace(opened, command=tuple("/no/python" if w == interpreter else w for w in opened.command))
    monkeypatch.setattr(executor, "open_sandbox", lambda limits, unsafe: broken)
    with pytest.raises(InternalSampleError, match=r"t#0: .*did not start.*/no/python"):
        execute({"t": problem()}, [generation(RIGHT)])


@pytest.mark.parametrize(
    ("completion", "test", "outcome", "detail"),
    [
        (WRONG, "x = 1\n    assert candidate(1) == 2", "failed", "AssertionError at test line 3"),
        ("    return x / 0\n", "candidate(1)", "failed", "ZeroDivisionError raised by the program at test line 2"),
        ("    return 'x'\n", "candidate(1) + 1", "failed", "TypeError at test line 2"),
        ("    pass\ndel f\n", "candidate(1)", "failed", "NameError raised while the program was loaded"),
        ("    pass\n1 / 0\n", "candidate(1)", "failed", "ZeroDivisionError raised while the program was loaded"),
        ("    import os; os._exit(0)\n", "try: candidate(1)\n    except: pass", "failed", "the program ended before"),
        ("    return object\n", "try: candidate(1)\n    except: pass", "failed", "the answer is not plain data"),
        ("    return [x]\n", "v = 1\n    while True: v = candidate(v)", "failed", "the answer is too large"),
        ("    return range(10**12)\n", "sum(candidate(1))", "timeout", "the test ran out of CPU time"),
        ("    return range(10**12)\n", "list(candidate(1))", "out_of_memory", "MemoryError in the test"),
    ],
)
def test_details_name_the_exception_and_the_line_of_the_test(completion, test, outcome, detail):
    limits = Limits(cpu_s=1, memory_bytes=200 << 20)
    (execution,) = execute({"t": problem(test=test)}, [generation(completion)], limits=limits)
    assert execution.outcome is Outcome(outcome)
    assert execution.detail.startswith(detail)


def test_a_test_draws_the_same_random_cases_every_time():
    drawing = problem(test="import random; assert candidate(random.random()) == 0.8444218515250481")
    (execution,) = execute({"t": drawing}, [generation("    return x\n")])
    assert execution.passed


def test_an_interrupt_ends_the_running_programs_before_their_limits():
    def interrupt(done, total):
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        execute(
            {"t": problem()},
            [generation(RIGHT), generation("    import time; time.sleep(60)\n")],
            limits=Limits(wall_s=50),
            progress=interrupt,
        )
    assert time.monotonic() - started < 50


SLEEPS = "    import time; time.sleep(1); return x + 1\n"


def lose(team, times):
    """Kill the worker that is busy, so many times, as the kernel may do when memory runs out."""
    lost = set()
    deadline = time.monotonic() + 30
    while len(lost) < times and time.monotonic() < deadline:
        for worker in [seat._worker for seat in team._all]:
            if worker is not None and worker.pid not in lost and children(worker):
                lost.add(worker.pid)
                os.kill(worker.pid, signal.SIGKILL)
        time.sleep(0.01)


def children(worker):
    try:
        return Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text()
    except OSError:
        return ""


@pytest.mark.parametrize(("times", "outcome"), [(1, "passed"), (2, "internal_error")])
def test_a_lost_zygote_is_replaced_and_its_program_tried_once_more(times, outcome):
    with crew.Crew(executor.open_sandbox(), 1) as team:
        killer = threading.Thread(target=lose, args=(team, times))
        killer.start()
        assert team.try_program(problem(), SLEEPS).outcome == outcome
        killer.join()
        assert team.try_program(problem(), RIGHT).outcome == "passed"


def test_a_second_try_is_made_while_nobody_else_runs(monkeypatch):
    running, seen = [], []
    original = crew.try_program

    def watched(worker, limits, tried, completion):
        running.append(completion)
        try:
            if completion == SLEEPS and not seen:
                seen.append("lost")
                time.sleep(0.2)
                raise crew.WorkerLostError("killed")
            if completion == SLEEPS:
                seen.append(len(running))
            return original(worker, limits, tried, completion)
        finally:
            if seen[1:] == [1]:
                seen.append(len(running))  # nor has anybody begun meanwhile
            running.remove(completion)

    monkeypatch.setattr(crew, "try_program", watched)
    texts = [SLEEPS, *(f"    return x + 1 + {i} * 0\n" for i in range(30))]
    executions = execute({"t": problem()}, [generation(text, i) for i, text in enumerate(texts)], workers=2)
    assert all(execution.passed for execution in executions)
    assert seen == ["lost", 1, 1]


def test_a_stream_keeps_the_order_and_yields_internal_errors():
    texts = [RIGHT, "    while True: pass\n", WRONG, RIGHT, WRONG]
    problems = {"t": problem(), "u": problem("u", test="pass")}  # a test that never calls its program
    stream = [generation(text, i) for i, text in enumerate(texts)] + [generation(RIGHT, 0, "u")]
    executions = list(execute_in_order(problems, iter(stream), limits=Limits(cpu_s=1), workers=2))
    assert [(e.task_id, e.sample_index) for e in executions] == [(g.task_id, g.sample_index) for g in stream]
    assert [e.outcome for e in executions] == ["passed", "timeout", "failed", "passed", "failed", "internal_error"]


def test_fifty_thousand_generations_stream_through_with_flat_memory():
    n_read = n_decided = lead = 0
    filler = "#" * 10_000  # all of them together are half a gigabyte

    def read():
        nonlocal n_read
        for n_read in range(1, 50_001):
            yield generation(f"    return x + {n_read % 7}\n{filler}\n", n_read)

    tracemalloc.start()
    try:
        for execution in execute_in_order({"t": problem()}, read(), workers=2):
            assert execution.passed is (execution.sample_index % 7 == 1)
            n_decided += 1
            lead = max(lead, n_read - n_decided)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert n_decided == 50_000
    assert lead <= LOOK_AHEAD


def test_a_stream_forgets_the_oldest_outcomes_only(monkeypatch):
    ran = []
    monkeypatch.setattr(executor, "REMEMBERED", 3)
    monkeypatch.setattr(executor, "LOOK_AHEAD", 1)
    original = crew.try_program
    monkeypatch.setattr(crew, "try_program", lambda *a: ran.append(a[3]) or original(*a))
    texts = [f"    return x + {i}\n" for i in (1, 2, 3, 3, 4, 3, 1)]
    executions = list(execute_in_order({"t": problem()}, [generation(text, i) for i, text in enumerate(texts)]))
    assert [e.passed for e in executions] == [True, False, False, False, False, False, True]
    assert len(ran) == 5  # the first is run again, the third never


def test_an_abandoned_stream_ends_its_programs():
    stream = execute_in_order({"t": problem()}, itertools.repeat(generation(RIGHT)), limits=Limits(wall_s=50))
    assert next(stream).passed
    started = time.monotonic()
    stream.close()
    assert time.monotonic() - started < 50


def test_one_program_of_each_problem_is_tried_before_the_slow_problems_others():
    took_s: dict[str, float] = {}
    order = executor._slow_problems_first(dict(enumerate("aaabbbccc", start=10)), took_s)
    assert [next(order) for _ in range(3)] == [10, 13, 16]
    took_s |= {"a": 1.0, "b": 5.0}  # c still runs
    assert list(order) == [17, 18, 14, 15, 11, 12]


def test_each_of_those_chosen_is_run_once_and_read_when_its_turn_comes():
    read = []

    class OnDisk(list):
        def __getitem__(self, number):
            read.append(number)
            return super().__getitem__(number)

    drawn = OnDisk([generation(f"    return x + {i}\n", i) for i in range(60)])
    numbers = list(range(0, 60, 2))
    ended = execute_each({"t": problem()}, drawn, numbers, workers=2)
    first = next(ended)
    assert len(read) < len(numbers) + 8  # each was asked for its problem, few for their program
    results = dict([first, *ended])
    assert sorted(results) == numbers
    assert {number for number, execution in results.items() if execution.passed} == set()
    assert all(execution.sample_index == number for number, execution in results.items())
    assert dict(execute_each({"t": problem()}, drawn, [1]))[1].passed


def test_program_and_judge_share_a_core_for_a_moment_only():
    looks = (
        "    import os, time\n"
        "    first = len(os.sched_getaffinity(0))\n"
        "    time.sleep(0.5)\n"
        "    return [first, len(os.sched_getaffinity(0))]\n"
    )
    seen = problem(test=f"assert candidate(1) == [1, {len(os.sched_getaffinity(0))}]")
    (execution,) = execute({"t": seen}, [generation(looks)])
    assert execution.passed


@pytest.mark.parametrize(
    ("prompt", "test", "completion"),
    [  # as HumanEval/32, /38 and /50 do: the test calls a helper of the prompt, which the program redefines
        ("def poly(c, x):\n    return c[0] + c[1] * x\n", "assert abs(poly([1, 2], candidate([1, 2]))) < 1e-4", "0"),
        ("def enc(s):\n    return s[1:] + s[:1]\n", "assert candidate(enc('abc')) == 'abc'", "c"),
    ],
)
def test_redefining_a_helper_of_the_prompt_does_not_pass(prompt, test, completion):
    helped = problem(prompt=f"{prompt}\n\ndef f(c):\n", test=test)
    cheat = f"    return {completion}\n\n\ndef poly(c, x):\n    return 0\n\n\ndef enc(s):\n    return s\n"
    (execution,) = execute({"t": helped}, [generation(cheat)])
    assert execution.outcome == "failed"
