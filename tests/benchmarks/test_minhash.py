"""What one call per element costs MinHash: the same sets, the same permutations, in alternation."""

import re
import zipfile
from pathlib import Path
from sysconfig import get_paths

import pytest
from datasketch import MinHash

from pytest_collabcode.clones.near import BANDING, shingles_of, tokens_of
from pytest_collabcode.corpus.deduplicate import words_of
from pytest_collabcode.minhash import Banding
from pytest_collabcode.throughput.clock import paired_ratio

N_CHARACTERS = 1_000_000
AT_LEAST = 3.0
PAPER = Banding(permutations=256, bands=25, rows=10)  # as many permutations as the paper's artifact takes


def wheel_texts():
    for path in sorted(Path(".collabcode/downloads").glob("*.whl")):
        with zipfile.ZipFile(path) as wheel:
            for name in sorted(n for n in wheel.namelist() if n.endswith(".py")):
                yield wheel.read(name).decode("utf-8", "replace")


def installed_texts():
    for path in sorted(Path(get_paths()["purelib"]).rglob("*.py")):
        yield path.read_text(encoding="utf-8", errors="replace")


@pytest.fixture(scope="module")
def texts():
    for source in (wheel_texts, installed_texts):
        chosen, size = [], 0
        for text in source():
            chosen.append(text)
            size += len(text)
            if size >= N_CHARACTERS:
                return chosen
    pytest.skip("there is no megabyte of Python here: neither wheels (collabcode fetch) nor installed packages")


def one_by_one(elements, permutations):
    """The artifact's loop: a call per element, with the scheme its release of datasketch has."""
    signature = MinHash(num_perm=permutations, scheme="legacy")
    for element in elements:
        signature.update(element)
    return signature


def words(text):
    return [word.encode("utf-8", "replace") for word in words_of(text)]


def shingles(text):
    windows, _ = shingles_of(list(tokens_of(text)))
    return [window.tobytes() for window in set(windows)]


@pytest.mark.parametrize(("elements", "banding"), [(words, PAPER), (shingles, BANDING)], ids=["words", "shingles"])
def test_signatures_of_whole_sets_against_a_call_per_element(benchmark, say, texts, elements, banding):
    sets = [elements(text) for text in texts]
    timing = paired_ratio(
        lambda: list(banding.signatures(sets)),
        lambda: [one_by_one(own, banding.permutations) for own in sets],
        rounds=5,
        warmup=1,
    )
    megabytes = sum(map(len, texts)) / 1e6
    benchmark.extra_info |= {
        "speedup": timing.speedup,
        "ours_megabytes_per_s": megabytes / min(timing.ours_s),
        "reference_megabytes_per_s": megabytes / min(timing.reference_s),
        "elements": sum(map(len, sets)),
    }
    say(f"MinHash, {banding.permutations} permutations of {elements.__name__}: {timing.speedup:.1f}x")
    benchmark.pedantic(lambda: list(banding.signatures(sets)), rounds=3, warmup_rounds=1)
    assert timing.speedup >= AT_LEAST


def test_the_full_path_against_the_paper_s(benchmark, say, texts):
    word = re.compile(r"\w+")  # each once, which favours it

    def paper():
        return [one_by_one({w.encode() for w in word.findall(text)}, PAPER.permutations) for text in texts]

    def ours():
        return list(PAPER.signatures(map(words, texts)))

    timing = paired_ratio(ours, paper, rounds=5, warmup=1)
    benchmark.extra_info["speedup"] = timing.speedup
    say(f"MinHash, from text to signatures: {timing.speedup:.1f}x")
    benchmark.pedantic(ours, rounds=3, warmup_rounds=1)
    assert timing.speedup >= AT_LEAST
