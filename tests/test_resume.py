"""Killed at any point and started again, a run loses nothing and repeats nothing; several runs may share one store.

Every run is a process of its own, forked from one that has imported torch and done nothing else. What it finishes is
noted in a file outside the store, so that work done twice is seen even where the store holds it once.
"""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from pytest_collabcode import drawing, journal, pipeline
from pytest_collabcode.generation.engine import TorchBackend
from pytest_collabcode.models.architectures import build
from pytest_collabcode.models.tokenizer import train_tokenizer
from pytest_collabcode.records import Document, Problem, Sampling
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
TEXTS = [f"def f(x):\n    y = x + {i}\n" + "    return y\n" * (i + 1) for i in range(60)]
DOCUMENTS = [Document(path=f"{i}.py", text=text, organization="o") for i, text in enumerate(TEXTS)]
KINDS = ("generations", "executions", "scores")
RANDOM = random.Random(11)
# How much of a kind a run gets done before it is killed; what was done before is not done again.
KILLS = [("generations", 1), *(("generations", RANDOM.randint(2, 12)) for _ in range(3))]
KILLS += [("executions", 1), ("executions", RANDOM.randint(2, 8)), ("scores", 1), ("scores", RANDOM.randint(2, 4))]
N_AT_ONCE, N_KILLED = 4, 3


class Watch:
    """Notes what a run finishes or asks for, and kills it once it has done `kill` = (kind, how often)."""

    def __init__(self, log, store, kill):
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._store, self._kill, self._n = store, kill, Counter()

    def note(self, kind, key):
        os.write(self._log, f"{json.dumps([os.getpid(), kind, key])}\n".encode())

    def done(self, kind):
        self._n[kind] += 1
        if self._kill == (kind, self._n[kind]):
            newest = max((self._store / kind).iterdir(), key=lambda path: path.stat().st_mtime_ns)
            with newest.open("ab") as stream:
                stream.write(b'12345678 ["own/0#')  # as if the kill had come in the middle of the next line
            os.kill(os.getpid(), signal.SIGKILL)

    def spy(self, monkeypatch):
        finish, execute_each = drawing.Ledger.finish, pipeline.execute_each

        def finished(ledger, generation):
            finish(ledger, generation)
            self.note("generations", f"{generation.task_id}#{generation.sample_index}")
            self.done("generations")

        def executed(problems, generations, numbers, **how):
            for number, execution in execute_each(problems, generations, numbers, **how):
                self.note("executions", f"{generations[number].task_id} {generations[number].completion}")
                yield number, execution

        def noting(name):
            method = getattr(TorchBackend, name)

            def asked(backend, texts, *more, **how):
                for text in texts:
                    self.note("scores", f"{name} {text}")
                return method(backend, texts, *more, **how)

            return asked

        monkeypatch.setattr(drawing.Ledger, "finish", finished)
        monkeypatch.setattr(pipeline, "execute_each", executed)
        for name in ("log_likelihood", "token_scores", "embed"):
            monkeypatch.setattr(TorchBackend, name, noting(name))

    def report(self, done, total, text):
        """Told by executions and scores when something of them is stored."""
        if text != "generating":
            self.done("executions" if text == "executing" else "scores")


def do_all(root, name, answer, kill=None):
    """Do what a session does, and write down what came of it; die at `kill`."""
    watch = Watch(root / f"{name}.log", root / name, kill)
    watch.spy(pytest.MonkeyPatch())
    settings = make_settings(directory=root, models=[f"tiny={root / 'tiny'}"], options={"store": str(root / name)})
    bench = open_workbench(settings)
    bench.report = watch.report
    stages = pipeline.Pipeline(bench)
    tiny = stages.checkpoint("tiny")
    drawn = stages.generations(tiny, "own", PROBLEMS, SAMPLING)
    executed = stages.executions(PROBLEMS, drawn)
    told = [
        [g.task_id, g.sample_index, g.completion, g.n_tokens, g.stop_reason, e.outcome, e.detail, e.isolation]
        for g, e in zip(drawn, executed, strict=True)
        if (g.task_id, g.sample_index) == (e.task_id, e.sample_index)
    ]
    told += [s.log_likelihood for s in stages.text_scores(tiny, DOCUMENTS)]
    told += stages.embeddings(tiny, TEXTS).tolist()
    told += [
        s.scheme_log_probs for s in stages.token_scores(tiny, [(text[:9], text[9:]) for text in TEXTS], SAMPLING)
    ]
    (root / answer).write_text(json.dumps(told))


def start(*arguments):
    process = multiprocessing.get_context("fork").Process(target=do_all, args=arguments)
    process.start()
    return process


def ended(process):
    process.join(120)
    if process.exitcode is None:
        process.kill()
        return "waited for ever"
    return process.exitcode


def killed_at_work(root, runs):
    """Kill some of several runs, each when so much is done by all together and it did the last of it; say which."""
    log, pids, killed = root / "shared.log", [run.pid for run in runs], []
    for n_done in sorted(RANDOM.sample(range(2, 90), N_KILLED)):
        while True:
            lines = log.read_bytes().splitlines() if log.exists() else []
            if len(lines) >= n_done and (pid := json.loads(lines[-1])[0]) not in killed:
                break
            assert any(run.is_alive() for run in runs)
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)
    return [pids.index(pid) for pid in killed]


def main(root):
    told = {"undisturbed": [ended(start(root, "undisturbed", "undisturbed.json"))], "killed": []}
    for kill in KILLS:
        told["killed"].append(ended(start(root, "killed", "killed.json", kill)))
    told["resumed"] = [ended(start(root, "killed", "killed.json"))]
    runs = [start(root, "shared", f"shared-{number}.json") for number in range(N_AT_ONCE)]
    stopped = killed_at_work(root, runs)
    again = [start(root, "shared", f"shared-{number}.json") for number in stopped]
    told["shared"], told["again"] = [ended(run) for run in runs], [ended(run) for run in again]
    told["pids"] = [runs[number].pid for number, code in enumerate(told["shared"]) if code == -signal.SIGKILL]
    print(json.dumps(told))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("resume")
    build(recipe("llama-smoke"), 1).save_pretrained(root / "tiny")
    train_tokenizer(CORPUS * 3, vocabulary_size=300).save_pretrained(root / "tiny")
    return root


@pytest.fixture(scope="module")
def told(root):
    """How each run ended, and the numbers of the processes that were killed on the shared store."""
    run = subprocess.run([sys.executable, __file__, root], capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def undisturbed(root, told):
    assert told["undisturbed"] == [0]
    answer = json.loads((root / "undisturbed.json").read_text())
    outcomes = {(line[5], line[6]) for line in answer[:40]}
    assert len(answer) == 40 + 3 * len(TEXTS) and len(outcomes) > 1
    return answer


def noted(root, name):
    """Return (process, kind, what it finished or asked for) of all runs on a store."""
    return [tuple(json.loads(line)) for line in (root / f"{name}.log").read_text().splitlines()]


def records(root, name, kind):
    """Return the record of each line of the journals of a kind, None where a line is not intact."""
    lines = [line for path in sorted((root / name / kind).iterdir()) for line in path.read_bytes().splitlines()]
    return [journal._intact(line) for line in lines]


def stored(root, name, kind):
    """Return the keys of the journals of a kind; none was stored twice."""
    keys = Counter(record[0] for record in records(root, name, kind) if record is not None)
    assert kind == "scores" or max(keys.values()) == 1  # one text has scores of several kinds
    return keys


def test_a_run_that_is_killed_again_and_again_ends_as_an_undisturbed_one(root, told, undisturbed):
    assert told["killed"] == [-signal.SIGKILL] * len(KILLS) and told["resumed"] == [0]
    assert json.loads((root / "killed.json").read_text()) == undisturbed
    for kind in KINDS:
        assert stored(root, "killed", kind) == stored(root, "undisturbed", kind)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_a_killed_run_had_finished_is_done_again(root, undisturbed, kind):
    done = Counter((kind, key) for _, kind, key in noted(root, "killed"))
    once = Counter((kind, key) for _, kind, key in noted(root, "undisturbed"))
    assert max(once.values()) == 1
    assert {key: n for key, n in done.items() if key[0] == kind} == {k: 1 for k in once if k[0] == kind}


def test_kills_came_at_all_stages_and_left_half_lines(root, undisturbed):
    for kind in KINDS:
        n_kills = sum(kill[0] == kind for kill in KILLS)
        assert sum(record is None for record in records(root, "killed", kind)) == n_kills


def test_runs_at_once_of_which_some_are_killed_end_as_an_undisturbed_one(root, told, undisturbed):
    assert len(told["pids"]) == N_KILLED and sorted(told["shared"]) == [-signal.SIGKILL] * N_KILLED + [0]
    assert told["again"] == [0] * N_KILLED
    for number in range(N_AT_ONCE):
        assert json.loads((root / f"shared-{number}.json").read_text()) == undisturbed
    for kind in KINDS:
        assert None not in records(root, "shared", kind)
        assert stored(root, "shared", kind) == stored(root, "undisturbed", kind)


def test_runs_at_once_do_nothing_twice(root, told, undisturbed):
    shared, wanted = noted(root, "shared"), {(kind, key) for _, kind, key in noted(root, "undisturbed")}
    kept = Counter((kind, key) for pid, kind, key in shared if pid not in told["pids"])
    finished = Counter(key for _, kind, key in shared if kind == "generations")
    assert max(kept.values()) == 1 and max(finished.values()) == 1
    assert {(kind, key) for _, kind, key in shared} <= wanted
    # Whatever was done twice was under way when a run was killed: one program, or the texts of one pass.
    twice = Counter(kind for _, kind, _ in shared) - Counter(kind for kind, _ in {(k, key) for _, k, key in shared})
    assert twice["executions"] <= N_KILLED * (os.cpu_count() or 1) and twice["scores"] <= N_KILLED * len(TEXTS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
