"""Honest programs pass: what crosses the wire means the same to the test as if it had been called directly."""

import textwrap

import pytest

from pytest_collabcode.execution.executor import execute
from pytest_collabcode.records import Generation, Problem

# name: body of answer(x), assertions of the test
PROGRAMS = {
    "prints 200 kB": ("print('x' * 200_000); return x", "assert candidate(1) == 1"),
    "threads": (
        "import threading\nout = []\nts = [threading.Thread(target=out.append, args=(i,)) for i in range(x)]\n"
        "for t in ts: t.start()\nfor t in ts: t.join()\nreturn sorted(out)",
        "assert candidate(16) == list(range(16))",
    ),
    "recursion": ("return 0 if x == 0 else 1 + answer(x - 1)", "assert candidate(900) == 900"),
    "scratch files": (
        "import pathlib, tempfile\npathlib.Path('a').write_text('b')\n"
        "with tempfile.NamedTemporaryFile() as f: return (open('a').read(), bool(f.name))",
        "assert candidate(1) == ('b', True)",
    ),
    "100 MB": ("return len(bytearray(x))", "assert candidate(100 << 20) == 100 << 20"),
    "CRLF": ("y = x + 1\r\nreturn y", "assert candidate(1) == 2"),
    "Counter": ("from collections import Counter; return Counter(x)", "assert candidate('aab') == {'a': 2, 'b': 1}"),
    "defaultdict": (
        "from collections import defaultdict\nd = defaultdict(list); d[x].append(1); return d",
        "assert candidate('k') == {'k': [1]}",
    ),
    "namedtuple": (
        "from collections import namedtuple; return namedtuple('P', 'a b')(x, 2)",
        "assert candidate(1) == (1, 2)",
    ),
    "IntEnum": ("from enum import IntEnum; return IntEnum('E', 'A').A", "assert candidate(0) == 1"),
    "True is 1": ("return True", "assert candidate(0) == 1 and candidate(0) is True"),
    "tuples are no lists": ("return ((1,), [1])", "assert candidate(0) == ((1,), [1]) != ([1], (1,))"),
    "floats": (
        "return [x * 0.1, 1e308 * 10, -0.0]",
        "assert repr(candidate(3)) == '[0.30000000000000004, inf, -0.0]'",
    ),
    "nan": ("return float('nan')", "v = candidate(0); assert v != v"),
    "sets": ("return {x, (1, 2)}, frozenset([x])", "assert candidate(3) == ({3, (1, 2)}, frozenset({3}))"),
    "bytes": ("return bytes([x]), bytearray(2)", "assert candidate(255) == (b'\\xff', bytearray(2))"),
    "large integers": ("return -x ** 3", "assert candidate(10 ** 5000) == -(10 ** 15000)"),
    "numbers of the library": (
        "from decimal import Decimal; from fractions import Fraction; return Decimal('2.5'), Fraction(x, 3), 2j",
        "assert candidate(9) == (2.5, 3, 2j)",
    ),
    "range": ("return range(x)", "assert candidate(10 ** 30) == range(10 ** 30)"),
    "text": ("return x + '\\0\\ud800é'", "assert candidate('a') == 'a\\0\\ud800é'"),
    "keywords": ("return x", "assert candidate(x=[None]) == [None]"),
    "dict order and keys": (
        "return {(1,): 'a', None: 'b', 1.5: 'c'}",
        "assert list(candidate(0)) == [(1,), None, 1.5]",
    ),
    "changes its argument": (
        "x[0].append(3); x[1]['k'] = 2; x.append(4)",
        "v = [[1], {}]; w = v[0]; assert candidate(v) is None; assert v == [[1, 3], {'k': 2}, 4] and w == [1, 3]",
    ),
    "expected exception": (
        "raise type('Mine', (KeyError,), {})",
        "try: candidate(0)\nexcept LookupError: return\nassert False",
    ),
    "dataclass": (
        "from dataclasses import astuple, dataclass\n@dataclass\nclass P:\n    a: 'int'\nreturn astuple(P(x))",
        "assert candidate(1) == (1,)",
    ),
    "called by its name": ("return x", "assert answer(1) == candidate(1)"),
    "helper of the prompt": ("return x", "assert candidate(helper(2)) == 4"),
}


def make(name: str) -> tuple[Problem, Generation]:
    body, assertions = PROGRAMS[name]
    prompt = 'def helper(x):\n    return x * x\n\n\ndef answer(x):\n    """Answer."""\n'
    test = "def check(candidate):\n" + textwrap.indent(assertions, "    ")
    problem = Problem(task_id=name, prompt=prompt, test=test, entry_point="answer")
    completion = textwrap.indent(body, "    ") + "\n\nif __name__ == '__main__':\n    raise SystemExit\n"
    return problem, Generation(
        task_id=name, sample_index=0, completion=completion, n_tokens=0, duration_s=0, stop_reason="eos"
    )


@pytest.fixture(scope="module")
def ran():
    made = [make(name) for name in PROGRAMS]
    executions = execute({p.task_id: p for p, _ in made}, [g for _, g in made])
    return {execution.task_id: execution for execution in executions}


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_honest_program_passes(ran, name):
    assert ran[name].passed, ran[name]
