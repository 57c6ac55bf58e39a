"""Clones against a brute-force oracle in plain Python, and the border cases of the definition."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_collabcode.clones import fingerprints, pairs
from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.digests import digest_bytes
from pytest_collabcode.errors import ConfigurationError, MeasurementError
from pytest_collabcode.lines import significant_lines
from pytest_collabcode.memorization.clones import find_clones, scan
from pytest_collabcode.records import Clone, Document, Fragment, Generation, Problem

CODE = [f"line_{i} = {i}" for i in range(40)]


def document(lines, path="x.py", organization="acme", **fields):
    return Document(path=path, text="\n".join(lines) + "\n", organization=organization, **fields)


def find(documents, completion, *, min_lines=6, prompt="", **options):
    index = CloneIndex.build(documents, min_lines=min_lines, **options)
    return find_clones(index, completion, task_id="t", sample_index=0, prompt=prompt)


def oracle(documents, completion, min_lines):
    """Try every pair of places; contain, attribute and mark as the definition says."""
    text = list(significant_lines(completion))
    by_owner: dict[str, dict[tuple[int, int], list]] = {}
    planted_ranges = []
    for d in sorted(documents, key=lambda d: (d.organization, d.path)):
        lines = list(significant_lines(d.header + d.text))
        for i in range(len(text)):
            for j in range(len(lines)):
                if i and j and text[i - 1][1] == lines[j - 1][1]:
                    continue
                n = 0
                while i + n < len(text) and j + n < len(lines) and text[i + n][1] == lines[j + n][1]:
                    n += 1
                if n >= min_lines:
                    n_header = sum(number <= d.header_lines for number, _ in lines[j : j + n])
                    place = (d.path, lines[j][0], lines[j + n - 1][0], n_header)
                    by_owner.setdefault(d.organization, {}).setdefault((i, i + n), []).append(place)
                    if d.planted:
                        planted_ranges.append(set(range(i, i + n)))
    expected = []
    for owner, intervals in sorted(by_owner.items()):
        for (a, b), places in sorted(intervals.items()):
            if any(c <= a and b <= d and (c, d) != (a, b) for c, d in intervals):
                continue
            path, first, last, n_header = places[0]
            own = set(range(a, b))
            covered = set().union(*(own & p for p in planted_ranges if len(own & p) >= min_lines))
            expected.append(
                Clone(
                    generated=Fragment(organization="", path="t#0", first_line=text[a][0], last_line=text[b - 1][0]),
                    training=Fragment(organization=owner, path=path, first_line=first, last_line=last),
                    significant_lines=b - a,
                    fingerprint=digest_bytes("\n".join(line for _, line in text[a:b]).encode()),
                    organizations=tuple(
                        sorted(o for o, ivs in by_owner.items() if any(c <= a and b <= d for c, d in ivs))
                    ),
                    planted=len(own - covered) < min_lines,
                    header=n_header > 0 and len(own) - n_header < min_lines,
                )
            )
    return expected


texts = st.lists(st.sampled_from(["a", "b", "  c", "", " a ", "d\t"]), max_size=14).map("\n".join)
documents = st.lists(
    st.builds(
        Document,
        path=st.sampled_from(["p.py", "q.py", "r.py"]),
        text=texts,
        organization=st.sampled_from(["acme", "bolt"]),
        planted=st.booleans(),
    ).flatmap(lambda d: st.integers(0, 2).map(lambda n: replace(d, header="a\n" * n, header_lines=n))),
    max_size=5,
    unique_by=lambda d: (d.organization, d.path),
)


@settings(max_examples=400, deadline=None)
@given(documents, texts, st.integers(1, 4))
def test_clones_are_those_of_the_brute_force_oracle(documents, completion, min_lines):
    found = find(documents, completion, min_lines=min_lines)
    assert [replace(clone, copies=0) for clone in found] == oracle(documents, completion, min_lines)


@settings(max_examples=100, deadline=None)
@given(documents, texts, st.integers(1, 3), st.integers(0, 3))
def test_colliding_fingerprints_change_nothing(documents, completion, min_lines, bits):
    whole = fingerprints.xxh3_64_intdigest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprints, "xxh3_64_intdigest", lambda line: whole(line) & (2**bits - 1))
        found = find(documents, completion, min_lines=min_lines)
    assert [replace(clone, copies=0) for clone in found] == oracle(documents, completion, min_lines)


@settings(max_examples=200, deadline=None)
@given(documents, texts, st.integers(1, 4))
def test_capped_postings_lose_no_hit_and_invent_none(documents, completion, min_lines):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "MAX_PLACES", 1)
        capped = find(documents, completion, min_lines=min_lines)
    whole = oracle(documents, completion, min_lines)
    assert {c.training.organization for c in capped} == {c.training.organization for c in whole}
    kept = [(c.generated.first_line, c.generated.last_line, c.training.organization) for c in whole]
    for clone in capped:
        first, last, owner = clone.generated.first_line, clone.generated.last_line, clone.training.organization
        assert any(a <= first and last <= b and o == owner for a, b, o in kept)


def test_a_run_is_whole_though_a_hot_window_in_its_middle_was_dropped(monkeypatch):
    monkeypatch.setattr(pairs, "MAX_PLACES", 1)
    documents = [document(CODE[3:9], path="a.py"), document(CODE[:12], path="z.py")]
    [clone] = find(documents, "\n".join(CODE[:12]))
    assert (clone.training.path, clone.significant_lines) == ("z.py", 12)


@pytest.mark.parametrize("n_lines, n_clones", [(5, 0), (6, 1), (7, 1)])
def test_a_clone_has_six_lines_or_more(n_lines, n_clones):
    assert len(find([document(CODE)], "\n".join(CODE[3 : 3 + n_lines]))) == n_clones


def test_indentation_blank_lines_and_newline_forms_do_not_matter():
    [clone] = find([document(CODE)], "\r\n\r\n".join(f"\t {line} \u00a0" for line in CODE[2:10]))
    assert (clone.training.first_line, clone.training.last_line) == (3, 10)
    assert (clone.generated.first_line, clone.generated.last_line) == (1, 15)


def test_training_lines_count_the_separated_licence_header():
    [clone] = find([document(CODE, header="#\n" * 20, header_lines=20)], "\n".join(CODE[:6]))
    assert str(clone.training) == "acme:x.py:21-26"


def test_a_run_never_spans_two_documents():
    assert find([document(CODE[:5], path="a.py"), document(CODE[5:10], path="b.py")], "\n".join(CODE[:10])) == []


@pytest.mark.parametrize(
    "prompt, n_clones",
    [("", 1), ("def f():\n", 1), ("def f():\n    ", 1), ("def f():", 0), ("def f():\r", 1)],
)
def test_the_rest_of_the_prompts_last_line_is_a_prompt_line(prompt, n_clones):
    assert len(find([document(CODE)], "\n".join(CODE[:6]), prompt=prompt)) == n_clones


def test_of_equal_places_the_first_by_path_is_named():
    documents = [document(CODE, path=p) for p in ("c.py", "a.py", "b.py")]
    [clone] = find(documents, "\n".join(CODE[:8]))
    assert clone.training.path == "a.py"


def test_lines_in_two_organizations_cross_and_longer_lines_in_one_do_not():
    documents = [document(CODE[:8], organization="acme"), document(CODE[:12], organization="bolt")]
    short, long = find(documents, "\n".join(CODE[:12]))
    assert (short.significant_lines, short.organizations) == (8, ("acme", "bolt"))
    assert (long.significant_lines, long.organizations) == (12, ("bolt",))


@pytest.mark.parametrize(
    "natural, given_back, planted",
    [(range(8), range(8), True), (range(13), range(13), True), (range(14), range(14), False), ((), range(9), True)],
)
def test_a_clone_is_planted_unless_it_holds_another_clones_worth_of_natural_lines(natural, given_back, planted):
    documents = [
        document([CODE[i] for i in natural], path="natural.py"),
        document(CODE[:8], path="planted/f.py", planted=True),
    ]
    assert [c.planted for c in find(documents, "\n".join(CODE[i] for i in given_back))] == [planted]


def test_a_line_repeated_a_hundred_thousand_times_is_found_once_and_fast():
    index = CloneIndex.build([document(["pass"] * 100_000)])
    [clone] = find_clones(index, "pass\n" * 300, task_id="t", sample_index=0)
    assert (clone.significant_lines, clone.copies) == (300, 99_995)


@pytest.mark.parametrize("documents", [[], [document([])], [document(CODE[:5])]])
def test_nothing_is_found_where_no_document_is_long_enough(documents):
    assert find(documents, "\n".join(CODE)) == []


def test_sizes_below_one_are_refused():
    with pytest.raises(ConfigurationError, match="min_lines=0 is below 1"):
        CloneIndex.build([], min_lines=0)


def test_a_licence_header_is_told_from_code():
    header = "".join(f"# Copyright line {i}\n" for i in range(8))
    documents = [document(CODE, header=header, header_lines=8)]
    [clone] = find(documents, header)
    assert clone.header and str(clone.training) == "acme:x.py:1-8"
    [clone] = find(documents, header + "\n".join(CODE[:6]))
    assert not clone.header and clone.significant_lines == 14


def generation(task_id="t", sample_index=0, completion=""):
    return Generation(
        task_id=task_id,
        sample_index=sample_index,
        completion=completion,
        n_tokens=1,
        duration_s=0.0,
        stop_reason="eos",
    )


def test_a_scan_gathers_all_samples_of_a_problem_in_order():
    problem = Problem(task_id="t", prompt="def f():\n", organization="acme", planted=True)
    samples = [generation(sample_index=1, completion="\n".join(CODE[:6])), generation(sample_index=0)]
    [scanned] = scan(CloneIndex.build([document(CODE)]), [problem], samples)
    assert (scanned.n_samples, scanned.stratum) == (2, "planted")
    assert [c.generated.path for c in scanned.clones] == ["t#1"]
    assert scan(CloneIndex.build([]), [problem], samples, heldout=True)[0].stratum == "heldout"


@pytest.mark.parametrize(
    "generations, message",
    [([], "0 generations where 1"), ([generation(), generation("u")], "of no problem")],
)
def test_missing_and_foreign_generations_are_refused(generations, message):
    with pytest.raises(MeasurementError, match=message):
        scan(CloneIndex.build([]), [Problem(task_id="t", prompt="")], generations)


def test_problems_with_unequal_numbers_of_samples_are_refused():
    problems = [Problem(task_id=t, prompt="") for t in "ab"]
    samples = [generation("a"), generation("b"), generation("b", 1)]
    with pytest.raises(MeasurementError, match="'a': 1 generations where 2"):
        scan(CloneIndex.build([]), problems, samples)


def test_no_code_stands_in_a_clone():
    [clone] = find([document(CODE)], "\n".join(CODE[:6]))
    assert "line_1" not in repr(clone)
    assert replace(clone, fingerprint="") != clone
