import time
from pathlib import Path

import pytest

from pytest_collabcode.errors import ConfigurationError, InternalSampleError
from pytest_collabcode.execution import executor
from pytest_collabcode.execution.executor import execute
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
    original = executor.try_program
    monkeypatch.setattr(executor, "try_program", lambda *a: ran.append(a[1].task_id) or original(*a))
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
    original = executor.open_sandbox

    def broken(limits):
        opened = original(limits)
        monkeypatch.setattr("pytest_collabcode.execution.sandbox._base_interpreter", lambda: Path("/no/python"))
        return opened

    monkeypatch.setattr(executor, "open_sandbox", broken)
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
