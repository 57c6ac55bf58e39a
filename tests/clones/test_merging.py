"""Whatever is added, and however much at once: no addition merges much, and there are never many segments."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_collabcode.clones import merging
from pytest_collabcode.clones.manifest import Entry
from pytest_collabcode.clones.merging import EIGHT, LARGEST_MERGED, LEAST_MERGED, MERGED_RATIO, due

MB = 1 << 20


def entry(size, number, lines=0):
    return Entry(file=f"{number}.segment", bytes=size, documents=1, lines=lines, windows=0, text_bytes=size)


def grown(additions, base=()):
    """Add texts of these sizes one after the other; yield (segments, bytes that the last addition merged)."""
    entries = [entry(size, -1 - number) for number, size in enumerate(base)]
    for number, size in enumerate(additions):
        old = due(entries)
        merged = sum(e.text_bytes for e in old)
        assert merged <= max(MERGED_RATIO * sum(e.text_bytes for e in entries), LEAST_MERGED)
        assert len(old) != 1
        entries = [e for e in entries if e not in old] + [entry(size, number)]
        entries += [entry(merged, f"{number}-merged")] if old else []
        yield entries, merged


@pytest.mark.parametrize("size", [1 * MB, 10 * MB, 40 * MB, 128 * MB])
@pytest.mark.parametrize("base", [[], [1024 * MB], [128 * MB] * 8], ids=["nothing", "one segment", "eight segments"])
def test_additions_of_one_size_merge_little_and_leave_few_segments(base, size):
    n, written = 500, 0
    for entries, merged in grown([size] * n, base):
        written += merged
        assert len(entries) <= 2 / MERGED_RATIO + 2 * EIGHT
    assert written <= 6 * n * size
    assert sum(e.text_bytes for e in entries) == n * size + sum(base)


@given(st.lists(st.integers(0, 200 * MB), max_size=60), st.lists(st.integers(0, 2000 * MB), max_size=10))
def test_nothing_is_lost_and_no_addition_merges_more_than_its_share(sizes, base):
    for number, (entries, _) in enumerate(grown(sizes, base), start=1):
        assert sum(e.text_bytes for e in entries) == sum(base) + sum(sizes[:number])


def test_thousands_of_segments_of_one_build_become_few():
    entries = {entry(128 * MB, number) for number in range(2000)}
    for number in range(60):
        old = due(sorted(entries, key=lambda e: e.file))
        merged = sum(e.text_bytes for e in old)
        assert merged <= LARGEST_MERGED
        entries = entries.difference(old) | ({entry(merged, -number)} if old else set())
    assert len(entries) < 100


def test_a_segment_never_gets_more_lines_than_it_can_number():
    entries = [replace(entry(MB, number), lines=1 << 30) for number in range(20)]
    assert len(due([entry(1000 * MB, -1), *entries])) == 3


def test_a_large_segment_is_not_written_again_for_the_sake_of_small_ones(monkeypatch):
    monkeypatch.setattr(merging, "MERGED_RATIO", 1.0)
    entries = [entry(size, number) for number, size in enumerate([1, 1, 1, 1, 1, 1, 1, 1, 1000 * MB])]
    assert sum(e.text_bytes for e in due(entries)) == 8
