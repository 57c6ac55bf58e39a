"""One interpreter and the sandbox say the same of a program, whatever its answers share or are made of."""

import textwrap

import pytest

from pytest_collabcode.execution.executor import execute
from pytest_collabcode.execution.policy import Limits
from pytest_collabcode.records import Generation, Problem

PROMPT = "def f(x=None, y=None):\n"
BUFFER = "_b = [None]\n\n" + PROMPT
STATE = "_s = []\n\n" + PROMPT
TYPES = "import collections, datetime, decimal, enum, fractions, itertools, math, typing\n"

# name: prompt, body of f, assertions of the test
WRONG = {
    "surrogates for a character": (PROMPT, "return chr(0xd83d) + chr(0xde00)", "assert candidate() == '\\U0001f600'"),
    "two characters for one": (PROMPT, "return chr(0xd83d) + chr(0xde00)", "assert len(candidate()) == 1"),
    "its argument for a copy": (PROMPT, "return x", "a = [1]; b = candidate(a); assert b == a and b is not a"),
    "its argument, changed later": (PROMPT, "return x", "a = [1]; candidate(a).append(3); assert a == [1]"),
    "a shallow copy": (PROMPT, "return list(x)", "a = [[1]]; candidate(a)[0].append(2); assert a == [[1]]"),
    "a part of its argument": (
        PROMPT,
        "return x['k']",
        "a = {'k': []}; candidate(a).append(1); assert a == {'k': []}",
    ),
    "one buffer for two answers": (
        BUFFER,
        "_b[0] = x; return _b",
        "a = candidate(1); b = candidate(2); assert a == [1] and b == [2]",
    ),
    "a default argument that grows": (
        "def f(x, to=[]):\n",
        "to.append(x); return to",
        "a = candidate(1); candidate(2); assert a == [1]",
    ),
    "keeps its argument and changes it later": (
        STATE,
        "_s.append(x); _s[0].append(0)",
        "a = [1]; candidate(a); candidate([]); assert a == [1, 0]",
    ),
    "remembers what the test has changed since": (
        STATE,
        "_s.append(x); return list(_s[0])",
        "a = [1]; candidate(a); a.append(2); assert candidate([]) == [1]",
    ),
    "answers what the test has changed since": (
        BUFFER,
        "return _b",
        "candidate().append(7); assert candidate() == [None]",
    ),
    "rows that are one": (
        PROMPT,
        "return [[0] * x] * x",
        "g = candidate(2); g[0][0] = 1; assert g == [[1, 0], [0, 0]]",
    ),
    "equal rows for the same": (
        PROMPT,
        "x[:] = [[1], [1]]",
        "a = [[0], [0]]; b = a[0]; candidate(a); assert a[0] is b",
    ),
    "changes its argument, then raises": (
        PROMPT,
        "x.clear(); raise ValueError",
        "a = [1, 2]\ntry: candidate(a)\nexcept ValueError: pass\nassert a == [1, 2]",
    ),
    "1 becomes True": (PROMPT, "x[:] = [True]", "a = [1]; candidate(a); assert type(a[0]) is int"),
    "an ordered dict of another order": (
        TYPES + PROMPT,
        "return collections.OrderedDict([('b', 2), ('a', 1)])",
        "assert candidate() == collections.OrderedDict([('a', 1), ('b', 2)])",
    ),
    "an IntEnum for an int": (
        TYPES + PROMPT,
        "return enum.IntEnum('E', 'A').A",
        "assert candidate() == 1 and type(candidate()) is int",
    ),
    "a namedtuple for a tuple": (
        TYPES + PROMPT,
        "return collections.namedtuple('P', 'a')(1)",
        "assert type(candidate()) is tuple",
    ),
    "a Counter for a dict": (
        TYPES + PROMPT,
        "return collections.Counter(x)",
        "assert type(candidate('a')) is dict",
    ),
    "a dict with items of its own": (
        "class D(dict):\n    def items(self): return [('a', 1)]\n\n" + PROMPT,
        "return D()",
        "assert candidate() == {'a': 1}",
    ),
    "a list with an iterator of its own": (
        "class L(list):\n    def __iter__(self): return iter([1])\n\n" + PROMPT,
        "return L([2])",
        "assert candidate() == [1]",
    ),
    "bytes with a hex of their own": (
        "class B(bytes):\n    def hex(self): return '61'\n\n" + PROMPT,
        "return B(b'b')",
        "assert candidate() == b'a'",
    ),
    "a Decimal with a text of its own": (
        TYPES + "class D(decimal.Decimal):\n    def __str__(self): return '1'\n\n" + PROMPT,
        "return D(2)",
        "assert candidate() == 1",
    ),
    "a fraction with a numerator of its own": (
        TYPES + "class F(fractions.Fraction):\n    numerator = denominator = 1\n\n" + PROMPT,
        "return F(2, 3)",
        "assert candidate() == 1",
    ),
    "a NaN of the other sign": (TYPES + PROMPT, "return -math.nan", "assert math.copysign(1, candidate()) == 1"),
    "another NaN": (TYPES + PROMPT, "return [float('nan')]", "assert candidate() == [math.nan]"),
    "an iterator for a list": (PROMPT, "return iter([1, 2])", "assert candidate() == [1, 2]"),
    "an iterator that is asked for its length": (PROMPT, "yield 1", "assert len(candidate()) == 1"),
    "an iterator that is used twice": (PROMPT, "yield 1", "g = candidate(); assert list(g) == list(g) == [1]"),
    "an iterator that changes its argument": (
        PROMPT,
        "while x: yield x.pop()",
        "a = [1, 2]; g = candidate(a); assert next(g) == 2 and a == [1, 2]",
    ),
    "a map for a generator": (
        PROMPT,
        "return map(abs, x)",
        "import types; assert type(candidate([1])) is types.GeneratorType",
    ),
    "a view that follows": (PROMPT, "return x.keys()", "d = {}; v = candidate(d); d[1] = 2; assert list(v) == []"),
}
RIGHT = {
    "counts surrogates": (PROMPT, "return len(x)", "assert candidate('\\ud83d\\ude00') == 2"),
    "the very argument": (PROMPT, "x.sort(); return x", "a = [2, 1]; assert candidate(a) is a and a == [1, 2]"),
    "one object passed twice": (
        PROMPT,
        "x.sort(); return x is y",
        "a = [2, 1]; assert candidate(a, y=a) and a == [1, 2]",
    ),
    "one object in two calls": (
        STATE,
        "_s.append(x); return len(_s) == 1 or _s[0] is x",
        "a = [1]; assert candidate(a) and candidate(a)",
    ),
    "an accumulator": (
        BUFFER,
        "_b.append(x); return _b",
        "a = candidate(1); assert candidate(2) is a; a.clear(); assert candidate(3) == [3] == a",
    ),
    "a cache": (
        "_c = {}\n\n" + PROMPT,
        "if x not in _c: _c[x] = [x]\nreturn _c[x]",
        "assert candidate(1) is candidate(1) and candidate(2) is not candidate(1)",
    ),
    "a cycle": (PROMPT, "x.append(x); return x", "a = candidate([]); assert a[0] is a"),
    "changes its argument, then raises": (
        PROMPT,
        "x.clear(); raise ValueError",
        "a = [1]\ntry: candidate(a)\nexcept ValueError: pass\nassert a == []",
    ),
    "ints become floats": (PROMPT, "x[0] = float(x[0])", "a = [1]; candidate(a); assert str(a) == '[1.0]'"),
    "a zero becomes negative": (PROMPT, "x[0] = -0.0", "a = [0.0]; candidate(a); assert str(a) == '[-0.0]'"),
    "the same NaN": (TYPES + PROMPT, "return [math.nan, x]", "n = -math.nan; assert candidate(n) == [math.nan, n]"),
    "a Counter": (
        TYPES + PROMPT,
        "return collections.Counter(x, b=0)",
        "assert candidate('aa').most_common(1) == [('a', 2)] and candidate('a') == collections.Counter('a')",
    ),
    "a defaultdict": (
        TYPES + PROMPT,
        "return collections.defaultdict(int, a=1)",
        "assert candidate()['b'] == 0 and type(candidate()) is collections.defaultdict",
    ),
    "a deque": (
        TYPES + PROMPT,
        "x.rotate(1); return x",
        "d = collections.deque([1, 2], 5); assert candidate(d) is d and d == collections.deque([2, 1])",
    ),
    "a namedtuple": (
        TYPES + "class P(typing.NamedTuple):\n    a: int\n\n" + PROMPT,
        "return P(x)",
        "assert candidate(1).a == 1 and candidate(1) == (1,) and type(candidate(1)) is type(candidate(2))",
    ),
    "dates": (
        TYPES + PROMPT,
        "return x + datetime.timedelta(days=1)",
        "assert candidate(datetime.date(2020, 2, 28)) == datetime.date(2020, 2, 29)",
    ),
    "a generator": (PROMPT, "yield from range(x)", "assert list(candidate(100)) == list(range(100))"),
    "a map": (PROMPT, "return map(abs, x)", "assert tuple(candidate([-1, 2])) == (1, 2)"),
    "an endless generator": (
        TYPES + PROMPT,
        "return itertools.count(x)",
        "g = candidate(3); assert [next(g) for _ in range(40)] == list(range(3, 43))",
    ),
    "a generator that raises": (
        PROMPT,
        "yield 1\nyield [][0]",
        "g = candidate(); assert next(g) == 1\ntry: next(g)\nexcept IndexError: pass\nassert list(g) == []",
    ),
    "an iterator that comes back": (PROMPT, "return map(str, x)", "assert list(candidate(candidate([1]))) == ['1']"),
    "an iterator of its own": (
        "class I:\n    def __iter__(self): return self\n    def __next__(self): return 4\n\n" + PROMPT,
        "return I()",
        "assert next(candidate()) == 4",
    ),
    "keys": (PROMPT, "return x.keys()", "assert candidate({'b': 1, 'a': 2}) == {'a', 'b'}"),
    "items": (PROMPT, "return x.items()", "d = {}; v = candidate(d); d[1] = 2; assert list(v) == [(1, 2)]"),
    "a message": (
        PROMPT,
        "raise ValueError('bad')",
        "try: candidate()\nexcept ValueError as e: assert str(e) == 'bad'\nelse: assert False",
    ),
    "threads of the test": (
        PROMPT,
        "return x + 1",
        "from concurrent.futures import ThreadPoolExecutor as T\n"
        "with T(8) as p: assert list(p.map(candidate, range(300))) == list(range(1, 301))",
    ),
    "2 MiB of é": (PROMPT, "return 'é' * (2 << 20)", "assert len(candidate()) == 2 << 20"),
}
# Here the sandbox is the stricter one: what a program does to the test itself is no answer.
STRICTER = {
    "ends the test's loop": (PROMPT, "raise StopIteration", "for n in map(candidate, [1]): assert n == 2"),
    "equal to everything": (
        "class S(str):\n    def __eq__(self, other): return True\n    __hash__ = str.__hash__\n\n" + PROMPT,
        "return S('a')",
        "assert candidate() == 'b'",
    ),
}
# A test that takes all of an endless answer ends in one interpreter as well, if only by luck.
ENDLESS = {"all of an endless answer": (TYPES + PROMPT, "return itertools.count()", "list(candidate())")}
ROWS = {
    (kind, name): row
    for kind, table in {"wrong": WRONG, "right": RIGHT, "stricter": STRICTER, "endless": ENDLESS}.items()
    for name, row in table.items()
}


def parts(key):
    prompt, body, assertions = ROWS[key]
    test = "def check(candidate):\n" + textwrap.indent(assertions, "    ") + "\n"
    return prompt, textwrap.indent(body, "    ") + "\n", TYPES + test


@pytest.fixture(scope="module")
def ran():
    problems, generations = {}, []
    for key in ROWS:
        prompt, completion, test = parts(key)
        task_id = ": ".join(key)
        problems[task_id] = Problem(task_id=task_id, prompt=prompt, test=test, entry_point="f")
        generations.append(
            Generation(
                task_id=task_id, sample_index=0, completion=completion, n_tokens=0, duration_s=0, stop_reason="eos"
            )
        )
    return {execution.task_id: execution for execution in execute(problems, generations, limits=Limits(cpu_s=1))}


def passes_in_one_interpreter(key):
    prompt, completion, test = parts(key)
    namespace: dict = {}
    exec(prompt + completion + test, namespace)
    try:
        namespace["check"](namespace["f"])
    except Exception:
        return False
    return True


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_program_fails_on_both_sides(ran, name):
    assert not passes_in_one_interpreter(("wrong", name))
    assert ran[f"wrong: {name}"].outcome == "failed", ran[f"wrong: {name}"]


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_program_passes_on_both_sides(ran, name):
    assert passes_in_one_interpreter(("right", name))
    assert ran[f"right: {name}"].passed, ran[f"right: {name}"]


@pytest.mark.parametrize("name", STRICTER)
def test_a_wrong_program_that_passes_in_one_interpreter_fails(ran, name):
    assert passes_in_one_interpreter(("stricter", name))
    assert ran[f"stricter: {name}"].outcome == "failed", ran[f"stricter: {name}"]


def test_an_endless_answer_ends_at_a_limit(ran):
    assert ran["endless: all of an endless answer"].outcome in ("timeout", "out_of_memory")


def test_no_verdict_shows_text_of_the_program(ran):
    assert [execution.detail for execution in ran.values() if "bad" in execution.detail] == []
