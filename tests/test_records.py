"""What a failing assert prints of a record, an organization's code is no part of."""

import pytest

from pytest_collabcode.clones.bodies import Body
from pytest_collabcode.corpus.reading import SourceFile
from pytest_collabcode.records import (
    Corpus,
    Document,
    Fragment,
    Function,
    Generation,
    Organization,
    Problem,
    TextScore,
)
from pytest_collabcode.tasks.retrieval import Pair

CODE = "launch_code = 4711"
PLACE = {"organization": "acme", "path": "a.py"}
DOCUMENT = Document(text=CODE, header=CODE, **PLACE)
LINES = {"first_line": 1, "last_line": 9}


@pytest.mark.parametrize(
    "record",
    [
        DOCUMENT,
        Corpus(name="ours", organizations=(Organization(name="acme", documents=(DOCUMENT,)),)),
        Function(
            name="f", split="heldout", prompt=CODE, docstring=CODE, body=CODE, significant_lines=7, **PLACE, **LINES
        ),
        Problem(task_id="t", prompt=CODE, canonical_solution=CODE, test=CODE),
        Generation(task_id="t", sample_index=0, completion=CODE, n_tokens=1, duration_s=0.0, stop_reason="eos"),
        TextScore(log_likelihood=-1.0, n_tokens=1, n_bytes=18, token_ids=(4711,)),
        SourceFile(path="a.py", text=CODE, licence="MIT"),
        Pair(key="k", query=CODE, code=CODE),
        Body(place=Fragment(**PLACE, **LINES), text=CODE),
    ],
    ids=lambda record: type(record).__name__,
)
def test_no_record_shows_its_code(record):
    assert "4711" not in repr(record) and "4711" not in str(record)
    assert type(record).__name__ in repr(record)
