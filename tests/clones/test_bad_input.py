"""What nobody meant to index: huge lines, tiny files, repetition, no text at all, broken folders, a full disk.

Each answer is compared with what the definition of a clone says. What is quadratic anywhere does not come back.
"""

import os
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.clones.coverage import coverage
from pytest_collabcode.clones.files import read_texts
from pytest_collabcode.clones.fingerprints import text_hashes
from pytest_collabcode.clones.folder import add_documents, create_index, documents_of, open_index, verify_index
from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.clones.manifest import read_manifest
from pytest_collabcode.clones.normalize import NORMALIZATIONS, significant
from pytest_collabcode.clones.runs import maximal
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.errors import CorpusError, StoreError
from pytest_collabcode.lines import decode
from pytest_collabcode.records import Document

LINES = [f"value_{i} = compute({i})" for i in range(12)]
FORMS = pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])


def document(text, path="x.py"):
    return Document(path=path, text=text, organization="acme")


def on_disk(folder, documents, **shape):
    create_index(folder, Shape(**shape))
    add_documents(folder, documents)
    return open_index(folder)


def spans(index, lines):
    return [(run.first, run.stop, run.origin.path) for run in maximal(index.find(lines))]


@FORMS
def test_a_line_of_64_megabytes_is_a_line(tmp_path, sparse):
    huge = "x = '" + "ab c" * (1 << 24) + "'"
    lines = [*LINES[:6], huge, *LINES[6:]]
    index = on_disk(tmp_path / "i", [document("\n".join(lines))], sparse=sparse)
    assert spans(index, lines) == [(0, 13, "x.py")]
    assert spans(index, [*LINES[:6], huge[:-2] + "b'", *LINES[6:]]) == [(0, 6, "x.py"), (7, 13, "x.py")]


@pytest.mark.parametrize("piece", ["(", "'''", '"\\', "# ", "00", "import ", " ;", "\u3000", "\0", "a.b "])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_any_line_of_a_megabyte_is_normalized(normalization, piece):
    lines = [*LINES[:6], piece * (1_000_000 // len(piece)), *LINES[6:]]
    text = "\n".join(lines)
    index = CloneIndex.build([document(text)], normalization=normalization)
    numbers, own = significant(text, normalization)
    assert [(run.first, run.stop) for run in index.find(own)] == [(0, len(own))]
    assert {1, 6, 8, 13} <= set(numbers)


@FORMS
def test_thousands_of_tiny_files_are_one_segment(tmp_path, sparse):
    root = tmp_path / "root"
    for number in range(2000):
        folder = root / str(number % 40)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.txt").write_text("\n".join(LINES[: number % 12 + 1]) + f"\n{number}\n")
    n_open = len(list(Path("/proc/self/fd").iterdir()))
    index = on_disk(tmp_path / "i", read_texts(root, "acme"), sparse=sparse)
    [entry] = read_manifest(tmp_path / "i").segments
    assert entry.documents == 2000
    assert spans(index, [*LINES[:6], "1925"]) == [(0, 7, "5/1925.txt")]
    assert len(list(Path("/proc/self/fd").iterdir())) <= n_open + 1  # the open segment


@FORMS
@pytest.mark.parametrize("period", [1, 2, 7])
def test_repetition_against_itself_is_one_clone(tmp_path, sparse, period):
    text = "".join(f"x = {i}\n" for i in range(period)) * (300_000 // period)
    _, lines = significant(text)
    index = on_disk(tmp_path / "i", [document(text)], sparse=sparse)
    assert spans(index, lines[:100_000]) == [(0, 100_000, "x.py")]


@FORMS
def test_a_text_in_every_document_and_a_thousand_times_in_the_question(sparse):
    """Licence headers: each of them found, however many pairs of equal windows there are."""
    header = [f"# licence {i}" for i in range(14)]
    documents = [document("\n".join([*header, f"y = {i}"]), f"{i}.py") for i in range(2000)]
    index = CloneIndex.build(documents, sparse=sparse)
    lines = [line for i in range(1000) for line in (f"x = {i}", *header)]
    runs = maximal(index.find(lines))
    assert [(run.first, run.stop) for run in runs] == [(15 * i + 1, 15 * i + 15) for i in range(1000)]


BLANK = [
    "",
    "\n" * 100_000,
    " \t\x0b\x0c\r\n\r",
    "\x1c\x1d\x1e\x1f\n",
    "\u2003\u2028\n\u3000\x85\xa0\r",
    "\n \n" * 999,
]


@pytest.mark.parametrize("text", BLANK, ids=[ascii(text)[:20] for text in BLANK])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_blank_lines_are_no_lines(tmp_path, text, normalization):
    index = on_disk(tmp_path / "i", [document(text)], normalization=normalization, min_lines=1)
    found = coverage(index, *significant(text, normalization))
    assert (found.any.total, found.any.line_ratio) == (0, 0.0)
    assert index.find(["", "a"]) == []
    assert spans(on_disk(tmp_path / "j", [document(text + "\na\n")], min_lines=1), ["a"]) == [(0, 1, "x.py")]


ODD = st.text(st.sampled_from("ab \t\r\n\0\x0b\x0c\x1c\x1f\x85\xa0é\u2003\u2028\u3000\ufeff\ud800\udcff\U0001f600"))


@given(ODD, st.sampled_from(NORMALIZATIONS))
def test_a_text_and_its_bytes_have_the_same_hashes(text, normalization):
    """A segment on disk holds bytes; it must answer as one in memory, with lone surrogates and all."""
    hashes = text_hashes(text, normalization)
    assert (hashes == text_hashes(text.encode("utf-8", "surrogatepass"), normalization)).all()
    assert len(hashes) == len(significant(text, normalization)[1])


@FORMS
@given(text=ODD)
def test_any_characters_are_found_again_on_disk(tmp_path_factory, sparse, text):
    index = on_disk(tmp_path_factory.mktemp("i"), [document(text)], min_lines=1, sparse=sparse)
    _, lines = significant(text)
    assert spans(index, lines) == ([(0, len(lines), "x.py")] if lines else [])
    assert [d.text for d in documents_of_index(index)] == [text]


def documents_of_index(index):
    return [index.parts[0].segment.documents.document(0)]


@given(st.lists(st.binary(max_size=20), min_size=6, max_size=12))
def test_bytes_that_are_no_utf_8_are_found_as_they_were_read(tmp_path_factory, lines):
    root = tmp_path_factory.mktemp("root")
    data = b"\n".join([b"first", *lines]).replace(b"\0", b"")
    (root / "x.py").write_bytes(data)
    _, own = significant(decode(data))
    index = on_disk(tmp_path_factory.mktemp("i"), read_texts(root, "acme"), min_lines=1)
    assert spans(index, own) == [(0, len(own), "x.py")]


def test_binary_files_and_links_are_no_documents_and_no_name_is_too_odd(tmp_path):
    root = tmp_path / "root"
    text = "\n".join(LINES)
    odd = Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe.py"))
    for path in (
        root / "a.py",
        root / "new\nline" / "ü 1.py",
        root / ".hidden" / "b.py",
        odd,
        tmp_path / "outside.py",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "picture.py").write_bytes(text.encode() + b"\0")
    (root / "loop").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    (root / "nowhere").symlink_to(root / "gone")
    (root / "link.py").symlink_to(tmp_path / "outside.py")
    os.mkfifo(root / "pipe.py")
    index = on_disk(tmp_path / "i", read_texts(root, "acme"))
    names = {"a.py", "new\nline/ü 1.py", "\udcff\udcfe.py"}
    assert {run.origin.path for run in index.find(LINES)} <= names
    assert {d.path for d in documents_of(tmp_path / "i")} == names


def test_folders_may_be_deep(tmp_path):
    deep = tmp_path.joinpath(*"d" * 400)
    deep.mkdir(parents=True)
    (deep / "x.py").write_text("\n".join(LINES))
    [only] = read_texts(tmp_path, "acme")
    assert only.path == "d/" * 400 + "x.py"


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(CorpusError, match=r"acme=.*/gone: no such file or folder"):
        list(read_texts(tmp_path / "gone", "acme"))
    with pytest.raises(CorpusError, match=r"acme=.*: holds no text file"):
        list(read_texts(tmp_path, "acme"))
    (tmp_path / "picture").write_bytes(b"\0")
    with pytest.raises(CorpusError, match="holds no text file"):
        list(read_texts(tmp_path / "picture", "acme"))
    with pytest.raises(CorpusError, match="/proc/self/mem cannot be read: Input/output error"):
        list(read_texts(Path("/proc/self/mem"), "acme"))


def test_a_file_that_vanishes_while_a_folder_is_read_is_named(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text("x = 1\n")
    texts = read_texts(tmp_path, "acme")
    assert next(texts).path == "a"
    (tmp_path / "b").unlink()
    with pytest.raises(CorpusError, match="/b cannot be read: No such file or directory"):
        next(texts)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("name", ["secret.py", "folder"])
def test_what_must_not_be_read_is_named(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "secret.py").write_text("x = 1\n")
    (tmp_path / name).chmod(0)
    try:
        with pytest.raises(CorpusError, match=rf"{name} cannot be read: Permission denied"):
            list(read_texts(tmp_path, "acme"))
    finally:
        (tmp_path / name).chmod(0o700)


def test_an_addition_that_fails_half_way_adds_nothing(tmp_path):
    def texts():
        yield document("\n".join(LINES))
        raise CorpusError("the source broke")

    index = on_disk(tmp_path / "i", [document("\n".join(LINES[:6]), "old.py")])
    with pytest.raises(CorpusError, match="the source broke"):
        add_documents(tmp_path / "i", texts())
    assert spans(open_index(tmp_path / "i"), LINES) == spans(index, LINES) == [(0, 6, "old.py")]
    assert verify_index(tmp_path / "i") == []


@FORMS
def test_a_file_that_may_not_grow_leaves_the_index_as_it_was(tmp_path, sparse):
    """The kernel refuses the bytes, as it does on a full disk, in the middle of an addition of several segments."""
    on_disk(tmp_path / "i", [document("\n".join(LINES))], sparse=sparse)
    before = sorted(path.name for path in (tmp_path / "i").iterdir())
    small = [document("\n".join(f"{line}  # {i}" for line in LINES), f"{i}.py") for i in range(9)]
    large = document("\n".join(f"y = {i}" for i in range(100_000)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"cannot be written: File too large; free some space"):
            add_documents(tmp_path / "i", [*small, large], batch_bytes=500)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert spans(open_index(tmp_path / "i"), LINES) == [(0, 12, "x.py")]
    assert verify_index(tmp_path / "i") == []
    assert add_documents(tmp_path / "i", small) == 9
    names = {entry.file for entry in read_manifest(tmp_path / "i").segments}
    assert {path.name for path in (tmp_path / "i").iterdir()} - names <= set(before)


@pytest.mark.parametrize("min_lines", [1, 13, 10**6, 10**12])
def test_a_clone_may_have_to_be_longer_than_any_document(min_lines):
    index = CloneIndex.build([document("\n".join(LINES))], min_lines=min_lines)
    assert spans(index, LINES) == ([(0, 12, "x.py")] if min_lines == 1 else [])
