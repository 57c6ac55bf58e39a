"""Demo wheels where they were fetched, and tiny corpora of our own making."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import settings

from pytest_collabcode.corpus.consortium import Consortium, read_consortium
from pytest_collabcode.corpus.load import load_corpus
from pytest_collabcode.corpus.wheels import find_wheel
from pytest_collabcode.records import Corpus

# The machine may be busy; no test asserts a time.
settings.register_profile("collabcode", deadline=None)
settings.load_profile("collabcode")

ROOT = Path(__file__).parents[2]


def code(name: str, n_lines: int = 8) -> str:
    """A file that passes every filter: one documented function whose lines bear its name."""
    lines = "".join(f"    {name}_{n} = {name}_{n - 1} + {n}\n" for n in range(1, n_lines + 1))
    return f'def {name}({name}_0):\n    """Compute {name}."""\n{lines}    return {name}_{n_lines}\n'


def write_tree(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    """A folder of ten good files."""
    return write_tree(tmp_path / "code", {f"pkg/m{n}.py": code(f"f{n}") for n in range(10)})


@pytest.fixture
def load_toml(tmp_path: Path) -> Callable[[str], Corpus]:
    """Write a consortium file into tmp_path and load its corpus."""

    def load(text: str) -> Corpus:
        path = tmp_path / "consortium.toml"
        path.write_text(text)
        return load_corpus(read_consortium(path), downloads=tmp_path / "downloads")

    return load


@pytest.fixture
def make_wheel(tmp_path: Path) -> Callable[..., Path]:
    """Write a real, pip-readable wheel `acme==1.0` with the given members."""

    def make(files: Mapping[str, str | bytes], folder: str = "wheels") -> Path:
        path = tmp_path / folder / "acme-1.0-py3-none-any.whl"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
            archive.writestr("acme-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
            archive.writestr(
                "acme-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr("acme-1.0.dist-info/RECORD", "")
        return path

    return make


@pytest.fixture(scope="session")
def demo_consortium() -> Consortium:
    return read_consortium(ROOT / "fixtures" / "consortium.toml")


@pytest.fixture(scope="session")
def demo_downloads(demo_consortium: Consortium) -> Path:
    """The folder of the demo's wheels; skips where they were not fetched."""
    store = Path(os.environ.get("COLLABCODE_STORE", ROOT / ".collabcode"))
    folder = Path(os.environ.get("COLLABCODE_TEST_DOWNLOADS", store / "downloads"))
    targets = [source.target for owner in demo_consortium.organizations for source in owner.sources]
    missing = [target for target in targets if find_wheel(target, folder) is None]
    if missing:
        pytest.skip(f"{folder} has no {missing[0]}; run: collabcode fetch")
    return folder


@pytest.fixture(scope="session")
def demo_corpus(demo_consortium: Consortium, demo_downloads: Path) -> Corpus:
    return load_corpus(demo_consortium, downloads=demo_downloads)
