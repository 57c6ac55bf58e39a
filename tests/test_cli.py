"""The command line: what it does, and that a wrong request is one sentence and exit 4."""

import errno
import re
import shutil
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from pytest_collabcode.checkpoint import read_checkpoint
from pytest_collabcode.cli import main
from pytest_collabcode.doctor import examine
from pytest_collabcode.settings import make_settings


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--regime=fedavgg", "--out=x"], 4, "did you mean 'fedavg'?"),
        (["train", "--regime=centralized", "--out=x", "--recipe=lama-demo"], 4, "did you mean 'llama-demo'?"),
        (
            ["train", "--regime=centralized", "--out=x", "--base=/nowhere"],
            4,
            "--collabcode-base=/nowhere: no such file",
        ),
        (["train", "--regime=centralized"], 4, "--out"),
        (["fetch", "--from=/nowhere"], 4, "/nowhere"),
        (["accept", "/nowhere.json"], 4, "is not a report"),
        (["frobnicate"], 4, "invalid choice"),
        (["--help"], 0, "fetch"),
    ],
)
def test_a_wrong_request_is_one_sentence(arguments, code, message, capsys, tiny_consortium, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "train":
        arguments = [*arguments, f"--consortium={tiny_consortium}", f"--store={tmp_path / 's'}"]
    assert main(arguments) == code
    said = "".join(capsys.readouterr())
    assert message in said and "Traceback" not in said


def test_a_trained_regime_is_written_where_asked(tiny_consortium, tiny_store, tmp_path, capsys):
    arguments = ["train", "--regime=local:acme", f"--out={tmp_path / 'ckpt'}", "--recipe=llama-smoke"]
    assert main([*arguments, f"--consortium={tiny_consortium}", f"--store={tiny_store}"]) == 0
    assert "judge it with: pytest suites/ --model=" in capsys.readouterr().out
    assert {"config.json", "model.safetensors", "collabcode.json", "tokenizer.json"} <= {
        p.name for p in (tmp_path / "ckpt").iterdir()
    }
    assert main([*arguments, f"--consortium={tiny_consortium}", f"--store={tiny_store}"]) == 4
    said = capsys.readouterr().err
    assert "exists and is not empty; name another directory\n" in said


@pytest.mark.parametrize("out", ["/proc/x/y", "/dev/null/x", "/dev/null", "/tmp/" + "x" * 300])
def test_nothing_is_trained_that_could_not_be_written(tiny_consortium, tmp_path, capsys, monkeypatch, out):
    monkeypatch.setattr("pytest_collabcode.pipeline.Pipeline.trained", lambda *_: pytest.fail("it was trained"))
    arguments = ["train", "--regime=centralized", "--recipe=llama-smoke", f"--consortium={tiny_consortium}"]
    assert main([*arguments, f"--store={tmp_path / 's'}", f"--out={out}"]) == 4
    said = capsys.readouterr().err
    assert said.startswith(f"collabcode train: --out={out}: ") and "name another directory\n" in said
    assert said.count("\n") == 1


def full(*_, **how):
    raise OSError(errno.ENOSPC, "No space left on device")


def full_in_the_middle(source, target, **how):
    target.mkdir(exist_ok=True)
    (target / "config.json").touch()
    raise shutil.Error([(str(source), str(target), "[Errno 28] No space left on device")])


def interrupted(source, target, **how):
    (target / "config.json").touch()
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("function", "broken", "code", "message"),
    [
        ("shutil.copytree", full_in_the_middle, 3, "No space left on device), but the training is done"),
        ("pytest_collabcode.fetching.write_manifest", full, 3, "No space left on device), but the training is done"),
        ("shutil.copytree", interrupted, 2, "interrupted; the same command goes on"),
    ],
)
def test_what_was_trained_is_not_lost_with_its_copy(
    tiny_consortium, tiny_store, tmp_path, capsys, monkeypatch, function, broken, code, message
):
    out = tmp_path / "ckpt"
    out.mkdir()
    arguments = ["train", "--regime=local:acme", f"--out={out}", "--recipe=llama-smoke"]
    arguments += [f"--consortium={tiny_consortium}", f"--store={tiny_store}"]
    with monkeypatch.context() as patch:
        patch.setattr(function, broken)
        assert main(arguments) == code
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not out.exists()
    if code == 3:
        kept = re.search(r"the store has the checkpoint as (\S+), ", said)
        assert kept and read_checkpoint(Path(kept[1])).regime == "local:acme"
    assert main(arguments) == 0 and read_checkpoint(out).name == "ckpt"


def test_a_regime_may_start_from_a_checkpoint(tiny_consortium, tiny_store, tmp_path, capsys):
    shared = [f"--consortium={tiny_consortium}", f"--store={tiny_store}", "--recipe=llama-smoke"]
    assert main(["train", "--regime=local:acme", f"--out={tmp_path / 'a'}", *shared]) == 0
    assert main(["train", "--regime=local:zeta", f"--out={tmp_path / 'b'}", f"--base={tmp_path / 'a'}", *shared]) == 0
    assert main(["train", "--regime=local:zeta", f"--out={tmp_path / 'c'}", *shared]) == 0
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in "abc"}
    assert len(set(weights.values())) == 3, "the base made no difference"


def test_the_doctor_names_what_is_missing(tmp_path, capsys):
    main(["doctor", f"--store={tmp_path / 'empty'}", "--consortium", str(write_wheel_consortium(tmp_path))])
    said = capsys.readouterr().out
    assert "isolation:" in said and "disk:" in said and "minutes" in said
    assert "0 of 1 wheels of 'none' are there; run: collabcode fetch" in said
    assert "MISSING  network:" in said and said.strip().endswith("not ready: see what is marked MISSING")


CODE = {"a.py": "x = 1\n", "b.jsonl": '{"repo_name": "r", "path": "a.py", "content": "x = 1"}\n'}


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('"dir:code"', ["ok       acme: code in dir:{}/code"]),
        ('"dir:code", "jsonl:code/b.jsonl"', ["ok       acme: code in dir:{}/code, jsonl:{}/code/b.jsonl"]),
        ('"dir:nowhere"', ["MISSING  acme: dir:{}/nowhere: no such folder"]),
        ('"dir:code/a.py"', ["MISSING  acme: dir:{}/code/a.py: is not a folder"]),
        ('"dir:empty"', ["MISSING  acme: dir:{}/empty: has no usable .py file (none found); name another source"]),
        ('"jsonl:nowhere.jsonl"', ["MISSING  acme: jsonl:{}/nowhere.jsonl: no such file"]),
        ('"jsonl:code/a.py"', ["MISSING  acme: jsonl:{}/code/a.py: has no usable .py file (1 not a JSON object); "]),
        ('"dir:code", "dir:nowhere", "dir:no"', ["MISSING  acme: dir:{}/nowhere: ", "MISSING  acme: dir:{}/no: "]),
    ],
)
def test_the_doctor_reads_every_source(tmp_path, source, lines):
    (tmp_path / "code").mkdir()
    (tmp_path / "empty").mkdir()
    for name, text in CODE.items():
        (tmp_path / "code" / name).write_text(text)
    found = examined(tmp_path, f"[organizations.acme]\nsources = [{source}]\n", len(lines))
    for line, expected in zip(found, lines, strict=True):
        assert line.startswith(expected.replace("{}", str(tmp_path)))


def examined(folder, declared, n_checks):
    """Return so many lines of the doctor behind system, isolation and disk; what comes last takes seconds."""
    (folder / "c.toml").write_text(f'name = "c"\n{declared}')
    settings = make_settings(directory=folder, options={"consortium": str(folder / "c.toml"), "store": str(folder)})
    return [check.line() for check in islice(examine(settings), 3, 3 + n_checks)]


@pytest.mark.parametrize(("target", "code", "last"), [("src", 0, "ready"), ("nowhere", 1, "not ready: see what is")])
def test_the_doctor_is_ready_only_with_code(tmp_path, capsys, target, code, last):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("x = 1\n")
    (tmp_path / "c.toml").write_text(f'name = "c"\norganizations.acme.sources = ["dir:{target}"]\n')
    assert main(["doctor", f"--store={tmp_path}", f"--consortium={tmp_path / 'c.toml'}"]) == code
    said = capsys.readouterr().out
    assert said.splitlines()[-1].startswith(last) and said.count(" acme: ") == 1 and "wheels" not in said


@pytest.mark.parametrize(
    ("declared", "line"),
    [
        ('plants = "nowhere.toml"', "MISSING  plants: {}/nowhere.toml: cannot be read (No such file or directory)"),
        ('indexes.nova.path = "nowhere"', "MISSING  index of nova: {}/nowhere is no index: "),
    ],
)
def test_the_doctor_reads_what_else_a_consortium_names(tmp_path, declared, line):
    (tmp_path / "a.py").write_text("x = 1\n")
    found = examined(tmp_path, f'{declared}\norganizations.acme.sources = ["dir:."]\n', 2)
    assert found[1].startswith(line.replace("{}", str(tmp_path)))


def test_a_store_that_is_a_file_is_missing(tmp_path):
    (tmp_path / "s").touch()
    *_, disk = islice(examine(make_settings(directory=tmp_path, options={"store": str(tmp_path / "s")})), 3)
    assert disk.line().startswith(f"MISSING  disk: {tmp_path / 's'} is a file")


def write_wheel_consortium(folder):
    file = folder / "c.toml"
    source = "wheel:no-such-package-of-collabcode==1.0"
    file.write_text(
        'name = "none"\n[organizations.acme]\n'
        f'sources = [{{ source = "{source}", sha256 = "{"0" * 64}", licence = "MIT" }}]\n'
    )
    return file


def test_the_store_is_listed_sized_and_cleaned(tiny_store, tmp_path, capsys):
    store = tmp_path / "store"
    (store / "generations").mkdir(parents=True)
    (store / "generations" / "abc.jsonl").write_text("x" * 2_000_000)
    (store / "models" / "m").mkdir(parents=True)
    (store / "models" / "m" / "w").write_text("x")
    assert main(["store", "size", f"--store={store}"]) == 0
    assert "2.0 MB  generations" in capsys.readouterr().out
    assert main(["store", "list", f"--store={store}"]) == 0
    assert "generations/abc.jsonl" in capsys.readouterr().out
    assert main(["store", "clean", f"--store={store}"]) == 0
    assert "freed 2.0 MB" in capsys.readouterr().out
    assert (store / "models" / "m" / "w").exists() and not (store / "generations").exists()


def test_an_answer_that_was_given_stays_when_the_process_is_interrupted_while_it_ends(tmp_path):
    program = (
        "import atexit, os, signal, sys; from pytest_collabcode.__main__ import main; "
        "atexit.register(os.kill, os.getpid(), signal.SIGINT); "
        f"sys.argv = ['collabcode', 'store', 'size', '--store={tmp_path / 'none'}']; main()"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and ended.stderr == "", ended.stderr
    broken = subprocess.run(
        [sys.executable, "-c", program.replace("__main__", "cli")], capture_output=True, check=False
    )
    assert broken.returncode in (-signal.SIGINT, 0) and b"KeyboardInterrupt" in broken.stderr  # the test can fail
