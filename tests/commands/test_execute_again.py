"""`collabcode execute`, stopped anywhere and started again: no program that has ended runs twice, nothing is lost."""

import errno
import gzip
import json
import os
import random
import resource
import signal
import time
from pathlib import Path

import pytest

from pytest_collabcode.commands import execute as command
from pytest_collabcode.commands.results import Results
from pytest_collabcode.execution import crew
from pytest_collabcode.execution.executor import program_key
from pytest_collabcode.execution.trial import Ruling
from pytest_collabcode.journal import Journal
from pytest_collabcode.records import Execution, Generation, Outcome

SLEEPS = "    import time; time.sleep({}); return x + 1\n"


def problem(task_id="t", test="assert candidate(1) == 2"):
    check = f"def check(candidate):\n    {test}\n"
    return {"task_id": task_id, "prompt": "def f(x):\n", "test": check, "entry_point": "f"}


def generation(completion, task_id="t", **more):
    return {"task_id": task_id, "completion": completion, **more}


def plus(number):
    return f"    return x + {number}\n"


def name(written):
    """What the log calls a program."""
    return f"{written['task_id']} {written['completion']!r}"


def stored(out, generations):
    """Return the programs whose outcome stands on the disk."""
    records = Journal(Path(f"{out}.outcomes"), Path(f"{out}.test.lock")).read()
    rest = {"sample_index": 0, "n_tokens": 0, "duration_s": 0, "stop_reason": ""}
    keys = {
        program_key(Generation(task_id=g["task_id"], completion=g["completion"], **rest)): name(g)
        for g in generations
    }
    return {keys[key] for key in records if key in keys}


def untimed(path):
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "duration_s"} for row in rows]


def until(is_so):
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def killed(process):
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"


@pytest.mark.parametrize(("compressed", "n_kills"), [(False, 4), (True, 2)])
def test_a_run_killed_anywhere_loses_nothing_and_repeats_nothing(
    files, run, start, seen, out, tmp_path, compressed, n_kills
):
    once = [generation(plus(i), task_id) for i in range(60) for task_id in "tu"] + [generation(SLEEPS.format(0.3))]
    written = [{**g, "by": n} for n, g in enumerate(once + once)]
    arguments = [*files([problem(), problem("u")], written), "--workers=2"]
    if compressed:
        (tmp_path / "g.jsonl.gz").write_bytes(gzip.compress((tmp_path / "g.jsonl").read_bytes()))
        arguments.append(f"--generations={tmp_path / 'g.jsonl.gz'}")
    draw, before, may_run_twice = random.Random(compressed), set(), set()
    for _ in range(n_kills):
        n_begun = len(seen("begun"))
        process = start(arguments)
        until(lambda n=n_begun: len(seen("begun")) > n)
        time.sleep(draw.uniform(0, 0.1))
        killed(process)
        assert not out.exists()
        begun, after = seen("begun")[n_begun:], stored(out, once)
        assert before <= after and not before & set(begun), "what is stored is neither lost nor run"
        running = set(begun) - after
        assert len(running) <= 4, "two run, and two wait"
        may_run_twice |= running
        before = after
    last = start(arguments)
    assert last.communicate()[0] and last.returncode == 0
    ended = seen("ended")
    assert set(ended) == set(map(name, once)) and len(before) < len(once)
    assert {program for program in ended if ended.count(program) > 1} <= may_run_twice
    undisturbed = tmp_path / "undisturbed.jsonl"
    assert run([*arguments, f"--out={undisturbed}"])[0] == 0 and untimed(out) == untimed(undisturbed)
    beside = {"o.jsonl", "o.jsonl.outcomes", "o.jsonl.lock", "o.jsonl.outcomes.lock"}
    assert {path.name for path in tmp_path.glob("o.*")} <= beside, "nothing half written is left"


def test_what_ended_behind_a_slow_program_is_kept(files, start, seen, out):
    written = [generation(SLEEPS.format(3)), *(generation(plus(i), "quick") for i in range(60))]
    arguments = [*files([problem(), problem("quick")], written), "--workers=2"]
    process = start(arguments)
    until(lambda: len(stored(out, written)) == 60)
    killed(process)
    assert start(arguments).wait() == 0
    assert seen("begun").count(name(written[0])) == 2 and len(seen("ended")) == 61
    assert untimed(out)[0]["passed"]


@pytest.mark.parametrize("n_written", [0, 7])
def test_a_run_killed_while_it_writes_results_runs_nothing_again(files, run, start, seen, out, n_written):
    arguments = files([problem()], [generation(plus(i)) for i in range(20)] * 2)
    dies = f"""
from itertools import count
from pytest_collabcode.commands import results
numbers, line = count(), results.result_line
def result_line(*answer):
    if next(numbers) == {n_written}:
        os.kill(os.getpid(), 9)
    return line(*answer)
results.result_line = result_line
"""
    process = start(arguments, dies)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not out.exists() and len(seen("ended")) == 20
    assert start(arguments).wait() == 0 and len(seen("begun")) == 20
    assert [row["passed"] for row in untimed(out)] == [i % 20 == 1 for i in range(40)]
    assert not out.with_name("o.jsonl.partial").exists()


def test_a_complete_file_stays_as_it_is_and_nothing_runs(files, run, out, ran):
    arguments = files([problem()], [generation(plus(1)), generation(plus(2)), generation(plus(1))])
    assert run(arguments)[0] == 0 and len(ran) == 2
    before = out.stat()
    code, said, _ = run(arguments)
    assert code == 0 and len(ran) == 2
    assert "3 generations of 1 problem, all of them executed before; isolation: " in said
    assert f"{out} is complete and stays as it is\n" in said and "2 passed, 1 failed; pass@1 = 0.667" in said
    assert (out.stat().st_ino, out.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    out.unlink()
    assert run(arguments)[0] == 0 and len(ran) == 2 and len(untimed(out)) == 3, (
        "it is written again from what is stored"
    )


@pytest.fixture
def ran(monkeypatch):
    """The completions that this process runs."""
    completions = []
    original = crew.try_program
    monkeypatch.setattr(crew, "try_program", lambda *a: completions.append(a[3]) or original(*a))
    return completions


def test_of_generations_that_grew_only_new_programs_run(files, run, out, ran):
    first = [generation(plus(1)), generation(plus(2))]
    assert run(files([problem(), problem("u")], first))[0] == 0
    before = out.read_bytes()
    del ran[:]
    grown = [*first, generation(plus(2)), generation(plus(3)), generation(plus(3)), generation(plus(1), "u")]
    code, said, _ = run(files([problem(), problem("u")], grown))
    assert code == 0 and sorted(ran) == [plus(1), plus(3)]
    assert "6 generations of 2 problems, 3 of them executed before" in said
    assert out.read_bytes().startswith(before)
    assert [row["passed"] for row in untimed(out)] == [True, False, False, False, False, True]


def test_results_of_other_generations_stay_and_moved_away_they_are_not_run_again(files, run, out, ran):
    assert run(files([problem()], [generation(plus(1)), generation(plus(2))]))[0] == 0
    before = out.read_bytes()
    arguments = files([problem()], [generation(plus(2)), generation(plus(3))])
    code, _, said = run(arguments)
    assert code == 4 and "line 1 is not the result of" in said and out.read_bytes() == before
    assert "or move this file away: what became of its programs stays in o.jsonl.outcomes" in said
    out.rename(out.with_name("former.jsonl"))
    assert run(arguments)[0] == 0 and sorted(ran) == [plus(1), plus(2), plus(3)]


@pytest.mark.parametrize("change", [b"passed", b"0.", b"bwrap", b'"by": 1', b"\n"])
def test_results_that_were_altered_are_not_written_over(files, run, out, change):
    arguments = files([problem()], [generation(plus(1), by=1), generation(plus(2), by=2)])
    assert run(arguments)[0] == 0
    altered = out.read_bytes().replace(change, b" ", 1)
    assert altered != out.read_bytes()
    out.write_bytes(altered)
    code, _, said = run(arguments)
    assert code == 4 and "line 1 is not the result of" in said and out.read_bytes() == altered


def test_programs_run_slow_problems_first_after_one_of_each(files, run, ran):
    quick = [generation(plus(i), "quick") for i in range(6)]
    slow = [generation(SLEEPS.format(0.1) + f"    # {i}\n", "slow") for i in range(3)]
    assert run([*files([problem("quick"), problem("slow")], [*quick, *slow]), "--workers=1"])[0] == 0
    assert ran == [g["completion"] for g in (quick[0], *slow, *quick[1:])]


def test_where_the_tool_failed_exactly_that_is_tried_again(files, run, out, monkeypatch):
    fails, tried = {plus(2), plus(3)}, []

    def try_program(worker, limits, tried_problem, completion):
        tried.append(completion)
        if completion in fails:
            return Ruling(outcome=Outcome.INTERNAL_ERROR, detail="the zygote did not start or was lost: \x1b")
        return Ruling(outcome=Outcome.PASSED, duration_s=0.25)

    monkeypatch.setattr(crew, "try_program", try_program)
    arguments = files([problem()], [generation(plus(i)) for i in (1, 2, 3, 2)])
    code, said, errors = run(arguments)
    assert code == 3 and "3 internal_error, 1 passed; pass@1 is not measured" in said
    assert errors.startswith("collabcode execute: no verdict on t#1 (")
    assert errors.endswith("; the same command tries again\n")
    assert [row["outcome"] for row in untimed(out)] == ["passed", *["internal_error"] * 3]
    fails.remove(plus(2))
    del tried[:]
    code, said, errors = run(arguments)
    assert code == 3 and sorted(tried) == [plus(2), plus(3)] and "t#2 (" in errors and "t#1" not in errors
    assert [row["outcome"] for row in untimed(out)] == ["passed", "passed", "internal_error", "passed"]
    fails.clear()
    assert run(arguments)[0] == 0 and tried[2:] == [plus(3)]
    assert [row["outcome"] for row in untimed(out)] == ["passed"] * 4


@pytest.fixture
def passing(monkeypatch):
    """Have every program pass without being run."""

    def executed(problems, programs, places, **how):
        for place in places:
            rest = {"sample_index": 0, "outcome": Outcome.PASSED, "duration_s": 0.1, "isolation": "bwrap"}
            yield place, Execution(task_id=programs[place].task_id, **rest)

    monkeypatch.setattr(command, "execute_each", executed)


@pytest.mark.usefixtures("passing")
@pytest.mark.parametrize(
    ("limit", "full", "is_begun"),
    [(100, "o.jsonl.partial", False), (700, "o.jsonl.outcomes", True), (9_000, "o.jsonl", True)],
)
def test_a_full_disk_is_one_sentence_and_the_next_run_goes_on(files, run, out, limit, full, is_begun):
    written = [generation(plus(i), note="n" * 2000) for i in range(9)]
    arguments = files([problem()], written)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        code, _, said = run(arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 3 and said.count("\n") == 1 and "File too large; " in said, said
    assert "choose another --out; what is stored stays" in said and f"/{full} cannot be written" in said
    assert not out.exists()
    n_stored = len(stored(out, written))
    assert (n_stored > 0) == is_begun
    assert (n_stored == 9) == (limit == 9_000) and not out.with_name("o.jsonl.partial").exists()
    code, said, _ = run(arguments)
    assert code == 0 and (f"{n_stored} of them executed before" in said) == (0 < n_stored < 9)
    assert [row["outcome"] for row in untimed(out)] == ["passed"] * 9


@pytest.mark.usefixtures("passing")
def test_a_disk_without_room_for_an_unpacked_input_is_one_sentence(files, run, out, tmp_path, monkeypatch):
    arguments = files([problem()], [])
    packed = tmp_path / "g.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(generation(plus(1), note="n" * 100_000)).encode()))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        code, _, said = run([*arguments, f"--generations={packed}"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 3 and said.count("\n") == 1 and f"{tmp_path} cannot be written: {os.strerror(errno.EFBIG)}" in said


def test_an_interrupt_keeps_what_was_finished(files, start, seen, out):
    written = [generation(plus(i)) for i in range(9)] + [
        generation(SLEEPS.format(0.5) + f"    # {i}\n") for i in range(9)
    ]
    process = start([*files([problem()], written), "--workers=2"])
    until(lambda: len(stored(out, written)) >= 3)
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C is for all of a terminal's processes
    said = process.communicate(timeout=30)[0]
    assert process.returncode == 2 and "Traceback" not in said
    assert said.endswith(
        "interrupted; what has run is stored beside --out, and the same command goes on from there\n"
    )
    assert not out.exists() and len(stored(out, written)) >= len(seen("ended")) - 4


@pytest.mark.parametrize("made_from", [{"problems": "0"}, {"version": "1"}, {}])
def test_outcomes_of_other_problems_are_not_gone_on_with(files, run, out, made_from):
    results = Results(out)
    results.begin(made_from, results.stored(made_from))
    results.journal.append({"0" * 32: ["passed", 0.1, "bwrap", ""]})
    before = results.journal.path.read_bytes()
    code, _, said = run(files([problem()], [generation(plus(1))]))
    assert code == 4 and "made with another value of 'problems', see " in said and "name another --out" in said
    assert results.journal.path.read_bytes() == before and not out.exists()


def test_a_run_that_stored_nothing_binds_nobody(files, run, out):
    results = Results(out)
    results.begin({"problems": "0"}, results.stored({"problems": "0"}))
    assert run(files([problem()], [generation(plus(1))]))[0] == 0
    assert run(files([problem()], [generation(plus(1))]))[0] == 0


def test_outcomes_that_are_none_are_left_alone(files, run, out):
    mine = out.with_name("o.jsonl.outcomes")
    mine.write_text("mine\n")
    code, _, said = run(files([problem()], [generation(plus(1))]))
    assert code == 4 and "o.jsonl.outcomes beside it holds something else: name another --out" in said
    assert mine.read_text() == "mine\n" and not out.exists()


def test_a_link_stays_one_and_is_the_same_place_as_its_target(files, run, out, tmp_path, ran):
    (tmp_path / "there").mkdir()
    out.symlink_to(Path("there", "real.jsonl"))
    arguments = files([problem()], [generation(plus(1))])
    assert run(arguments)[0] == 0
    assert out.is_symlink() and untimed(tmp_path / "there" / "real.jsonl")[0]["passed"]
    assert run([*arguments, f"--out={tmp_path / 'there' / 'real.jsonl'}"])[0] == 0 and len(ran) == 1


def test_of_generations_that_are_written_on_meanwhile_the_first_are_executed(files, run, out, tmp_path, monkeypatch):
    arguments = files([problem()], [json.dumps(generation(plus(i))) + "\n" * (i < 3) for i in range(4)])

    def try_program(*arguments):
        with (tmp_path / "g.jsonl").open("a") as stream:
            stream.write('\n{"task_id": "t", "comp')
        return Ruling(outcome=Outcome.PASSED)

    monkeypatch.setattr(crew, "try_program", try_program)
    assert run(arguments)[0] == 0
    assert [row["completion"] for row in untimed(out)] == [plus(i) for i in range(4)]


@pytest.mark.parametrize("altered", [0, 29])
def test_generations_that_are_altered_meanwhile_are_neither_stored_nor_written(
    files, run, out, tmp_path, monkeypatch, altered
):
    written = [generation(plus(10 + i), note="n" * 4000) for i in range(30)]
    arguments = [*files([problem()], written), "--workers=1"]
    given, tried = tmp_path / "g.jsonl", []

    def try_program(worker, limits, tried_problem, completion):
        if not tried:
            given.write_bytes(given.read_bytes().replace(b"x + %d" % (10 + altered), b"x - %d" % (10 + altered)))
        tried.append(completion)
        return Ruling(outcome=Outcome.PASSED)

    monkeypatch.setattr(crew, "try_program", try_program)
    code, _, said = run(arguments)
    assert code == 4 and "g.jsonl" in said and "was altered" in said and said.count("\n") == 1
    assert not out.exists() and tried[0] == plus(10) and not any("-" in completion for completion in tried)
    assert stored(out, written) <= {f"t {completion!r}" for completion in tried}
    assert run(arguments)[0] == 0 and len(untimed(out)) == 30


def test_generations_that_are_cut_short_meanwhile_give_no_shorter_results(files, run, out, tmp_path, monkeypatch):
    arguments = [*files([problem()], [generation(plus(i), note="n" * 4000) for i in range(10)]), "--workers=1"]
    given, tried = tmp_path / "g.jsonl", []

    def try_program(worker, limits, tried_problem, completion):
        tried.append(completion)
        if len(tried) == 10:
            given.write_bytes(b"".join(given.read_bytes().splitlines(keepends=True)[:5]))
        return Ruling(outcome=Outcome.PASSED)

    monkeypatch.setattr(crew, "try_program", try_program)
    code, _, said = run(arguments)
    assert code == 4 and "g.jsonl was cut short while it was read; execute it again" in said
    assert not out.exists()
