import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_collabcode.errors import ConfigurationError, InternalSampleError
from pytest_collabcode.execution import bubblewrap, crew, executor
from pytest_collabcode.execution.executor import execute, execute_each, program_key
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
        ("pass\nraise SystemExit", "cannot be loaded: SystemExit"),
        ("pass\ndel check", "cannot be loaded: KeyError"),
        ("cases = load_cases()", "ended before it called the program: NameError at test line 2"),
        ("import no_such_module", "ended before it called the program: ModuleNotFoundError at test line 2"),
        ("assert False", "ended before it called the program: AssertionError at test line 2"),
        ("candidate.attribute", "ended before it called the program: AttributeError at test line 2"),
        ("bytearray(10 << 30)", "ended before it called the program: MemoryError at test line 2"),
        ("raise SystemExit", "ended before it called the program: SystemExit at test line 2"),
        ("raise KeyboardInterrupt", "ended before it called the program: KeyboardInterrupt at test line 2"),
        ("import unittest; raise unittest.SkipTest", "ended before it called the program: SkipTest at test line 2"),
        ("pass\ncheck = len", "ended before it called the program: TypeError in the test"),
        ("while True: pass", "ended before it called the program: more than 1 s of CPU time"),
        ("pass\nwhile True: pass", "ended before it called the program: more than 1 s of CPU time"),
        ("import time; time.sleep(60)", "ended before it called the program: more than 1.5 s of wall-clock time"),
        ("import ctypes; ctypes.string_at(0)", "ended before it called the program: SIGSEGV"),
    ],
)
def test_a_fault_of_the_problem_ends_the_run_and_names_the_sample(test, reason):
    limits = Limits(cpu_s=1, wall_s=1.5)
    with pytest.raises(InternalSampleError, match=f"t#7: .*{reason}"):
        execute({"t": problem(test=test)}, [generation(RIGHT, 7)], limits=limits)


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
        (
            "    pass\n1 / 0\n",
            "cases = load_cases()",
            "failed",
            "ZeroDivisionError raised while the program was loaded",
        ),
        ("    pass\nwhile True: pass\n", "candidate(1)", "timeout", "more than 1 s of CPU time"),
        ("    pass\nimport time; time.sleep(60)\n", "candidate(1)", "timeout", "more than 2 s of wall-clock time"),
        ("    pass\nbytearray(10 << 30)\n", "candidate(1)", "out_of_memory", "MemoryError raised while the program"),
        (RIGHT, "candidate(1)\n    cases = load_cases()", "failed", "NameError at test line 3"),
        (RIGHT, "candidate(1)\n    import time; time.sleep(60)", "timeout", "more than 2 s of wall-clock time"),
        (RIGHT, "candidate(1)\n    while True: pass", "timeout", "the test ran out of CPU time"),
        (RIGHT, "candidate(1)\n    import ctypes; ctypes.string_at(0)", "crashed", "SIGSEGV in the test"),
        ("    import os; os._exit(0)\n", "try: candidate(1)\n    except: pass", "failed", "the program ended before"),
        ("    return object\n", "try: candidate(1)\n    except: pass", "failed", "the answer is not plain data"),
        ("    return [x]\n", "v = 1\n    while True: v = candidate(v)", "failed", "the answer is too large"),
        ("    return range(10**12)\n", "sum(candidate(1))", "timeout", "the test ran out of CPU time"),
        ("    return range(10**12)\n", "list(candidate(1))", "out_of_memory", "MemoryError in the test"),
    ],
)
def test_details_name_the_exception_and_the_line_of_the_test(completion, test, outcome, detail):
    limits = Limits(cpu_s=1, wall_s=2, memory_bytes=200 << 20)
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


def test_the_others_go_on_where_the_tool_fails_on_one():
    texts = [RIGHT, "    while True: pass\n", WRONG]
    problems = {"t": problem(), "u": problem("u", test="pass")}  # a test that never calls its program
    drawn = [*(generation(text, i) for i, text in enumerate(texts)), generation(RIGHT, 0, "u")]
    ended = dict(execute_each(problems, drawn, range(4), limits=Limits(cpu_s=1), workers=2))
    assert [ended[n].outcome for n in range(4)] == ["passed", "timeout", "failed", "internal_error"]
    assert [(ended[n].task_id, ended[n].sample_index) for n in range(4)] == [("t", 0), ("t", 1), ("t", 2), ("u", 0)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a\0b", "c"), ("a", "b\0c")),
        (("a", "1b"), ("a1", "b")),
        (("", "x"), ("x", "")),
        (("t", "\U0001f600"), ("t", "\ud83d\ude00")),
        (("t", "\ud800"), ("t", "\\ud800")),
        (("t", "é"), ("t", "e\u0301")),
    ],
)
def test_programs_that_differ_in_any_character_have_different_keys(one, other):
    keys = [
        program_key(generation(completion, index, task_id))
        for index, (task_id, completion) in enumerate([one, other])
    ]
    assert keys[0] != keys[1] and program_key(generation(one[1], 7, one[0])) == keys[0]


def test_the_text_of_programs_that_wait_is_bounded_by_its_size_too(monkeypatch):
    monkeypatch.setattr(executor, "HELD_BYTES", 20_000)
    large, n_read = "#" * 15_000, 0

    class OnDisk(list):
        def __getitem__(self, number):
            nonlocal n_read
            n_read += 1
            return super().__getitem__(number)

    drawn = OnDisk(generation(f"    return x + {i}\n{large * (2 + i % 2)}\n", i) for i in range(12))
    n_ended = 0
    for _, execution in execute_each({"t": problem()}, drawn, range(12), workers=4):
        assert n_read - 12 - n_ended == 1  # each was asked for its problem before
        n_ended += 1
        assert execution.passed == (execution.sample_index == 1)
    assert n_ended == 12


def test_an_abandoned_run_ends_its_programs():
    drawn = [generation(RIGHT), generation("    import time; time.sleep(60)\n")]
    ended = execute_each({"t": problem()}, drawn, range(2), limits=Limits(wall_s=50))
    assert next(ended)[1].passed
    started = time.monotonic()
    ended.close()
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
