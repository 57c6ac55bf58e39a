"""A tiny trained-from-nothing checkpoint on disk."""

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_collabcode.models.architectures import build
from pytest_collabcode.models.tokenizer import train_tokenizer
from pytest_collabcode.training.recipes import recipe


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    shape = replace(recipe("llama-demo"), n_layers=2, width=16, n_heads=2, vocabulary_size=300, sequence_tokens=16)
    build(shape, 1).save_pretrained(tmp_path / "tiny")
    train_tokenizer(["def f(x):\n    return x\n"] * 3, vocabulary_size=300).save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"
