"""Hooks by which other plugins supply what this one does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_collabcode.records import Backend, Checkpoint


@pytest.hookspec(firstresult=True)
def pytest_collabcode_load_backend(checkpoint: Checkpoint, device: str) -> Backend | None:
    """Return a backend for this checkpoint, or None to leave it to the next plugin and finally to transformers.

    Example, in a conftest.py:

        def pytest_collabcode_load_backend(checkpoint, device):
            if (checkpoint.path / "endpoint.txt").exists():
                return MyEndpointBackend(checkpoint)
    """
