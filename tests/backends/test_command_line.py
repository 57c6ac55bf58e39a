"""`--model=URL` from the command line to the verdict, against a server of its own process."""

import json
from pathlib import Path

import pytest

from pytest_collabcode.backends.discovery import discover
from pytest_collabcode.errors import CheckpointError, ConfigurationError, MeasurementError
from pytest_collabcode.measures import Measures
from pytest_collabcode.models.load import check_weights, load, load_tokenizer
from pytest_collabcode.pipeline import Pipeline
from pytest_collabcode.records import Problem, Sampling
from pytest_collabcode.settings import make_settings
from pytest_collabcode.subjects import find_subjects
from pytest_collabcode.urls import KEY
from pytest_collabcode.workbench import open_workbench

SUITE = """
import pytest

@pytest.mark.measures("bits_per_byte")
def test_heldout(perplexity, gate):
    gate(*perplexity)

@pytest.mark.measures("memorization_over_heldout")
def test_natural(organization, memorization, gate):
    gate(*(m for m in memorization if m.prompt_organization == organization and m.stratum == "natural"))
"""
THRESHOLDS = """schema = 1
[[threshold]]
id = "predicts"
metric = "bits_per_byte"
subjects = ["far"]
at_most = 100
[[threshold]]
id = "natural-code"
metric = "memorization_over_heldout"
subjects = ["far"]
at_least = -0.9
"""


@pytest.fixture
def run(pytester, tiny_options):
    def run(*arguments):
        pytester.makepyfile(test_suite=SUITE)
        (pytester.path / "t.toml").write_text(THRESHOLDS)
        options = [*tiny_options, "--collabcode-workers=1", "--collabcode-thresholds=t.toml", *arguments]
        result = pytester.runpytest_subprocess(*options, timeout=300)
        return result.ret, "\n".join(result.outlines + result.errlines)

    return run


def test_a_server_is_judged_and_signed_as_unverified(run, server, pytester, tiny_store, monkeypatch):
    monkeypatch.setenv(KEY, "sk-very-secret")
    code, text = run(f"--model=far={server.url}", "--collabcode-report=json:r.json")
    assert code == 0, text
    assert "far: its weights lie behind a server and are not verified" in text
    assert text.count("PASS       natural-code") == 2
    for measurement in json.loads((pytester.path / "r.json").read_text())["measurements"]:
        signature = dict(measurement["signature"])
        assert (signature["backend"], signature["weights"]) == ("endpoint", "unverified")
    assert all(request["authorization"] == "Bearer sk-very-secret" for request in server.seen())
    files = [p for p in (*tiny_store.rglob("*"), pytester.path / "r.json") if p.is_file()]
    assert files and not [p for p in files if b"sk-very-secret" in p.read_bytes()]


def test_a_server_is_asked_once_and_what_it_does_not_tell_is_an_error(server, tiny_consortium, tmp_path):
    options = {"consortium": str(tiny_consortium), "store": str(tmp_path), "profile": "smoke"}
    problems = [Problem(task_id="t/0", prompt="def f():")]
    for n_requests in (4 + 2 * 3 + 2, 0):  # 4 texts, whether it reads 3 fields, 2 samples
        server.behave()
        pipeline = Pipeline(open_workbench(settings(f"far={server.url}", options=options)))
        pipeline.check()
        checkpoint = pipeline.checkpoint("far")
        pipeline.text_scores(checkpoint, pipeline.material.heldout_documents[:4])
        pipeline.generations(checkpoint, "own", problems, Sampling(max_new_tokens=4, n_samples=2))
        assert len(server.seen()) == n_requests
    with pytest.raises(MeasurementError, match="far: a server of text completions tells only the likeliest tokens"):
        Measures(pipeline).leaks.membership("far")
    names = {m.name for m in Measures(pipeline).perplexity("far")}
    assert names == {"perplexity", "bits_per_byte"}  # the gain over a unigram model needs token ids


def settings(*models, **options):
    return make_settings(directory=Path(), models=models, **options)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("x=http://127.0.0.1:9/v1", r"--model=http://127\.0\.0\.1:9/v1: no answer \(ConnectError\) in 3 tries"),
        ("http://127.0.0.1:9/v1", r"start the server or correct the URL"),
    ],
)
def test_a_server_that_is_not_there_is_named_before_anything_runs(model, message):
    with pytest.raises(CheckpointError, match=message):
        find_subjects(settings(model), "c", ())


def test_names_of_servers_and_their_adapters(server, tmp_path):
    assert list(find_subjects(settings(server.url, f"b={server.url}#tiny"), "c", ())) == ["tiny", "b"]
    with pytest.raises(ConfigurationError, match="is behind a server, which loads its adapters itself"):
        find_subjects(settings(server.url, adapters=[str(tmp_path)]), "c", ())


def test_nothing_looks_for_the_files_of_a_server(server):
    found = discover(server.url)
    check_weights(found)
    for entrance in (load, load_tokenizer):
        with pytest.raises(MeasurementError, match="they lie behind a server; judge the checkpoint itself"):
            entrance(found)
