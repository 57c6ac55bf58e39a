"""`collabcode index ...` as its owner and its auditor use it."""

import hashlib
import json
import subprocess
import sys
import tarfile
import zipfile

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


def test_a_sealed_file_that_lost_its_end_is_damaged_and_no_text(index, run, tmp_path):
    key, sealed = tmp_path / "k", tmp_path / "acme.sealed"
    run("index", "seal", f"--index={index}", f"--key-file={key}", f"--out={sealed}")
    sealed.write_bytes(sealed.read_bytes()[:-9])
    ask = [f"--generated={__file__}", f"--corpus=acme={sealed}", f"--key-file=acme={key}"]
    code, _, err = run("clones", *ask)
    assert code == 1 and "acme.sealed is damaged" in err
    code, _, err = run("index", "info", f"--index={sealed}")
    assert code == 4 and "is a file, not an index" in err


def test_damage_is_exit_1_and_mended_on_request(index, run):
    [segment] = index.glob("*.segment")
    data = bytearray(segment.read_bytes())
    data[20] ^= 4
    segment.write_bytes(data)
    code, _, err = run("index", "verify", f"--index={index}")
    assert code == 1 and "is damaged: fingerprints, block 0" in err and "--rebuild" in err
    assert run("index", "verify", f"--index={index}", "--rebuild")[0] == 0
    assert run("index", "verify", f"--index={index}")[0] == 0


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
