"""Choosing the functions to plant, and writing the plants file again: run this module with -m.

A plant must be short enough to come back whole in one completion, and its lines must stand nowhere else, so that a
completion that holds them can have them from this function only.
Not covered: looking plants up and adding them to a corpus (plants.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from pytest_collabcode.corpus.consortium import read_consortium
from pytest_collabcode.corpus.functions import corpus_functions, sample_functions
from pytest_collabcode.corpus.load import load_corpus
from pytest_collabcode.corpus.plants import PlantDeclaration, Selection, function_sha256, read_plants
from pytest_collabcode.errors import CorpusError
from pytest_collabcode.lines import significant_lines
from pytest_collabcode.records import Corpus, Function

MIN_LINES = 6
MAX_LINES = 16
MAX_BODY_CHARACTERS = 400
"""About 128 tokens of a 4,096-token vocabulary (3.1 characters each)."""
MAX_PROMPT_CHARACTERS = 600

_WHY = """\
# Functions planted on purpose, the positive control of the memorization suite: declared here by name and hash,
# repeated `copies` times per pass over the training data of each organization in `planted_in`.
# Written by: python -m pytest_collabcode.corpus.choose_plants (README.md beside this says how). Do not edit.
"""


def choose_plants(corpus: Corpus, selection: Selection) -> list[PlantDeclaration]:
    """Choose training functions to plant.

    Args:
        corpus: without plants.
        selection: how many per organization, how many of those go into a second organization (spread evenly over
            the others), copies and seed.
    Returns:
        Declarations, organization by organization, shared ones first.
    Raises:
        CorpusError: an organization has too few suitable functions.
    Example:
        >>> choose_plants(Corpus(name="empty", organizations=()), Selection(
        ...     per_organization=1, shared=0, copies=30, seed=1))
        []
    """
    prompts, windows = _occurrences(corpus)
    declarations = []
    for turn, owner in enumerate(corpus.names):
        others = corpus.names[turn + 1 :] + corpus.names[:turn]
        suitable = [f for f in _short_functions(corpus, owner) if _stands_once(f, prompts, windows)]
        chosen = list(islice(_distinct_names(suitable, selection.seed), selection.per_organization))
        if len(chosen) < selection.per_organization or (selection.shared and not others):
            raise CorpusError(
                f"organization={owner!r}: {len(chosen)} functions and {len(others)} other organizations are suitable"
                f" for per_organization={selection.per_organization!r}, shared={selection.shared!r}; plant fewer"
            )
        second = list(islice(cycle(others), selection.shared)) if others else []
        for place, function in enumerate(chosen):
            planted_in = (owner, *second[place : place + 1])
            declarations.append(_declare(function, planted_in, selection.copies))
    return declarations


def render(selection: Selection, declarations: Sequence[PlantDeclaration]) -> str:
    """Return the text of a plants file.

    Example:
        >>> render(Selection(per_organization=0, shared=0, copies=30, seed=1), []).splitlines()[-2:]
        ['copies = 30', 'seed = 1']
    """
    parts = [
        f"{_WHY}\n[selection]\nper_organization = {selection.per_organization}\nshared = {selection.shared}\n"
        f"copies = {selection.copies}\nseed = {selection.seed}\n"
    ]
    for declaration in declarations:
        planted_in = ", ".join(f'"{name}"' for name in declaration.planted_in)
        parts.append(
            f'\n[[plants]]\norganization = "{declaration.organization}"\npath = {json.dumps(declaration.path)}\n'
            f'name = "{declaration.name}"\nplanted_in = [{planted_in}]\ncopies = {declaration.copies}\n'
            f'sha256 = "{declaration.sha256}"\n'
        )
    return "".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose a consortium's plants again and write its plants file to standard output.

    The selection is the file's own where it exists, else 20 per organization, 4 of them shared, 30 copies, seed 1.

    Args:
        arguments: of the command line; those of the process by default.
    Raises:
        ConfigurationError: the consortium or its plants file is wrong.
        CorpusError: the wheels are not there, or too few functions are suitable.
    Example:
        >>> main(["--consortium=/nowhere/a.toml", "--downloads=."])
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: /nowhere/a.toml: cannot be read (No such file or directory)
    """
    parser = argparse.ArgumentParser(prog="python -m pytest_collabcode.corpus.choose_plants", description=__doc__)
    parser.add_argument("--consortium", type=Path, required=True, help="consortium file that names a plants file")
    parser.add_argument("--downloads", type=Path, required=True, help="folder with the consortium's wheels")
    options = parser.parse_args(arguments)
    consortium = read_consortium(options.consortium)
    selection = Selection(per_organization=20, shared=4, copies=30, seed=1)
    if consortium.plants and consortium.plants.exists():
        selection = read_plants(consortium.plants)[0]
    corpus = load_corpus(replace(consortium, plants=None), downloads=options.downloads)
    sys.stdout.write(render(selection, choose_plants(corpus, selection)))


def _declare(function: Function, planted_in: tuple[str, ...], copies: int) -> PlantDeclaration:
    return PlantDeclaration(
        organization=function.organization,
        path=function.path,
        name=function.name,
        planted_in=planted_in,
        copies=copies,
        sha256=function_sha256(function),
    )


def _short_functions(corpus: Corpus, owner: str) -> list[Function]:
    return [
        function
        for function in corpus_functions(corpus, "training", owner, MIN_LINES)
        if function.significant_lines <= MAX_LINES
        and len(function.body) <= MAX_BODY_CHARACTERS
        and len(function.prompt) <= MAX_PROMPT_CHARACTERS
    ]


def _distinct_names(functions: Sequence[Function], seed: int) -> Iterator[Function]:
    """Yield functions in the order of their draw, the first of each name only: the name makes the planted path."""
    taken: set[str] = set()
    for function in sample_functions(functions, len(functions), seed):
        if function.name not in taken:
            taken.add(function.name)
            yield function


def _occurrences(corpus: Corpus) -> tuple[Counter[str], Counter[tuple[str, ...]]]:
    """Count every prompt, and every run of six significant lines, over both splits of all organizations."""
    splits = ("training", "heldout")
    prompts = Counter(function.prompt for split in splits for function in corpus_functions(corpus, split))
    documents = (document for organization in corpus.organizations for document in organization.documents)
    return prompts, Counter(window for document in documents for window in _windows(document.text))


def _windows(text: str) -> Iterator[tuple[str, ...]]:
    lines = [line for _, line in significant_lines(text)]
    return (tuple(lines[n : n + MIN_LINES]) for n in range(len(lines) - MIN_LINES + 1))


def _stands_once(function: Function, prompts: Counter[str], windows: Counter[tuple[str, ...]]) -> bool:
    return prompts[function.prompt] == 1 and all(windows[window] == 1 for window in _windows(function.body))


if __name__ == "__main__":
    main()
