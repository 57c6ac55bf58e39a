"""Extraction, near-verbatim and membership of a model trained here: asked once, stored, signed, code kept back."""

import shutil

import pytest

from pytest_collabcode.measures import Measures
from pytest_collabcode.pipeline import Pipeline
from pytest_collabcode.records import Generation
from pytest_collabcode.settings import make_settings
from pytest_collabcode.workbench import open_workbench

SUBJECT = "tiny/centralized"


@pytest.fixture
def measures(tiny_consortium, tiny_store):
    """Anew in every test: only the store is shared."""
    options = {
        "consortium": str(tiny_consortium),
        "store": str(tiny_store),
        "profile": "smoke",
        "recipe": "llama-smoke",
    }
    settings = make_settings(directory=tiny_store, regimes=["centralized"], options=options)
    return Measures(Pipeline(open_workbench(settings)))


def test_token_scores_are_stored_for_every_n_and_p(measures):
    measures.do(SUBJECT, "train")
    measures.leaks.discoverable(SUBJECT, n=1000, p=0.5)
    assert measures.is_stored(SUBJECT, "extraction")
    again = Measures(Pipeline(measures.pipeline.bench))
    again.pipeline.bench.only_stored = True  # no model is asked from here on
    names = {m.name for m in again.leaks.discoverable(SUBJECT, n=10**6, p=0.1) + again.leaks.membership(SUBJECT)}
    assert names == {"discoverable@n=1000000,p=0.1", "membership_auroc"}


def test_every_organization_and_stratum_is_measured_and_signed(measures):
    leaks = measures.leaks
    measured = leaks.discoverable(SUBJECT, n=1000, p=0.5) + leaks.near_verbatim(SUBJECT) + leaks.membership(SUBJECT)
    owners, size = measures.pipeline.material.corpus.names, measures.pipeline.settings.profile
    for name in ("discoverable@n=1000,p=0.5", "near_verbatim_ratio.bleu75", "near_verbatim_ratio.edit90"):
        cells = {m.cell: m for m in measured if m.name == name}
        assert {f"{owner} {stratum}" for owner in owners for stratum in ("natural", "heldout")} <= set(cells)
        assert all(cells[f"{owner} natural"].control.cell == f"{owner} heldout" for owner in owners)
        scored = name.startswith("discoverable")
        n = size.extraction_prompts_per_organization if scored else size.prompts_per_organization
        assert {cells[f"{owner} natural"].n for owner in owners} == {n}
    assert {m.cell for m in measured if m.name == "membership_auroc"} >= {
        "natural",
        *(f"{o} natural" for o in owners),
    }
    assert all({"profile", "seed", "corpus", "weights", "tokens"} <= dict(m.signature).keys() for m in measured)


def test_no_code_stands_in_measurements_or_store(measures, tiny_store):
    measured = measures.leaks.discoverable(SUBJECT, n=1000, p=0.5) + measures.leaks.membership(SUBJECT)
    kept = "".join(file.read_text() for file in (tiny_store / "scores").iterdir()) + repr(measured)
    bodies = [p.canonical_solution for p in measures.pipeline.material.prompts("natural")]
    lines = {line.strip() for body in bodies for line in body.split("\n") if len(line.strip()) > 12}
    assert lines and not [line for line in lines if line in kept]


class Reciter:
    """Gives back the true body of every function whose organization the checkpoint was trained on."""

    def __init__(self, checkpoint):
        self.checkpoint = checkpoint

    def generate(self, problems, sampling):
        return [
            Generation(
                task_id=p.task_id,
                sample_index=0,
                completion=f"\n{p.canonical_solution}"
                if p.organization in self.checkpoint.organizations
                else "\npass",
                n_tokens=1,
                duration_s=0.0,
                stop_reason="eos",
            )
            for p in problems
        ]


@pytest.fixture
def reciting(tiny_consortium, tiny_store, measures, tmp_path):
    """Return a function that opens a session whose models recite; their completions have a store of their own."""
    for regime in ("centralized", "local:acme", "local:zeta"):
        measures.pipeline.trained(regime)
    shutil.copytree(tiny_store / "checkpoints", tmp_path / "store" / "checkpoints")

    def open_session(regimes=(), models=(), **more):
        options = {"consortium": str(tiny_consortium), "store": str(tmp_path / "store"), "profile": "smoke"}
        options |= {"recipe": "llama-smoke", **more}
        settings = make_settings(directory=tmp_path, regimes=regimes, models=models, options=options)
        return Measures(Pipeline(open_workbench(settings), own_backend=Reciter))

    return open_session


def test_natural_prompts_are_asked_of_a_model_trained_without_their_organization(reciting):
    lifts = {m.cell: m for m in reciting(["centralized"]).leaks.lift(SUBJECT)}
    assert {cell: m.value for cell, m in lifts.items()} == {"acme natural": 1.0, "zeta natural": 1.0}
    assert dict(lifts["acme natural"].signature)["control"] == "tiny/local:zeta"
    assert {m.name for m in lifts.values()} == {"memorization_lift"}
    assert all("clusters" in dict(m.signature) for m in lifts.values())  # 12 prompts stand in fewer files


def test_a_given_base_model_is_asked_the_same(reciting, measures):
    paths = {regime: str(measures.pipeline.trained(regime).path) for regime in ("centralized", "local:acme")}
    model = f"ours={paths['centralized']}"
    over = reciting(models=[model], base=paths["local:acme"]).leaks.everything("ours")
    found = {m.cell: m.value for m in over if m.name == "memorization_over_base"}
    assert found == {"acme natural": 0.0, "zeta natural": 1.0}
    assert not [m for m in over if m.name == "memorization_lift"]  # it may have seen anything elsewhere
    assert reciting(models=[model]).leaks.lift("ours") == ()
    assert reciting(models=[model], base=paths["centralized"]).leaks.lift("ours") == ()  # no control of itself
