"""An index on disk answers as one in memory, survives what happens to it, and notices every damage."""

import multiprocessing
import os
import random
import signal
import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_collabcode.clones import folder as folder_module
from pytest_collabcode.clones.folder import (
    add_documents,
    create_index,
    documents_of,
    open_index,
    verify_index,
)
from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.clones.manifest import MANIFEST, read_manifest
from pytest_collabcode.clones.normalize import significant
from pytest_collabcode.clones.runs import maximal
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.errors import ConfigurationError, StoreError
from pytest_collabcode.records import Document

CODE = [f"value_{i} = compute({i})" for i in range(200)]


def document(name, lines, **fields):
    return Document(path=f"{name}.py", text="\n".join(lines) + "\n", **{"organization": "acme", **fields})


def made(folder, *batches, **shape):
    create_index(folder, Shape(**shape))
    for batch in batches:
        add_documents(folder, batch)
    return open_index(folder)


def comparable(index, lines):
    """Kinds apart, maximal over all segments: how many segments there are must not show."""
    runs = index.find(lines)
    return [
        [(r.first, r.stop, r.origin, r.first_line, r.last_line, r.n_header, r.copies) for r in maximal(own)]
        for kind in (False, True)
        for owner in ("acme", "zeta")
        for own in [[r for r in runs if (r.origin.organization, r.origin.planted) == (owner, kind)]]
    ]


texts = st.lists(st.sampled_from(["a", "b", "c", "é", "", "  d"]), max_size=12).map("\n".join)
documents = st.lists(
    st.builds(
        Document,
        path=st.sampled_from(["p.py", "q.py", "ü.py"]),
        text=texts,
        organization=st.sampled_from(["acme", "zeta"]),
        planted=st.booleans(),
        licence=st.sampled_from(["MIT", "GPL-3.0-only"]),
    ),
    max_size=6,
    unique_by=lambda d: (d.organization, d.path),
)


@given(documents, documents, texts, st.integers(1, 4), st.booleans())
@settings(max_examples=60)
def test_an_index_on_disk_answers_as_one_in_memory(tmp_path_factory, first, second, text, min_lines, sparse):
    folder = tmp_path_factory.mktemp("index") / "i"
    second = [replace(d, path=f"second/{d.path}") for d in second]  # of one path twice either may be named
    on_disk = made(folder, first, second, min_lines=min_lines, sparse=sparse)
    unique = {(d.organization, d.path, d.text, d.planted, d.licence): d for d in (*first, *second)}
    in_memory = CloneIndex.build(list(unique.values()), min_lines=min_lines, sparse=sparse)
    _, lines = significant(text)
    assert comparable(on_disk, lines) == comparable(in_memory, lines)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_many_additions_are_merged_and_answer_the_same(tmp_path, sparse):
    rng = random.Random(3)
    batches = [[document(f"d{i}", rng.choices(CODE, k=40), planted=i % 3 == 0)] for i in range(30)]
    index = made(tmp_path / "i", *batches, min_lines=2, sparse=sparse)
    assert 2 <= len(read_manifest(tmp_path / "i").segments) < 16
    assert len(list((tmp_path / "i").glob("*.segment"))) == len(read_manifest(tmp_path / "i").segments)
    whole = CloneIndex.build([d for batch in batches for d in batch], min_lines=2, sparse=sparse)
    for _ in range(20):
        lines = rng.choices(CODE[:20], k=60)
        assert comparable(index, lines) == comparable(whole, lines)
    assert sorted(d.path for d in documents_of(tmp_path / "i")) == sorted(b[0].path for b in batches)
    assert verify_index(tmp_path / "i") == []


def test_a_merge_in_many_steps_is_a_merge_in_one(tmp_path, monkeypatch):
    monkeypatch.setattr("pytest_collabcode.clones.merging.MERGED_AT_ONCE", 7)
    batches = [[document(f"d{i}", CODE[i : i + 30])] for i in range(10)]
    index = made(tmp_path / "i", *batches)
    assert len(read_manifest(tmp_path / "i").segments) < 10
    assert verify_index(tmp_path / "i") == []
    assert [r.stop - r.first for r in maximal(index.find(CODE[5:35]))] == [30]


def test_the_same_document_is_added_once_and_a_changed_one_again(tmp_path):
    create_index(tmp_path / "i", Shape())
    assert add_documents(tmp_path / "i", [document("x", CODE), document("x", CODE)]) == 1
    assert add_documents(tmp_path / "i", [document("x", CODE), document("x", CODE[:50])]) == 1


@pytest.mark.parametrize("place", range(0, 100, 4))
def test_every_flipped_bit_is_noticed_or_does_not_matter(tmp_path, place):
    rng = random.Random(place)
    made(tmp_path / "i", [document(f"d{i}", CODE[i : i + 60]) for i in range(60)])
    right = comparable(open_index(tmp_path / "i"), CODE[10:90])
    [segment] = (tmp_path / "i").glob("*.segment")
    data = bytearray(segment.read_bytes())
    at = min(len(data) * place // 100 + rng.randrange(len(data) // 30), len(data) - 1)
    data[at] ^= 1 << rng.randrange(8)
    segment.write_bytes(data)
    try:
        assert comparable(open_index(tmp_path / "i"), CODE[10:90]) == right
    except StoreError as error:
        assert "is damaged" in str(error) and segment.name in str(error)


@pytest.mark.parametrize("name", ["fingerprints", "places", "lines", "bounds", "planted", "paths"])
def test_damage_is_named_and_mended_from_the_texts(tmp_path, name):
    made(tmp_path / "i", [document("x", CODE)])
    [path] = (tmp_path / "i").glob("*.segment")
    flip(path, name)
    [problem] = verify_index(tmp_path / "i")
    assert f"{name}, block 0, is not what was written" in problem
    with pytest.raises(StoreError, match="is damaged"):
        open_index(tmp_path / "i").find(CODE[:20])
    rebuilt = verify_index(tmp_path / "i", rebuild=True)
    if name in ("planted", "paths"):  # they cannot be told from the texts
        assert "build it from the sources" in rebuilt[0]
        return
    assert rebuilt == [] and verify_index(tmp_path / "i") == []
    [run] = open_index(tmp_path / "i").find(CODE[:20])
    assert (run.first, run.stop) == (0, 20)


def flip(path, name):
    from pytest_collabcode.clones.container import Container

    offset = Container(path)._table[name]["offset"]
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.999])
def test_a_truncated_segment_is_named(tmp_path, keep):
    made(tmp_path / "i", [document("x", CODE)])
    [segment] = (tmp_path / "i").glob("*.segment")
    data = segment.read_bytes()
    segment.write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    with pytest.raises(StoreError, match=rf"{segment.name} is damaged: its (end is missing|footer)"):
        open_index(tmp_path / "i")
    assert "build it from the sources" in verify_index(tmp_path / "i", rebuild=True)[0]


def test_a_lost_segment_and_an_altered_manifest_are_named(tmp_path):
    made(tmp_path / "i", [document("x", CODE)])
    manifest = tmp_path / "i" / MANIFEST
    text = manifest.read_text()
    manifest.write_text(text.replace('"min_lines": 6', '"min_lines": 5'))
    with pytest.raises(StoreError, match="differs from what was written"):
        open_index(tmp_path / "i")
    manifest.write_text(text)
    [segment] = (tmp_path / "i").glob("*.segment")
    segment.unlink()
    with pytest.raises(StoreError, match="is gone"):
        open_index(tmp_path / "i")


def test_another_normalizers_index_is_refused(tmp_path, monkeypatch):
    made(tmp_path / "i", [document("x", CODE)])
    monkeypatch.setattr("pytest_collabcode.clones.manifest.NORMALIZER_VERSION", 999)
    with pytest.raises(ConfigurationError, match="normalizer 1; this version reads format 1, normalizer 999"):
        open_index(tmp_path / "i")


def test_an_index_is_not_made_over_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="is not empty"):
        create_index(tmp_path, Shape())
    with pytest.raises(ConfigurationError, match="is no index"):
        add_documents(tmp_path, [])


def test_a_full_disk_leaves_the_index_as_it_was(tmp_path, monkeypatch):
    made(tmp_path / "i", [document("x", CODE)])
    before = sorted(p.name for p in (tmp_path / "i").iterdir())

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreError, match="No space left on device; free some space"):
        add_documents(tmp_path / "i", [document("y", CODE[:20])])
    assert sorted(p.name for p in (tmp_path / "i").iterdir()) == before
    assert len(open_index(tmp_path / "i").find(CODE[:20])) == 1


def adding(folder, n):
    for i in range(n):
        add_documents(folder, [document(f"{os.getpid()}-{i}", CODE[i % 50 : i % 50 + 30])])


def test_readers_and_two_writers_share_an_index(tmp_path):
    made(tmp_path / "i", [document("x", CODE)])
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=adding, args=(tmp_path / "i", 20)) for _ in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert maximal(open_index(tmp_path / "i").find(CODE[100:150]))[0].stop == 50
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert sum(entry.documents for entry in read_manifest(tmp_path / "i").segments) == 41
    assert verify_index(tmp_path / "i") == []


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.1])
def test_a_killed_addition_loses_nothing_and_leaves_nothing(tmp_path, delay_s):
    made(tmp_path / "i", *[[document(f"d{i}", CODE[i : i + 40])] for i in range(9)])
    context = multiprocessing.get_context("fork")
    writer = context.Process(target=adding, args=(tmp_path / "i", 10_000))
    writer.start()
    time.sleep(delay_s)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert verify_index(tmp_path / "i") == []
    add_documents(tmp_path / "i", [document("last", CODE)])
    names = {entry.file for entry in read_manifest(tmp_path / "i").segments}
    assert {p.name for p in (tmp_path / "i").iterdir()} == names | {MANIFEST, ".lock"}
    assert "last.py" in {r.origin.path for r in open_index(tmp_path / "i").find(CODE)}


def test_texts_larger_than_a_batch_become_several_segments(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "SEGMENT_BYTES", 2000)
    index = made(tmp_path / "i", [document(f"d{i}", CODE[i : i + 40]) for i in range(20)])
    assert len(index.parts) > 3
    assert maximal(index.find(CODE[19:59]))[0].stop == 40


def test_threads_may_ask_one_index_at_once(tmp_path):
    index = made(tmp_path / "i", [document(f"d{i}", CODE[i : i + 60]) for i in range(100)])
    expected, found = comparable(index, CODE[40:90]), []
    threads = [threading.Thread(target=lambda: found.append(comparable(index, CODE[40:90]))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8
