"""Canaries: declared in a few numbers, the same every time, counted where they belong and nowhere else."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.corpus.canaries import CanaryDeclaration, make_canaries
from pytest_collabcode.corpus.curate import curate
from pytest_collabcode.corpus.deduplicate import deduplicate
from pytest_collabcode.corpus.functions import corpus_functions
from pytest_collabcode.corpus.ledger import FOLDER, canary_files, plant_files, read_ledger
from pytest_collabcode.corpus.load import corpus_digest
from pytest_collabcode.corpus.reading import SourceFile
from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.models.tokenizer import train_tokenizer
from pytest_collabcode.records import Corpus
from pytest_collabcode.training.packing import tokenize

Load = Callable[[str], Corpus]
DIR = 'name = "x"\n{}[organizations.acme]\nsources = ["dir:code"]\n[organizations.beta]\nsources = ["dir:code"]\n'
CANARIES = "[canaries]\nnumber = 3\ncopies = [1, 4]\n"
DECLARED = CanaryDeclaration(number=3, copies=(1, 4), seed=1)


@given(st.integers(0, 2**63 - 1), st.sampled_from(["acme", "beta"]))
def test_canaries_are_independent_streams_of_seed_organization_and_number(seed: int, name: str) -> None:
    declared = replace(DECLARED, seed=seed)
    made = make_canaries(name, declared)
    assert made == make_canaries(name, declared)
    assert made[:2] == make_canaries(name, replace(declared, number=2))
    others = make_canaries(name, replace(declared, seed=seed ^ 1)) + make_canaries(name + "2", declared)
    assert len({c.secret for c in made + others}) == len({c.name for c in made + others}) == 9
    assert [c.copies for c in made] == [1, 4, 1]
    for canary in made:
        assert len(canary.secret) == 16 and canary.secret.isdecimal()
        assert canary.secret not in canary.name + canary.prefix + repr(canary)
        compile(canary.text, "canary", "exec")


def test_without_a_declaration_nothing_changes(acme: Path, load_toml: Load) -> None:
    corpus = load_toml(DIR.format(""))
    assert corpus.canaries == ()
    assert corpus_digest(replace(corpus, canaries=())) == corpus.digest


def test_declared_canaries_are_planted_training_documents_of_their_organization(acme: Path, load_toml: Load) -> None:
    natural, corpus = load_toml(DIR.format("")), load_toml(DIR.format(CANARIES))
    for owner, before in zip(corpus.organizations, natural.organizations, strict=True):
        documents = owner.documents[len(before.documents) :]
        assert owner.documents[: len(before.documents)] == before.documents
        assert [d.text for d in documents] == [c.text for c in corpus.canaries if c.organization == owner.name]
        assert {(d.planted, d.split, d.organization) for d in documents} == {(True, "training", owner.name)}
    assert corpus.plants == () and len(corpus.canaries) == 6
    assert corpus_functions(corpus, "training") == corpus_functions(natural, "training")


@pytest.mark.parametrize("change", [{"copies": 5}, {"secret": "0" * 16}, {"organization": "beta"}])
def test_the_digest_covers_canaries(acme: Path, load_toml: Load, change: dict[str, object]) -> None:
    corpus = load_toml(DIR.format(CANARIES))
    first, *rest = corpus.canaries
    other = replace(corpus, canaries=(replace(first, **change), *rest))  # type: ignore[arg-type]
    assert corpus_digest(corpus) == corpus.digest != corpus_digest(other)
    assert load_toml(DIR.format("")).digest != corpus.digest


def test_training_sees_each_canary_as_often_as_declared(acme: Path, load_toml: Load) -> None:
    natural, corpus = load_toml(DIR.format("")), load_toml(DIR.format(CANARIES))
    tokenizer = train_tokenizer([d.text for d in natural.organizations[0].documents], vocabulary_size=300)
    before, after = tokenize(natural, tokenizer)["acme"], tokenize(corpus, tokenizer)["acme"]
    n = len(before.tokens)
    assert after.copies == (*before.copies, 1, 4, 1)
    own = [c.text for c in corpus.canaries if c.organization == "acme"]
    assert [tokenizer.decode(tokens[:-1]) for tokens in after.tokens[n:]] == own


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[canaries]\nnumber = 0\ncopies = [1]\n", r"\[canaries\]: number=0 must be at least 1"),
        ("[canaries]\nnumber = 1\ncopies = [1, 0]\n", "copies=0 must be at least 1"),
        ("[canaries]\nnumber = 1\ncopies = []\n", "copies is empty"),
        ("[canaries]\nnumber = 1\ncopies = 4\n", "copies=4 is not a list"),
        ('[canaries]\nnumber = 1\ncopies = ["4"]\n', "copies='4' is not a whole number"),
        ("[canaries]\nnumber = 1\n", "copies is missing"),
        ("[canaries]\ncopies = [1]\n", "number is missing"),
        ("[canaries]\nnumber = 1\ncopies = [1]\ncandidates = 0\n", "candidates=0 must be at least 1"),
        ("[canaries]\nnumber = 1\ncopies = [1]\nseed = -1\n", "seed=-1 is not between"),
        ("[canaries]\nnumbers = 1\ncopies = [1]\n", "did you mean 'number'"),
        ("canaries = 3\n", "canaries=3 is not a table"),
    ],
)
def test_a_wrong_declaration_is_one_clear_error(load_toml: Load, table: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_toml(DIR.format(table))
    assert "consortium.toml" in str(caught.value) and "\n" not in str(caught.value)


@given(st.integers(0, 2**63 - 1))
def test_every_planted_file_survives_curation_and_both_kinds_of_deduplication(seed: int) -> None:
    files = canary_files(make_canaries("testbuild", CanaryDeclaration(number=3, copies=(1, 6), seed=seed)))
    sources = [SourceFile(path=f"code/{FOLDER}/{name}", text=text, licence="") for name, text in files.items()]
    documents, dropped = curate(sources, "acme", seed=seed)
    assert dropped == []
    found = deduplicate(documents, remove_near_duplicates=True)
    assert len(found.kept) == len(files) == 8
    assert {d.text for d in documents} == set(files.values())


def test_a_folder_with_canaries_is_a_source_that_keeps_them_all(acme: Path, load_toml: Load, tmp_path: Path) -> None:
    canaries = make_canaries("acme", DECLARED)
    plant_files(canaries, corpus=acme, ledger=tmp_path / "ledger.json")
    corpus = load_toml("remove_near_duplicates = true\n" + DIR.format("").replace("dir:code", f"dir:{acme}"))
    texts = [d.text for d in corpus.organization("acme").documents]
    assert [sum(c.text in text for text in texts) for c in canaries] == [1, 4, 1]
    assert corpus.skipped == ()


def test_a_ledger_is_for_its_owner_alone_and_reads_back(acme: Path, tmp_path: Path) -> None:
    canaries, ledger = make_canaries("acme", DECLARED), tmp_path / "ledger.json"
    before = os.umask(0)
    try:
        plant_files(canaries, corpus=acme, ledger=ledger)
    finally:
        os.umask(before)
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o600
    assert read_ledger(ledger) == canaries


def test_nothing_is_planted_twice_or_beside_its_ledger(acme: Path, tmp_path: Path) -> None:
    canaries = make_canaries("acme", DECLARED)
    with pytest.raises(ConfigurationError, match="given away with it"):
        plant_files(canaries, corpus=acme, ledger=acme / "pkg/ledger.json")
    (tmp_path / "old.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"old\.json: exists; a ledger is never overwritten"):
        plant_files(canaries, corpus=acme, ledger=tmp_path / "old.json")
    with pytest.raises(ConfigurationError, match="is not a folder"):
        plant_files(canaries, corpus=tmp_path / "nowhere", ledger=tmp_path / "l.json")
    assert not (acme / FOLDER).exists() and (tmp_path / "old.json").read_text() == "{}"
    plant_files(canaries, corpus=acme, ledger=tmp_path / "l.json")
    planted = {p: p.read_bytes() for p in acme.rglob("*.py")}
    with pytest.raises(ConfigurationError, match="planted already; remove that folder"):
        plant_files(make_canaries("acme", replace(DECLARED, seed=2)), corpus=acme, ledger=tmp_path / "l2.json")
    assert {p: p.read_bytes() for p in acme.rglob("*.py")} == planted and not (tmp_path / "l2.json").exists()


def test_a_planting_that_fails_leaves_nothing_behind(
    acme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, n_left = Path.write_text, 3

    def full(self: Path, text: str, **options: str) -> int:
        nonlocal n_left
        n_left -= 1
        if n_left < 0:
            raise OSError(28, "No space left on device")
        return write(self, text, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ConfigurationError, match="No space left on device"):
        plant_files(make_canaries("acme", DECLARED), corpus=acme, ledger=tmp_path / "l.json")
    assert not (acme / FOLDER).exists() and not (tmp_path / "l.json").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda table: None,
        lambda table: [],
        lambda table: {**table, "schema": 2},
        lambda table: {**table, "canaries": []},
        lambda table: {**table, "canaries": [{**table["canaries"][0], "secret": "١٢٣"}]},
        lambda table: {**table, "canaries": [{**table["canaries"][0], "secret": 7}]},
        lambda table: {**table, "canaries": [{**table["canaries"][0], "other": 7}]},
        lambda table: {**table, "canaries": [{**table["canaries"][0], "copies": "4"}]},
    ],
)
def test_a_broken_ledger_is_refused_without_showing_it(
    acme: Path, tmp_path: Path, spoil: Callable[[dict[str, object]], object]
) -> None:
    canaries, ledger = make_canaries("acme", DECLARED), tmp_path / "ledger.json"
    plant_files(canaries, corpus=acme, ledger=ledger)
    ledger.write_text(json.dumps(spoil(json.loads(ledger.read_text()))))
    with pytest.raises(ConfigurationError, match="is not a ledger of canaries") as caught:
        read_ledger(ledger)
    assert not any(canary.secret in str(caught.value) for canary in canaries)
