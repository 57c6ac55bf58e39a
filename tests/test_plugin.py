"""The plugin end to end on a consortium made here: exit codes, verdict lines, partial runs, proposals, own suites."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file  # once: pytester forgets what tests import

SUITES = Path(__file__).parent.parent / "suites"
REGIME = "--collabcode-regime=centralized"
FLOOR = """schema = 1
consortium = "tiny"
[[threshold]]
id = "learnt"
metric = "perplexity_gain_over_unigram"
subjects = ["tiny/*"]
at_least = 1.05
"""
# Every blank is 2.5 times the ceiling that 12 prompts can certify.
CEILING = """[[threshold]]
id = "natural-code"
metric = "memorization_ratio"
subjects = ["tiny/*"]
source_organization = "any"
stratum = "natural"
at_most = 0.9
"""
SUITE = """
import pytest

@pytest.mark.measures("perplexity_gain_over_unigram")
def test_heldout(perplexity, gate):
    gate(*perplexity)

@pytest.mark.measures("memorization_ratio")
def test_natural(organization, memorization, gate):
    gate(*(m for m in memorization if m.prompt_organization == organization and m.stratum == "natural"))
"""


@pytest.fixture
def run(pytester, tiny_options):
    """Run pytest in a process of its own on a suite; return (exit code, output)."""

    def run(*arguments, suite=SUITE, thresholds=FLOOR + CEILING):
        if suite is not None:
            pytester.makepyfile(test_suite=suite)
        (pytester.path / "t.toml").write_text(thresholds)
        options = [*tiny_options, "--collabcode-thresholds=t.toml", *arguments]
        result = pytester.runpytest_subprocess(*options, timeout=300)
        return result.ret, "\n".join(result.outlines + result.errlines)

    return run


def test_a_run_whose_gates_pass_is_green_and_trains_once(run, tiny_store, pytester):
    mistyped = CEILING.replace("natural-code", "mistyped").replace("tiny/*", "tiny/centralised")
    reports = ["--collabcode-report=json:r.json", "--junitxml=j.xml"]
    code, text = run(REGIME, *reports, thresholds=FLOOR + CEILING + mistyped)
    assert code == 0, text
    assert "collabcode: GREEN: 5 verdicts, none blocks" in text  # perplexity pooled and of both, natural code of both
    assert "PASS       learnt perplexity_gain_over_unigram acme = " in text
    trained = {p: p.stat().st_mtime_ns for p in (tiny_store / "checkpoints").iterdir()}
    report = json.loads((pytester.path / "r.json").read_text())
    assert report["green"] and len(report["verdicts"]) == 5
    said = "not judged here: t.toml has 1 threshold for 'tiny/centralised' (did you mean 'tiny/centralized'?)"
    assert said in text.split("\n") and said in report["environment"].values()
    assert 'name="collabcode.learnt"' in (pytester.path / "j.xml").read_text()
    code, again = run(REGIME)
    assert code == 0 and "training centralized" not in again
    assert {p: p.stat().st_mtime_ns for p in (tiny_store / "checkpoints").iterdir()} == trained

    def lines(output):
        return [line for line in output.split("\n") if line.startswith("PASS")]

    assert lines(text) == lines(again)


def test_a_run_without_capture_prepares_too(run):
    code, text = run(REGIME, "-p", "no:capture")
    assert code == 0 and "GREEN" in text, text


def test_a_floor_that_is_not_reached_fails_in_one_line(run):
    code, text = run(REGIME, thresholds=FLOOR.replace("1.05", "5000") + CEILING)
    assert code == 1
    assert "FAIL       learnt perplexity_gain_over_unigram = " in text and ">= 5000" in text
    assert "by t.toml:3" in text and "collabcode: RED" in text


@pytest.mark.parametrize(
    ("arguments", "code", "last"),
    [
        (["-k", "heldout"], 6, "PARTIAL: 3 verdicts, all that were selected passed; this is not a release verdict"),
        (["-k", "heldout", "--collabcode-partial"], 0, "PARTIAL"),
        (["--deselect=test_suite.py::test_heldout"], 6, "PARTIAL"),
        (["test_suite.py::test_heldout"], 6, "PARTIAL"),
        (["-n1", "-k", "not zeta"], 6, "PARTIAL: 4 verdicts, all that were selected passed"),
    ],
)
def test_a_narrowed_run_is_never_a_release_verdict(run, arguments, code, last):
    got, text = run(REGIME, *arguments)
    assert got == code, text
    assert last in text


@pytest.mark.parametrize(
    "suite",
    [
        SUITE.replace("    gate(*perplexity)", "    pytest.skip('not today')"),
        SUITE.replace("    gate(*perplexity)", "    pass"),
        SUITE.replace("    gate(*perplexity)", "    pytest.xfail('known')"),
    ],
)
def test_a_required_gate_that_was_not_measured_is_not_green(run, suite):
    code, text = run(REGIME, suite=suite)
    assert code == 1
    assert "UNMEASURED learnt perplexity_gain_over_unigram [tiny/centralized] no test that ran measured it" in text


@pytest.mark.parametrize(
    "suite",
    [
        SUITE.replace("def test_heldout", "@pytest.mark.xfail\ndef test_heldout"),
        SUITE.replace("    gate(*perplexity)", "    try: gate(*perplexity)\n    except AssertionError: pass"),
    ],
)
def test_a_failed_verdict_blocks_whatever_became_of_its_test(run, suite):
    code, text = run(REGIME, suite=suite, thresholds=FLOOR.replace("1.05", "5000") + CEILING)
    assert code == 1 and "collabcode: RED" in text, text


def test_an_unjudged_subject_of_which_nothing_was_measured_is_not_green(run):
    suite = SUITE.replace("    gate(", "    pytest.skip('not today')\n    gate(")
    code, text = run(REGIME, suite=suite, thresholds="schema = 1\nconsortium = 'demo'\n")
    assert code == 1 and "no threshold selects it and no test measured it" in text, text


def test_a_subject_that_nobody_judges_gets_a_proposal_that_it_then_passes(run, pytester):
    unmeasured = """
@pytest.mark.measures("mrr_over_chance")
def test_retrieval(model, gate):
    raise EmptyMeasurementError("no pairs")
"""
    suite = "from pytest_collabcode.errors import EmptyMeasurementError\n" + SUITE + unmeasured
    code, text = run(REGIME, suite=suite, thresholds="schema = 1\nconsortium = 'demo'\n")
    assert code == 1 and last_line(text).endswith("; nobody judges 1 of the subjects yet"), text
    assert "not judged here: all 0 thresholds of t.toml are for consortium 'demo', this is 'tiny'" in text
    measured = [line for line in text.split("\n") if line.startswith("measured   perplexity_gain_over_unigram = ")]
    assert len(measured) == 1 and " x] [tiny/centralized] documents:" in measured[0] and "|weights:" in measured[0]
    assert (
        "no threshold of t.toml judges 'tiny/centralized': proposed collabcode-thresholds.tiny-centralized.toml"
        in text
    )
    proposal = (pytester.path / "collabcode-thresholds.tiny-centralized.toml").read_text()
    assert "\n# mrr_over_chance: UNMEASURED: no pairs; no bound proposed\n" in proposal
    code, text = run(REGIME, suite=SUITE, thresholds=proposal)
    assert code == 0, text


def test_an_organization_judges_with_a_suite_of_its_own(run):
    suite = """
    from pytest_collabcode.records import Measurement, Problem, Sampling

    def test_house_style(model, generations, subject, gate):
        problems = [Problem(task_id=str(i), prompt=f"def load_rows_{i}(items, limit=9):") for i in range(4)]
        drawn = generations(problems, Sampling(max_new_tokens=8, n_samples=2))
        again = generations(problems, Sampling(max_new_tokens=8, n_samples=2))
        assert len(drawn) == 8 and list(drawn) == list(again)
        short = sum(len(g.completion) < 200 for g in drawn)
        gate(Measurement(name="acme.short", subject=subject, value=short / 8, count=short, n=8))
    """
    thresholds = 'own_metrics = ["acme.short"]\n' + FLOOR.replace(
        "perplexity_gain_over_unigram", "acme.short"
    ).replace("1.05", "0.5")
    code, text = run(REGIME, suite=suite, thresholds=thresholds)
    assert code == 0, text
    [line] = [line for line in text.split("\n") if line.startswith("PASS       learnt acme.short = 1 (8/8)")]
    signature = line.rpartition("[tiny/centralized] ")[2].split("|")
    keys = ["profile", "seed", "corpus", "weights", "torch", "transformers"]
    assert [pair.partition(":")[0] for pair in signature] == keys


def test_fixtures_hand_out_models_of_every_regime(run):
    suite = """
    def test_regimes(consortium, local_model, centralized_model, federated_model, incremental_model):
        text = [d.text for o in consortium.organizations for d in o.split("heldout")][:1]
        models = [local_model("acme"), centralized_model, federated_model("fedyogi"), incremental_model("zeta>acme")]
        regimes = [m.checkpoint.regime for m in models]
        assert regimes == ["local:acme", "centralized", "fedyogi", "incremental:zeta>acme"]
        assert all(m.log_likelihood(text, max_tokens=64)[0].log_likelihood < 0 for m in models)
    """
    code, text = run(suite=suite)
    assert code == 0, text


def test_workers_of_xdist_give_the_same_verdicts_and_write_the_same_reports(run, pytester):
    pytest.importorskip("xdist")
    kinds, written, said = ("json", "markdown", "sarif"), [], []
    for how in (["-n0"], ["-n2", f"--collabcode-store={pytester.path / 'another'}"]):  # which computes all anew
        code, text = run(REGIME, *how, *(f"--collabcode-report={kind}:r.{kind}" for kind in kinds))
        assert code == 0, text
        written.append([(pytester.path / f"r.{kind}").read_text() for kind in kinds])
        said.append(text.partition(" collabcode verdicts =")[2].partition("none blocks")[0].strip("=\n"))
    assert written[0] == written[1] and said[0] == said[1]
    report = json.loads(written[0][0])
    assert len(report["verdicts"]) == 5 and len(report["measurements"]) > 5
    assert said[0].count("\nPASS") == 5 and said[0].endswith("collabcode: GREEN: 5 verdicts, ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--collabcode-regime=fedavgg"], "regime='fedavgg': unknown; did you mean 'fedavg'?"),
        (["--collabcode-regime=local:acm"], "organization 'acm' is unknown; did you mean 'acme'?"),
        (["--collabcode-regime=incremental:acme>acme"], "acme stands more than once"),
        (["--model=/nowhere/ckpt"], "/nowhere/ckpt"),
        ([REGIME, "--collabcode-profile=dem"], "did you mean 'demo'?"),
        ([REGIME, "--collabcode-recipe=llama"], "did you mean 'llama-demo'?"),
        ([REGIME, "--collabcode-device=cuda:99"], "--collabcode-device='cuda:99' cannot be used here"),
        ([], "no subject to judge: give a checkpoint with --model=PATH"),
    ],
)
def test_a_wrong_request_ends_with_exit_4_and_one_sentence(run, arguments, message):
    code, text = run(*arguments)
    assert code == 4, text
    assert message in text and "Traceback" not in text


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        (FLOOR.replace("at_least", "at_lest"), "key 'at_lest' is unknown; did you mean 'at_least'?"),
        ("schema = 1\nconsortium = 'tiny'\n" + CEILING, "without an effectiveness floor"),
        (FLOOR + CEILING.replace("0.9", "0.2"), "at_most=0.2 needs 14 prompts of acme, there are 12"),
    ],
)
def test_thresholds_that_could_not_judge_end_with_exit_4(run, thresholds, message):
    code, text = run(REGIME, thresholds=thresholds)
    assert code == 4 and message in text and "Traceback" not in text


def test_an_empty_corpus_ends_with_exit_4(run, pytester, tmp_path):
    (tmp_path / "empty").mkdir()
    file = tmp_path / "c.toml"
    file.write_text('name = "tiny"\n[organizations.acme]\nsources = ["dir:empty"]\n')
    code, text = run(REGIME, f"--collabcode-consortium={file}")
    assert code == 4 and "has no usable .py file" in text and "Traceback" not in text


def test_a_subject_given_twice_is_refused(run, tiny_store, tiny_options, tmp_path):
    code, text = run(REGIME)
    assert code == 0, text
    path = next(p.parent for p in (tiny_store / "checkpoints").glob("*/config.json"))
    code, text = run(f"--model=a={path}", f"--model=a={path}")
    assert code == 4 and "two subjects are called 'a'" in text


def test_another_plugin_may_own_the_short_option(pytester, tiny_options):
    pytester.makepyfile(
        other="def pytest_addoption(parser):\n    parser.addoption('--model', default='theirs')\n",
        test_x="def test_x(request):\n    assert request.config.option.model == 'theirs'\n",
    )
    result = pytester.runpytest_subprocess("-p", "other", timeout=60)
    assert result.ret == 0


def test_the_shipped_suites_are_collected_from_another_folder(pytester, tiny_options):
    result = pytester.runpytest_subprocess(
        "--pyargs", "pytest_collabcode.suites", REGIME, "--collect-only", "-q", *tiny_options, timeout=60
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test_natural_code_of[[]tiny/centralized-acme[]]"])


def test_a_killed_worker_is_one_sentence_and_the_next_run_goes_on(pytester, tiny_options, tmp_path):
    store = tmp_path / "store"
    pytester.makepyfile(test_suite=SUITE)
    (pytester.path / "t.toml").write_text(FLOOR + CEILING)
    options = [*tiny_options, f"--collabcode-store={store}", "--collabcode-thresholds=t.toml", REGIME]
    killer = (
        "import os, signal, pytest_collabcode.training.loop as loop\n"
        "read = loop.Trainer._read\n"
        "def die(self, loss):\n"
        "    read(self, loss)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "loop.Trainer._read = die\n"
    )
    (pytester.path / "sitecustomize.py").write_text(
        "import multiprocessing, os, sys\nif 'KILL' in os.environ and '--multiprocessing-fork' in sys.argv:\n"
        + "".join(f"    {line}\n" for line in killer.splitlines())
    )
    environment = {**__import__("os").environ, "PYTHONPATH": str(pytester.path), "KILL": "1"}
    command = [sys.executable, "-m", "pytest", *options]
    first = subprocess.run(command, cwd=pytester.path, env=environment, capture_output=True, text=True, timeout=300)
    said = first.stdout + first.stderr
    assert first.returncode == 1, said
    assert "the worker of tiny/centralized was killed by signal 9" in said
    assert "run the same command again to continue" in said and "Traceback" not in said
    del environment["KILL"]
    second = subprocess.run(command, cwd=pytester.path, env=environment, capture_output=True, text=True, timeout=300)
    assert second.returncode == 0, second.stdout + second.stderr
    shutil.rmtree(store)


@pytest.fixture
def checkpoint(pytester, tiny_options, tiny_consortium, tiny_store):
    """A checkpoint of the tiny consortium, as `collabcode train` writes it."""
    out = pytester.path / "ckpt"
    command = [sys.executable, "-m", "pytest_collabcode", "train", "--regime=centralized", f"--out={out}"]
    options = [f"--consortium={tiny_consortium}", f"--store={tiny_store}", "--recipe=llama-smoke"]
    subprocess.run([*command, *options], check=True, capture_output=True, timeout=300)
    return out


def zero_first_layer(path):
    tensors = load_file(path / "model.safetensors")
    for name, tensor in tensors.items():
        if ".layers.0." in name:
            tensor.zero_()
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


def test_a_damaged_model_is_red_against_its_own_baseline(run, checkpoint, pytester):
    thresholds = FLOOR.replace("tiny/*", "ckpt") + CEILING.replace("tiny/*", "ckpt")
    code, text = run("--model=ckpt", "--collabcode-report=json:r.json", thresholds=thresholds)
    assert code == 0, text
    accept = [sys.executable, "-m", "pytest_collabcode", "accept", "r.json", "--baseline=b.json"]
    said = subprocess.run(accept, cwd=pytester.path, capture_output=True, text=True, check=True).stdout
    assert "ckpt|perplexity_gain_over_unigram| = " in said
    thresholds = thresholds.replace("at_least = 1.05", "at_least = 0.2\nmax_drop = 0.05")
    code, text = run("--model=ckpt", "--collabcode-baseline=b.json", thresholds=thresholds)
    assert code == 0, text
    zero_first_layer(checkpoint)
    code, text = run("--model=ckpt", "--collabcode-baseline=b.json", thresholds=thresholds)
    assert code == 1
    assert "FAIL       learnt perplexity_gain_over_unigram = " in text and "drop" in text


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda path: (path / "model.safetensors").rename(path / "pytorch_model.bin"),
            "is refused, since loading it can run any code",
        ),
        (lambda path: (path / "config.json").unlink(), "config.json is missing"),
        (lambda path: (path / "tokenizer.json").unlink(), "tokenizer"),
        (lambda path: (path / "model.safetensors").write_bytes(b"\xff" * 100), "model.safetensors"),
        (lambda path: set_config(path, auto_map={"AutoModel": "evil.Model"}), "auto_map"),
        (lambda path: set_config(path, num_hidden_layers=3), "its weights lack model.layers.1."),
        (lambda path: set_tensor(path, float("nan")), "NaN"),
    ],
)
def test_a_bad_checkpoint_ends_with_exit_4_before_a_model_is_built(run, checkpoint, spoil, message):
    spoil(checkpoint)
    code, text = run("--model=ckpt")
    assert code == 4, text
    assert message.lower() in text.lower() and "Traceback" not in text


def set_config(path, **values):
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **values}))


def set_tensor(path, value):
    tensors = load_file(path / "model.safetensors")
    next(iter(tensors.values())).view(-1)[3] = value
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


def last_line(text):
    """Return the line that says what the run means."""
    return [line for line in text.split("\n") if line.startswith("collabcode: ")][-1]


def test_a_store_that_fails_in_the_preflight_is_one_sentence(run, pytester):
    (pytester.path / "store" / "downloads").parent.mkdir()
    (pytester.path / "store" / "downloads").touch()
    code, text = run(REGIME, "--collabcode-store=store")
    assert code == 4 and "store/downloads cannot be written" in text and "Traceback" not in text, text


def test_a_report_that_cannot_be_written_in_the_end_is_not_green(run, pytester):
    pytester.makeconftest(
        "import shutil\n"
        "def pytest_runtest_teardown():\n"
        "    shutil.rmtree('gone', ignore_errors=True)\n"
        "    open('gone', 'w').close()\n"
    )
    reports = ["--collabcode-report=json:gone/r.json", "--collabcode-report=json:kept.json"]
    code, text = run(REGIME, *reports)
    assert code == 1 and "GREEN" not in text, text
    assert last_line(text).startswith(
        "collabcode: RED: 0 of 5 verdicts block; --collabcode-report=json:gone/r.json can"
    )
    assert json.loads((pytester.path / "kept.json").read_text())["green"] is False
