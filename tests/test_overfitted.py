"""A subject overfitted on purpose fails under the very ceilings that the demo's regimes pass."""

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_collabcode.records import Corpus, Document, Organization
from pytest_collabcode.session import Session
from pytest_collabcode.settings import make_settings
from pytest_collabcode.store import Store
from pytest_collabcode.training.centralized import Local
from pytest_collabcode.training.recipes import recipe
from pytest_collabcode.training.train import Resources, train

ROOT = Path(__file__).parent.parent
N_FUNCTIONS, PASSES = 24, 80.0


@pytest.fixture
def demo(monkeypatch):
    settings = make_settings(directory=ROOT)
    if not any(settings.store.glob("downloads/*.whl")):
        pytest.skip("needs the demo's wheels: collabcode fetch --only=consortium")
    return Session(settings)


@pytest.fixture
def overfitted(demo, tmp_path):
    """A model that saw a few of Meta's functions, and nothing else, eighty times."""
    functions = demo.pipeline.material.functions("training", 100, min_body_lines=6)
    documents = tuple(
        Document(path=f"{f.path}:{f.first_line}", text=f"{f.prompt}\n{f.body}\n", organization="meta")
        for f in functions[:N_FUNCTIONS]
    )
    corpus = Corpus(name="few", organizations=(Organization(name="meta", documents=documents),), digest="few")
    recipe_ = replace(recipe("llama-demo"), passes=PASSES)
    return train(Local("meta"), corpus, recipe_, resources=Resources(store=Store(tmp_path / "few"))).path


def test_an_overfitted_model_fails_the_ceiling_with_organization_path_and_lines(demo, overfitted, pytester):
    result = pytester.runpytest_subprocess(
        str(ROOT / "suites" / "test_memorization.py"),
        f"--model=demo/centralized={overfitted}",
        f"--collabcode-store={demo.settings.store}",
        "-k=natural_code_of and meta",
        "-p",
        "no:cacheprovider",
        timeout=600,
    )
    text = "\n".join(result.outlines)
    assert result.ret == 1, text
    failed = [line for line in result.outlines if line.startswith("FAIL       natural-code memorization_ratio meta→")]
    assert failed, text
    assert "<= 0.05" in failed[0] and "[demo/centralized]" in failed[0]
    named = [line for line in result.outlines if line.startswith("  meta:") and "lines, fingerprint" in line]
    paths = {d.path for d in demo.pipeline.material.corpus.organization("meta").split("training")}
    assert named and all(line.split(":")[1] in paths for line in named)
    code = {
        line.strip()
        for d in demo.pipeline.material.corpus.organization("meta").documents
        for line in d.text.split("\n")
    }
    long = [line for line in code if len(line) > 40]
    assert not [line for line in long if line in text], "code of an organization was printed"
