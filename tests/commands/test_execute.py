"""`collabcode execute`: one result per generation, in order, whatever ends the run in between."""

import gzip
import json
import subprocess
import sys

import pytest
from filelock import FileLock

from pytest_collabcode.commands import execute as command
from pytest_collabcode.execution.sandbox import Isolation
from pytest_collabcode.records import Execution, Outcome

PROMPT = "def f(x):\n"
RIGHT, WRONG, SLOW = "    return x + 1\n", "    return x\n", "    import time; time.sleep(0.5); return x + 1\n"
RESULTS = ["outcome", "passed", "detail", "duration_s", "isolation"]


def problem(task_id="t", test="assert candidate(1) == 2", **more):
    check = f"def check(candidate):\n    {test}\n"
    return {"task_id": task_id, "prompt": PROMPT, "test": check, "entry_point": "f", **more}


def generation(completion=RIGHT, task_id="t", **more):
    return {"task_id": task_id, "completion": completion, **more}


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_line_is_answered_in_order_and_as_it_was_written(files, run, out):
    written = [
        '{"completion": "    return x\\n",   "task_id" : "t", "é": "\\u00e9漢\\ud800", "sample_index": 7}\n',
        "\n",
        '\t{"task_id":"u","completion":"    return x + 1\\n","n":1e5,"big":123456789012345678901,"no":NaN }\r\n',
        '{"task_id": "t", "completion": "    return x + 1\\n", "nested": {"a": [1.0, null, {"b": "}"}]}}',
    ]
    code, said, _ = run(files([problem(), problem("u", "assert candidate(1) == 3")], written))
    assert code == 0
    results = out.read_text(encoding="utf-8").splitlines()
    for result, text in zip(results, [written[0], written[2], written[3]], strict=True):
        assert result.startswith(text.strip()[:-1].rstrip() + ', "outcome": ')
    parsed = read(out)
    assert [list(line)[-5:] for line in parsed] == [RESULTS] * 3
    assert [(line["outcome"], line["passed"]) for line in parsed] == [
        ("failed", False),
        ("failed", False),
        ("passed", True),
    ]
    assert parsed[0]["detail"] == "AssertionError at test line 2" and parsed[0]["duration_s"] > 0
    assert all(line["isolation"] in said for line in parsed)


def test_the_summary_counts_samples_outcomes_and_the_mean_over_problems(files, run, out):
    samples = [generation(RIGHT), generation(WRONG), generation(WRONG, "u"), generation("    x = (\n", "u")]
    code, said, _ = run(files([problem(), problem("u"), problem("never asked")], samples))
    assert code == 0
    first, warning, last = said.splitlines()
    assert first.startswith("4 generations of 3 problems; isolation: ")
    assert warning == "warning: 1 problem without a generation (never asked): pass@1 will be over 2 of 3"
    expected = "4 samples of 2 problems: 3 failed, 1 passed; pass@1 over 2 of 3 problems = 0.25, 1 without a sample; "
    assert f"{out}: {expected}isolation: " in last
    assert last.endswith(" s")


@pytest.mark.parametrize(
    ("n_problems", "closing"),
    [
        (1, "pass@1 = 1 (1/1); "),
        (2, "pass@1 over 1 of 2 problems = 1 (1/1), 1 without a sample; "),
        (9, "over 1 of 9"),
    ],
)
def test_no_problem_is_left_out_of_pass_at_1_without_a_word(files, run, n_problems, closing):
    code, said, _ = run(files([problem(), *(problem(f"left {i}") for i in range(1, n_problems))], G))
    assert code == 0 and closing in said.splitlines()[-1]
    assert ("pass@1 = " in said) == (n_problems == 1), "a part is never called pass@1 alone"
    assert ("7 more" not in said) and ("3 more" in said) == (n_problems == 9), "five are named"


@pytest.mark.parametrize(
    ("prompt", "completion", "warned"),
    [
        (PROMPT, RIGHT, False),
        ("def ff(x):\n", RIGHT, True),  # a misspelt entry point
        ("class G:\n", "    def f(self): pass\n", False),
        ("", "def f(x): return x + 1\n", False),  # a completion may be the whole program
        ("# plus one\n", "f = lambda x: x + 1\n", False),
        ("async def f(x):\n", RIGHT, False),
    ],
)
def test_an_entry_point_that_nothing_names_is_warned_of(files, run, prompt, completion, warned):
    code, said, _ = run(files([problem(prompt=prompt), problem("u")], [generation(completion), generation("", "u")]))
    assert code == 0
    assert ("warning: 1 entry_point named by neither the prompt nor any of its completions (t: f)" in said) == warned


def test_both_inputs_may_be_compressed(tmp_path, run, out):
    for name, content in (("p", [problem()]), ("g", [generation()])):
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt") as stream:
            stream.writelines(map(json.dumps, content))
    arguments = [f"--problems={tmp_path / 'p.jsonl.gz'}", f"--generations={tmp_path / 'g.jsonl.gz'}", f"--out={out}"]
    assert run(["execute", *arguments])[0] == 0
    assert [line["outcome"] for line in read(out)] == ["passed"]


P, G = [problem()], [generation()]


@pytest.mark.parametrize(
    ("problems", "generations", "message"),
    [
        (["{\n"], G, "p.jsonl:1: not JSON"),
        ([problem(), "\n", problem()], G, "p.jsonl:3: task_id='t' stands in an earlier line already"),
        ([{k: v for k, v in problem().items() if k != "test"}], G, "p.jsonl:1: test is missing"),
        ([problem(prompt=None)], G, "p.jsonl:1: prompt is of type NoneType, not a string"),
        ([problem(canonical_solution=3)], G, "p.jsonl:1: canonical_solution is of type int"),
        ([], G, "p.jsonl holds no problem"),
        (P, [], "g.jsonl holds no generation"),
        (P, [generation(), '{"task_id": "t", "comp'], "g.jsonl:2: not JSON"),
        (P, ["[1]\n"], "g.jsonl:1: list where an object is expected"),
        (P, ["[" * 100_000 + "\n"], "g.jsonl:1: not JSON"),
        (P, [{"task_id": "t"}], "g.jsonl:1: completion is missing"),
        (P, [generation(), {"completion": ""}], "g.jsonl:2: task_id is missing"),
        (P, [generation(["x"])], "g.jsonl:1: completion is of type list, not a string"),
        (P, [generation(), generation(task_id="T")], "g.jsonl:2: task_id='T' is none of the problems"),
        (P, [generation(sample_index=True)], "g.jsonl:1: sample_index is not a whole number"),
        (P, [generation(sample_index=-1)], "g.jsonl:1: sample_index is not a whole number"),
        (P, [generation(passed=1)], "g.jsonl:1: key 'passed' is one that the result adds"),
    ],
)
def test_a_wrong_line_is_one_sentence_before_anything_runs(files, run, out, problems, generations, message):
    code, _, said = run(files(problems, generations))
    assert code == 4 and message in said and said.count("\n") == 1, said
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problems": "/no/p.jsonl"}, "--problems=/no/p.jsonl: no such file"),
        ({"generations": "/"}, "--generations=/: is not a file"),
        ({"out": "/dev/null/o.jsonl"}, "--out=/dev/null/o.jsonl cannot be written"),
        ({"workers": "0"}, "--workers=0: at least one is needed"),
        ({"out": "/"}, "--out=/ is a folder; name a file in it, such as --out=/o.jsonl"),
        ({"out": "/dev/null"}, "--out=/dev/null is no regular file: name another --out"),
        ({"out": "/tmp/" + "x" * 300}, "cannot be written: File name too long"),
    ],
)
def test_a_wrong_option_is_one_sentence(files, run, change, message):
    arguments = [*files(P, G), *(f"--{key}={value}" for key, value in change.items())]
    code, _, said = run(arguments)
    assert code == 4 and message in said and said.count("\n") == 1, said


@pytest.mark.parametrize("text", [b"\xff\xfe{}", b'{"task_id": "\xe9"}'])
def test_what_is_no_text_is_refused(files, run, tmp_path, text):
    arguments = files(P, G)
    (tmp_path / "g.jsonl").write_bytes(text)
    assert "g.jsonl:1: not UTF-8" in run(arguments)[2]
    (tmp_path / "g.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, G * 99)).encode())[:-20])
    assert "g.jsonl.gz:" in run([*arguments, f"--generations={tmp_path / 'g.jsonl.gz'}"])[2]


@pytest.mark.parametrize(
    ("problems", "generations", "message"),
    [
        (P, [generation(by=2)], "line 1 is not the result of"),
        (P, [generation()], "line 2 is not the result of any generation"),
        ([problem(test="assert True")], [generation(), generation(WRONG)], "made with another value of 'problems'"),
    ],
)
def test_results_of_other_inputs_are_not_gone_on_with(files, run, out, problems, generations, message):
    assert run(files(P, [generation(), generation(WRONG)]))[0] == 0
    before = out.read_bytes()
    code, _, said = run(files(problems, generations))
    assert code == 4 and message in said and "name another --out" in said and said.count("\n") == 1, said
    assert "delete" not in said and out.read_bytes() == before


@pytest.mark.parametrize(
    "link", [lambda path, g: g, lambda path, g: path.hardlink_to(g), lambda path, g: path.symlink_to(g)]
)
@pytest.mark.parametrize("name", ["p", "g"])
def test_an_input_is_never_the_output(files, run, tmp_path, name, link):
    arguments = files(P, G)
    read = tmp_path / f"{name}.jsonl"
    out, before = link(tmp_path / "link", read) or tmp_path / "link", read.read_bytes()
    for named in (out, tmp_path / "new" / ".." / out.name):  # whatever it is called
        (tmp_path / "new").mkdir(exist_ok=True)
        code, _, said = run([*arguments, f"--out={named}"])
        assert code == 4 and said.count("\n") == 1 and f"{read}: name another --out" in said and "delete" not in said
    assert read.read_bytes() == before and not list(tmp_path.glob("*.lock"))


@pytest.mark.parametrize("suffix", [".lock", ".outcomes", ".outcomes.lock", ".partial"])
def test_nor_is_it_what_is_written_beside_the_output(files, run, tmp_path, suffix):
    arguments = files(P, G)
    read = (tmp_path / "g.jsonl").rename(tmp_path / f"o.jsonl{suffix}")
    code, _, said = run([*arguments, f"--generations={read}"])
    assert code == 4 and f"would be written over --generations={read}" in said and read.read_text()


@pytest.mark.parametrize("inputs", [None, "", "{}", "[]"])
def test_a_file_of_something_else_is_left_alone(files, run, out, inputs):
    out.write_text("mine, without a line break")
    if inputs is not None:
        out.with_name("o.jsonl.outcomes").write_text(inputs)
    code, _, said = run(files(P, G))
    assert code == 4 and "o.jsonl.outcomes beside it does not say what it was made from" in said
    assert said.endswith(": name another --out\n")
    assert out.read_text() == "mine, without a line break"


def test_results_of_another_isolation_are_not_gone_on_with(files, run, out, monkeypatch):
    assert run(files(P, G))[0] == 0
    monkeypatch.setattr(command, "isolation_here", lambda **how: Isolation(level="other", available=True))
    code, _, said = run(files(P, G))
    assert code == 4 and "made with another value of 'isolation'" in said


def test_a_file_that_another_run_writes_is_refused(files, run, out):
    with FileLock(f"{out}.lock"):
        code, _, said = run(files(P, G))
    assert code == 4 and "is being written by another run: wait for it, or name another --out" in said
    assert run(files(P, G))[0] == 0


def test_an_internal_error_is_written_named_and_never_counted_as_failed(files, run, out):
    problems = [problem(), problem("broken", "syntax error")]
    samples = [generation(task_id="broken"), generation(), *[generation(task_id="broken")] * 6, generation(WRONG)]
    for _ in range(2):  # the second run has nothing to do, and still is none that measured
        code, said, errors = run(files(problems, samples))
        assert code == 3
        assert [line["outcome"] for line in read(out)].count("internal_error") == 7
        assert read(out)[1]["passed"] and read(out)[-1]["outcome"] == "failed"
        assert "7 internal_error, 1 passed, 1 failed; pass@1 is not measured" in said
        assert "broken#0 (" in errors and "g.jsonl:1)" in errors and "and 2 more" in errors
        assert "Traceback" not in errors and errors.count("\n") == 1
        assert "says nothing about these programs: the problem's own test cannot be loaded: SyntaxError" in errors
        assert errors.endswith("; mend the problem, then execute into another --out\n")


@pytest.mark.parametrize(
    ("test", "detail"),
    [
        ("import no_such_module\ndef check(f): f(1)", "the problem's own test cannot be loaded: ModuleNotFoundError"),
        ("def check(f): pass", "the problem's test never calls the program"),
        ("def check(f): f(object())", "the test passes an argument that cannot cross to the program"),
        (
            "def check(f):\n    cases = load_cases()",
            "the problem's test ended before it called the program: NameError at test line 2",
        ),
        (
            "def check(f):\n    import no_such_module",
            "the problem's test ended before it called the program: ModuleNotFoundError at test line 2",
        ),
    ],
)
def test_a_broken_test_is_to_be_mended_first(files, run, test, detail):
    code, said, errors = run(files([{**problem(), "test": test}], G))
    assert code == 3 and "pass@1 is not measured" in said
    assert f": {detail}; mend the problem, then execute into another --out\n" in errors


def test_of_many_samples_that_the_tool_failed_on_some_are_named(files, run, monkeypatch):
    def executed(problems, programs, places, **how):
        for n, place in enumerate(places):
            detail = f"the zygote did not start or was lost: {n % 7}"
            rest = {"outcome": Outcome.INTERNAL_ERROR, "duration_s": 0.1, "isolation": "bwrap", "detail": detail}
            yield place, Execution(task_id="t", sample_index=0, **rest)

    monkeypatch.setattr(command, "execute_each", executed)
    code, _, errors = run(files(P, [generation(f"    return {i}\n") for i in range(49)]))
    lines = errors.splitlines()
    assert code == 3 and len(lines) == 6, "as many kinds as samples of one are named, and all others together"
    assert "t#0 (" in lines[0] and "lost: 0; the same command tries again" in lines[0] and "and 2 more" in lines[0]
    assert "and 9 more" in lines[5] and "other reasons, which stand in their lines" in lines[5]


ORDERS = "\x1b[31m\n::error::\x9b\u2028\ud800 " + "n" * 1000


@pytest.mark.parametrize(
    ("problems", "generations", "code"),
    [
        ([problem(), problem(ORDERS)], G, 0),  # unanswered
        ([problem(ORDERS)], [generation(task_id=ORDERS)], 0),
        ([problem(ORDERS, prompt="", entry_point="g" + ORDERS)], [generation(task_id=ORDERS)], 0),  # undefined
        ([problem(ORDERS, "syntax error")], [generation(task_id=ORDERS)], 3),
        ([problem(test=f"raise type({ORDERS!r}, (Exception,), {{}})")], G, 3),
        ([problem(ORDERS)] * 2, G, 4),
        (P, [generation(task_id=ORDERS)], 4),
        (P, [generation(**{ORDERS: ORDERS, "passed": 1})], 4),
        (P, [generation(**{"completion": {ORDERS: ORDERS}})], 4),
    ],
)
def test_names_out_of_files_give_no_orders_to_a_terminal_or_a_log(files, run, problems, generations, code):
    ended, said, errors = run(files(problems, generations))
    assert ended == code and "Traceback" not in errors
    for line in (said + errors).splitlines():
        assert line.isprintable() and not line.startswith("::") and len(line) < 1000, ascii(line)


def test_without_isolation_nothing_runs_and_the_reason_says_what_to_do(files, run, out, monkeypatch):
    none = Isolation(level="none", available=False, reason="bwrap is missing: install it")
    monkeypatch.setattr(command, "isolation_here", lambda **how: none)
    code, said, errors = run(files(P, G))
    assert code == 3 and said == "" and not out.exists()
    assert "bwrap is missing: install it; or let programs run without isolation by --unsafe-execution" in errors


PEAK = """
import sys
from pathlib import Path
from pytest_collabcode.cli import main
exec(sys.argv[1])
code = main(sys.argv[2:])
(peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
print(code, int(peak.split()[1]) * 1024)
"""


def peak_bytes(arguments, first=""):
    ended = subprocess.run(
        [sys.executable, "-c", PEAK, first, *arguments], capture_output=True, text=True, check=True
    )
    code, peak = ended.stdout.splitlines()[-1].split()
    assert code == "0", ended.stderr
    return int(peak)


def test_memory_stays_flat_over_50_000_generations(files, tmp_path):
    peaks = []
    for n_samples in (2_000, 50_000):
        samples = (generation(f"    return x + {i % 4}\n", note=f"{i} " + "n" * 900) for i in range(n_samples))
        peaks.append(peak_bytes(files(P, samples, out=f"{n_samples}.jsonl")))
    size = (tmp_path / "50000.jsonl").stat().st_size
    assert size > 50_000_000 and sum(1 for _ in (tmp_path / "50000.jsonl").open()) == 50_000
    assert peaks[1] - peaks[0] < 0.2 * size, f"{peaks} bytes at the peak, for {size} bytes of results"


def test_a_distinct_program_takes_less_memory_than_a_line_of_code(files):
    passes = """
from pytest_collabcode.execution import crew
from pytest_collabcode.execution.trial import Ruling
crew.try_program = lambda *arguments: Ruling(outcome="passed", duration_s=0.1)
"""
    peaks = []
    for n_samples in (1_000, 11_000):
        samples = (generation(f"    return x + {i}\n" + "# filler\n" * 200) for i in range(n_samples))
        peaks.append(peak_bytes(files(P, samples, out=f"{n_samples}.jsonl"), passes))
    assert peaks[1] - peaks[0] < 10_000 * 600, f"{peaks} bytes at the peak"
