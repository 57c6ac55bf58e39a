"""What the organizations agreed to ignore is reported and not counted, and nothing else is ignored with it."""

import shutil
from dataclasses import replace
from datetime import date, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.answers import Answers
from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.leaks import Leaks
from pytest_collabcode.memorization.allow_list import load_allowed
from pytest_collabcode.memorization.allowed import (
    Allowed,
    AllowEntry,
    allowed_clones,
    allowed_signature,
    counted,
    mark_allowed,
)
from pytest_collabcode.memorization.attribution import memorization_matrix
from pytest_collabcode.memorization.clones import find_clones, fragment_fingerprint, scan
from pytest_collabcode.pipeline import Pipeline
from pytest_collabcode.records import Checkpoint, Corpus, Document, Generation, Problem
from pytest_collabcode.report.sarif import sarif_log
from pytest_collabcode.report.terminal import summarize
from pytest_collabcode.settings import make_settings
from pytest_collabcode.subjects import Subject
from pytest_collabcode.workbench import Workbench, consortium_of

TODAY = date(2026, 6, 30)
HEADER = [f"# Licensed {i}" for i in range(8)]
CODE = [f"x = {i}" for i in range(10)]


@pytest.fixture
def load(tmp_path):
    """Write an allow-list with these lines after its first entry's head, and read it."""

    def load(body="", *, head="schema = 1\n[[allow]]\nreason = 'ours'\nexpires = 2026-06-30\n", today=TODAY):
        file = tmp_path / "allow.toml"
        file.write_text(head + body)
        return load_allowed(file, today=today)

    return load


def toml_text(lines):
    return "text = '''\n" + "\n".join(lines) + "\n'''\n"


def entry(lines=(), fingerprint="", reason="ours"):
    return AllowEntry(reason=reason, expires=TODAY, where="allow.toml:2", lines=tuple(lines), fingerprint=fingerprint)


# --- the file


def test_a_text_a_file_and_a_fingerprint_are_read(tmp_path, load):
    (tmp_path / "boilerplate.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(f"   {line}" for line in CODE).encode())
    more = "[[allow]]\nreason = 'b'\nexpires = 2027-01-01\n"
    allowed = load(
        toml_text(HEADER)
        + more
        + "file = 'boilerplate.txt'\n"
        + more
        + f"fingerprint = '{fragment_fingerprint(CODE)}'\n"
    )
    assert [e.lines for e in allowed.entries] == [tuple(HEADER), tuple(CODE), ()]
    assert [e.where for e in allowed.entries] == ["allow.toml:2", "allow.toml:15", "allow.toml:19"]
    assert str(allowed.entries[0]) == "ours (allow.toml:2, until 2026-06-30)"


def test_an_entry_is_in_force_through_its_last_day_and_then_named(load):
    assert load(toml_text(CODE), today=TODAY).notice == ""
    expired = load(toml_text(CODE), today=TODAY + timedelta(days=1))
    assert expired.reason(CODE) == "" and expired.covers(CODE) == set() and expired.signature == ()
    assert expired.notice == "--collabcode-allow: expired and without effect: allow.toml:2 on 2026-06-30 (ours)"


def test_a_list_without_entries_allows_nothing(load):
    assert load(head="schema = 1\n").entries == ()


GOOD = toml_text(CODE)


@pytest.mark.parametrize(
    ("head", "body", "message"),
    [
        (
            "schema = 1\n[[allow]]\nraeson = 'x'\n",
            GOOD,
            "allow.toml:2: key 'raeson' is unknown; did you mean 'reason'",
        ),
        ("schema = 1\n[[allow]]\nexpires = 2027-01-01\n", GOOD, "allow.toml:2: reason is missing"),
        ("schema = 1\n[[allow]]\nreason = ' '\nexpires = 2027-01-01\n", GOOD, "reason is missing"),
        ("schema = 1\n[[allow]]\nreason = 3\nexpires = 2027-01-01\n", GOOD, "reason is not a text"),
        ("schema = 1\n[[allow]]\nreason = 'x'\n", GOOD, "allow.toml:2: expires is missing"),
        (
            "schema = 1\n[[allow]]\nreason = 'x'\nexpires = '2027-01-01'\n",
            GOOD,
            "expires is '2027-01-01'; write a date",
        ),
        ("schema = 1\n[[allow]]\nreason = 'x'\nexpires = 2027-01-01T00:00:00\n", GOOD, "write a date without quotes"),
        ("schema = 1\n[[allow]]\nreason = 'x'\nexpires = 2027-02-30\n", GOOD, "not a readable TOML file"),
        (None, "", "give exactly one of fingerprint, text, file; got none"),
        (None, GOOD + "file = 'b.txt'\n", "got text, file"),
        (None, "file = 'nowhere.txt'\n", "file='nowhere.txt' cannot be read"),
        (None, "fingerprint = '3a2e'\n", "fingerprint='3a2e' is not the 32 hex digits"),
        (
            None,
            toml_text(CODE[:5]),
            "allow.toml:2: 5 significant lines are allowed, but a clone has at least min_lines=6",
        ),
        ("schema = 2\n", "", "schema=2; this version reads schema = 1"),
        ("", "", "begin it with the line schema = 1"),
        ("schema = 1\nalow = []\n", "", "key 'alow' is unknown; did you mean 'allow'"),
        ("schema = 1\nallow = 3\n", "", "begins with"),
        ("schema = 1\nallow = [3]\n", "", "begins with"),
        ("schema = \n", "", "not a readable TOML file"),
        (
            "schema = 1\n[[allow]]\nreason='x'\nexpires=2027-01-01\ntext='[[allow]]'\n",
            "",
            "allow.toml:2: 1 significant",
        ),
        (
            "schema = 1\n[[allow]]\nreason='x'\nexpires=2027-01-01\ntext='''\n[[allow]]\n'''\n",
            "",
            "allow.toml: entry 1: 1 significant",
        ),
    ],
)
def test_what_could_not_work_is_refused_with_its_place(load, head, body, message):
    with pytest.raises(ConfigurationError) as caught:
        load(body, **({} if head is None else {"head": head}))
    assert message in str(caught.value)


def test_a_wrong_entry_never_shows_code(load):
    with pytest.raises(ConfigurationError) as caught:
        load("text = ['secret = 1']\n")
    assert "secret" not in str(caught.value)


# --- what it covers


@pytest.mark.parametrize(
    ("lines", "covered", "ignored"),
    [
        (CODE, 10, True),
        (CODE[2:8], 6, True),  # any run of min_lines inside the text
        (CODE[:6] + ["a"] * 5, 6, True),  # five lines beside it are no clone
        (CODE[:6] + ["a"] * 6, 6, False),  # six are
        (["a"] * 3 + CODE + ["b"] * 3, 10, False),
        (CODE[:5] + ["a"] * 3, 0, False),  # five allowed lines are no run
        (CODE[:5] + CODE[:5], 0, False),
        (list(reversed(CODE)), 0, False),
        (CODE[:6] + CODE[3:9], 12, True),
        (["a"] * 6, 0, False),
    ],
)
def test_what_is_left_beside_allowed_lines_must_be_a_clone_by_itself(lines, covered, ignored):
    allowed = Allowed(entries=(entry(CODE),))
    assert len(allowed.covers(lines)) == covered
    assert bool(allowed.reason(lines)) == ignored


def test_a_fingerprint_allows_the_whole_fragment_and_no_part_of_it():
    allowed = Allowed(entries=(entry(fingerprint=fragment_fingerprint(CODE)),))
    assert allowed.covers(CODE) == set(range(10)) and allowed.reason(CODE).startswith("ours")
    assert allowed.covers(CODE[:9]) == set() and allowed.reason([*CODE, "a"]) == ""


def test_every_reason_that_was_needed_is_given_once():
    allowed = Allowed(entries=(entry(CODE, reason="a"), entry(HEADER, reason="b")))
    assert allowed.reason(HEADER + CODE) == "b (allow.toml:2, until 2026-06-30); a (allow.toml:2, until 2026-06-30)"


LINES = st.lists(st.sampled_from("abc"), max_size=14)


@given(allowed_text=LINES, other=LINES, lines=LINES, min_lines=st.integers(1, 4))
def test_covered_lines_are_those_of_every_common_run_by_brute_force(allowed_text, other, lines, min_lines):
    allowed = Allowed(entries=(entry(allowed_text), entry(other)), min_lines=min_lines)
    expected = set()
    for start in range(len(lines)):
        for stop in range(start + min_lines, len(lines) + 1):
            run = lines[start:stop]
            if any(run == text[i : i + len(run)] for text in (allowed_text, other) for i in range(len(text))):
                expected.update(range(start, stop))
    assert allowed.covers(lines) == expected
    assert bool(allowed.reason(lines)) == (bool(expected) and len(lines) - len(expected) < min_lines)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.dates()), max_size=4))
def test_the_signature_is_of_the_lines_not_of_reasons_dates_or_order(parts):
    entries = tuple(replace(entry([letter] * 6, reason=letter), expires=day) for letter, day in parts)
    again = tuple(replace(e, reason="z", expires=TODAY, where="b.toml:9") for e in reversed(entries))
    assert Allowed(entries=entries).signature == Allowed(entries=again).signature
    assert bool(Allowed(entries=entries).signature) == bool(parts)


# --- what it does to a count


PROBLEMS = [
    Problem(task_id="a", prompt="def f():\n", organization="acme"),
    Problem(task_id="b", prompt="def f():", organization="acme"),
]
GENERATIONS = [
    Generation(task_id=task, sample_index=i, completion=text, n_tokens=1, duration_s=0.0, stop_reason="eos")
    for task, i, text in [
        ("a", 0, "\n".join(HEADER)),
        ("a", 1, "y = 1\n\n" + "\n\n".join(f"    {line}" for line in CODE)),
        ("b", 0, " -> int:\n" + "\n".join(CODE)),
        ("b", 1, "pass"),
    ]
]
INDEX = CloneIndex.build(
    [
        Document(path="h.py", text="\n".join(HEADER), organization="acme"),
        Document(path="x.py", text="\n".join(CODE), organization="zeta"),
    ]
)


def marked(*entries):
    return mark_allowed(scan(INDEX, PROBLEMS, GENERATIONS), GENERATIONS, Allowed(entries=entries))


def hits(scanned):
    matrix = memorization_matrix(scanned, subject="s", organizations=["acme", "zeta"])
    return {
        m.source_organization: m.count for m in matrix if m.stratum == "natural" and m.source_organization != "other"
    }


def test_allowed_clones_are_marked_and_no_hits():
    assert hits(marked()) == {"any": 2, "acme": 1, "zeta": 2}
    agreed = marked(entry(HEADER))
    assert [bool(c.allowed) for p in agreed for c in p.clones] == [True, False, False]
    assert hits(counted(agreed)) == {"any": 2, "acme": 0, "zeta": 2}
    assert hits(counted(marked(entry(HEADER), entry(CODE)))) == {"any": 0, "acme": 0, "zeta": 0}


def test_a_reported_fingerprint_allows_what_was_reported():
    [clone] = find_clones(INDEX, "\n".join(CODE), task_id="a", sample_index=0)
    assert hits(counted(marked(entry(fingerprint=clone.fingerprint)))) == {"any": 1, "acme": 1, "zeta": 0}


def test_what_was_ignored_is_counted_once_and_is_evidence():
    agreed, allowed = marked(entry(CODE)), Allowed(entries=(entry(CODE),))
    assert dict(allowed_signature(agreed, allowed))["allowed"] == "1"  # the same fragment twice
    [natural] = [m for m in allowed_clones(agreed, subject="s") if m.cell == "acme natural"]
    assert natural.value == 1 and [c.training.organization for c in natural.evidence] == ["zeta", "zeta"]
    assert all(c.allowed == "ours (allow.toml:2, until 2026-06-30)" for c in natural.evidence)


def test_without_a_list_nothing_changes():
    assert marked() == scan(INDEX, PROBLEMS, GENERATIONS) == counted(marked())
    assert allowed_signature(marked(), Allowed()) == ()


# --- the way through a session


def test_what_expired_is_said_in_the_summary(load):
    lines = []
    terminal = SimpleNamespace(section=lines.append, write_line=lambda line, **_: lines.append(line))
    notice = load(toml_text(CODE), today=TODAY + timedelta(days=1)).notice
    corpus = Corpus(name="ours", organizations=())
    outcome = {"measurements": [], "verdicts": [], "proposals": [], "broken": [], "narrowed": False, "green": True}
    summarize(terminal, SimpleNamespace(**outcome, corpus=corpus, notice=notice))
    assert lines.count(notice) == 1 and "(ours)" in notice
    before = len(lines)
    summarize(terminal, SimpleNamespace(**outcome, corpus=corpus, notice=""))
    assert len(lines) == 2 * before - 1


class Parrot:
    """A model that gives back every function it is asked for."""

    def generate(self, problems, sampling):
        return [
            Generation(
                task_id=p.task_id,
                sample_index=i,
                completion="\n" + p.canonical_solution,
                n_tokens=1,
                duration_s=0.0,
                stop_reason="eos",
            )
            for p in problems
            for i in range(sampling.n_samples)
        ]


@pytest.fixture
def parroted(tiny_consortium, tmp_path):
    """Measure a model that parrots acme and zeta, whose module_11.py is copyleft; return all it gives back."""
    for name in ("acme", "zeta"):
        shutil.copytree(tiny_consortium.parent / name, tmp_path / name)
        code = tmp_path / name / "module_11.py"
        code.write_text("# SPDX-License-Identifier: GPL-3.0-only\n\n" + code.read_text())
    shutil.copy(tiny_consortium, tmp_path / "consortium.toml")
    checkpoint = Checkpoint(
        name="parrot", path=tmp_path, weights_digest="w", tokenizer_digest="t", n_parameters=0, regime="centralized"
    )

    def measure(**options):
        given = {"store": str(tmp_path), "consortium": str(tmp_path / "consortium.toml"), "profile": "smoke"}
        settings = make_settings(directory=tmp_path, options={**given, **options})
        subject = Subject(name="parrot", kinds=("checkpoint",), checkpoint=checkpoint)
        bench = Workbench(settings, consortium_of(settings), {"parrot": subject})
        pipeline = Pipeline(bench, own_backend=lambda _: Parrot())
        return Leaks(Answers(pipeline)).everything("parrot")

    return measure


def counts_of(measured, name):
    return {m.cell: (m.count, m.n) for m in measured if m.name == name and m.stratum == "natural"}


def in_module_11(measured):
    [cell] = [m for m in measured if m.name == "memorization_ratio" and m.cell == "acme→any natural"]
    return sum(item.cluster.endswith("/module_11.py") for item in cell.items)


def test_an_allow_list_takes_its_code_out_of_every_count_and_nothing_else(parroted, tmp_path):
    before = parroted()
    n = in_module_11(before)
    assert 0 < n < 12, "the draw of prompts changed; choose another module"
    assert counts_of(before, "memorization_ratio")["acme→any natural"] == (12, 12)
    assert counts_of(before, "copyleft_clone_ratio")["acme natural"] == (n, 12)
    assert not [m for m in before if m.name == "allowed_clones" or "allow" in dict(m.signature)]

    (tmp_path / "allow.toml").write_text(
        "schema = 1\n[[allow]]\nreason = 'ours'\nexpires = 2999-01-01\nfile = 'acme/module_11.py'\n"
        "[[allow]]\nreason = 'over'\nexpires = 2001-01-01\nfile = 'acme/module_4.py'\n"
    )
    after = parroted(allow=str(tmp_path / "allow.toml"))
    for name in ("memorization_ratio", "near_clone_ratio"):
        assert counts_of(after, name)["acme→any natural"] == (12 - n, 12)
        assert counts_of(after, name)["zeta→any natural"] == counts_of(before, name)["zeta→any natural"]
    assert counts_of(after, "copyleft_clone_ratio")["acme natural"] == (0, 12)
    [ignored] = [m for m in after if m.name == "allowed_clones" and m.cell == "acme natural"]
    assert ignored.value == n == len(ignored.evidence)
    assert all("allow" in dict(m.signature) for m in after if m.stratum == "natural")

    results = sarif_log(after, [])["runs"][0]["results"]
    suppressed = [r for r in results if "suppressions" in r]
    assert len(suppressed) == n and {r["ruleId"] for r in suppressed} == {"copyleft-clone"}
    assert {r["suppressions"][0]["justification"] for r in suppressed} == {"ours (allow.toml:2, until 2999-01-01)"}


def test_a_wrong_allow_list_is_exit_4_before_anything_is_trained(pytester, tiny_consortium):
    (pytester.path / "allow.toml").write_text("schema = 1\n[[allow]]\nreason = 'x'\n")
    pytester.makepyfile("def test_it(memorization, gate):\n    gate(*memorization)\n")
    (pytester.path / "t.toml").write_text("schema = 1\n")
    result = pytester.runpytest_subprocess(
        f"--collabcode-consortium={tiny_consortium}",
        "--collabcode-store=store",
        "--collabcode-profile=smoke",
        "--collabcode-thresholds=t.toml",
        "--collabcode-regime=centralized",
        "--collabcode-allow=allow.toml",
        timeout=120,
    )
    assert result.ret == 4
    assert "allow.toml:2: expires is missing" in "\n".join(result.outlines + result.errlines)
