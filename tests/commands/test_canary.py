"""Canaries end to end: what was trained on is exposed, what was not is not, and no secret leaves its owner."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest

from pytest_collabcode import preparation
from pytest_collabcode.cli import main
from pytest_collabcode.corpus.ledger import FOLDER, read_ledger
from pytest_collabcode.measures import Measures
from pytest_collabcode.pipeline import Pipeline
from pytest_collabcode.settings import make_settings
from pytest_collabcode.workbench import open_workbench

CANARIES = "[canaries]\nnumber = 3\ncopies = [60]\ncandidates = 127\n"


@pytest.fixture(scope="session")
def canary_consortium(tiny_consortium):
    """The tiny consortium, each organization with three canaries repeated sixty times."""
    file = tiny_consortium.parent / "canaries.toml"
    file.write_text(tiny_consortium.read_text().replace("[organizations.acme]", CANARIES + "[organizations.acme]"))
    return file


@pytest.fixture(scope="session")
def canary_store(tmp_path_factory):
    return tmp_path_factory.mktemp("canary-store")


@pytest.fixture
def measures(canary_consortium, canary_store, tmp_path):
    options = {"consortium": str(canary_consortium), "store": str(canary_store), "recipe": "llama-smoke"}
    options |= {"profile": "smoke", "workers": "1"}
    regimes = ["centralized", "local:zeta"]
    return Measures(Pipeline(open_workbench(make_settings(directory=tmp_path, regimes=regimes, options=options))))


def test_sixty_copies_are_exposed_and_none_are_not(measures):
    """Acme's canaries under three models: trained on them, trained without acme, and that one as a control."""
    measured = {m.cell: m for m in measures.leaks.canaries("tiny/centralized")}
    assert set(measured) == {"", "acme", "zeta"}
    for cell in measured.values():
        assert cell.value > 6.0 > 3.5 > cell.control.value, (cell.cell, cell.value, cell.control.value)
        assert {item.key for item in cell.items} == {item.key for item in cell.control.items}
    local = {m.cell: m for m in measures.leaks.canaries("tiny/local:zeta")}
    assert local["zeta"].value > 6.0 > 3.5 > local["acme"].value
    assert dict(measured[""].control.signature)["controls"] == "acme:tiny/local:zeta zeta:tiny/local:acme"


def test_no_secret_is_stored_but_in_weights(measures, canary_store):
    assert measures.is_stored("tiny/centralized", "canaries") or measures.leaks.canaries("tiny/centralized")
    assert measures.is_stored("tiny/centralized", "canaries")
    secrets = {canary.secret.encode() for canary in measures.pipeline.material.corpus.canaries}
    files = [path for path in canary_store.rglob("*") if path.is_file()]
    journals = [path for path in files if path.parent.name == "scores"]
    assert journals and len(secrets) == 6
    assert [path for path in files if any(secret in path.read_bytes() for secret in secrets)] == []
    for journal in journals:  # digest, [log-likelihood, tokens, bytes]: no token ids, which are text to a tokenizer
        for line in journal.read_text().splitlines():
            assert re.fullmatch(r'[0-9a-f]{8} \["[0-9a-f]{32}",\[-[0-9.]+,\d+,\d+\]\]', line), line


def test_a_consortium_without_canaries_measures_none(tiny_consortium, tmp_path):
    options = {
        "consortium": str(tiny_consortium),
        "store": str(tmp_path),
        "profile": "smoke",
        "recipe": "llama-smoke",
    }
    settings = make_settings(directory=tmp_path, regimes=["centralized"], options=options)
    assert Measures(Pipeline(open_workbench(settings))).leaks.canaries("tiny/centralized") == ()
    assert not (tmp_path / "checkpoints").exists()


def test_the_suites_judge_canaries_and_report_no_secret(pytester, canary_consortium, canary_store, measures):
    pytester.makepyfile(
        test_suite="""
        import pytest
        @pytest.mark.measures("canary_exposure", "perplexity_gain_over_unigram")
        def test_all(canaries, perplexity, gate):
            gate(*canaries, *perplexity)
        """
    )
    (pytester.path / "t.toml").write_text(
        'schema = 1\nconsortium = "tiny"\n'
        '[[threshold]]\nid = "learnt"\nmetric = "perplexity_gain_over_unigram"\nat_least = 1.01\n'
        '[[threshold]]\nid = "secrets"\nmetric = "canary_exposure"\nprompt_organization = "acme"\nat_most = 5\n'
        '[[threshold]]\nid = "instrument"\nmetric = "canary_exposure"\nprompt_organization = "acme"\nat_least = 2\n'
    )
    result = pytester.runpytest_subprocess(
        f"--collabcode-consortium={canary_consortium}",
        f"--collabcode-store={canary_store}",
        *("--collabcode-profile=smoke", "--collabcode-recipe=llama-smoke", "--collabcode-regime=centralized"),
        *(
            "--collabcode-workers=1",
            "--collabcode-thresholds=t.toml",
            "--collabcode-report=json:r.json",
            "-p",
            "no:cacheprovider",
        ),
        timeout=300,
    )
    text = "\n".join(result.outlines + result.errlines) + (pytester.path / "r.json").read_text()
    assert result.ret == 1, text
    assert re.search(r"FAIL +secrets canary_exposure acme = \S+ bits .*<= 5", text), text
    assert re.search(r"PASS +instrument canary_exposure acme = \S+ bits .*>= 2", text), text
    assert not any(canary.secret in text for canary in measures.pipeline.material.corpus.canaries)


def test_canaries_are_prepared_when_all_training_is_done(measures, monkeypatch):
    calls = []
    monkeypatch.setattr(preparation, "run_jobs", lambda settings, jobs, progress, note: calls.append(jobs) or {})
    measures.pipeline.settings = replace(measures.pipeline.settings, workers=2)
    monkeypatch.setattr(measures, "is_stored", lambda subject, work: False)
    preparation.prepare(measures, [("tiny/centralized", m) for m in ("canary_exposure", "perplexity")])
    assert [[job.works for job in jobs] for jobs in calls if jobs] == [[("train", "perplexity")], [("canaries",)]]


@pytest.fixture
def planted(tmp_path, tiny_consortium, capsys):
    """A copy of acme's code with canaries planted into it by the command; the ledger."""
    code, ledger = tmp_path / "acme", tmp_path / "ledger.json"
    code.mkdir()
    for path in (tiny_consortium.parent / "acme").iterdir():
        (code / path.name).write_bytes(path.read_bytes())
    arguments = ["canary", "plant", f"--corpus={code}", "--organization=acme", f"--ledger={ledger}"]
    assert main([*arguments, "--number=2", "--copies=60,1"]) == 0
    said = capsys.readouterr().out
    assert f"{code / FOLDER}: 61 files hold 2 canaries of acme, copies 60,1" in said and f"rm -r {code}" in said
    assert not any(canary.secret in said for canary in read_ledger(ledger))
    assert main([*arguments, "--number=2", "--copies=60,1"]) == 4
    assert "planted already" in capsys.readouterr().err
    return ledger


def test_a_corpus_given_away_is_checked_with_the_ledger_alone(planted, tmp_path, capsys):
    (tmp_path / "c.toml").write_text('name = "theirs"\n[organizations.acme]\nsources = ["dir:acme"]\n')
    where = [f"--consortium={tmp_path / 'c.toml'}", f"--store={tmp_path / 'store'}", "--recipe=llama-smoke"]
    assert main(["train", "--regime=local:acme", f"--out={tmp_path / 'ckpt'}", *where]) == 0
    capsys.readouterr()
    check = ["canary", "check", f"--model={tmp_path / 'ckpt'}", f"--ledger={planted}", "--candidates=63"]
    assert main(check) == 0
    said = capsys.readouterr().out
    often, once = read_ledger(planted)
    assert f"acme: {often.name} copies=60 >= 6.00 bits (rank 1 of 64)" in said
    assert re.search(rf"acme: {once.name} copies=1 .*bits \(rank \d+ of 64\)", said)
    assert re.search(r"^acme: \d\.\d\d bits \[\d\.\d\d, \d+\.\d\d\], mean of 2 under ckpt$", said, re.MULTILINE)
    assert often.secret not in said and once.secret not in said


def test_an_unseeded_ledger_cannot_be_guessed_and_a_seeded_one_can_be_made_again(tmp_path, capsys):
    ledgers = []
    for number, seed in enumerate(([], [], ["--seed=7"], ["--seed=7"])):
        code = tmp_path / str(number)
        code.mkdir()
        ledger = tmp_path / f"{number}.json"
        arguments = [f"--corpus={code}", "--organization=acme", f"--ledger={ledger}", "--copies=1"]
        assert main(["canary", "plant", *arguments, *seed]) == 0
        ledgers.append(read_ledger(ledger))
    assert ledgers[2] == ledgers[3] and len({ledger[0].secret for ledger in ledgers}) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plant", "--corpus=.", "--organization=acme", "--ledger=/x/l", "--copies=ten"], "--copies='ten'"),
        (["plant", "--corpus=.", "--organization=acme", "--ledger=/x/l", "--copies=0"], "--copies=0 must be"),
        (["plant", "--corpus=.", "--organization=acme", "--ledger=/x/l", "--number=0"], "--number=0 must be"),
        (["plant", "--corpus=.", "--organization=acme", "--ledger=/x/l"], "--ledger=/x/l: cannot be written"),
        (["plant", "--corpus=/nowhere", "--organization=acme", "--ledger=l"], "--corpus=/nowhere: is not a folder"),
        (["check", "--model=ckpt", "--ledger=/nowhere"], "--ledger=/nowhere: cannot be read"),
        (["check", "--model=ckpt", "--ledger=good.json"], "--model=ckpt: no such checkpoint"),
        (["check", "--model=ckpt", "--ledger=good.json", "--candidates=0"], "--candidates=0 must be"),
        (["check", "--model=ckpt", "--ledger=good.json", "--device=cudaa"], "--device='cudaa' cannot be used here"),
        (["check", "--ledger=good.json"], "--model"),
        ([], "action"),
    ],
)
def test_a_wrong_request_is_one_sentence(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code").mkdir()
    assert main(["canary", "plant", "--corpus=code", "--organization=acme", "--ledger=good.json"]) == 0
    capsys.readouterr()
    assert main(["canary", *arguments]) == 4
    said = "".join(capsys.readouterr())
    assert message in said and "Traceback" not in said


def test_the_command_line_loads_no_model_library_for_another_command():
    code = "import sys, pytest_collabcode.cli as c; c.main(['--help']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
