"""The index finds exactly what comparing every line with every line finds: no more, no less, in every form."""

from itertools import takewhile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_collabcode.clones import pairs
from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.clones.normalize import NORMALIZATIONS, significant
from pytest_collabcode.records import Document

PIECES = ["a", "b", "c", "a = 1", "A=01", "x = 2", "# a", "a  # b", "import a", "'''", "", "  ", "\ta"]
LINES = st.sampled_from(PIECES)
TEXTS = st.lists(LINES, max_size=24).map("\n".join)
DOCUMENTS = st.lists(
    st.builds(
        Document,
        path=st.sampled_from(["x.py", "y.py", "z.py"]),
        text=TEXTS,
        organization=st.sampled_from(["acme", "zeta"]),
        planted=st.booleans(),
    ),
    max_size=5,
)


def oracle(documents, lines, min_lines, normalization):
    """Every maximal run by brute force, then per organization and kind those contained in no other."""
    spans = {}
    for d in documents:
        _, theirs = significant(d.text, normalization)
        for i in range(len(lines)):
            for j in range(len(theirs)):
                if i and j and lines[i - 1] == theirs[j - 1]:
                    continue
                pairs = zip(lines[i:], theirs[j:], strict=False)
                length = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
                if length >= min_lines:
                    spans.setdefault((d.organization, d.planted), set()).add((i, i + length))
    return {
        (owner, span)
        for owner, own in spans.items()
        for span in own
        if not any(o != span and o[0] <= span[0] and span[1] <= o[1] for o in own)
    }


def found(index, lines):
    return {((r.origin.organization, r.origin.planted), (r.first, r.stop)) for r in index.find(lines)}


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@given(DOCUMENTS, TEXTS, st.integers(1, 7), st.booleans())
@settings(max_examples=600)
@example([Document(path="x.py", text="a\na\na\na\na", organization="acme")], "a\na\na", 2, True)
def test_runs_are_those_of_brute_force(normalization, documents, text, min_lines, sparse):
    index = CloneIndex.build(documents, min_lines=min_lines, normalization=normalization, sparse=sparse)
    _, lines = significant(text, normalization)
    assert found(index, lines) == oracle(documents, lines, min_lines, normalization)


@given(DOCUMENTS, st.lists(TEXTS, max_size=4), st.booleans())
def test_many_texts_at_once_are_as_one_by_one(documents, texts, sparse):
    index = CloneIndex.build(documents, min_lines=3, sparse=sparse)
    lines = [significant(text)[1] for text in texts]
    assert index.find_all(lines) == [index.find(own) for own in lines]


@given(DOCUMENTS, TEXTS)
def test_runs_name_lines_of_the_document(documents, text):
    index = CloneIndex.build(documents, min_lines=2)
    _, lines = significant(text)
    for run in index.find(lines):
        same = [d for d in documents if (d.organization, d.path) == (run.origin.organization, run.origin.path)]
        cuts = [d.text.split("\n")[run.first_line - 1 : run.last_line] for d in same]
        assert lines[run.first : run.stop] in [[line.strip() for line in cut if line.strip()] for cut in cuts]


@given(DOCUMENTS, TEXTS)
def test_copies_count_the_places_of_the_rarest_window(documents, text):
    index = CloneIndex.build(documents, min_lines=2)
    _, lines = significant(text)
    bodies = [significant(d.text)[1] for d in documents]
    for run in index.find(lines):
        windows = [tuple(lines[i : i + 2]) for i in range(run.first, run.stop - 1)]
        places = [sum(tuple(b[i : i + 2]) == w for b in bodies for i in range(len(b) - 1)) for w in windows]
        assert run.copies == min(places)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@given(documents=DOCUMENTS, text=TEXTS)
def test_no_organization_is_lost_among_hot_windows(sparse, documents, text):
    _, lines = significant(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "MAX_PLACES", 1)
        hit = {owner for owner, _ in found(CloneIndex.build(documents, min_lines=2, sparse=sparse), lines)}
    assert hit == {owner for owner, _ in oracle(documents, lines, 2, "verbatim")}


def test_colliding_hashes_cost_a_comparison_and_no_more(monkeypatch):
    documents = [Document(path="x.py", text="a\nb\nc\nd\ne\nf\ng", organization="acme")]
    monkeypatch.setattr("pytest_collabcode.clones.fingerprints.xxh3_64_intdigest", lambda line: 7)
    index = CloneIndex.build(documents, min_lines=2)
    assert found(index, ["x", "b", "c", "x", "e", "f"]) == {(("acme", False), (1, 3)), (("acme", False), (4, 6))}


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_one_line_repeated_a_million_times_is_no_quadratic_affair(sparse):
    text = "x = 1\n" * 1_000_000
    index = CloneIndex.build([Document(path="x.py", text=text, organization="acme")], sparse=sparse)
    [run] = index.find(["x = 1"] * 300_000)
    assert (run.first, run.stop, run.first_line) == (0, 300_000, 1)
    assert run.copies == (0 if sparse else 999_995)
