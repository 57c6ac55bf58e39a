"""Whichever engine fills an index, it answers the same; one pure fingerprint step runs under all of them."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_collabcode.clones import engines
from pytest_collabcode.clones.batches import ROWS, fingerprint_batch, windows_of
from pytest_collabcode.clones.disk import write_segment
from pytest_collabcode.clones.engines import ENGINES, add_with_engine, duckdb_engine, sorted_segment, spool
from pytest_collabcode.clones.engines.pool_engine import mapped
from pytest_collabcode.clones.engines.sorted_segment import write_sorted_segment
from pytest_collabcode.clones.engines.spool import Spool, fingerprint_file, most_lines, tables
from pytest_collabcode.clones.folder import SPOOL, add_documents, create_index, open_index, verify_index
from pytest_collabcode.clones.manifest import read_manifest
from pytest_collabcode.clones.normalize import NORMALIZATIONS, significant
from pytest_collabcode.clones.runs import maximal
from pytest_collabcode.clones.segment import Segment, Shape
from pytest_collabcode.errors import ConfigurationError, StoreError, WorkerError
from pytest_collabcode.records import Document

LINES = [f"value_{i} = compute({i})" for i in range(60)] + ["ünïcode = '漢字'", "}", "pass", ""]
ODD = ["", "\n\n", "a", "x\r\ny\rz\x1c\x0b\n" * 4, "é\u2028 = 1\n" * 7, "same\n" * 500, "\ufeffx = 1\n" * 7]


def corpus(n):
    """Documents of two organizations that share runs, in no order, among them all that a text can be."""
    rng = np.random.default_rng(0)
    documents = []
    for i in range(n):
        first, length = rng.integers(0, len(LINES)), rng.integers(0, 40)
        text = "\n".join(LINES[(first + k + int(rng.integers(0, 30) == 0)) % len(LINES)] for k in range(length))
        fields = {
            "text": ODD[i] if i < len(ODD) else text,
            "organization": ("acme", "zeta")[int(rng.integers(2))],
            "planted": bool(rng.integers(4) == 0),
            "licence": ("MIT", "GPL-3.0-only", "")[int(rng.integers(3))],
            "header": "# Copyright of ours\n" if i % 5 == 0 else "",
            "header_lines": 1 if i % 5 == 0 else 0,
        }
        documents.append(Document(path=f"d/{rng.integers(10**9)}ü{i}.py", **fields))
    twins = [Document(path="twin.py", text="\n".join(LINES), organization=name) for name in ("acme", "zeta")]
    return [*documents, *twins]


DOCUMENTS = corpus(250)
QUERIES = [
    significant(text)[1]
    for text in ("\n".join(LINES), "\n".join([*LINES[20:40], "new", *LINES[5:30]]), *ODD[3:], "\n".join(LINES * 3))
]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Let a few hundred documents be many batches and groups."""
    monkeypatch.setattr(engines, "LEAST_BATCH_BYTES", 20_000)
    monkeypatch.setattr(spool, "GROUP_BYTES", 5_000)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture(scope="module")
def ray_session():
    engine = pytest.importorskip("pytest_collabcode.clones.engines.ray_engine", reason="needs the extra scale")
    with engine.session(workers=1, memory_bytes=1):
        yield
    assert not engine.ray.is_initialized()


def filled(folder, engine, shape, documents=DOCUMENTS, workers=2):
    create_index(folder, shape)
    assert add_with_engine(folder, documents, engine=engine, workers=workers, memory_bytes=1) == len(documents)
    assert verify_index(folder) == []
    return folder


def answers(folder):
    """What an index says of the queries, whatever segments it has."""
    return [
        [
            [(r.first, r.stop, r.first_line, r.last_line, r.n_header, r.copies, r.origin) for r in maximal(own)]
            for kind in (False, True)
            for owner in ("acme", "zeta")
            for own in [[r for r in runs if (r.origin.organization, r.origin.planted) == (owner, kind)]]
        ]
        for runs in open_index(folder).find_all(QUERIES)
    ]


def spooled(folder, documents, shape):
    made = Spool(folder)
    made.add(documents)
    for path in made.texts:
        fingerprint_file(path, shape=shape)
    return made


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("engine", ENGINES[1:])
def test_every_engine_makes_an_index_that_answers_as_the_local_one(tmp_path, request, engine, sparse):
    if engine == "ray":
        request.getfixturevalue("ray_session")
    expected = answers(filled(tmp_path / "local", "local", Shape(sparse=sparse)))
    assert sum(len(runs) for query in expected for runs in query) > 20
    folder = filled(tmp_path / engine, engine, Shape(sparse=sparse))
    assert answers(folder) == expected
    n_segments = len(read_manifest(folder).segments)
    assert n_segments > 3 if engine == "pool" else n_segments == 1


def test_of_equal_runs_every_engine_names_the_same_document(tmp_path):
    rng = np.random.default_rng(1)
    twins = [Document(path=f"{n}.py", text="\n".join(LINES * 5), organization="acme") for n in rng.permutation(60)]
    folders = [filled(tmp_path / engine, engine, Shape(), twins, workers=1) for engine in ("local", "duckdb")]
    assert len(read_manifest(folders[0]).segments) > 3
    assert answers(folders[0]) == answers(folders[1])
    assert {runs[0][-1].path for query in answers(folders[1]) for runs in query if runs} == {"0.py"}


def test_documents_that_are_there_already_are_not_added_by_another_engine(tmp_path):
    create_index(tmp_path / "i", Shape())
    add_documents(tmp_path / "i", DOCUMENTS[:100])
    added = [add_with_engine(tmp_path / "i", DOCUMENTS, engine=engine, workers=1) for engine in ("duckdb", "pool")]
    assert added == [len(DOCUMENTS) - 100, 0]
    assert answers(tmp_path / "i") == answers(filled(tmp_path / "local", "local", Shape()))


texts = st.lists(st.sampled_from(["a", "b", "é", "", "  d", "\r", "#", "import a", "0x"]), max_size=12).map("\n".join)
documents = st.lists(
    st.builds(
        Document,
        path=st.sampled_from(["p", "q", "ü"]),
        text=texts,
        header=st.sampled_from(["", "# licence\n"]),
        organization=st.sampled_from(["zeta", "acme"]),
        planted=st.booleans(),
        licence=st.sampled_from(["MIT", ""]),
    ),
    min_size=1,
    max_size=8,
)
shapes = st.builds(
    Shape, min_lines=st.integers(1, 5), normalization=st.sampled_from(NORMALIZATIONS), sparse=st.booleans()
)


@given(documents, shapes)
@example(DOCUMENTS, Shape())
@example(DOCUMENTS, Shape(sparse=True))
@settings(max_examples=60, deadline=None)
def test_a_segment_of_sorted_windows_is_bit_for_bit_the_one_made_in_memory(tmp_path_factory, documents, shape):
    folder = tmp_path_factory.mktemp("segment")
    documents = list({(d.organization, d.planted, d.path): d for d in documents}.values())
    write_segment(folder / "memory", documents, shape)
    made = spooled(folder / "spool", documents, shape)
    rows = pa.concat_tables(tables(made.rows, ROWS.names))
    windows = windows_of(rows).sort_by([(name, "ascending") for name in ("fingerprint", "document", "place")])
    write_sorted_segment(folder / "sorted", spool=made, windows=windows.to_batches(max_chunksize=3), shape=shape)
    assert (folder / "sorted").read_bytes() == (folder / "memory").read_bytes()


@given(documents, shapes, st.integers(1, 4))
def test_the_fingerprint_step_gives_what_a_segment_has_however_documents_are_cut_into_batches(documents, shape, size):
    options = {"min_lines": shape.min_lines, "normalization": shape.normalization, "sparse": shape.sparse}
    documents = sorted(documents, key=lambda d: (d.organization, d.planted, d.path))
    numbers = pa.array(range(len(documents)), pa.uint64())
    whole = pa.table({"document": numbers, "text": pa.array([d.header + d.text for d in documents])})
    rows = pa.Table.from_batches([fingerprint_batch(b, **options) for b in whole.to_batches(max_chunksize=size)])
    assert rows == fingerprint_batch(whole, **options)
    segment = Segment.build(documents, shape)
    assert rows["half"].to_pylist() == segment.lines.tolist()
    places = segment.bounds[rows["document"].to_numpy()] + rows["place"].to_numpy()
    assert places.tolist() == list(range(len(segment.lines)))
    windows = [(f, place) for place, f in enumerate(rows["fingerprint"].to_pylist()) if f is not None]
    assert sorted(windows) == list(zip(segment.fingerprints.tolist(), segment.places.tolist(), strict=True))


def test_the_fingerprint_step_is_the_same_in_another_process_and_for_every_kind_of_text_column():
    columns = [[d.text for d in DOCUMENTS], [d.text.encode() for d in DOCUMENTS]]
    kinds = [(columns[0], pa.string()), (columns[0], pa.large_string()), (columns[1], pa.large_binary())]
    numbers = pa.array(range(len(DOCUMENTS)), pa.uint32())
    batches = [pa.record_batch({"document": numbers, "text": pa.array(own, kind)}) for own, kind in kinds]
    step = partial(fingerprint_batch, sparse=True)
    here = step(batches[0])
    assert here.schema == ROWS and here.num_rows > 1000 and isinstance(here, pa.RecordBatch)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert all(there == here for there in pool.map(step, batches))


@pytest.mark.parametrize("rows", [[], ["", "\n"]], ids=["no documents", "empty documents"])
def test_a_batch_without_lines_has_no_rows(rows):
    batch = pa.record_batch(
        {"document": pa.array(range(len(rows)), pa.uint64()), "text": pa.array(rows, pa.string())}
    )
    made = fingerprint_batch(batch, sparse=False)
    assert (made.num_rows, made.schema) == (0, ROWS)


def test_duckdb_sorts_more_than_its_memory_holds(tmp_path):
    made = Spool(tmp_path / "spool")
    n, memory_bytes = 3_000_000, duckdb_engine.LEAST_MEMORY_BYTES
    fingerprints = np.random.default_rng(0).integers(0, 1 << 64, n, dtype=np.uint64)
    fingerprints[::5] = fingerprints[0]  # one stands everywhere
    rows = {
        "document": pa.array(np.arange(n, dtype=np.uint64) // 1000),
        "place": pa.array((np.arange(n) % 1000).astype(np.uint32)),
        "half": pa.array(np.zeros(n, dtype=np.uint32)),
        "fingerprint": pa.array(fingerprints, mask=np.arange(n) % 5 == 1),
    }
    pq.write_table(pa.table(rows, schema=ROWS), made.folder / spool.ROWS / "0.parquet", use_dictionary=False)
    spilled, parts = 0, []
    for batch in duckdb_engine.sorted_windows(made, workers=1, memory_bytes=memory_bytes):
        parts.append([np.asarray(batch.column(name)) for name in ("fingerprint", "document", "place")])
        spilled = max(spilled, sum(p.stat().st_size for p in (made.folder / "sorting").glob("*")))
    found = [np.concatenate(column) for column in zip(*parts, strict=True)]
    kept = np.arange(n) % 5 != 1
    order = np.flatnonzero(kept)[np.argsort(fingerprints[kept], kind="stable")]
    assert (found[0] == fingerprints[order]).all()
    assert (found[1] * 1000 + found[2] == order).all()
    assert spilled > 0


def test_documents_of_too_many_lines_for_one_segment_become_several(tmp_path, monkeypatch):
    limit = most_lines(DOCUMENTS) // 3
    monkeypatch.setattr(sorted_segment, "MOST_LINES", limit)
    folder = filled(tmp_path / "i", "duckdb", Shape(), workers=1)
    entries = read_manifest(folder).segments
    assert len(entries) >= 3 and all(entry.lines <= limit for entry in entries)
    assert answers(folder) == answers(filled(tmp_path / "local", "local", Shape()))


@given(texts)
def test_no_text_has_more_lines_than_it_is_reckoned_with(text):
    document = Document(path="x", text=text, organization="acme")
    assert all(len(significant(text, normalization)[1]) <= most_lines([document]) for normalization in NORMALIZATIONS)


@pytest.mark.parametrize("lost", ["swap", "drop", "repeat"])
def test_windows_that_come_back_wrong_make_no_segment(tmp_path, lost):
    made = spooled(tmp_path / "spool", DOCUMENTS, Shape())
    [right] = duckdb_engine.sorted_windows(made, workers=1, memory_bytes=0)
    cut = [right.slice(0, 99), right.slice(99)]
    wrong = {"swap": cut[::-1], "drop": cut[1:], "repeat": [*cut, right.slice(len(right) - 9)]}[lost]
    with pytest.raises(StoreError, match="windows"):
        write_sorted_segment(tmp_path / "s", spool=made, windows=wrong, shape=Shape())
    assert not (tmp_path / "s").exists()


def suicidal(item):
    if item == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_a_killed_worker_is_said_and_leaves_the_index_as_it_was(tmp_path, monkeypatch):
    with pytest.raises(WorkerError, match="a worker process was killed"):
        list(mapped(suicidal, range(6), workers=2))
    filled(tmp_path / "i", "local", Shape(), DOCUMENTS[:9])
    before = sorted(path.name for path in (tmp_path / "i").iterdir())
    monkeypatch.setattr(duckdb_engine, "fingerprint_file", suicide)
    with pytest.raises(WorkerError):
        add_with_engine(tmp_path / "i", DOCUMENTS, engine="duckdb", workers=2)
    assert sorted(path.name for path in (tmp_path / "i").iterdir()) == before
    assert len(list(mapped(abs, range(6), workers=2))) == 6


def suicide(path, shape):
    suicidal(2)


def test_only_a_few_items_are_held_at_once_and_results_keep_their_order():
    taken = []
    results = mapped(abs, (taken.append(i) or -i for i in range(20)), workers=2)
    assert [next(results), next(results)] == [0, 1]
    assert len(taken) <= 5
    assert list(results) == list(range(2, 20))


@pytest.mark.parametrize("engine", ["pool", "duckdb"])
def test_a_full_disk_leaves_the_index_as_it_was(tmp_path, monkeypatch, engine):
    filled(tmp_path / "i", "local", Shape(), DOCUMENTS[:9])
    before = sorted(path.name for path in (tmp_path / "i").iterdir())

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreError, match="No space left on device; free some space"):
        add_with_engine(tmp_path / "i", DOCUMENTS, engine=engine, workers=1)
    monkeypatch.undo()
    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    if engine == "duckdb":
        with pytest.raises(StoreError, match="No space left on device; free some space"):
            add_with_engine(tmp_path / "i", DOCUMENTS, engine=engine, workers=1)
    assert sorted(path.name for path in (tmp_path / "i").iterdir()) == before


def test_the_spool_is_for_its_owner_only_and_a_killed_runs_is_removed_by_the_next_addition(tmp_path, monkeypatch):
    modes = []
    add = Spool.add

    def watched(self, documents):
        modes.append(self.folder.parent.stat().st_mode & 0o777)
        add(self, documents)

    monkeypatch.setattr(Spool, "add", watched)
    left = tmp_path / "i" / f"{SPOOL}left"
    create_index(tmp_path / "i", Shape())
    Spool(left)
    add_with_engine(tmp_path / "i", DOCUMENTS[:3], engine="duckdb", workers=1)
    assert modes == [0o700] and not left.exists()
    assert [path.name for path in (tmp_path / "i").iterdir() if path.name.startswith(SPOOL)] == []


@pytest.mark.parametrize(("engine", "needed"), [("duckdb", "duckdb"), ("duckdb", "pyarrow"), ("ray", "ray")])
def test_an_engine_that_is_not_installed_says_what_to_install(tmp_path, monkeypatch, engine, needed):
    for name in [n for n in sys.modules if n.startswith(f"{engines.__name__}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, needed, None)
    create_index(tmp_path / "i", Shape())
    with pytest.raises(ConfigurationError, match=rf"engine='{engine}' .*{needed}.*pytest-collabcode\[scale\]"):
        add_with_engine(tmp_path / "i", [], engine=engine)
    assert add_with_engine(tmp_path / "i", DOCUMENTS[:3], engine="pool", workers=1) == 3


def test_an_unknown_engine_is_named_with_the_nearest(tmp_path):
    with pytest.raises(ConfigurationError, match="did you mean 'duckdb'"):
        add_with_engine(tmp_path, [], engine="duckdbb")


def test_the_core_needs_nothing_of_the_extra():
    program = (
        "import sys\nfor name in ('pyarrow', 'duckdb', 'ray'): sys.modules[name] = None\n"
        "import pytest_collabcode.clones.engines, pytest_collabcode.clones.engines.pool_engine\n"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_ray_of_our_own_listens_on_the_loopback_interface_only(ray_session):
    psutil = pytest.importorskip("psutil")
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    assert any("raylet" in process.name() for process in processes)
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in processes
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
