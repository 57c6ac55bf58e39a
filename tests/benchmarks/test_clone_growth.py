"""What finding clones costs as the corpus grows: building, adding, opening, asking; dense and sparse.

COLLABCODE_BENCH_MEGABYTES is the largest corpus, 256 unless told; 1000 takes a minute more and 4 GB of disk.
Relations are asserted, in CPU time of one thread; seconds are printed beside what is promised for a quiet machine.
"""

import os
import shutil
import time
import tracemalloc
from functools import partial
from itertools import count, takewhile

import numpy as np
import pytest

from pytest_collabcode.clones.container import Container
from pytest_collabcode.clones.folder import add_documents, create_index, grouped, open_index
from pytest_collabcode.clones.manifest import read_manifest
from pytest_collabcode.clones.merging import EIGHT, LARGEST_MERGED, MERGED_RATIO, merge_segments
from pytest_collabcode.clones.query import Query
from pytest_collabcode.clones.runs import maximal
from pytest_collabcode.clones.segment import Shape
from pytest_collabcode.throughput.clock import paired_ratio

LARGEST = int(os.environ.get("COLLABCODE_BENCH_MEGABYTES", "256"))
SIZES = (*takewhile(lambda size: size < LARGEST, (4**n for n in count())), LARGEST)  # MB


@pytest.mark.parametrize("known_ratio", [0.01, 0.1])
def test_a_million_windows_against_the_largest_index(benchmark, built, asked, say, known_ratio):
    """The reference only looks fingerprints up in one sorted array, as they come: no hashing, no text, no runs."""
    index = open_index(built(LARGEST).folder)
    lines = asked(1_000_005, known_ratio)
    _, fingerprints = Query.of([lines]).windows(6)
    table = np.sort(np.concatenate([part.segment.fingerprints for part in index.parts]))
    timing = paired_ratio(lambda: index.find(lines), lambda: np.searchsorted(table, fingerprints), rounds=3, warmup=1)
    seconds, n_clones = min(timing.ours_s), len(maximal(index.find(lines)))
    benchmark.extra_info |= {"cpu_s": seconds, "clones": n_clones, "against_searchsorted": 1 / timing.speedup}
    say(
        f"{len(fingerprints):,} windows in {LARGEST} MB, warm: {seconds:.2f} CPU-s with {n_clones} clones found, "
        f"{1 / timing.speedup:.1f}x numpy's look-up alone (promised is 1 s at 1000 MB)"
    )
    benchmark.pedantic(index.find, args=(lines,), rounds=2)
    assert 1 / timing.speedup <= 5


def test_opening_costs_the_same_at_any_size(benchmark, built, say):
    small, large = built(1).folder, built(LARGEST).folder
    timing = paired_ratio(lambda: open_index(large), lambda: open_index(small), rounds=15, warmup=2)
    times = [1000 * min(seconds) for seconds in (timing.ours_s, timing.reference_s)]
    benchmark.extra_info |= {"open_ms": times[0], "open_1_MB_ms": times[1]}
    say(f"opening {LARGEST} MB: {times[0]:.1f} ms, 1 MB: {times[1]:.1f} ms (promised are 50)")
    benchmark.pedantic(open_index, args=(large,), rounds=5)
    assert 1 / timing.speedup <= 20


def test_memory_while_asking_does_not_depend_on_the_size(benchmark, built, asked, say):
    lines = asked(50_000, 0.01)
    peaks = []
    for megabytes in (1, LARGEST):
        index = open_index(built(megabytes).folder)
        tracemalloc.start()  # what is mapped does not count: it is the kernel's to drop
        index.find(lines)
        peaks.append(tracemalloc.get_traced_memory()[1] / 1e6)
        tracemalloc.stop()
    benchmark.extra_info |= {"peak_1_MB": peaks[0], "peak_largest": peaks[1]}
    say(f"peak memory of asking 50,000 lines: {peaks[1]:.1f} MB at {LARGEST} MB, {peaks[0]:.1f} MB at 1 MB")
    benchmark.pedantic(index.find, args=(lines,), rounds=2)
    assert peaks[1] <= 2 * peaks[0]


def test_adding_one_percent_against_a_rebuild(benchmark, built, code, asked, tmp_path, say):
    """A hundred times, so that merges are paid for. Each addition is judged, by the better of two equal ones."""
    begun, twins = built(LARGEST), [tmp_path / name for name in ("a", "b")]
    for twin in twins:
        shutil.copytree(begun.folder, twin)
    ratios, n_segments = [], []
    more = code.documents(LARGEST * 1_000_000, skip_bytes=LARGEST * 1_000_000)
    for part in grouped(more, LARGEST * 10_000, size=lambda document: len(document.text)):
        ratios.append(min(timed(partial(add_documents, twin, part)) for twin in twins) / begun.cpu_s)
        n_segments.append(len(read_manifest(twins[0]).segments))
    mean, largest = sum(ratios) / len(ratios), max(ratios)
    asking = [timed_asking(folder, asked(100_000, 0.1)) for folder in (begun.folder, twins[0])]
    benchmark.extra_info |= {"ratio": mean, "largest": largest, "segments": max(n_segments)}
    say(
        f"adding 1 % to {LARGEST} MB costs {mean:.1%} of a rebuild, merges included, the dearest of {len(ratios)} "
        f"additions {largest:.1%} (promised are 3 %)"
    )
    say(
        f"they leave {max(n_segments)} segments at most; asking twice the text for 100,000 windows takes "
        f"{asking[1] / asking[0]:.1f} times as long in the end as in the beginning"
    )
    benchmark.pedantic(open_index, args=(twins[0],), rounds=2)
    assert mean <= 0.03
    assert largest <= 0.03
    assert max(n_segments) <= 2 / MERGED_RATIO + 2 * EIGHT


def timed_asking(folder, lines):
    index = open_index(folder)
    index.find(lines)
    return min(timed(partial(index.find, lines)) for _ in range(3))


def timed(call):
    began = time.process_time()
    call()
    return time.process_time() - began


def total(form, field):
    return sum(getattr(entry, field) for entry in read_manifest(form.folder).segments)


def measured(form, lines):
    """Return (MB of text built per CPU-s, index bytes per byte of text beside the text, windows asked per CPU-s)."""
    index = open_index(form.folder)
    index.find(lines)
    seconds = min(timed(partial(index.find, lines)) for _ in range(3))
    n_bytes = total(form, "text_bytes")
    return n_bytes / 1e6 / form.cpu_s, total(form, "bytes") / n_bytes - 1, len(lines) / seconds


def merged_megabytes_per_s(code, folder):
    """Return how fast segments of 8 MB are merged into one, eight at a time."""
    create_index(folder, Shape())
    add_documents(folder, code.documents(64_000_000), batch_bytes=8_000_000)
    entries = read_manifest(folder).segments
    containers = [Container(folder / entry.file) for entry in entries]
    seconds = timed(partial(merge_segments, folder / "merged", containers))
    return sum(entry.text_bytes for entry in entries) / 1e6 / seconds


def test_growth_from_one_megabyte(benchmark, built, asked, code, say, tmp_path):
    lines = asked(200_000, 0.1)
    say("  MB |  MB built per CPU-s |  index bytes per byte | windows per CPU-s, 10 % known | segments, clones")
    table = {}
    for megabytes in SIZES:
        forms = [built(megabytes, sparse) for sparse in (False, True)]
        spans = [{(r.first, r.stop) for r in maximal(open_index(form.folder).find(lines))} for form in forms]
        assert spans[0] == spans[1], "the sparse form misses nothing, and finds nothing else"
        dense, sparse = table[megabytes] = [measured(form, lines) for form in forms]
        say(
            f"{megabytes:4d} | {dense[0]:5.0f}, sparse {sparse[0]:5.0f} | {dense[1]:5.3f}, sparse {sparse[1]:5.3f}   "
            f"| {dense[2]:9,.0f}, sparse {sparse[2]:9,.0f} | {len(read_manifest(forms[0].folder).segments)}, "
            f"{len(spans[0])}"
        )
    forms = [built(LARGEST, sparse) for sparse in (False, True)]
    smaller = total(forms[0], "windows") / total(forms[1], "windows")
    merging = merged_megabytes_per_s(code, tmp_path / "merging")
    say(f"a sparse index has {smaller:.2f} times fewer windows; merging reads and writes {merging:.0f} MB per CPU-s")
    say(terabyte(*table[LARGEST], merging))
    benchmark.extra_info |= {f"{megabytes}_MB": figures for megabytes, figures in table.items()}
    benchmark.pedantic(open_index(forms[0].folder).find, args=(lines,), rounds=2)
    (few, _), (many, _) = table[SIZES[1]], table[LARGEST]
    assert many[0] >= few[0] / 2, "building costs the same per byte at any size"
    assert many[1] <= 1.2 * few[1], "so does storing"
    assert many[2] >= few[2] / 16, "asking costs a look-up per segment"
    assert smaller >= 3.5


def terabyte(dense, sparse, merging):
    """Extrapolate: building is linear, and later additions merge what was built once, as far as LARGEST_MERGED.

    Asked windows are looked up in every segment. Cold, and with more windows asked than an index has pages, that
    reads its fingerprints once from end to end; this, not the CPU, is then what it takes.
    """
    hours = [(1e6 / form[0] + 1e6 / merging) / 3600 for form in (dense, sparse)]
    return (
        f"1 TB would take {hours[0]:.1f} CPU-h (a merge included) and {dense[1] * 1000:.0f} GB beside text; "
        f"sparse {hours[1]:.1f} CPU-h and {sparse[1] * 1000:.0f} GB, in {1e12 / LARGEST_MERGED:.0f} segments"
    )
