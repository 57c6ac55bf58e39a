"""A sealed index answers like the open one to who holds its key, and shows everybody else nothing."""

import hashlib
import os
import random
import re
import string

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from pytest_collabcode.clones import sealed as sealed_module
from pytest_collabcode.clones.container import Container
from pytest_collabcode.clones.fingerprints import line_hashes, text_hashes, window_fingerprints
from pytest_collabcode.clones.folder import add_documents, create_index, documents_of
from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.clones.keys import Key, make_key, read_key
from pytest_collabcode.clones.normalize import NORMALIZATIONS, significant
from pytest_collabcode.clones.query import Query
from pytest_collabcode.clones.sealed import open_sealed
from pytest_collabcode.clones.sealing import resolve, run_fingerprint, seal
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.corpus.consortium import read_consortium
from pytest_collabcode.corpus.load import load_corpus
from pytest_collabcode.errors import ConfigurationError, CorpusError, StoreError
from pytest_collabcode.memorization.attribution import licence_header_ratio, memorization_matrix
from pytest_collabcode.memorization.clones import find_clones, scan
from pytest_collabcode.memorization.copyleft import copyleft_clone_ratio
from pytest_collabcode.records import Document, Generation, Problem

KEY, OTHER = Key(secret=b"k" * 32, source="acme.key"), Key(secret=b"o" * 32, source="other.key")
HEADER = "# Copyright (c) 2020 Acme\n#\n# Licensed under the Apache License\n# with all that follows\n"


def document(text, path="x.py", **fields):
    return Document(path=path, text=text, **{"organization": "acme", **fields})


def sealed_index(folder, documents, **shape):
    """Every organization's documents under a key of its own, asked together."""
    parts = []
    for name in sorted({d.organization for d in documents}):
        own = [d for d in documents if d.organization == name]
        key = Key(secret=hashlib.sha256(name.encode()).digest(), source=f"{name}.key")
        try:
            seal(own, folder / f"{name}.sealed", key, shape=Shape(**shape))
        except CorpusError:
            continue  # nothing of it is long enough
        parts.append(open_sealed(folder / f"{name}.sealed", key))
    return asked_together(CloneIndex.build([], **shape), parts)


def asked_together(index, parts):
    closed = [CloneIndex(shape=part.shape, parts=(part,), sealed=part.organizations) for part in parts]
    return CloneIndex.joined([index, *closed])


# --- it answers like the open index

LINES = st.sampled_from(["a", "b", "c", "a = 1", "", "  ", "\ta"])
TEXTS = st.lists(LINES, max_size=24).map("\n".join)
DOCUMENTS = st.lists(
    st.builds(
        document,
        TEXTS,
        path=st.sampled_from(["x.py", "y.py", "z.py"]),
        organization=st.sampled_from(["acme", "zeta"]),
        planted=st.booleans(),
        header=st.sampled_from(["", "b\n", "a\n\nb\nc\n"]),
    ).map(lambda d: document(d.text, d.path, **fields_with_header(d))),
    max_size=5,
)


def fields_with_header(d):
    names = ("organization", "planted", "header")
    return {name: getattr(d, name) for name in names} | {"header_lines": d.header.count("\n")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sealed")


def covered(runs, min_lines):
    """Windows of the text that stand in each organization's code, planted and natural apart."""
    return {
        (run.origin.organization, run.origin.planted, start)
        for run in runs
        for start in range(run.first, run.stop - min_lines + 1)
    }


@given(documents=DOCUMENTS, texts=st.lists(TEXTS, max_size=3), min_lines=st.integers(1, 6))
def test_the_same_windows_are_hit(folder, documents, texts, min_lines):
    lines = [significant(text)[1] for text in texts]
    opened = CloneIndex.build(documents, min_lines=min_lines)
    closed = sealed_index(folder, documents, min_lines=min_lines)
    for ours, theirs in zip(closed.find_all(lines), opened.find_all(lines), strict=True):
        assert covered(ours, min_lines) == covered(theirs, min_lines)
        for run in theirs:  # two places of a document may be taken for one run: never for a shorter one
            same = [o for o in ours if o.origin.organization == run.origin.organization]
            assert any(o.first <= run.first and run.stop <= o.stop for o in same)


@given(documents=DOCUMENTS, text=TEXTS, min_lines=st.integers(1, 6))
def test_places_are_counted_alike(folder, documents, text, min_lines):
    query = Query.of([significant(text)[1]])
    total = np.zeros(len(query.lines), dtype=np.int64)
    for part in sealed_index(folder, documents, min_lines=min_lines).parts[1:]:
        total += part.match(query).counts
    [opened] = CloneIndex.build(documents, min_lines=min_lines).parts
    assert total.tolist() == opened.match(query).counts.tolist()


@st.composite
def documents_without_repeats(draw):
    """Documents made of stretches of distinct lines in one order, so that no window stands twice in any of them."""
    order = [f"v{i} = {i}" for i in range(30)]
    cuts = st.tuples(st.integers(0, 29), st.integers(1, 20))
    spans = draw(st.lists(cuts, min_size=1, max_size=5))
    owners = draw(st.lists(st.sampled_from(["acme", "zeta"]), min_size=len(spans), max_size=len(spans)))
    header_lines = draw(st.lists(st.integers(0, 8), min_size=len(spans), max_size=len(spans)))
    return [
        document("\n".join(order[a : a + n]), f"{i}.py", organization=owner, header_lines=h, planted=i % 3 == 2)
        for i, ((a, n), owner, h) in enumerate(zip(spans, owners, header_lines, strict=True))
    ], draw(st.lists(st.sampled_from(order), max_size=4)) + order[draw(st.integers(0, 20)) :]


@given(drawn=documents_without_repeats(), min_lines=st.integers(2, 6))
def test_without_repeated_windows_runs_are_the_same_and_so_are_clones(folder, drawn, min_lines):
    documents, lines = drawn
    opened = CloneIndex.build(documents, min_lines=min_lines)
    closed = sealed_index(folder, documents, min_lines=min_lines)

    def runs(index):
        return sorted((r.origin.organization, r.origin.planted, r.first, r.stop, r.copies) for r in index.find(lines))

    def clones(index):
        found = find_clones(index, "\n".join(lines), task_id="t", sample_index=0)
        return [(c.generated, c.training.organization, c.organizations, c.planted, c.copies) for c in found]

    assert runs(closed) == runs(opened)
    assert clones(closed) == clones(opened)


@given(header_lines=st.integers(0, 14), first=st.integers(0, 13), length=st.integers(1, 14), m=st.integers(2, 6))
def test_what_is_licence_header_is_told_apart_alike(folder, header_lines, first, length, m):
    lines = [f"line {i}" for i in range(14)]
    documents = [document("\n".join(lines), header_lines=header_lines)]
    answers = [
        [(c.header, c.significant_lines) for c in find_clones(index, text, task_id="t", sample_index=0)]
        for text in ["\n".join(lines[first : first + length])]
        for index in (CloneIndex.build(documents, min_lines=m), sealed_index(folder, documents, min_lines=m))
    ]
    assert answers[0] == answers[1]


def test_two_places_of_one_document_that_a_text_joins_are_one_longer_run(tmp_path):
    documents = [document("a\nb\nc\n-\nb\nc\nd\n")]
    query = ["a", "b", "c", "d"]
    spans = [
        [(r.first, r.stop) for r in index.find(query)]
        for index in (CloneIndex.build(documents, min_lines=2), sealed_index(tmp_path, documents, min_lines=2))
    ]
    assert spans == [[(0, 3), (1, 4)], [(0, 4)]]


@given(documents=DOCUMENTS, text=TEXTS)
@example(documents=[document("a\nb\nc", "x.py"), document("b\nc\na", "y.py")], text="a\nb\nc\na")
def test_a_cap_on_documents_hides_no_window(folder, documents, text):
    lines = significant(text)[1]
    opened, closed = CloneIndex.build(documents, min_lines=2), sealed_index(folder, documents, min_lines=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed_module, "MAX_PLACES", 1)
        assert covered(closed.find(lines), 2) == covered(opened.find(lines), 2)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_every_normalization_can_be_sealed(tmp_path, normalization):
    documents = [document("if  X == 007:  # Bond\n    import os\n    y = 'a'\n    return y + X\n")]
    closed = sealed_index(tmp_path, documents, min_lines=2, normalization=normalization)
    [clone] = find_clones(closed, documents[0].text, task_id="t", sample_index=0)
    assert clone.significant_lines == len(significant(documents[0].text, normalization)[1])


def test_one_line_repeated_a_million_times_is_no_quadratic_affair(tmp_path):
    index = sealed_index(tmp_path, [document("x = 1\n" * 1_000_000)])
    [run] = index.find(["x = 1"] * 300_000)
    assert (run.first, run.stop, run.copies) == (0, 300_000, 999_995)
    assert (tmp_path / "acme.sealed").stat().st_size < 10_000


def test_an_answer_names_organization_number_and_keyed_fingerprint_and_no_line(tmp_path):
    documents = [document("a\nb\nc\nd\n", "secret/place.py", licence="MIT", planted=True)]
    index = sealed_index(tmp_path, documents, min_lines=2)
    [clone] = find_clones(index, "x\nb\nc\n", task_id="t", sample_index=0)
    assert str(clone.training) == "acme:sealed:0:0-0"
    assert (clone.licence, clone.planted, clone.copies) == ("MIT", True, 1)
    key = index.parts[1].key
    assert clone.fingerprint[:16] == key.windows(["b", "c"], 2)[0][:8].hex()
    assert dict(index.signature)["sealed"] == "acme"


def test_clones_have_one_fingerprint_if_and_only_if_they_have_the_same_lines(tmp_path):
    index = sealed_index(tmp_path, [document("a\nb\nc\nd\n"), document("a\nb\ne\na\nb\nc\nd\n", "y.py")], min_lines=2)
    texts = ["a\nb\n", "x\na\n\n  b\n", "a\nb\nc", "a\nb\nc\nx", "a\nb\nc\nd", "a\nb\ne", "b\nc"]
    found = [c for text in texts for c in find_clones(index, text, task_id="t", sample_index=0)]
    names = [clone.fingerprint for clone in found]
    assert len(names) == len(texts)
    assert [names.index(name) for name in names] == [0, 0, 2, 2, 4, 5, 6]
    assert len({name[:16] for name in names}) == 2  # an owner finds all by where they begin


# --- with open organizations beside it, on a consortium


@pytest.fixture(scope="module")
def corpus(tiny_consortium, tmp_path_factory):
    return load_corpus(read_consortium(tiny_consortium), downloads=tmp_path_factory.mktemp("downloads"))


@pytest.fixture(scope="module")
def training(corpus):
    """The training documents, every second one under a licence header, some copyleft and some planted."""
    documents = [d for o in corpus.organizations for d in o.split("training")]
    return [
        document(
            d.text,
            d.path,
            organization=d.organization,
            header=HEADER if i % 2 else "",
            header_lines=4 if i % 2 else 0,
            licence="GPL-3.0-only" if i % 3 else "MIT",
            planted=i % 5 == 0,
        )
        for i, d in enumerate(documents)
    ]


def asked(training, seed=3):
    """Prompts and samples that give back whole functions, headers, cut and changed code, and nothing."""
    rng = random.Random(seed)
    problems, generations = [], []
    for number, d in enumerate(training):
        lines = (d.header + d.text).split("\n")
        task = f"{d.organization}:{d.path}:{number}"
        problems.append(Problem(task_id=task, prompt="x\n", organization=d.organization, planted=d.planted))
        for sample in range(4):
            begin = 0 if sample == 0 else rng.randrange(len(lines))
            taken = lines[begin : begin + rng.choice([3, 8, 12, 40])]
            if sample == 3:
                taken = [line if rng.random() < 0.8 else line + "  # changed" for line in taken]
            text = "\n".join([*taken, *rng.choice(training).text.split("\n")[: rng.randrange(12)]])
            rest = {"n_tokens": 1, "duration_s": 0.0, "stop_reason": "eos"}
            generations.append(Generation(task_id=task, sample_index=sample, completion=text, **rest))
    return problems, generations


@pytest.mark.parametrize("sealing", [("acme",), ("acme", "zeta")], ids=["one sealed", "all sealed"])
def test_verdicts_of_a_consortium_are_those_of_the_open_index(tmp_path, training, sealing):
    problems, generations = asked(training)
    opened = CloneIndex.build(training)
    rest = CloneIndex.build([d for d in training if d.organization not in sealing])
    parts = sealed_index(tmp_path, [d for d in training if d.organization in sealing]).parts[1:]
    mixed = asked_together(rest, parts)
    assert (mixed.organizations, mixed.sealed) == (("acme", "zeta"), sealing)

    def measured(index):
        scanned = scan(index, problems, generations)
        named = {"subject": "s", "organizations": ["acme", "zeta"]}
        found = [*memorization_matrix(scanned, **named), *copyleft_clone_ratio(scanned, subject="s")]
        found += licence_header_ratio(scanned, subject="s")
        return {(m.name, m.cell): (m.count, m.n, m.value) for m in found}

    assert measured(mixed) == measured(opened)
    assert {count for count, *_ in measured(opened).values()} > {0}


# --- and shows nothing


@pytest.fixture(scope="module")
def acme(training):
    return [d for d in training if d.organization == "acme"]


@pytest.fixture(scope="module")
def data(acme, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "acme.sealed"
    seal(acme, path, KEY)
    return path.read_bytes()


def spellings(text):
    return [text.encode(), text.encode("utf-16-le"), text.encode().hex().encode()]


def test_no_line_path_or_name_of_the_code_is_in_the_file(acme, data):
    lines = {line for d in acme for line in significant(d.header + d.text)[1] if len(line) >= 4}
    names = {name for line in lines for name in re.findall(r"\w{6,}", line)}
    paths = {d.path for d in acme} | {part for d in acme for part in d.path.split("/") if len(part) >= 6}
    assert min(len(lines), len(names), len(paths)) > 10
    assert [text for text in lines | names | paths for spelling in spellings(text) if spelling in data] == []


def unkeyed(lines, width):
    """Digests of lines and windows that could be made without the key."""
    windows = [lines[i : i + width] for i in range(len(lines) - width + 1)]
    blobs = [line.encode() for line in lines]
    blobs += [glue.join(window).encode() for window in windows for glue in ("\n", "", "\0")]
    for blob in blobs:
        yield from (xxh3_64_intdigest(blob).to_bytes(8, order) for order in ("little", "big"))
        yield from (hashlib.blake2b(blob, digest_size=16).digest(), hashlib.blake2b(blob).digest()[:8])
        yield hashlib.sha256(blob).digest()[:8]
        yield hashlib.blake2b(blob, digest_size=16, key=b"", person=b"window").digest()
    yield from (int(h).to_bytes(8, "little") for h in window_fingerprints(line_hashes(lines), width))
    nobody = Key(secret=b"", source="")
    yield from [*nobody.lines(lines), *nobody.windows(lines, width)]


def test_no_digest_that_can_be_made_without_the_key_is_in_the_file(acme, data):
    found = {data[i : i + 8] for i in range(len(data))}
    for d in acme:
        for digest in unkeyed(significant(d.header + d.text)[1], 6):
            assert digest[:8] not in found
        for blob in (d.path.encode(), d.text.encode(), (d.header + d.text).encode()):
            assert hashlib.blake2b(blob, digest_size=16).digest()[:8] not in found
            assert xxh3_64_intdigest(blob).to_bytes(8, "little") not in found
    assert KEY.windows(significant(acme[0].header + acme[0].text)[1], 6)[0][:8] in found  # the search can find


def test_the_key_is_not_in_the_file_nor_in_its_name(data):
    assert KEY.secret[:8] not in data
    assert KEY.secret[:8].hex().encode() not in data
    assert "kkkk" not in repr(KEY)


def test_two_keys_give_files_without_a_common_fingerprint(tmp_path, acme):
    tables = []
    for key in (KEY, OTHER):
        seal(acme, tmp_path / key.source, key)
        tables.append(set(Container(tmp_path / key.source).whole("fingerprints").tolist()))
    assert min(map(len, tables)) > 100
    assert tables[0] & tables[1] == set()


@given(st.randoms(use_true_random=False))
def test_the_order_of_documents_does_not_matter(folder, acme, data, rng):
    shuffled = rng.sample(acme, len(acme))
    seal(shuffled, folder / "shuffled", KEY)
    assert (folder / "shuffled").read_bytes() == data


def test_numbers_say_nothing_about_paths(tmp_path):
    documents = [document(f"a{i}\nb{i}\n", f"{i:03}.py") for i in range(40)]
    orders = []
    for key in (KEY, OTHER):
        seal(documents, tmp_path / "x", key, shape=Shape(min_lines=2))
        part = open_sealed(tmp_path / "x", key)
        texts = Query.of([significant(d.text)[1] for d in documents])
        orders.append([run.origin.path for _, run in sorted(part.match(texts).runs, key=lambda found: found[0])])
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(f"sealed:{i}" for i in range(40))
    assert orders[0] != [f"sealed:{i}" for i in range(40)]


# --- only the owner resolves


def test_the_owner_resolves_every_reported_fingerprint_to_all_its_places(tmp_path, acme):
    folder = tmp_path / "acme.index"
    create_index(folder, Shape())
    add_documents(folder, acme)
    seal(documents_of(folder), tmp_path / "acme.sealed", KEY)
    index = asked_together(CloneIndex.build([]), [open_sealed(tmp_path / "acme.sealed", KEY)])
    heads = {d.path: significant(d.header + d.text)[1][:6] for d in acme}
    for source in (acme[1], acme[2]):
        [clone] = find_clones(index, source.header + source.text, task_id="t", sample_index=0)
        for documents in (acme, documents_of(folder)):
            places = resolve(documents, KEY, [clone.fingerprint])[clone.fingerprint]
            assert {f.path for _, f in places} == {path for path, head in heads.items() if head == heads[source.path]}
            assert {(f.organization, f.first_line) for _, f in places} == {("acme", 1)}
            assert [f.path for name, f in places if name == clone.training.path] == [source.path]


def test_what_stands_nowhere_is_said_to():
    unknown = run_fingerprint(KEY.windows(["a", "b"], 2)[0], KEY.run(b"".join(KEY.lines(["a", "b"]))))
    assert resolve([document("a\nb\n")], OTHER, [unknown], shape=Shape(min_lines=2)) == {unknown: ()}


@pytest.mark.parametrize("text", ["", "xyz", "ab" * 15, "ab" * 17])
def test_what_is_no_fingerprint_is_refused(text):
    with pytest.raises(ConfigurationError, match="32 hex digits"):
        resolve([], KEY, [text])


# --- bad input


@pytest.fixture
def file(tmp_path, data):
    path = tmp_path / "acme.sealed"
    path.write_bytes(data)
    return path


def test_a_wrong_key_is_an_error_and_never_no_clones_found(file):
    with pytest.raises(ConfigurationError, match=r"acme\.sealed: wrong key: .*other\.key; ask acme"):
        open_sealed(file, OTHER)


def test_damage_is_noticed_wherever_it_is(file, data):
    sound = open_sealed(file, KEY)
    rng = random.Random(5)
    places = {*rng.sample(range(len(data)), 200), *range(len(data) - 120, len(data))}
    noticed = 0
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.randrange(8)
        file.write_bytes(flipped)
        try:
            part = open_sealed(file, KEY)
        except StoreError as error:
            assert "damaged; ask the organization" in str(error)
            noticed += 1
        else:  # a byte between two arrays, which nobody reads
            assert (part.fingerprints == sound.fingerprints).all()
            assert (part.documents == sound.documents).all()
            assert (part.counts == sound.counts).all()
    assert noticed > 0.9 * len(places)


@pytest.mark.parametrize("left", [0, 1, 23, 24, 0.5, 0.99])
def test_a_truncated_file_is_damaged(file, data, left):
    file.write_bytes(data[: int(left if left >= 1 else left * len(data))])
    with pytest.raises(StoreError, match=r"acme\.sealed is damaged"):
        open_sealed(file, KEY)


@pytest.mark.parametrize("shape", [{"min_lines": 8}, {"normalization": "type-2"}])
def test_another_shape_than_the_rest_of_the_index_is_refused(file, shape):
    with pytest.raises(ConfigurationError, match="index of acme: made with"):
        asked_together(CloneIndex.build([], **shape), [open_sealed(file, KEY)])


def test_another_versions_windows_are_refused(file, monkeypatch):
    monkeypatch.setattr(sealed_module, "NORMALIZER_VERSION", 99)
    with pytest.raises(ConfigurationError, match="normalizer 99: ask acme to seal it again"):
        open_sealed(file, KEY)


def test_an_open_segment_is_no_sealed_index(tmp_path):
    create_index(tmp_path / "index", Shape())
    add_documents(tmp_path / "index", [document("a\n")])
    [segment] = (tmp_path / "index").glob("*.segment")
    with pytest.raises(ConfigurationError, match="is no sealed index"):
        open_sealed(segment, KEY)


@pytest.mark.parametrize("name", ["missing.sealed", "."])
def test_what_is_no_file_cannot_be_read(tmp_path, name):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        open_sealed(tmp_path / name, KEY)


def test_a_file_for_two_organizations_is_not_made(tmp_path):
    documents = [document("a\n" * 6), document("a\n" * 6, organization="zeta")]
    with pytest.raises(ConfigurationError, match="belong to acme and zeta"):
        seal(documents, tmp_path / "x", KEY)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_seal_is_an_error(tmp_path):
    with pytest.raises(CorpusError, match="no document has 6 significant lines"):
        seal([document("a\n" * 5)], tmp_path / "x", KEY)


# --- keys


def test_a_new_key_is_random_and_its_owners_alone(tmp_path):
    old = os.umask(0)
    try:
        a, b = make_key(tmp_path / "a.key"), make_key(tmp_path / "b.key")
    finally:
        os.umask(old)
    assert a.secret != b.secret
    assert read_key(tmp_path / "a.key") == a
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600


def test_a_key_is_never_overwritten(tmp_path):
    key = make_key(tmp_path / "a.key")
    with pytest.raises(ConfigurationError, match="File exists"):
        make_key(tmp_path / "a.key")
    assert read_key(tmp_path / "a.key") == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_a_key_that_others_can_reach_is_refused(tmp_path, mode):
    make_key(tmp_path / "a.key")
    (tmp_path / "a.key").chmod(mode)
    with pytest.raises(ConfigurationError, match=f"mode {mode:04o}.*chmod 600"):
        read_key(tmp_path / "a.key")


@pytest.mark.parametrize("text", ["", "ab" * 31, "ab" * 65, "xy" * 32, "ä" * 64, string.printable])
def test_what_is_no_key_is_refused_without_showing_it(tmp_path, text):
    path = tmp_path / "a.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="is no key") as caught:
        read_key(path)
    assert not text or text not in str(caught.value)


def test_text_hashes_are_what_the_search_for_unkeyed_digests_looks_for():
    lines = ["a = 1", "b = 2"]
    assert text_hashes("\n".join(lines)).tolist() == [xxh3_64_intdigest(line.encode()) for line in lines]
