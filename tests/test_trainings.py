"""Trainings of one process, known to another of the same session."""

import shutil

import pytest

from pytest_collabcode.errors import CheckpointError
from pytest_collabcode.settings import make_settings
from pytest_collabcode.trainings import Trainings
from pytest_collabcode.workbench import open_workbench


@pytest.fixture
def trainings_of_a_process(tiny_consortium, tmp_path):
    """Make the trainings of another process of a session that judges an order of three organizations."""
    root = tmp_path / "consortium"
    shutil.copytree(tiny_consortium.parent, root)
    shutil.copytree(root / "acme", root / "beta")
    for file in (root / "beta").iterdir():
        file.write_text(file.read_text().replace("items", "things").replace("total", "whole"))
    beta = '[organizations.beta]\nlicence = "MIT"\nsources = ["dir:beta"]\n'
    (root / "consortium.toml").write_text((root / "consortium.toml").read_text() + beta)
    options = {"store": str(tmp_path / "store"), "consortium": str(root / "consortium.toml"), "recipe": "llama-smoke"}
    regimes = ["incremental:acme>zeta>beta"]
    return lambda: Trainings(open_workbench(make_settings(directory=tmp_path, regimes=regimes, options=options)))


def test_what_one_process_trained_is_known_to_another_by_its_place_controls_too(trainings_of_a_process):
    worker, main = trainings_of_a_process(), trainings_of_a_process()
    control = worker.control("beta")
    assert control.regime == "incremental:acme>zeta"  # no regime that a user may ask for: beta is missing
    main.learn_of(worker.known)
    assert list(main.known) == [control.regime] and main.known == worker.known
    assert main.hyperparameters() == worker.hyperparameters() != ()


def test_a_checkpoint_that_is_gone_is_named(trainings_of_a_process, tmp_path):
    with pytest.raises(CheckpointError, match="gone"):
        trainings_of_a_process().learn_of({"fedavg": str(tmp_path / "gone")})
