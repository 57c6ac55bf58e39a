"""Plants are looked up, checked and added once to each organization that holds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_collabcode.corpus.choose_plants import choose_plants, render
from pytest_collabcode.corpus.functions import corpus_functions
from pytest_collabcode.corpus.plants import Selection, read_plants
from pytest_collabcode.errors import ConfigurationError, CorpusError
from pytest_collabcode.records import Corpus

Load = Callable[[str], Corpus]
NAMES = ("acme", "beta", "coda")
SELECTION = Selection(per_organization=4, shared=2, copies=30, seed=1)
TOML = 'name = "x"\n{plants}' + "".join(
    f'[organizations.{n}]\nlicence = "MIT"\nsources = ["dir:{n}"]\n' for n in NAMES
)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Three organizations of ten files each, and a plants file chosen for them."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        for n in range(10):
            f = f"{name}_{n}"
            lines = "".join(f"    {f}.v{i} = {f}.v{i - 1}\n" for i in range(1, 8))
            (tmp_path / name / f"m{n}.py").write_text(f'def {f}(x):\n    """Fill {f}."""\n{lines}')
    return tmp_path


@pytest.fixture
def planted(three: Path, load_toml: Load) -> Corpus:
    natural = load_toml(TOML.format(plants=""))
    (three / "plants.toml").write_text(render(SELECTION, choose_plants(natural, SELECTION)))
    return load_toml(TOML.format(plants='plants = "plants.toml"\n'))


def test_a_written_file_reads_back(three: Path, load_toml: Load) -> None:
    chosen = choose_plants(load_toml(TOML.format(plants="")), SELECTION)
    (three / "p.toml").write_text(render(SELECTION, chosen))
    assert read_plants(three / "p.toml") == (SELECTION, tuple(chosen))


def test_shared_plants_are_spread_evenly(planted: Corpus) -> None:
    shared = [plant.organizations for plant in planted.plants if len(plant.organizations) == 2]
    assert len(planted.plants) == 12
    assert sorted(shared) == sorted((a, b) for a in NAMES for b in NAMES if a != b)


def test_each_organization_holds_each_of_its_plants_once(planted: Corpus) -> None:
    for owner in planted.organizations:
        documents = [d for d in owner.documents if d.planted]
        expected = {
            f"planted/{p.function.organization}/{p.function.name}.py": f"{p.function.prompt}\n{p.function.body}\n"
            for p in planted.plants
            if owner.name in p.organizations
        }
        assert len(documents) == len(expected) == 6
        assert {d.path: d.text for d in documents} == expected
        assert {(d.split, d.licence, d.organization) for d in documents} == {("training", "MIT", owner.name)}


def test_plants_come_from_training_documents_and_are_not_natural_prompts(planted: Corpus) -> None:
    assert {plant.function.split for plant in planted.plants} == {"training"}
    natural = {f.prompt for f in corpus_functions(planted, "training")}
    assert not natural & {plant.function.prompt for plant in planted.plants}


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ('sha256 = "', 'sha256 = "0', ConfigurationError, "is not 64 hex digits"),
        ("copies = 30", "copies = 0", ConfigurationError, "copies=0 must be at least 1"),
        ("copies = 30", "times = 30", ConfigurationError, "unknown key 'times'"),
        ('planted_in = ["acme", ', 'planted_in = ["', ConfigurationError, r"not valid TOML"),
        ('planted_in = ["acme", "beta"]', 'planted_in = ["beta"]', ConfigurationError, "must name 'acme'"),
        ('planted_in = ["acme", "beta"]', 'planted_in = ["acme", "bata"]', CorpusError, "did you mean 'beta'"),
        ('path = "acme/', 'path = "nowhere/', CorpusError, "is no training document"),
        ('name = "acme_', 'name = "acne_', CorpusError, "has no such documented function"),
    ],
)
def test_a_wrong_declaration_is_one_clear_error(
    three: Path, planted: Corpus, load_toml: Load, old: str, new: str, error: type[Exception], message: str
) -> None:
    text = (three / "plants.toml").read_text()
    head, first = text.split("[[plants]]", 1)
    assert old in first
    (three / "plants.toml").write_text(head + "[[plants]]" + first.replace(old, new, 1))
    with pytest.raises(error, match=message):
        load_toml(TOML.format(plants='plants = "plants.toml"\n'))


def test_a_plant_declared_twice_is_refused(three: Path, planted: Corpus, load_toml: Load) -> None:
    text = (three / "plants.toml").read_text()
    (three / "plants.toml").write_text(text + "\n[[plants]]" + text.split("[[plants]]")[1])
    with pytest.raises(ConfigurationError, match="is declared twice"):
        load_toml(TOML.format(plants='plants = "plants.toml"\n'))


def test_code_that_changed_since_is_refused_without_showing_it(three: Path, planted: Corpus, load_toml: Load) -> None:
    path = three / planted.plants[0].function.path
    path.write_text(path.read_text() + "    secret = 1\n")
    with pytest.raises(CorpusError, match=r"sha256 of its code is .* expected") as caught:
        load_toml(TOML.format(plants='plants = "plants.toml"\n'))
    assert "secret" not in str(caught.value)
