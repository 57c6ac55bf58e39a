"""`collabcode index ...` as its owner and its auditor use it."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from pytest_collabcode.cli import main

CODE = [f"value_{i} = compute({i})" for i in range(40)]


def write(folder, lines):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "code.py").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def index(tmp_path, run):
    folder = tmp_path / "acme.index"
    code, out, _ = run("index", "build", f"--index={folder}", f"--corpus=acme={write(tmp_path / 'acme', CODE)}")
    assert code == 0 and "1 document added" in out and "organizations: acme" in out
    return folder


def test_an_index_grows_and_says_what_it_holds(index, run, tmp_path):
    more = write(tmp_path / "more", CODE[::-1])
    assert "1 document added" in run("index", "add", f"--index={index}", f"--corpus=zeta={more}")[1]
    assert "0 documents added" in run("index", "add", f"--index={index}", f"--corpus=zeta={more}")[1]
    about = json.loads(run("index", "info", f"--index={index}", "--json")[1])
    assert about["organizations"] == ["acme", "zeta"] and about["documents"] == 2 and about["lines"] == 80
    assert run("index", "verify", f"--index={index}")[1].strip().endswith("is whole")


@pytest.mark.parametrize("engine", ["local", "pool"])
def test_new_versions_of_what_was_there_are_counted(tmp_path, run, engine):
    corpus, index = tmp_path / "acme", tmp_path / "i"
    for number in range(5):
        write(corpus / str(number), [f"{line} + {number}" for line in CODE])
    how = [f"--index={index}", f"--corpus=acme={corpus}", f"--engine={engine}", "--workers=1"]
    said = run("index", "build", *how)[1]
    assert said.startswith("5 documents added\n") and "another text" not in said
    for number in (1, 3):
        write(corpus / str(number), CODE[:20])
    write(corpus / "new", CODE)
    said = run("index", "add", *how)[1]
    assert "3 documents added\n2 of them had the path of a document that was there, with another text" in said
    assert "both versions are asked from now on; build the index anew to forget the old ones" in said
    assert "another text" not in run("index", "add", *how)[1], "what is not added is no new version"
    other = run("index", "add", *how[::2], f"--corpus=zeta={corpus}")[1]
    assert "6 documents added" in other and "another text" not in other, "another organization's paths are its own"
    (tmp_path / "g.py").write_text("\n".join(f"{line} + 1" for line in CODE[20:30]))  # lines that were deleted
    assert "1/code.py:21-30" in run("clones", f"--generated={tmp_path / 'g.py'}", f"--corpus=acme={index}")[1]


def test_adding_says_beforehand_that_nothing_is_forgotten(run):
    said = " ".join(run("index", "add", "--help")[1].split())
    assert "of an edited file both versions are asked from then on" in said


def n_children(process):
    return len(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())


@pytest.mark.parametrize(("action", "engine"), [("build", "local"), ("add", "pool"), ("build", "duckdb")])
def test_an_interrupt_leaves_the_index_as_it_was(tmp_path, run, action, engine):
    pytest.importorskip("duckdb")
    index, corpus = tmp_path / "i", tmp_path / "large"
    for number in range(400):
        write(corpus / str(number), [f"{line} + {number} * {i}" for i in range(15) for line in CODE])
    if action == "add":
        assert run("index", "build", f"--index={index}", f"--corpus=acme={write(tmp_path / 'acme', CODE)}")[0] == 0
    how = [f"--index={index}", f"--corpus=acme={corpus}", f"--engine={engine}", "--memory-mb=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest_collabcode", "index", action, *how],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    n_there = len(list(index.glob("*")))
    while process.poll() is None and len(list(index.glob("*"))) < n_there + 3 and n_children(process) < 2:
        time.sleep(0.001)  # until it writes, or starts processes: one minds the others' resources
    time.sleep(0.1 if n_children(process) else 0)  # in the middle of their start
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C is for all of a terminal's processes
    said = process.communicate(timeout=60)[1]
    what = "the index is as it was" if action == "add" else "there is no index"
    assert process.returncode == 2, said
    assert said == f"collabcode index: interrupted; {what}, and the same command begins anew\n"
    assert index.exists() == (action == "add")
    assert "400 documents added" in run("index", action, *how[:2])[1]


@pytest.mark.parametrize("engine", ["local", "pool"])
def test_engines_build_the_same_index(tmp_path, run, engine):
    corpus = write(tmp_path / "acme", CODE)
    built = run("index", "build", f"--index={tmp_path / 'i'}", f"--corpus=acme={corpus}", f"--engine={engine}")
    assert built[0] == 0 and "significant lines 40, windows 35" in built[1]


def test_a_failed_build_leaves_nothing_in_the_way(tmp_path, run):
    (tmp_path / "empty").mkdir()
    target, corpus = tmp_path / "i", write(tmp_path / "acme", CODE)
    assert run("index", "build", f"--index={target}", f"--corpus=acme={tmp_path / 'empty'}")[0] == 4
    assert not target.exists()
    assert run("index", "build", f"--index={target}", f"--corpus=acme={corpus}")[0] == 0
    assert run("index", "compare", target)[1] == "1 organization indexed, so there is nothing to compare\n"


def test_an_index_answers_for_its_own_organizations_only(index, run, tmp_path):
    (tmp_path / "g.py").write_text("\n".join(CODE[:8]))
    code, _, err = run("clones", f"--generated={tmp_path / 'g.py'}", f"--corpus=beta={index}")
    assert code == 4 and "organization='beta' is not in the index; valid: acme" in err


@pytest.fixture
def beta(tmp_path, run):
    folder, code = (
        tmp_path / "beta.index",
        write(tmp_path / "beta", ["first = 0", *CODE[5:30], "last = 1", *CODE[33:]]),
    )
    assert run("index", "build", f"--index={folder}", f"--corpus=beta={code}")[0] == 0
    return folder


@pytest.mark.parametrize("engine", ["local", "duckdb"])
def test_two_indexes_are_compared_as_one_that_holds_both(index, beta, run, tmp_path, engine):
    pytest.importorskip("duckdb")
    code, out, _ = run("index", "compare", index, beta, f"--engine={engine}", "--memory-mb=1")
    assert code == 0 and out.splitlines() == [
        "acme:code.py:6-30 = beta:code.py:2-26",
        "acme:code.py:34-40 = beta:code.py:28-34",
        "acme and beta: 2 fragments, 32 significant lines",
    ]
    both = tmp_path / "both"
    corpora = [f"--corpus={name}={tmp_path / name}" for name in ("beta", "acme")]
    run("index", "build", f"--index={both}", *corpora)
    assert run("index", "compare", f"--index={both}", f"--engine={engine}")[1] == out
    assert run("index", "compare", f"--index={index}", f"--index={beta}", index)[1] == out


def test_a_comparison_is_json_too(index, beta, run):
    found = json.loads(run("index", "compare", index, beta, "--json")[1])
    assert found["organizations"] == ["acme", "beta"] and found["min_lines"] == 6
    assert found["pairs"] == [{"organizations": ["acme", "beta"], "fragments": 2, "significant_lines": 32}]
    assert found["fragments"][0] == {
        "first": {"organization": "acme", "path": "code.py", "first_line": 6, "last_line": 30},
        "second": {"organization": "beta", "path": "code.py", "first_line": 2, "last_line": 26},
        "significant_lines": 25,
    }
    assert sum(fragment["significant_lines"] for fragment in found["fragments"]) == 32
    assert json.loads(run("index", "compare", index, "--json")[1])["pairs"] == []


def test_indexes_of_other_forms_are_not_compared(index, beta, run, tmp_path):
    other = tmp_path / "other"
    run("index", "build", f"--index={other}", f"--corpus=zeta={tmp_path / 'beta'}", "--min-lines=5")
    code, _, err = run("index", "compare", index, other)
    assert code == 4 and "made with min_lines 5, verbatim, asked for is min_lines 6, verbatim" in err


def test_two_organizations_are_not_sealed_together(index, run, tmp_path):
    run("index", "add", f"--index={index}", f"--corpus=zeta={write(tmp_path / 'zeta', CODE[::-1])}")
    key = tmp_path / "both.key"
    code, _, err = run("index", "seal", f"--index={index}", f"--key-file={key}", f"--out={tmp_path / 'both'}")
    assert code == 4 and "belong to acme and zeta" in err and not key.exists()


def test_only_a_sealed_index_is_sealed_anew(index, run, tmp_path):
    key, sealed = tmp_path / "acme.key", tmp_path / "acme.sealed"
    seal = ["index", "seal", f"--index={index}", f"--key-file={key}"]
    for _ in range(2):
        assert run(*seal, f"--out={sealed}")[0] == 0
    for other in (key, tmp_path / "acme" / "code.py", tmp_path / "acme"):
        before = other.read_bytes() if other.is_file() else list(other.iterdir())
        code, _, err = run(*seal, f"--out={other}")
        assert code == 4 and f"--out={other} is there and is no sealed index; name another --out" in err
        assert before == (other.read_bytes() if other.is_file() else list(other.iterdir()))


def test_a_sealed_file_that_lost_its_end_is_damaged_and_no_text(index, run, tmp_path):
    key, sealed = tmp_path / "k", tmp_path / "acme.sealed"
    run("index", "seal", f"--index={index}", f"--key-file={key}", f"--out={sealed}")
    sealed.write_bytes(sealed.read_bytes()[:-9])
    ask = [f"--generated={__file__}", f"--corpus=acme={sealed}", f"--key-file=acme={key}"]
    code, _, err = run("clones", *ask)
    assert code == 3 and "acme.sealed is damaged" in err
    code, _, err = run("index", "info", f"--index={sealed}")
    assert code == 4 and "is a file, not an index" in err


def test_damage_is_exit_1_and_mended_on_request(index, run):
    damage(index)
    code, _, err = run("index", "verify", f"--index={index}")
    assert code == 1 and "is damaged: fingerprints, block 0" in err and "--rebuild" in err
    assert run("index", "verify", f"--index={index}", "--rebuild")[0] == 0
    assert run("index", "verify", f"--index={index}")[0] == 0


def damage(index):
    [segment] = index.glob("*.segment")
    data = bytearray(segment.read_bytes())
    data[20] ^= 4
    segment.write_bytes(data)


def test_a_damaged_manifest_is_damage_too(index, run):
    (index / "collabcode-index.json").write_text("{}")
    code, _, err = run("index", "verify", f"--index={index}")
    assert code == 1 and "collabcode-index.json is damaged" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "code"),
    [("found", 1), ("nothing", 0), ("damaged", 3), ("no manifest", 3), ("missing", 4), ("a bug", 3)],
)
def test_what_is_found_and_what_could_not_be_asked_are_told_apart(index, run, tmp_path, monkeypatch, given, code):
    (tmp_path / "g.py").write_text("\n".join(CODE[:8] if given != "nothing" else ["a = 1"]))
    if given == "damaged":
        damage(index)
    elif given == "no manifest":
        (index / "collabcode-index.json").write_bytes(b"\0")
    elif given == "missing":
        index = tmp_path / "nowhere"
    elif given == "a bug":
        monkeypatch.setattr("pytest_collabcode.commands.clones.significant", lambda *_: 1 / 0)
    got, _, err = run("clones", f"--generated={tmp_path / 'g.py'}", f"--corpus=acme={index}", "--fail")
    assert got == code and ("Traceback" in err) == (given == "a bug")


def test_a_partner_asks_a_sealed_index_and_only_the_owner_resolves(index, run, tmp_path):
    key, sealed = tmp_path / "acme.key", tmp_path / "acme.sealed"
    code, out, _ = run("index", "seal", f"--index={index}", f"--key-file={key}", f"--out={sealed}")
    assert code == 0 and "distinct windows of 6 lines 35, sealed" in out and "a new key" in out
    assert oct(key.stat().st_mode)[-3:] == "600"
    generated = tmp_path / "g.py"
    generated.write_text("\n".join(["def f():", *CODE[10:20]]))
    ask = ["clones", f"--generated={generated}", f"--corpus=acme={sealed}", "--json"]
    code, _, err = run(*ask)
    assert code == 4 and "is sealed; name" in err
    found = json.loads(run(*ask, f"--key-file=acme={key}")[1])
    assert found["sealed"] == "acme"
    acme = found["organizations"]["acme"]
    assert acme["ranges"] == [[2, 11]] and acme["covered"] == 10
    [source] = acme["sources"]
    assert source["path"] == "sealed:0" and source["first_line"] == 0
    code, out, _ = run("index", "resolve", f"--index={index}", f"--key-file={key}", source["fingerprint"])
    assert code == 0 and out.strip() == f"{source['fingerprint']} = sealed:0, begins at acme:code.py:11-16"
    code, _, err = run("index", "resolve", f"--index={index}", f"--key-file={key}", "0" * 32)
    assert code == 1 and "stands nowhere" in err
    other = tmp_path / "other.key"
    other.write_text("ab" * 32)
    other.chmod(0o600)
    code, _, err = run(*ask, f"--key-file=acme={other}")
    assert code == 4 and "key" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "--index=i", "--corpus=acme=/nowhere"], "acme=/nowhere: no such file or folder"),
        (["build", "--index=i", "--corpus=acme=.", "--normalization=x"], "normalization='x': valid: verbatim"),
        (["build", "--index=i", "--corpus=acme=.", "--engine=spark"], "engine='spark' is unknown"),
        (["build", "--index=i", "--corpus=."], "names no organization"),
        (["add", "--index=i", "--corpus=acme=."], "is no index"),
        (["info", "--index=i"], "is no index"),
        (["compare", "--index=i"], "is no index"),
        (["compare"], "no index is named; write --index=DIR"),
        (["compare", "i", "--engine=ray"], "is no index"),
        (["seal", "--index=i", "--key-file=k", "--out=o"], "is no index"),
    ],
)
def test_a_wrong_request_is_one_sentence_and_exit_4(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.py").write_text("a = 1\n")
    code, _, err = run("index", *arguments)
    assert code == 4 and message in err and err.count("\n") == 1


HASHES = {
    "fairscale-0.4.13.tar.gz": "1b797825c427f5dba92253fd0d8daa574e8bd651a2423497775fab1b30cfb768",
    "torchscale-0.3.0-py3-none-any.whl": "b3bf4950cece4b84c5c20a8ce782ff52cf4234c10539a2638524dc087d389a73",
}


@pytest.fixture
def scales(tmp_path):
    """Meta's fairscale and Microsoft's torchscale: code that really stands in two organizations."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
    wanted = ["--no-binary=fairscale", "fairscale==0.4.13", "torchscale==0.3.0"]
    got = subprocess.run([*command, f"--dest={tmp_path}", *wanted], capture_output=True, text=True, timeout=120)
    if got.returncode:
        pytest.skip(f"fairscale and torchscale cannot be downloaded: {got.stderr[-200:]}")
    for name, digest in HASHES.items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
    with tarfile.open(tmp_path / "fairscale-0.4.13.tar.gz") as archive:
        archive.extractall(tmp_path / "meta", filter="data")
    with zipfile.ZipFile(tmp_path / "torchscale-0.3.0-py3-none-any.whl") as wheel:
        wheel.extractall(tmp_path / "microsoft")
    return tmp_path


def test_the_code_that_two_real_organizations_share_is_found(scales, run):
    corpora = [f"--corpus={name}={scales / name}" for name in ("meta", "microsoft")]
    assert run("index", "build", f"--index={scales / 'i'}", *corpora)[0] == 0
    code, out, _ = run("index", "compare", f"--index={scales / 'i'}")
    assert code == 0
    pairs = {tuple(line.split(" = ")) for line in out.splitlines() if " = " in line}
    gumbel_rsample = (
        "meta:fairscale-0.4.13/fairscale/nn/moe/top2gate.py:16-26",
        "microsoft:torchscale/component/xmoe/routing.py:228-238",
    )
    assert gumbel_rsample in pairs
    assert "gumbel" not in out  # places, never code
