"""HumanEval's own solutions pass, and its three problems whose tests use a helper of the prompt cannot be tricked."""

import pytest

from pytest_collabcode.execution.executor import execute
from pytest_collabcode.records import Generation
from pytest_collabcode.tasks import humaneval

PROBLEMS = {problem.task_id: problem for problem in humaneval.problems()}


def generation(task_id, completion):
    return Generation(
        task_id=task_id, sample_index=0, completion=completion, n_tokens=0, duration_s=0, stop_reason="eos"
    )


def test_every_reference_solution_passes():
    executions = execute(PROBLEMS, [generation(t, p.canonical_solution) for t, p in PROBLEMS.items()])
    assert [execution for execution in executions if not execution.passed] == []


@pytest.mark.parametrize(
    ("task_id", "completion"),
    [
        ("HumanEval/32", "    return 0.0\n\n\ndef poly(xs, x):\n    return 0.0\n"),
        ("HumanEval/38", "    return s\n\n\ndef encode_cyclic(s):\n    return s\n"),
        ("HumanEval/50", "    return s\n\n\ndef encode_shift(s):\n    return s\n"),
    ],
)
def test_redefining_a_helper_of_the_prompt_does_not_pass(task_id, completion):
    (execution,) = execute(PROBLEMS, [generation(task_id, completion)])
    assert (execution.outcome, execution.detail.split()[0]) == ("failed", "AssertionError")
