"""Plain types: which cross between program and judge, how each is taken apart, and how it is put together again.

A value is taken apart by the methods of its builtin, never by those that a subclass has in their place. A container
has items, in one order on both sides (of a dict first its keys, then its values); any other value has a payload, as
JSON says it. Runs inside the sandbox: imports the standard library only.
Not covered: what is in a container (values.py).
"""

from __future__ import annotations

import importlib
import struct
import sys
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

_MAX_NAMES = 100  # of a namedtuple; one of more fields is a bare tuple
_CLOCK = ("hour", "minute", "second", "microsecond", "tzinfo", "fold")
_DATES = {
    "date": ("year", "month", "day"),
    "time": _CLOCK,
    "datetime": ("year", "month", "day", *_CLOCK),
    "timedelta": ("days", "seconds", "microseconds"),
}
_OF_TYPING = (  # what Python 3.11 to 3.14 put into a class written as a NamedTuple
    *("__annotations__", "__orig_bases__", "__static_attributes__", "__firstlineno__"),
    *("__annotate__", "__annotate_func__", "__annotations_cache__"),
)
_FACTORIES = {kind.__name__: kind for kind in (int, float, str, bool, list, tuple, dict, set)}
_FACTORY_NAMES = {kind: name for name, kind in _FACTORIES.items()}
VIEWS = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}
"""Views of dicts, and the methods that make them."""


def _dict_items(value: Any) -> list[Any]:
    return [*dict.keys(value), *dict.values(value)]


ITEMS: dict[type, Callable[[Any], list[Any]]] = {
    list: list.copy,
    tuple: lambda value: [*tuple.__iter__(value)],
    set: lambda value: [*set.__iter__(value)],
    frozenset: lambda value: [*frozenset.__iter__(value)],
    bytearray: lambda value: [*bytearray.__iter__(value)],
    dict: _dict_items,
    Counter: _dict_items,
    OrderedDict: lambda value: [*OrderedDict.keys(value), *OrderedDict.values(value)],
    defaultdict: lambda value: [_FACTORY_NAMES.get(value.default_factory), *_dict_items(value)],
    deque: lambda value: [value.maxlen, *deque.__iter__(value)],
}
"""The items of a container."""

EMPTY: dict[type, Callable[[Any, Any], Any]] = {
    **dict.fromkeys([list, set, bytearray, dict, Counter, OrderedDict], lambda cls, items: cls()),
    defaultdict: lambda cls, items: cls(_FACTORIES.get(items[0])),
    deque: lambda cls, items: cls((), items[0]),
}
"""An empty object of a class, to be filled with items: the containers that can change."""

WRITE: dict[type, Callable[[Any], Any]] = {
    int: lambda value: hex(int.__int__(value)),
    float: lambda value: struct.pack(">d", value).hex(),  # every NaN has a sign
    str: str.__str__,
    complex: lambda value: struct.pack(">dd", complex.real.__get__(value), complex.imag.__get__(value)).hex(),
    bytes: bytes.hex,
    range: lambda value: [hex(part) for part in (value.start, value.stop, value.step)],
    Decimal: str,
    Fraction: lambda value: [hex(value.numerator), hex(value.denominator)],
}
"""The payload of any other value."""

READ: dict[type, Callable[[Any], Any]] = {
    int: lambda payload: int(payload, 16),  # hexadecimal: linear, and without the limit on decimal digits
    float: lambda payload: struct.unpack(">d", bytes.fromhex(payload))[0],
    str: str.__str__,
    complex: lambda payload: complex(*struct.unpack(">dd", bytes.fromhex(payload))),
    bytes: bytes.fromhex,
    range: lambda payload: range(*(int(part, 16) for part in payload)),
    Decimal: Decimal,
    Fraction: lambda payload: Fraction(*(int(part, 16) for part in payload)),
}
"""The value of a payload."""

_KNOWN = ITEMS.keys() | WRITE.keys()
CLASSES: dict[str, tuple[Any, Any]] = {kind.__name__: (kind, kind) for kind in _KNOWN}
"""Builtin and class by tag: the builtin itself, or with a + the bare subclass that stands for all others of it."""
for _kind in _KNOWN - {range, Decimal, Fraction}:
    CLASSES[f"{_kind.__name__}+"] = (_kind, type(_kind.__name__, (_kind,), {}))


def base_of(kind: type) -> type:
    """Return the nearest class whose values cross; object when there is none.

    Example:
        >>> base_of(type("Sorted", (OrderedDict,), {})), base_of(bool), base_of(type)
        (<class 'collections.OrderedDict'>, <class 'int'>, <class 'object'>)
    """
    if kind in _KNOWN:
        return kind
    return next((base for base in kind.__mro__ if base in _KNOWN), object)


def items_of(value: Any) -> list[Any]:
    """Return what is in a container, and nothing for a value that is none.

    Example:
        >>> items_of({"a": 1, "b": 2}), items_of(2.5)
        (['a', 'b', 1, 2], [])
    """
    return ITEMS.get(base_of(type(value)), lambda _: [])(value)


def fill(value: Any, items: Sequence[Any]) -> None:
    """Give a container these items in place of its own.

    Example:
        >>> value = {"c": 3}; fill(value, ["a", "b", 1, 2]); value
        {'a': 1, 'b': 2}
    """
    base: Any = base_of(type(value))
    if base in (deque, defaultdict):
        items = items[1:]  # it has been made with the first
    base.clear(value)
    if base is set:
        base.update(value, items)
    elif issubclass(base, dict):
        half = len(items) // 2
        for key, item in zip(items[:half], items[half:], strict=True):
            base.__setitem__(value, key, item)
    else:
        base.extend(value, items)


def date_parts(value: Any) -> list[Any] | None:
    """Return what a date, time, datetime or timedelta was made of; None for anything else.

    Example:
        >>> from datetime import date
        >>> date_parts(date(2020, 1, 31)), date_parts(object())
        ([2020, 1, 31], None)
    """
    name = type(value).__name__
    module = sys.modules.get("datetime")  # where nobody has imported it there are no dates
    if name not in _DATES or getattr(module, name, None) is not type(value):
        return None
    return [getattr(value, part) for part in _DATES[name]]


def make_date(name: str, parts: Sequence[Any]) -> Any:
    """Return the date, time, datetime or timedelta of these parts; KeyError when the name is of none.

    Example:
        >>> make_date("timedelta", [1, 2, 3])
        datetime.timedelta(days=1, seconds=2, microseconds=3)
    """
    folds = _DATES[name][-1] == "fold"
    make = getattr(importlib.import_module("datetime"), name)
    return make(*parts[:-1], fold=parts[-1]) if folds else make(*parts)


def fields_of(kind: type) -> tuple[str, ...] | None:
    """Return the fields of a class that `namedtuple` makes as well; None when it is no such class.

    Example:
        >>> fields_of(namedtuple("Point", "x y")), fields_of(type("Odd", (namedtuple("Point", "x y"),), {}))
        (('x', 'y'), None)
    """
    fields = kind.__dict__.get("_fields")
    if kind.__bases__ != (tuple,) or type(fields) is not tuple:
        return None
    known = {*namedtuple("_", "").__dict__, *_OF_TYPING, *fields}  # a method of its own is not among them
    return fields if kind.__dict__.keys() <= known and _are_names([kind.__name__, *fields]) else None


@lru_cache(maxsize=256)
def make_namedtuple(name: str, fields: tuple[str, ...]) -> Any:
    """Return the class of namedtuples with this name and these fields, one for each; both must be identifiers.

    Raises:
        ValueError: they are not, all of them ASCII, or there are too many.
    Example:
        >>> make_namedtuple("Point", ("x", "y"))(1, 2)
        Point(x=1, y=2)
    """
    if not _are_names([name, *fields]):
        raise ValueError
    return namedtuple(name, fields)


def _are_names(names: Sequence[str]) -> bool:
    return len(names) <= _MAX_NAMES and all(name.isidentifier() and name.isascii() for name in names)
