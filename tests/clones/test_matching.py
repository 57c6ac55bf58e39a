"""Matching in many small batches and blocks finds what it finds in one, and so does a text asked again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_collabcode.clones import extension, matching, pairs
from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.records import Document

LINES = st.lists(st.sampled_from("abc"), max_size=60)
DOCUMENTS = st.lists(
    st.builds(
        Document,
        path=st.just("x.py"),
        text=LINES.map("\n".join),
        organization=st.sampled_from(["acme", "zeta"]),
        planted=st.booleans(),
    ),
    max_size=4,
)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("max_places", [2, 1024])
@given(documents=DOCUMENTS, texts=st.lists(LINES, max_size=3), min_lines=st.integers(1, 6))
@settings(max_examples=150)
def test_batches_and_blocks_do_not_show(sparse, max_places, documents, texts, min_lines):
    index = CloneIndex.build(documents, min_lines=min_lines, sparse=sparse)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "MAX_PLACES", max_places)
        expected = index.find_all(texts)
        patch.setattr(matching, "LONG", 3)
        patch.setattr(pairs, "LOOKED_UP_AT_ONCE", 2)
        for name, size in (("LONG", 3), ("FIRST_BLOCK", 2), ("LARGEST_BLOCK", 4), ("AT_ONCE", 5)):
            patch.setattr(extension, name, size)
        assert index.find_all(texts) == expected


@given(documents=DOCUMENTS, texts=st.lists(LINES, max_size=3))
def test_runs_of_colliding_line_hashes_are_cut_where_the_texts_differ(documents, texts):
    """Every window is told apart, but no line: all candidates reach too far, and none may hide another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pytest_collabcode.clones.segment.low_halves", lambda hashes: (hashes & 0).astype("uint32"))
        patch.setattr("pytest_collabcode.clones.query.low_halves", lambda hashes: (hashes & 0).astype("uint32"))
        patch.setattr(pairs, "_is_left_maximal", lambda segment, query, begins, *_: begins >= 0)
        index = CloneIndex.build(documents, min_lines=2)
        spans = [{(r.first, r.stop) for r in runs} for runs in index.find_all(texts)]
    expected = [
        {(r.first, r.stop) for r in runs} for runs in CloneIndex.build(documents, min_lines=2).find_all(texts)
    ]
    for found, right in zip(spans, expected, strict=True):
        assert right <= found
