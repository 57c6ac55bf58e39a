"""Hooks by which other plugins supply what this one does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_collabcode.records import Backend, Checkpoint


@pytest.hookspec(firstresult=True)
def pytest_collabcode_load_backend(checkpoint: Checkpoint, device: str) -> Backend | None:
    """Return a backend for this checkpoint, or None to leave it to the next plugin and finally to the options.

    Asked when the checkpoint is first needed, even if every answer is stored already: results are kept under the name
    of the backend's class, and signatures name it. So load weights when the first question comes, not here.

    It is asked for 16 problems or texts in a call, which is what a kill can lose; `draw` hands on each completion.

    Example, in a conftest.py:

        def pytest_collabcode_load_backend(checkpoint, device):
            if (checkpoint.path / "house.toml").exists():
                return HouseBackend(checkpoint)  # generate, log_likelihood, embed; token_scores and draw if it can
    """
