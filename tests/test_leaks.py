"""Extraction, near-verbatim and membership of a model trained here: asked once, stored, signed, code kept back."""

import shutil
from dataclasses import replace

import pytest

from pytest_collabcode.clones.folder import add_documents, create_index
from pytest_collabcode.clones.keys import make_key
from pytest_collabcode.clones.sealing import seal
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.errors import ConfigurationError
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


def test_a_sealed_index_gives_the_verdicts_of_the_documents(reciting, tiny_consortium, tmp_path):
    """acme's code is asked without being read; zeta's own documents stay where they are."""
    whole = reciting(["centralized"])
    documents = whole.pipeline.material.corpus.organization("acme").split("training")
    key = make_key(tmp_path / "acme.key")
    seal(documents, tmp_path / "acme.sealed", key)
    table = f'\n[indexes.acme]\npath = "{tmp_path / "acme.sealed"}"\nkey_file = "{tmp_path / "acme.key"}"\n'
    file = tiny_consortium.with_name("sealed.toml")
    file.write_text(tiny_consortium.read_text() + table)
    asked = reciting(["centralized"], consortium=str(file))
    assert asked.pipeline.material.corpus.digest == whole.pipeline.material.corpus.digest

    def cells(measures):
        return {
            (m.name, m.cell): (m.value, m.count, m.n, m.items)
            for m in measures.leaks.matrix(SUBJECT)
            if m.name in ("memorization_ratio", "line_ratio", "cross_organization_clone_ratio")
        }

    assert cells(asked) == cells(whole) and cells(whole)["memorization_ratio", "acme→acme natural"][0] == 1.0
    measured = asked.leaks.matrix(SUBJECT)
    assert dict(measured[0].signature)["sealed"] == "acme"
    clones = {c.training.path for m in measured for c in m.evidence if c.training.organization == "acme"}
    assert clones and all(path.startswith("sealed:") for path in clones)


def test_an_organization_may_be_nothing_but_an_index(reciting, tiny_consortium, tmp_path):
    folder = tmp_path / "nova.index"
    create_index(folder, Shape())
    documents = reciting(["centralized"]).pipeline.material.corpus.organization("zeta").split("training")
    add_documents(folder, [replace(d, organization="nova") for d in documents])
    file = tiny_consortium.with_name("nova.toml")
    file.write_text(tiny_consortium.read_text() + f'\n[indexes.nova]\npath = "{folder}"\n')
    asked = reciting(["centralized"], consortium=str(file))
    cells = {m.cell: m.value for m in asked.leaks.matrix(SUBJECT) if m.name == "memorization_ratio"}
    assert cells["zeta→nova natural"] == cells["zeta→zeta natural"] == 1.0
    crossings = {m.cell: m.value for m in asked.leaks.matrix(SUBJECT) if m.name == "cross_organization_clone_ratio"}
    assert crossings["zeta natural"] == 1.0
    assert asked.pipeline.material.corpus.names == ("acme", "zeta")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('path = "/nowhere"', "/nowhere is no index"),
        ('path = "x"\nkey = "y"', "unknown key 'key'; did you mean 'key_file'"),
        ("", "path is missing"),
    ],
)
def test_a_wrong_index_is_known_before_anything_is_measured(reciting, tiny_consortium, table, message):
    file = tiny_consortium.with_name("wrong.toml")
    file.write_text(tiny_consortium.read_text() + f"\n[indexes.acme]\n{table}\n")
    with pytest.raises(ConfigurationError, match=message):
        reciting(["centralized"], consortium=str(file)).pipeline.check()
