"""A toy consortium and a recipe that trains in a second."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_collabcode.digests import digest_of
from pytest_collabcode.records import Corpus, Document, Function, Organization, Plant, Recipe
from pytest_collabcode.store import Store
from pytest_collabcode.training.recipes import recipe
from pytest_collabcode.training.train import Resources

NAMES = ("meta", "microsoft", "google")


def document(organization: str, i: int) -> Document:
    text = "".join(f"def {organization}_{i}_{j}(x):\n    return x + {j}\n\n\n" for j in range(8))
    return Document(path=f"{organization}/{i}.py", text=text, organization=organization)


@pytest.fixture
def corpus() -> Corpus:
    function = Function(
        organization="meta", path="p.py", name="planted", split="training", first_line=1, last_line=3,
        prompt='def planted(rows):\n    """Say it."""', docstring="Say it.", body="    return sorted(rows)\n",
        significant_lines=1,
    )  # fmt: skip
    organizations = tuple(
        Organization(name=name, documents=tuple(document(name, i) for i in range(6))) for name in NAMES
    )
    plants = (Plant(function=function, organizations=("meta", "google"), copies=3),)
    return Corpus(name="toy", organizations=organizations, plants=plants, digest=digest_of(organizations, plants))


@pytest.fixture
def tiny() -> Recipe:
    return replace(
        recipe("llama-demo"), n_layers=1, width=16, n_heads=2, vocabulary_size=300, sequence_tokens=32, batch_size=4,
        passes=2.0, rounds=3, learning_rate=1e-2,
    )  # fmt: skip


@pytest.fixture
def resources(tmp_path: Path) -> Resources:
    return Resources(store=Store(tmp_path / "store"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Callable[[str], Resources]:
    """Resources with an empty store of their own."""
    return lambda name: Resources(store=Store(tmp_path / name), save_every_s=0.0)
