"""Chosen plants are short, stand once, and the demo's file is what the command writes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_collabcode.corpus.choose_plants import choose_plants, main
from pytest_collabcode.corpus.consortium import Consortium
from pytest_collabcode.corpus.plants import Selection
from pytest_collabcode.errors import CorpusError
from pytest_collabcode.records import Corpus, Document, Organization


def function(name: str, n_lines: int = 6, line: str = "{name}_{n} = {n}") -> str:
    body = "".join(f"    {line.format(name=name, n=n)}\n" for n in range(n_lines))
    return f'def {name}():\n    """Do {name}."""\n{body}'


def corpus(*texts: str) -> Corpus:
    documents = tuple(Document(path=f"{n}.py", text=text, organization="acme") for n, text in enumerate(texts))
    return Corpus(name="c", organizations=(Organization(name="acme", documents=documents),))


def selection(n: int, shared: int = 0) -> Selection:
    return Selection(per_organization=n, shared=shared, copies=3, seed=1)


@pytest.mark.parametrize(
    "other",
    [
        function("short", 5),
        function("long", 17),
        function("wide", 6, "{name}_{n} = '" + "x" * 80 + "'"),
        function("twice") + function("twice2", 7, "twice_{n} = {n}"),  # six lines of the one stand in the other
    ],
)
def test_what_could_not_be_told_apart_or_come_back_whole_is_not_chosen(other: str) -> None:
    [always] = choose_plants(corpus(function("always"), other), selection(1))
    assert always.name == "always"
    with pytest.raises(CorpusError, match="plant fewer"):
        choose_plants(corpus(function("always"), other), selection(2))


def test_of_two_functions_with_one_prompt_neither_is_chosen() -> None:
    twins = [function("twin"), function("twin", 6, "other_{n} = {n}")]
    assert choose_plants(corpus(function("always"), twins[0]), selection(2))
    with pytest.raises(CorpusError, match="plant fewer"):
        choose_plants(corpus(function("always"), *twins), selection(2))


def test_sharing_needs_another_organization() -> None:
    with pytest.raises(CorpusError, match="0 other organizations"):
        choose_plants(corpus(function("always")), selection(1, shared=1))


def test_the_choice_does_not_depend_on_what_else_is_chosen() -> None:
    many = corpus(*(function(f"f{n}") for n in range(20)))
    assert choose_plants(many, selection(12))[:5] == choose_plants(many, selection(5))


def test_the_demo_file_is_what_the_command_writes(
    demo_consortium: Consortium, demo_downloads: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo_consortium.path and demo_consortium.plants
    main(["--consortium", str(demo_consortium.path), "--downloads", str(demo_downloads)])
    assert capsys.readouterr().out == demo_consortium.plants.read_text()


def test_demo_plants_are_what_the_fixtures_readme_says(demo_corpus: Corpus) -> None:
    for owner in demo_corpus.names:
        plants = [plant for plant in demo_corpus.plants if plant.function.organization == owner]
        assert len(plants) == 20 and {plant.copies for plant in plants} == {30}
        assert sum(len(plant.organizations) == 2 for plant in plants) == 4
    assert all(6 <= plant.function.significant_lines <= 16 for plant in demo_corpus.plants)
    assert all(len(plant.function.body) <= 400 for plant in demo_corpus.plants)
    assert len({replace(plant.function, path="") for plant in demo_corpus.plants}) == 60
