"""Comparing finds what two organizations share, all of it, whichever engine says which documents to ask."""

import os
import subprocess
import sys
from itertools import takewhile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_collabcode.clones.comparing import all_but_the_last, shared_code
from pytest_collabcode.clones.engines import screen_with_engine
from pytest_collabcode.clones.folder import add_documents, create_index, open_index
from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.clones.normalize import NORMALIZATIONS, significant
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.errors import ConfigurationError, StoreError
from pytest_collabcode.records import Document

duckdb_join = pytest.importorskip("pytest_collabcode.clones.engines.duckdb_join", reason="needs the extra scale")
CODE = [f"value_{i} = compute({i})" for i in range(300)]
ORGANIZATIONS = ("acme", "beta", "zeta")

texts = st.lists(st.sampled_from(["a", "b", "c", "é", "", "  d", "# x"]), max_size=14).map("\n".join)
documents = st.lists(
    st.builds(
        Document,
        path=st.sampled_from(["p.py", "q.py", "ü.py"]),
        text=texts,
        organization=st.sampled_from(ORGANIZATIONS),
        planted=st.booleans(),
    ),
    max_size=7,
    unique_by=lambda d: (d.organization, d.path, d.planted),
)
shapes = st.builds(
    Shape, min_lines=st.integers(1, 6), normalization=st.sampled_from(NORMALIZATIONS), sparse=st.booleans()
)


def joined(index, **how):
    return list(shared_code(index, screen=screen_with_engine("duckdb", **{"workers": 1, **how})))


def spans(ours, theirs, min_lines):
    """Every maximal run of two texts, as (first, stop) of ours, by comparing each line with each."""
    for i, j in np.ndindex(len(ours), len(theirs)):
        if not (i and j and ours[i - 1] == theirs[j - 1]):
            pairs = zip(ours[i:], theirs[j:], strict=False)
            length = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            if length >= min_lines:
                yield i, i + length


def oracle(documents, shape):
    """Every fragment that must be found: (organization, path, first line, last line, other organization)."""
    bodies = [(d, *significant(d.text, shape.normalization)) for d in documents]
    for d, numbers, lines in bodies:
        for other in ORGANIZATIONS[ORGANIZATIONS.index(d.organization) + 1 :]:
            own = {s for e, _, own in bodies if e.organization == other for s in spans(lines, own, shape.min_lines)}
            for first, stop in own:
                if not any(o != (first, stop) and o[0] <= first and stop <= o[1] for o in own):
                    yield d.organization, d.path, numbers[first], numbers[stop - 1], other


@given(documents, shapes)
@settings(max_examples=150, deadline=None)
def test_all_that_two_organizations_share_is_found_and_nothing_else(documents, shape):
    index = CloneIndex.of(documents, shape)
    shared = list(shared_code(index))
    assert joined(index) == shared
    found = [(s.first.organization, s.first.path, s.first.first_line, s.first.last_line) for s in shared]
    others = [s.second.organization for s in shared]
    assert sorted((*f, o) for f, o in zip(found, others, strict=True)) == sorted(oracle(documents, shape))
    for s in shared:
        both = [list(lines_of(documents, fragment, shape)) for fragment in (s.first, s.second)]
        assert any(len(a) == s.significant_lines and a == b for a in both[0] for b in both[1])


def lines_of(documents, fragment, shape):
    """The significant lines of a fragment, in each document that has its name."""
    for d in documents:
        if (d.organization, d.path) == (fragment.organization, fragment.path):
            numbers, lines = significant(d.text, shape.normalization)
            wanted = range(fragment.first_line, fragment.last_line + 1)
            yield [line for number, line in zip(numbers, lines, strict=True) if number in wanted]


def corpus(organization, seed, n=120):
    """Documents of random cuts of the same code: some shared with other seeds, some not."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        lines = []
        for _ in range(4):
            first = int(rng.integers(0, len(CODE)))
            lines += [*CODE[first : first + int(rng.integers(1, 12))], f"{organization}_{i} = {rng.integers(10**9)}"]
        text = "\n".join(lines) if i % 3 else "\n".join(f"{organization} {i} {k}" for k in range(40))
        yield Document(path=f"{i}.py", text=text, organization=organization, planted=i % 10 == 0)


def on_disk(folder, organizations, *, sparse=False, batch_bytes=8_000):
    create_index(folder, Shape(sparse=sparse))
    for seed, organization in enumerate(organizations):
        add_documents(folder, corpus(organization, seed), batch_bytes=batch_bytes)
    return open_index(folder)


@pytest.mark.parametrize(
    ("forms", "workers"),
    [((False, False), 2), ((True, True), 2), ((False, True), 1), ((True, False), 1)],
    ids=["dense", "sparse", "mixed", "mixed 2"],
)
def test_a_join_of_two_indexes_of_any_forms_finds_what_asking_every_document_finds(tmp_path, forms, workers):
    ours = on_disk(tmp_path / "ours", ["acme", "zeta"], sparse=forms[0])
    theirs = on_disk(tmp_path / "theirs", ["beta"], sparse=forms[1])
    index = CloneIndex.joined([ours, theirs])
    expected = list(shared_code(index))
    assert {(s.first.organization, s.second.organization) for s in expected} == {
        ("acme", "beta"),
        ("acme", "zeta"),
        ("beta", "zeta"),
    }
    assert joined(index, workers=workers) == expected


def test_only_documents_that_share_a_window_with_a_later_organization_are_asked(tmp_path):
    index = on_disk(tmp_path / "i", ["acme", "beta", "zeta"])
    segments = [part.segment for part in index.parts]
    assert len(segments) > 3
    every = np.concatenate(all_but_the_last(segments))
    asked = np.concatenate(duckdb_join.screen(segments, workers=1, memory_bytes=0))
    sharing = {(s.first.organization, s.first.path) for s in shared_code(index)}
    origins = [s.documents.origin(n) for s in segments for n in range(len(s.bounds) - 1)]
    assert {(o.organization, o.path) for o, flag in zip(origins, asked, strict=True) if flag} == sharing
    assert not (asked & ~every).any() and asked.sum() < every.sum()


@pytest.fixture
def many_windows(tmp_path):
    """Two organizations of half a million windows each, of which one document is shared."""
    folder = tmp_path / "many"
    create_index(folder, Shape())
    for organization in ("acme", "zeta"):
        texts = ["\n".join(f"{organization}{i * 5000 + k}" for k in range(5000)) for i in range(100)]
        documents = [Document(path=f"{i}.py", text=t, organization=organization) for i, t in enumerate(texts)]
        shared = Document(path="shared.py", text="\n".join(CODE), organization=organization)
        add_documents(folder, [*documents, shared])
    return open_index(folder)


def test_a_join_takes_no_more_memory_than_it_may_and_spills_the_rest(many_windows, tmp_path, monkeypatch):
    scratch, spilled = tmp_path / "scratch", []
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    indexed = duckdb_join._indexed

    def watched(segments):
        for batch in indexed(segments):
            spilled.append(sum(p.stat().st_size for p in scratch.rglob("*") if p.is_file()))
            yield batch

    monkeypatch.setattr(duckdb_join, "_indexed", watched)
    [found] = joined(many_windows, memory_bytes=1)
    assert str(found.first) == "acme:shared.py:1-300" and found.significant_lines == 300
    assert max(spilled) > 1 << 20
    assert list(scratch.iterdir()) == []


def test_damage_found_while_joining_is_named(tmp_path):
    on_disk(tmp_path / "i", ["acme", "zeta"])
    path = max((tmp_path / "i").glob("*.segment"), key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=rf"{path.name} is damaged: fingerprints, block 0"):
        joined(open_index(tmp_path / "i"))


def test_a_join_without_room_to_spill_says_so(many_windows, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "full"))
    monkeypatch.setattr(duckdb_join, "connected", without_room(duckdb_join.connected))
    with pytest.raises(StoreError, match=r"(?s)joining windows failed .* free some space"):
        joined(many_windows, memory_bytes=1)


def without_room(connected):
    from contextlib import contextmanager

    @contextmanager
    def connect(*arguments, **how):
        with connected(*arguments, **how) as connection:
            connection.sql("SET max_temp_directory_size = '1KB'")
            yield connection

    return connect


@pytest.mark.parametrize(("engine", "hint"), [("duckdbb", "did you mean 'duckdb'"), ("ray", "valid: local, duckdb")])
def test_an_engine_that_does_not_compare_is_refused(engine, hint):
    with pytest.raises(ConfigurationError, match=f"engine='{engine}' does not compare; .*{hint}"):
        screen_with_engine(engine)


def test_without_duckdb_the_local_engine_compares(tmp_path):
    program = (
        "import sys\nsys.modules['duckdb'] = None\n"
        "from pytest_collabcode.clones.engines import screen_with_engine\n"
        "assert screen_with_engine('local')([]) == []\n"
        "try: screen_with_engine('duckdb')\n"
        "except Exception as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ))
    assert "pip install 'pytest-collabcode[scale]'" in done.stdout, done.stderr
