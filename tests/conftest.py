"""A consortium of two small organizations whose code is made here, and the options that make a run take seconds."""

import random

import pytest
from hypothesis import settings

settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")

VERBS = ("load", "merge", "count", "filter", "render", "check", "split", "scale", "pack", "trace")
NOUNS = ("rows", "tokens", "edges", "frames", "users", "paths", "events", "prices", "nodes", "words")


def function_text(rng):
    verb, noun, other = rng.choice(VERBS), rng.choice(NOUNS), rng.choice(NOUNS)
    a, b, c = rng.sample(range(2, 99), 3)
    return (
        f"def {verb}_{noun}_{a}(items, limit={b}):\n"
        f'    """{verb.title()} the {noun} that belong to {other}, at most {b} of them, step {c}."""\n'
        f"    {noun} = []\n"
        f"    total = {a} * limit\n"
        f"    for index, item in enumerate(items):\n"
        f"        value = item.get('{other}', {c}) + index * {a}\n"
        f"        if value % {b} == {c % b}:\n"
        f"            {noun}.append((index, value))\n"
        f"        total = total + value\n"
        f"    return sorted({noun})[:limit], total\n"
    )


def write_organization(folder, seed, n_files=14, n_functions=4):
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    for number in range(n_files):
        functions = "\n\n".join(function_text(rng) for _ in range(n_functions))
        head = "import collections\nimport itertools\n\nLIMIT = 10\nNAMES = {}\nSIZE = LIMIT * 2\n\n\n"
        (folder / f"module_{number}.py").write_text(head + functions)


@pytest.fixture(scope="session")
def tiny_consortium(tmp_path_factory):
    root = tmp_path_factory.mktemp("consortium")
    write_organization(root / "acme", 1)
    write_organization(root / "zeta", 2)
    file = root / "consortium.toml"
    file.write_text(
        'name = "tiny"\nseed = 1\n'
        '[organizations.acme]\nlicence = "MIT"\nsources = ["dir:acme"]\n'
        '[organizations.zeta]\nlicence = "MIT"\nsources = ["dir:zeta"]\n'
    )
    return file


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def tiny_options(tiny_consortium, tiny_store):
    """Options of a run that takes seconds; results are shared by all tests of a session."""
    return [
        f"--collabcode-consortium={tiny_consortium}",
        f"--collabcode-store={tiny_store}",
        "--collabcode-profile=smoke",
        "--collabcode-recipe=llama-smoke",
        "-p",
        "no:cacheprovider",
    ]
