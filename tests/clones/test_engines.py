"""Whichever engine fills an index, it answers the same; the fingerprint step is one pure function under all of them."""


import numpy as np
import pytest

from pytest_collabcode.clones import engines
from pytest_collabcode.clones.engines import spool
from pytest_collabcode.clones.normalize import significant
from pytest_collabcode.clones.runs import maximal
from pytest_collabcode.records import Document

LINES = [f"value_{i} = compute({i})" for i in range(60)] + ["ünïcode = '漢字'", "}", "pass", ""]
NASTY = ["", "\n\n", "a", "\ufeffx = 1\n" * 7, "x\r\ny\rz\x1c\x0b\n" * 4, "\ud800 = 1\n" * 7, "same\n" * 500]


def corpus(seed, n):
    """Documents that share runs, of two organizations, in no order, with everything odd a text can be."""
    rng = np.random.default_rng(seed)
    documents = []
    for i in range(n):
        first, length = rng.integers(0, len(LINES)), rng.integers(0, 40)
        text = "\n".join(LINES[(first + k + int(rng.integers(0, 30) == 0)) % len(LINES)] for k in range(length))
        fields = {
            "text": NASTY[i] if i < len(NASTY) else text,
            "organization": ("acme", "zeta")[int(rng.integers(2))],
            "planted": bool(rng.integers(4) == 0),
            "licence": ("MIT", "GPL-3.0-only", "")[int(rng.integers(3))],
            "header": "# Copyright of ours\n" if i % 5 == 0 else "",
            "header_lines": 1 if i % 5 == 0 else 0,
        }
        documents.append(Document(path=f"d/{rng.integers(10**9)}ü{i}.py", **fields))
    twins = [Document(path="twin.py", text="\n".join(LINES), organization=name) for name in ("acme", "zeta")]
    return [*documents, *twins]


DOCUMENTS = corpus(0, 250)
QUERIES = [
    significant(text)[1]
    for text in ("\n".join(LINES), "\n".join(LINES[20:40] + ["new"] + LINES[5:30]), *NASTY[3:], "\n".join(LINES * 3))
]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Let a few hundred documents be many batches, groups and segments."""
    monkeypatch.setattr(engines, "LEAST_BATCH_BYTES", 20_000)
    monkeypatch.setattr(spool, "GROUP_BYTES", 5_000)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def answers(index):
    """What an index says of the queries, whatever segments it has."""
    return [
        sorted(
            {(r.first, r.stop, r.origin.organization, r.origin.planted, r.copies) for r in maximal(own)}
            for kind in (False, True)
            for owner in ("acme", "zeta")
            for own in [[r for r in runs if (r.origin.organization, r.origin.planted) == (owner, kind)]]
        )
        for runs in index.find_all(QUERIES)
    ]
