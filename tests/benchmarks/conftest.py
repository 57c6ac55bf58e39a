"""Python text of any size, made of installed code by tiling with mutations; texts with known clones; indexes."""

import random
import shutil
import time
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_collabcode.clones.folder import add_documents, create_index
from pytest_collabcode.clones.normalize import significant
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.lines import decode
from pytest_collabcode.records import Document

MUTATED = 5  # every n-th line of a copy


def real_files():
    """Every Python file of the largest package that is always there, in an order that mixes its kinds of code."""
    root = Path(find_spec("transformers").origin).parent
    files = sorted(root.rglob("*.py"))
    random.Random(0).shuffle(files)
    for file in files:
        yield file.relative_to(root).as_posix(), decode(file.read_bytes())


def mutated(text, seed, every=MUTATED):
    """Change every n-th line that is not blank, so that a copy shares next to no six lines with the original."""
    lines = text.split("\n")
    filled = [number for number, line in enumerate(lines) if line and not line.isspace()]
    for number in filled[seed % every :: every]:
        lines[number] += f"  # {seed}"
    return "\n".join(lines)


def documents(n_bytes, skip_bytes=0):
    """Yield documents of n_bytes in all, behind the first skip_bytes: real code first, then mutated copies of it."""
    files, size, copy = list(real_files()), 0, 0
    while True:
        for path, text in files:
            if size >= skip_bytes + n_bytes:
                return
            own = mutated(text, copy) if copy else text
            begin, size = size, size + len(own)
            if begin >= skip_bytes:
                yield Document(path=f"{copy}/{path}", text=own, organization="acme")
        copy += 1


def generated(texts, *, n_bytes=None, n_lines=None, seed=1, known_ratio=0.1):
    """Return (text, known): lines of no document, and among them cuts of documents, at the lines that `known` names.

    Returns:
        The text, of n_bytes or n_lines non-blank lines; and (first, last) original line number of every cut.
    """
    rng = random.Random(seed)
    lines, known, size, n_filled = [], [], 0, 0
    while (size < n_bytes) if n_bytes else (n_filled < n_lines):
        whole = rng.choice(texts).split("\n")
        first = rng.randrange(len(whole))
        cut = whole[first : first + rng.randint(20, 60)]
        if rng.random() >= known_ratio:
            cut = mutated("\n".join(cut), rng.getrandbits(32), every=3).split("\n")
        elif sum(map(bool, map(str.strip, cut))) >= 6:
            filled = [number for number, line in enumerate(cut, start=len(lines) + 1) if line.strip()]
            known.append((filled[0], filled[-1]))
        lines += cut
        size += sum(map(len, cut)) + len(cut)
        n_filled += sum(map(bool, map(str.strip, cut)))
    return "\n".join(lines) + "\n", known


@pytest.fixture(scope="session")
def code():
    return SimpleNamespace(documents=documents, generated=generated, mutated=mutated)


@pytest.fixture
def say(capsys):
    def say(line):
        with capsys.disabled():
            print(f"\n{line}", end="")

    return say


@dataclass(frozen=True, kw_only=True)
class Built:
    folder: Path
    cpu_s: float


@pytest.fixture(scope="session")
def built(tmp_path_factory, code):
    """Indexes by size in MB and form, made when they are first asked for."""
    root = tmp_path_factory.mktemp("indexes")

    @cache
    def build(megabytes, sparse):
        making = 0.0

        def documents():
            nonlocal making
            made = code.documents(megabytes * 1_000_000)
            while True:
                began = time.process_time()
                document = next(made, None)
                making += time.process_time() - began
                if document is None:
                    return
                yield document

        folder = root / f"{megabytes}-{sparse}"
        began = time.process_time()
        create_index(folder, Shape(sparse=sparse))
        add_documents(folder, documents())
        return Built(folder=folder, cpu_s=time.process_time() - began - making)

    yield lambda megabytes, sparse=False: build(megabytes, sparse)
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def asked(code):
    """Return the lines of a text, cut and mutated from the first MB of the corpus, which every index holds."""

    @cache
    def lines(n_lines, known_ratio):
        texts = [document.text for document in code.documents(1_000_000)]
        return significant(code.generated(texts, n_lines=n_lines, known_ratio=known_ratio)[0])[1]

    return lines
