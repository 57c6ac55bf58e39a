"""A consortium file is read as written; a wrong one is told where it is wrong and what is valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_collabcode.corpus.consortium import Consortium, read_consortium
from pytest_collabcode.errors import ConfigurationError

GOOD = '[organizations.acme]\nsources = ["dir:code"]\n'
PIN = 'sha256 = "' + "0" * 64 + '"'


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('name = "x"\nplants = "p.toml"\n' + GOOD)
    consortium = read_consortium(tmp_path / "c.toml")
    assert consortium.organizations[0].sources[0].target == str(tmp_path / "code")
    assert consortium.plants == tmp_path / "p.toml"


def test_organizations_keep_the_order_of_the_file(tmp_path: Path) -> None:
    names = ["zeta", "acme", "beta"]
    text = "".join(f'[organizations.{name}]\nsources = ["dir:{name}"]\n' for name in names)
    (tmp_path / "c.toml").write_text('name = "x"\n' + text)
    assert [o.name for o in read_consortium(tmp_path / "c.toml").organizations] == names


def test_a_source_inherits_the_licence_of_its_organization_and_may_have_its_own(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        'name = "x"\n[organizations.acme]\nlicence = "MIT"\n'
        'sources = ["dir:a", { source = "jsonl:b", licence = "Apache-2.0" }]\n'
    )
    assert [s.licence for s in read_consortium(tmp_path / "c.toml").organizations[0].sources] == ["MIT", "Apache-2.0"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"\nsead = 2\n' + GOOD, "c.toml: unknown key 'sead'; did you mean 'seed'"),
        (GOOD, "c.toml: name is missing"),
        ('name = "x"\nseed = "2"\n' + GOOD, "seed='2' is not a whole number"),
        ('name = "x"\nseed = true\n' + GOOD, "seed=True is not a whole number"),
        ('name = "x"\nseed = -1\n' + GOOD, "seed=-1 is not between 0"),
        ('name = "x"\nheldout_ratio = 1.0\n' + GOOD, "heldout_ratio=1.0 is not between 0 and 1"),
        ('name = "x"\nheldout_ratio = nan\n' + GOOD, "heldout_ratio=nan is not between 0 and 1"),
        ('name = "x"\n', "has no organizations"),
        ('name = "x"\norganizations = 3\n', "organizations=3 is not a table"),
        ('name = "x"\n[organizations.Acme]\nsources = ["dir:a"]\n', "organization='Acme' may only use a-z"),
        ('name = "x"\n[organizations.acme]\nsources = []\n', r"\[organizations.acme\]: sources is empty"),
        ('name = "x"\n[organizations.acme]\nsources = [3]\n', "source=3 is neither"),
        ('name = "x"\n[organizations.acme]\nsource = ["dir:a"]\n', "unknown key 'source'; did you mean 'sources'"),
        ('name = "x"\n[organizations.acme]\nsources = ["wheels:a==1"]\n', "did you mean 'wheel'"),
        ('name = "x"\n[organizations.acme]\nsources = ["git:a"]\n', "is not wheel:NAME==VERSION, dir:PATH"),
        ('name = "x"\n[organizations.acme]\nsources = ["dir:"]\n', "source='dir:' is not"),
        ('name = "x"\n[organizations.acme]\nsources = ["wheel:a"]\n', "does not pin one version"),
        (
            'name = "x"\n[organizations.acme]\nsources = ["wheel:--index-url=http://x==1"]\n',
            "does not pin one version",
        ),
        ('name = "x"\n[organizations.acme]\nsources = ["wheel:a==1"]\n', "wheel:a==1: sha256 is missing"),
        (
            'name = "x"\n[organizations.acme]\nsources = [{source="wheel:a==1", sha256="12"}]\n',
            "is not 64 hex digits",
        ),
        ('name = "x"\n[organizations.acme]\nsources = [{source="dir:a", ' + PIN + "}]\n", "a folder has none"),
        ('name = "x"\n' + GOOD + "[pretrained.p]\nsource = 'dir:a'\n", "is not a wheel:NAME==VERSION"),
        ('name = "x"\n' + GOOD + f"[pretrained.p]\nsource = 'wheel:a==1'\n{PIN}\n", "member is missing"),
        ("name = \n", "is not valid TOML .*line 1"),
    ],
)
def test_a_wrong_file_is_told_where_and_what_is_valid(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_consortium(tmp_path / "c.toml")
    assert str(tmp_path / "c.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"a = " + b"[" * 5000])
def test_an_unreadable_file_is_a_configuration_error(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "c.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"c\.toml"):
        read_consortium(tmp_path / "c.toml")


def test_every_hash_licence_and_version_of_the_demo_stands_in_the_fixtures_readme(
    demo_consortium: Consortium,
) -> None:
    assert demo_consortium.path is not None
    readme = (demo_consortium.path.parent / "README.md").read_text()
    rows = [line for line in readme.splitlines() if line.startswith("| ")]
    pretrained = demo_consortium.pretrained
    sources = [source for owner in demo_consortium.organizations for source in owner.sources]
    for source in sources + [p.source for p in pretrained]:
        row = next(line for line in rows if f"`{source.sha256}`" in line)
        assert source.target.replace("==", " ") in row and f"| {source.licence} |" in row
    assert all(f"`{p.member_sha256}`" in readme and p.member in readme for p in pretrained)
