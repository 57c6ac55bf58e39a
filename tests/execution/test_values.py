"""Laws of the values on the wire: the other side has the same, in type, content and what is one object with what."""

import json
import math
import struct
import typing
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from datetime import date, datetime, time, timedelta
from enum import IntEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_collabcode.execution.values import KEPT, MAX_DEPTH, Heap, NotPlainError
from pytest_collabcode.execution.wire import BrokenWireError, TooLargeError

Point = namedtuple("Point", "x y")
NUMBERS = st.integers() | st.floats() | st.fractions() | st.decimals(allow_nan=False)
TEXT = st.text(st.characters(exclude_categories=()))
DATES = st.dates() | st.times() | st.datetimes() | st.timedeltas()
KEYS = st.none() | st.booleans() | NUMBERS | TEXT | st.binary() | DATES
ATOMS = (
    KEYS | st.decimals() | st.just(math.nan) | st.complex_numbers() | st.builds(range, st.integers(), st.integers())
)


def grown(inner):
    many = st.lists(inner, max_size=4)
    pairs = st.dictionaries(KEYS, inner, max_size=4)
    return (
        many
        | many.map(tuple)
        | st.builds(Point, inner, inner)
        | st.builds(deque, many, st.none() | st.integers(0, 9))
        | pairs
        | pairs.map(OrderedDict)
        | st.builds(defaultdict, st.sampled_from([None, int, list]), pairs)
        | many.map(lambda items: [items, *items, items])  # shared parts
    )


PLAIN = st.recursive(
    ATOMS
    | st.builds(bytearray, st.binary())
    | st.sets(st.integers() | TEXT)
    | st.frozensets(KEYS)
    | st.builds(Counter, st.dictionaries(KEYS, st.integers(-9, 9))),
    grown,
    max_leaves=12,
)
MUTABLE = (list, set, dict, bytearray, deque)


def cross(value, sender=None, receiver=None):
    data = (sender or Heap()).encode(value)
    return (receiver or Heap(iter)).decode(json.loads(json.dumps(data)))


def shape(value, seen):
    """Type and exact content, and for each mutable object which one it is, by order of appearance."""
    kind = type(value)
    if isinstance(value, MUTABLE):
        if id(value) in seen:
            return "again", seen[id(value)]
        seen[id(value)] = len(seen)
    if isinstance(value, float):
        return kind, value is math.nan, struct.pack(">d", value)
    if isinstance(value, complex):
        return kind, struct.pack(">dd", value.real, value.imag)
    if isinstance(value, dict):
        pairs = [(shape(key, seen), shape(item, seen)) for key, item in value.items()]
        return kind.__name__, getattr(value, "default_factory", None), pairs
    if isinstance(value, set | frozenset):
        return kind, sorted(repr(shape(item, {})) for item in value)
    if isinstance(value, list | tuple | deque):
        fields = getattr(value, "_fields", None)
        return kind.__name__, fields, getattr(value, "maxlen", None), [shape(item, seen) for item in value]
    return kind, repr(value)


@settings(max_examples=200, deadline=None)
@given(PLAIN)
def test_a_value_crosses_to_the_type_the_bit_and_the_alias(value):
    assert shape(cross(value), {}) == shape(value, {})


@settings(max_examples=200, deadline=None)
@given(st.lists(PLAIN, min_size=1, max_size=3), st.data())
def test_changes_make_both_sides_the_same_again(values, data):
    judge, program = Heap(iter), Heap()
    copies = cross(values, judge, program)
    program.mark()
    objects = [value for value in found(copies, {}) if type(value) in (list, dict, deque)]
    for target in data.draw(st.lists(st.sampled_from(objects), max_size=3), label="changed"):
        new = data.draw(st.sampled_from(objects) | PLAIN, label="put in")
        if isinstance(target, dict):
            target["new"] = new
        else:
            target.insert(0, new) if len(target) != getattr(target, "maxlen", None) else target.clear()
    judge.apply(json.loads(json.dumps(program.changes())))
    assert shape(values, {}) == shape(copies, {})


def found(value, seen):
    """Every mutable object in a value, once."""
    if id(value) in seen or isinstance(value, str | bytes | range):
        return []
    seen[id(value)] = value
    own = [value] if isinstance(value, MUTABLE) else []
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple | deque) else ()
    return own + [one for item in inner for one in found(item, seen)]


def test_an_unchanged_heap_has_no_changes_and_equal_is_not_unchanged():
    judge, program = Heap(iter), Heap()
    copy = cross([1, 0.0, [2], [2]], judge, program)
    program.mark()
    assert program.changes() == []
    copy[0], copy[1] = True, -0.0
    copy[2], copy[3] = copy[3], copy[2]
    assert program.changes() == [[0, [True, -0.0, {"ref": 2}, {"ref": 1}]]]


def test_a_cycle_crosses():
    cycle: list = [{}]
    cycle[0]["back"] = cycle
    copy = cross(cycle)
    assert copy[0]["back"] is copy


class Typed(typing.NamedTuple):
    a: int


class Odd(list):
    def __eq__(self, other):
        return True

    def __iter__(self):
        return iter("forged")

    __hash__ = None


class OddDict(OrderedDict):
    def items(self):
        return [("forged", 1)]

    keys = values = __iter__ = items


class OddPoint(Point):
    def __eq__(self, other):
        return True

    __hash__ = tuple.__hash__


Changed = namedtuple("Changed", "a")
Changed.__eq__ = lambda self, other: True  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("value", "content"),
    [
        (Odd([1]), [1]),
        (OddDict(a=1), OrderedDict(a=1)),
        (OddPoint(1, 2), (1, 2)),
        (Changed(1), (1,)),
        (IntEnum("E", "A").A, 1),
        (type("F", (float,), {"__float__": lambda self: 2.0, "hex": lambda self: "0x2"})(1.5), 1.5),
        (type("S", (str,), {"__str__": lambda self: "forged"})("s"), "s"),
        (type("B", (bytes,), {"hex": lambda self: "00", "__iter__": None})(b"b"), b"b"),
        (type("C", (complex,), {"real": 0, "__complex__": None})(1 - 2j), 1 - 2j),
    ],
)
def test_a_subclass_crosses_as_the_content_of_its_builtin_and_as_no_builtin(value, content):
    copy = cross(value)
    assert copy == content
    assert copy != 2
    assert type(copy) not in (type(content), type(value))
    assert isinstance(copy, type(content))


def test_namedtuples_of_equal_fields_are_of_one_type():
    first, second, typed = cross([Point(1, [2]), Point(3, 4), Typed(5)])
    assert (first.y, type(first), type(first).__name__) == ([2], type(second), "Point")
    assert typed.a == 5


@pytest.mark.parametrize(
    "value", [object(), len, int, Ellipsis, datetime.now().astimezone(), slice(1), type("E", (date,), {})(1, 1, 1)]
)
def test_what_is_not_plain_data_does_not_cross(value):
    with pytest.raises(NotPlainError):
        Heap().encode([value])


def test_the_tests_own_iterators_do_not_cross():
    with pytest.raises(NotPlainError):
        Heap(iter).encode(iter([1]))


def test_depth_is_bounded():
    nested: list = []
    for _ in range(MAX_DEPTH - 1):
        nested = [nested]
    assert cross(nested) == nested
    with pytest.raises(TooLargeError):
        Heap().encode([nested])


def test_a_view_is_of_the_very_dict():
    judge, program = Heap(iter), Heap()
    own = OrderedDict(a=1)
    copy = cross(own, judge, program)
    view = judge.decode(program.encode(copy.keys()))
    own["b"] = 2
    assert (type(view), list(view)) == (type(own.keys()), ["a", "b"])


def test_an_iterator_is_one_and_the_same_until_it_ends():
    judge, program = Heap(lambda number: (item for _ in range(2) for item in program.advance(number, 9))), Heap()
    given = (n for n in range(3))
    first, second = cross([given, given], program, judge)
    assert first is second
    assert program.decode(judge.encode(first)) is given
    assert list(first) == [0, 1, 2] == [*first, 0, 1, 2]


def test_an_iterator_raises_where_it_would():
    program = Heap()
    program.encode(1 / n for n in (1, 2, 0))
    assert program.advance(0, 5) == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        program.advance(0, 5)
    assert program.advance(0, 5) == []


def test_only_what_is_still_held_is_kept():
    judge, program = Heap(iter), Heap()
    kept = []

    def call(x):
        def again(n):  # refers to itself, and so is garbage in a cycle
            return again(n - 1) if n else x

        kept.append(x[0])
        return [again(2)]

    own = [[1], [2]]
    program.encode(call(program.decode(judge.encode(own))))
    numbers = program.release()
    assert numbers == [1]
    judge.keep(numbers)
    assert program.decode(judge.encode(own[0])) is kept[0]


def test_no_more_than_so_many_objects_are_kept():
    program = Heap()
    held = program.decode([[] for _ in range(KEPT + 5)])
    assert len(program.release()) == KEPT
    assert program.encode(held[-1]) == {"ref": KEPT - 1}


@pytest.mark.parametrize(
    "data",
    [
        {"object": 1},
        {"list": 1},
        {"set": [[]]},
        {"int": "x"},
        {"dict": [1, 2, 3]},
        {"tuple": {}},
        {"ref": 0},
        {"ref": -1},
        {"ref": True},
        {"a": 1, "b": 2},
        {},
        {"deque": []},
        {"deque": [-1]},
        {"defaultdict": []},
        {"keys": []},
        {"keys": {"ref": 0}},
        {"generator": -1},
        {"iterator": "0"},
        {"namedtuple": []},
        {"namedtuple": ["P", "__class__", 1]},
        {"namedtuple": ["P", "a=print()", 1]},
        {"namedtuple": ["P", "a"]},
        {"namedtuple": ["P", "fi", "\ufb01", 1, 2]},
        {"namedtuple": ["P", *[f"a{i}" for i in range(200)], *range(200)]},
        {"date": [2020, 13, 1]},
        {"date": [b"x".hex()]},
        {"Fraction": ["0x1", "0x0"]},
        {"Decimal": "x"},
        {"range": ["0x0", "0x1", "0x0"]},
        {"bytes": "0"},
        {"float": "00"},
        {"str": 1},
    ],
)
def test_forged_data_is_refused(data):
    with pytest.raises(BrokenWireError):
        Heap(iter).decode(data)


@pytest.mark.parametrize(
    "changes", [1, [1], [[0]], [[1, []]], [[-1, []]], [[0, 1]], [["0", []]], [[0, [{"ref": 7}]]]]
)
def test_forged_changes_are_refused(changes):
    judge = Heap(iter)
    judge.encode([])
    with pytest.raises(BrokenWireError):
        judge.apply(changes)


@pytest.mark.parametrize("numbers", [1, [1], [-1], ["0"], [True], {"a": 1}])
def test_forged_numbers_of_what_is_kept_are_refused(numbers):
    judge = Heap(iter)
    judge.encode([])
    with pytest.raises(BrokenWireError):
        judge.keep(numbers)


def test_a_program_lends_iterators_and_borrows_none():
    with pytest.raises(BrokenWireError):
        Heap().decode({"iterator": 0})


def test_times_keep_their_fold():
    folded = [time(1, 2, 3, 4, fold=1), datetime(2020, 1, 2, fold=1), timedelta(-1, 5)]
    assert [repr(value) for value in cross(folded)] == [repr(value) for value in folded]
