"""Killed at any point and started again, a run loses nothing and repeats nothing; two runs may share one store.

Every run is a process of its own, forked from one that has imported torch and done nothing else.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pytest_collabcode import journal
from pytest_collabcode.models.architectures import build
from pytest_collabcode.models.tokenizer import train_tokenizer
from pytest_collabcode.pipeline import Pipeline
from pytest_collabcode.records import Problem, Sampling
from pytest_collabcode.settings import make_settings
from pytest_collabcode.training.recipes import recipe
from pytest_collabcode.workbench import open_workbench

CORPUS = ["def f(x):\n    return x\n", "    return y\n", "    y = x + 1\n    return y\n"]
SAMPLING = Sampling(temperature=1.0, n_samples=10, max_new_tokens=6, stop=("\n",), seed=3)
PROBLEMS = [
    Problem(
        task_id=f"own/{i}",
        prompt=f"def f(x):\n    y = x + {i}\n",
        test=f"def check(f):\n    assert f(1) == {i} + 1\n    assert f(2) == {i} + 2\n",
        entry_point="f",
        canonical_solution="    return y\n",
    )
    for i in range(4)
]
KILLS = [("generations", 8, 0), ("generations", 24, 9), ("executions", 1, 0), ("executions", 9, 5)]
KINDS = ("generations", "executions")


def draw_and_execute(root, name, answer, kill=None):
    """Do what a session does for pass@k and write down what came of it, or die once a journal is long enough."""
    append = journal.Journal.append

    def appended(filled, records):
        append(filled, records)
        kind, n_lines, torn = kill
        size = filled.path.stat().st_size
        if filled.path.parent.name == kind and filled.path.read_bytes().count(b"\n") >= n_lines:
            os.truncate(filled.path, size - torn)  # as if the kill had come in the middle of a write
            os.kill(os.getpid(), signal.SIGKILL)

    if kill:
        journal.Journal.append = appended
    settings = make_settings(directory=root, models=[f"tiny={root / 'tiny'}"], options={"store": str(root / name)})
    pipeline = Pipeline(open_workbench(settings))
    drawn = pipeline.generations(pipeline.checkpoint("tiny"), "own", PROBLEMS, SAMPLING)
    executed = pipeline.executions(PROBLEMS, drawn)
    told = [
        [g.task_id, g.sample_index, g.completion, g.n_tokens, g.stop_reason, e.outcome, e.detail, e.isolation]
        for g, e in zip(drawn, executed, strict=True)
        if (g.task_id, g.sample_index) == (e.task_id, e.sample_index)
    ]
    (root / answer).write_text(json.dumps(told))


def start(*arguments):
    process = multiprocessing.get_context("fork").Process(target=draw_and_execute, args=arguments)
    process.start()
    return process


def ended(*processes):
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def main(root):
    codes = {"undisturbed": ended(start(root, "undisturbed", "undisturbed.json")), "killed": []}
    for kill in KILLS:
        codes["killed"] += ended(start(root, "killed", "killed.json", kill))
    codes["resumed"] = ended(start(root, "killed", "killed.json"))
    codes["shared"] = ended(start(root, "shared", "shared-1.json"), start(root, "shared", "shared-2.json"))
    print(json.dumps(codes))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("resume")
    build(recipe("llama-smoke"), 1).save_pretrained(root / "tiny")
    train_tokenizer(CORPUS * 3, vocabulary_size=300).save_pretrained(root / "tiny")
    return root


@pytest.fixture(scope="module")
def codes(root):
    """How each run ended."""
    run = subprocess.run([sys.executable, __file__, root], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def undisturbed(root, codes):
    assert codes["undisturbed"] == [0]
    told = json.loads((root / "undisturbed.json").read_text())
    assert len(told) == 40 and len({(outcome, detail) for *_, outcome, detail, _ in told}) > 1
    return told


def computed_once(root, name, kind):
    """Return the keys of the only journal of a kind; nothing was computed again after it was stored."""
    (path,) = (root / name / kind).glob("*.jsonl")
    records = [record for line in path.read_bytes().split(b"\n") if (record := journal._intact(line)) is not None]
    assert max(Counter(key for key, _ in records).values()) == 1
    return {key for key, _ in records}


def test_a_run_that_is_killed_again_and_again_ends_as_an_undisturbed_one(root, codes, undisturbed):
    assert codes["killed"] == [-signal.SIGKILL] * len(KILLS) and codes["resumed"] == [0]
    assert json.loads((root / "killed.json").read_text()) == undisturbed
    for kind in KINDS:
        assert computed_once(root, "killed", kind) == computed_once(root, "undisturbed", kind)


def test_two_runs_at_once_share_a_store_and_do_nothing_twice(root, codes, undisturbed):
    assert codes["shared"] == [0, 0]
    for number in (1, 2):
        assert json.loads((root / f"shared-{number}.json").read_text()) == undisturbed
    for kind in KINDS:
        assert computed_once(root, "shared", kind) == computed_once(root, "undisturbed", kind)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
