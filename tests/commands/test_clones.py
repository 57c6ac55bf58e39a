"""`collabcode clones`: one file, one question, as a user asks it."""

import json
import subprocess
import sys

import pytest

from pytest_collabcode.cli import main

CODE = [f"value_{i} = compute({i})" for i in range(30)]


@pytest.fixture
def corpora(tmp_path):
    """acme has lines 0-19, zeta 10-29; lines 10-19 stand in both."""
    for name, lines in (("acme", CODE[:20]), ("zeta", ["# SPDX-License-Identifier: GPL-3.0-only", *CODE[10:]])):
        (tmp_path / name / "src").mkdir(parents=True)
        (tmp_path / name / "src" / "code.py").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def ask(corpora, capsys):
    def run(text, *options, data=None):
        (corpora / "generated.py").write_bytes(data if data is not None else text.encode())
        common = ["clones", f"--generated={corpora / 'generated.py'}"]
        if not any(option.startswith("--corpus") for option in options):
            common += [f"--corpus={name}={corpora / name}" for name in ("acme", "zeta")]
        code = main([*common, *options])
        out, err = capsys.readouterr()
        return code, (json.loads(out) if "--json" in options and out else out), err

    return run


def test_covered_lines_are_counted_organization_by_organization(ask):
    text = "\n".join(["def f():", *(f"    {line}" for line in CODE[8:18]), "", "    return 0"]) + "\n"
    code, found, _ = ask(text, "--json")
    acme, zeta = found["organizations"]["acme"], found["organizations"]["zeta"]
    assert code == 0 and found["total"] == 12 and found["min_lines"] == 6
    assert (acme["covered"], acme["total"], acme["line_ratio"]) == (10, 12, 10 / 12)
    assert acme["ranges"] == [[2, 11]] and acme["clones"] == 1 and acme["longest"] == 10
    [source] = acme["sources"]
    assert (source["path"], source["first_line"], source["last_line"]) == ("src/code.py", 9, 18)
    assert zeta["ranges"] == [[4, 11]] and zeta["sources"][0]["first_line"] == 2
    assert found["any"]["covered"] == 10 and found["any"]["ranges"] == [[2, 11]]
    assert found["cross"]["covered"] == 8 and found["cross"]["ranges"] == [[4, 11]]


def test_blank_lines_keep_their_numbers(ask):
    _, found, _ = ask("\n\n\n".join(CODE[:6]), "--json")
    assert found["organizations"]["acme"]["ranges"] == [[1, 16]]


@pytest.mark.parametrize(("n_lines", "code"), [(5, 0), (6, 1)])
def test_fail_makes_it_a_hook(ask, n_lines, code):
    assert ask("\n".join(CODE[:n_lines]), "--fail")[0] == code
    assert ask("\n".join(CODE[:n_lines]))[0] == 0


@pytest.mark.parametrize(("given", "covered"), [(0, 10), (2, 8), (4, 6), (5, 0)])
def test_prompt_lines_are_removed_before_matching(ask, given, covered):
    _, found, _ = ask("\n".join(CODE[:10]), "--json", f"--prompt-lines={given}")
    acme = found["organizations"]["acme"]
    assert (acme["covered"], acme["total"]) == (covered, 10 - given)
    assert acme["ranges"] == ([[given + 1, 10]] if covered else [])


@pytest.mark.parametrize(
    ("normalization", "change", "covered"),
    [
        ("verbatim", lambda line: f"\t{line}  ", 10),
        ("verbatim", lambda line: line.upper(), 0),
        ("simian-py", lambda line: line.upper() + "  # said so", 10),
        ("simian-text", lambda line: line.upper(), 10),
        ("code-only", lambda line: f"# before\n{line}", 10),
        ("type-2", lambda line: line.replace("value", "other").replace("compute", "f"), 10),
    ],
)
def test_normalizations_are_chosen_by_name(ask, normalization, change, covered):
    text = "\n".join(map(change, CODE[:10]))
    _, found, _ = ask(text, "--json", f"--normalization={normalization}")
    assert found["normalization"] == normalization
    assert found["organizations"]["acme"]["covered"] == covered


def test_indexes_and_folders_answer_alike(ask, corpora, capsys):
    _, folders, _ = ask("\n".join(CODE[5:25]), "--json")
    index = corpora / "both.index"
    build = ["index", "build", f"--index={index}", *(f"--corpus={n}={corpora / n}" for n in ("acme", "zeta"))]
    assert main(build) == 0
    assert "2 documents added" in capsys.readouterr().out
    for corpus in ([f"--corpus={index}"], [f"--corpus=acme={index}", f"--corpus=zeta={corpora / 'zeta'}"]):
        _, found, _ = ask("\n".join(CODE[5:25]), "--json", *corpus)
        for name, theirs in folders["organizations"].items():
            ours = found["organizations"][name]
            assert [{**s, "copies": 0} for s in ours["sources"]] == [{**s, "copies": 0} for s in theirs["sources"]]
            assert (ours["covered"], ours["ranges"]) == (theirs["covered"], theirs["ranges"])


def test_the_text_says_where_and_never_what(ask):
    out = ask("\n".join(CODE[5:25]))[1]
    assert out.splitlines() == [
        "acme: 15 of 20 significant lines (0.75), 1 clone, longest 15 lines",
        "  1-15 = src/code.py:6-20",
        "zeta: 15 of 20 significant lines (0.75), 1 clone, longest 15 lines",
        "  6-20 = src/code.py:2-16 (GPL-3.0-only)",
        "any: 20 of 20 significant lines (1); in two or more organizations: 10 of 20 significant lines (0.5)",
    ]
    assert "value_" not in out


def test_standard_input_is_a_text_too(corpora):
    options = ["--generated=-", f"--corpus=acme={corpora / 'acme'}", "--fail"]
    command = [sys.executable, "-m", "pytest_collabcode", "clones", *options]
    run = subprocess.run(command, input="\n".join(CODE[:8]).encode(), capture_output=True)
    assert run.returncode == 1 and b"acme: 8 of 8" in run.stdout


def test_a_hook_names_several_texts(corpora, capsys):
    for name, lines in (("good.py", ["a = 1"]), ("bad.py", CODE[:8])):
        (corpora / name).write_text("\n".join(lines))
    names = [str(corpora / name) for name in ("bad.py", "good.py")]
    assert main(["clones", f"--corpus=acme={corpora / 'acme'}", "--fail", *names]) == 1
    out = capsys.readouterr().out
    assert out.index("bad.py:") < out.index("acme: 8 of 8") < out.index("good.py:") < out.index("acme: 0 of 1")
    assert main(["clones", f"--corpus=acme={corpora / 'acme'}", "--json", *names]) == 0
    assert [found["any"]["covered"] for found in json.loads(capsys.readouterr().out)] == [8, 0]


def test_near_copies_of_functions_are_found_on_request(ask, corpora, capsys):
    body = "".join(f"    total = total + weight[{i}] * items.get('name_{i}', {i})\n" for i in range(12))
    head = "# Copyright acme\n\ndef f(total, weight, items):\n"
    (corpora / "acme" / "f.py").write_text(f"{head}{body}    return total\n")
    changed = body.replace("weight[3]", "weight[33]").replace("weight[8]", "height[8]")
    text = f"def g(total, weight, items):\n{changed}    return total\n"
    code, out, _ = ask(text, "--near", "--fail", f"--corpus=acme={corpora / 'acme'}")
    assert code == 1 and "near: 2-14 is like acme:f.py:4-16 (Jaccard 0." in out
    code, found, _ = ask(text, "--near", "--json", f"--corpus=acme={corpora / 'acme'}")
    [near] = found["near"]
    assert near["lines"] == [2, 14] and (near["path"], near["first_line"]) == ("f.py", 4) and near["jaccard"] > 0.7
    index = corpora / "acme.index"
    assert main(["index", "build", f"--index={index}", f"--corpus=acme={corpora / 'acme'}"]) == 0
    capsys.readouterr()
    assert ask(text, "--near", "--json", f"--corpus=acme={index}")[1]["near"] == [near]


def test_what_was_agreed_on_does_not_count(ask, corpora):
    (corpora / "common.txt").write_text("\n".join(CODE[:12]))
    entry = '[[allow]]\nreason = "ours all"\nexpires = {}\nfile = "common.txt"\n'
    (corpora / "allow.toml").write_text("schema = 1\n" + entry.format("2999-01-01"))
    allow = f"--allow={corpora / 'allow.toml'}"
    code, out, _ = ask("\n".join(CODE[:10]), allow, "--fail")
    assert (
        code == 0 and "acme: 0 of 10" in out and "not counted: 1-10 (acme): ours all (allow.toml:2, until 2999" in out
    )
    code, found, _ = ask("\n".join(CODE[:20]), allow, "--fail", "--json")  # eight more lines are a clone of their own
    assert code == 1 and found["organizations"]["acme"]["covered"] == 20
    (corpora / "allow.toml").write_text("schema = 1\n" + entry.format("2020-01-01"))
    code, out, err = ask("\n".join(CODE[:10]), allow, "--fail")
    assert code == 1 and "expired and without effect" in err


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\xff\xfe\x00", b"\n" * 1000, b"\0" * 100])
def test_any_bytes_are_a_text(ask, data):
    code, found, _ = ask("", "--json", data=data)
    assert code == 0 and found["any"]["covered"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--corpus=acme=/nowhere"], "acme=/nowhere: no such file or folder"),
        (["--corpus=/nowhere"], "names no organization; write --corpus=ORGANIZATION=/nowhere"),
        (["--corpus=acme="], "names no folder or index"),
        (["--normalization=verbatm"], "did you mean 'verbatim'?"),
        (["--min-lines=0"], "min_lines=0 is below 1"),
        (["--prompt-lines=-1"], "--prompt-lines=-1 is negative"),
        (["--prompt-lines=9"], "--prompt-lines=9 leaves nothing of"),
        (["--corpus=any=."], "'any' is a word of thresholds"),
        (["--corpus=acme=x.jsonl"], "write acme=jsonl:x.jsonl"),
        (["--corpus=acme=.", "--key-file=amce=k"], "no sealed index is named for 'amce'"),
        (["--generated=/nowhere.py"], "--generated=/nowhere.py cannot be read"),
        (["--key-file=acme.key"], "write --key-file=ORGANIZATION=FILE"),
        (["--corpus=acme=wheel:nothing"], "wheel:nothing"),
    ],
)
def test_a_wrong_request_is_one_sentence_and_exit_4(ask, options, message):
    code, _, err = ask("a = 1", *options)
    assert code == 4 and message in err and err.count("\n") == 1
