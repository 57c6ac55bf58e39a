"""A loaded corpus: the same from the same bytes, another digest from any other, each drop accounted for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_collabcode.corpus.functions import corpus_functions
from pytest_collabcode.corpus.load import corpus_digest
from pytest_collabcode.digests import sha256_file
from pytest_collabcode.errors import CorpusError
from pytest_collabcode.records import Corpus, Document, Organization

Load = Callable[[str], Corpus]
DIR = 'name = "x"\n[organizations.acme]\nlicence = "MIT"\nsources = ["dir:code"]\n'


def test_the_order_of_directories_does_not_matter(acme: Path, load_toml: Load, tmp_path: Path) -> None:
    before = load_toml(DIR)
    shutil.move(acme, tmp_path / "old")
    acme.mkdir()
    (acme / "pkg").mkdir()
    for path in sorted((tmp_path / "old/pkg").iterdir(), reverse=True):
        shutil.copy(path, acme / "pkg")
    assert load_toml(DIR) == before


def test_a_folder_can_move_without_becoming_another_corpus(acme: Path, load_toml: Load, tmp_path: Path) -> None:
    before = load_toml(DIR)
    shutil.copytree(acme, tmp_path / "elsewhere/code")
    assert load_toml(DIR.replace("dir:code", "dir:elsewhere/code")).digest == before.digest


@pytest.mark.parametrize(
    "change",
    [
        {"name": "y"},
        {"path": "b.py"},
        {"text": "y = 1"},
        {"split": "heldout"},
        {"licence": "MIT"},
        {"planted": True},
        {"organization": "beta"},
    ],
)
def test_the_digest_covers_everything_that_matters(change: dict[str, object]) -> None:
    document = Document(path="a.py", text="x = 1", organization="acme")
    corpus = Corpus(name="x", organizations=(Organization(name="acme", documents=(document,)),))
    if "name" in change:
        other = replace(corpus, name="y")
    else:
        changed = replace(document, **change)  # type: ignore[arg-type]
        other = replace(corpus, organizations=(Organization(name="acme", documents=(changed,)),))
    assert corpus_digest(other) != corpus_digest(corpus)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_byte_order_marks_and_newlines_do_not_matter(acme: Path, load_toml: Load, newline: str, bom: bytes) -> None:
    before = load_toml(DIR)
    for path in acme.rglob("*.py"):
        path.write_bytes(bom + path.read_text().replace("\n", newline).encode())
    assert load_toml(DIR).digest == before.digest


def test_a_quarter_of_all_sources_gives_the_same_documents(
    acme: Path, load_toml: Load, make_wheel: Callable[..., Path], tmp_path: Path
) -> None:
    files = {f"pkg/{path.name}": path.read_text() for path in acme.rglob("*.py")}
    wheel = make_wheel(files, folder="downloads")
    pin = f'{{ source = "wheel:acme==1.0", sha256 = "{sha256_file(wheel)}" }}'
    texts = [
        {d.text for d in load_toml(DIR.replace('"dir:code"', s)).organizations[0].documents}
        for s in ('"dir:code"', pin)
    ]
    assert texts[0] == texts[1] == set(files.values())


def test_folders_of_one_name_stay_apart(acme: Path, load_toml: Load, tmp_path: Path) -> None:
    (tmp_path / "other/code/pkg").mkdir(parents=True)
    (tmp_path / "other/code/pkg/m1.py").write_text((acme / "pkg/m1.py").read_text().replace("f1", "g1"))
    corpus = load_toml(DIR.replace('"dir:code"', '"dir:code", "dir:other/code"'))
    paths = {d.path for d in corpus.organizations[0].documents}
    assert {"code/pkg/m1.py", "code~2/pkg/m1.py"} < paths and len(paths) == 11


def test_everything_passed_over_is_named_with_its_reason(acme: Path, load_toml: Load) -> None:
    (acme / "copy.py").write_text((acme / "pkg/m1.py").read_text().replace(" = ", "  =  "))
    (acme / "latin.py").write_bytes(b"\xe9")
    (acme / "tiny.py").write_text("x = 1\n")
    corpus = load_toml(DIR)
    assert dict(corpus.skipped) == {
        "acme:code/latin.py": "not UTF-8",
        "acme:code/tiny.py": "at most 4 assignments",
        "acme:code/pkg/m1.py": "exact copy of code/copy.py",
    }
    [(name, exact, near)] = corpus.rates
    assert (name, exact, near) == ("acme", 1 / 11, 0.0)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (0, r"dir:.*has no usable .py file \(none found\)"),
        (1, "organization='acme': 1 document is left of 1 files; at least 2"),
        (-1, r"organization='acme': curation left none of 10 files \(10 at most 4 assignments\)"),
    ],
)
def test_too_little_code_is_one_clear_error(acme: Path, load_toml: Load, keep: int, message: str) -> None:
    for path in sorted(acme.rglob("*.py"))[max(keep, 0) :]:
        path.unlink() if keep >= 0 else path.write_text(f"def {path.stem}(): pass\n")
    with pytest.raises(CorpusError, match=message) as caught:
        load_toml(DIR)
    assert "\n" not in str(caught.value)


def test_the_demo_has_enough_prompts_of_each_organization(demo_corpus: Corpus) -> None:
    assert demo_corpus.names == ("meta", "microsoft", "google")
    for name in demo_corpus.names:
        assert len(corpus_functions(demo_corpus, "training", name, min_body_lines=6)) >= 100
        documents = [d for d in demo_corpus.organization(name).documents if not d.planted]
        assert len({d.path for d in documents}) == len(documents)
        assert round(0.2 * len(documents)) == sum(d.split == "heldout" for d in documents)
        assert not any(d.text.startswith("\ufeff") or "\r" in d.text for d in documents)
    assert all(0.0 <= exact < 0.1 and 0.0 <= near < 0.1 for _, exact, near in demo_corpus.rates)


def test_near_duplicates_are_removed_when_the_consortium_says_so(acme: Path, load_toml: Load) -> None:
    names = [f"def name_{i}(rows):\n    total_{i} = len(rows) + {i}\n    return total_{i}\n" for i in range(30)]
    (acme / "pkg/original.py").write_text("\n".join(names))
    (acme / "pkg/copy.py").write_text("\n".join([*names, "EXTRA = 1\n"]))
    kept, cleaned = load_toml(DIR), load_toml("remove_near_duplicates = true\n" + DIR)
    paths = [{d.path for d in corpus.organizations[0].documents} for corpus in (kept, cleaned)]
    assert len(paths[0] - paths[1]) == 1 and paths[0] >= paths[1]
    assert kept.rates == cleaned.rates and kept.rates[0][2] > 0
