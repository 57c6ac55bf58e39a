"""The command line: what it does, and that a wrong request is one sentence and exit 4."""

import pytest

from pytest_collabcode.cli import main


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
    assert "exists and is not empty" in capsys.readouterr().err


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
