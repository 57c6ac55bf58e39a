"""Values on the wire: what a program and its judge hand each other means on both sides what it would in one process.

JSON says None, booleans, numbers, text and lists; anything else is an object of one key, its tag. A type of the
standard library that plain data can rebuild exactly comes back as that type. Any other subclass of a builtin comes
back as a bare subclass: its content as the builtin's own methods read it, and none of its own methods or attributes,
so that an overridden `__eq__` stays where it was written, and yet `type(answer) is int` is false of an IntEnum.
An iterator stays where it is: the other side gets one that asks for its items. Mutable objects keep their identity:
both sides have the same ones under the same numbers (class Heap). Anything else is not plain.
Runs inside the sandbox: imports the standard library and this room only. Not covered: classes, functions, coroutines;
the identity of immutable values, NaN apart (containers compare by identity first).
"""

from __future__ import annotations

import gc
import math
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from operator import is_
from types import GeneratorType
from typing import Any, NoReturn

from pytest_collabcode.execution import plain
from pytest_collabcode.execution.wire import BrokenWireError, TooLargeError

MAX_DEPTH = 100
KEPT = 256
"""Objects of earlier calls that both sides keep in step: the last ones, where a program has kept more."""

_SAFE_INTEGER = 1 << 53
_ATOMS = {int, float, str, bool, type(None)}
_BROKEN = TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError, struct.error


class NotPlainError(Exception):
    """A value cannot cross: it is no plain data."""


class Heap:
    """One side's half of the mutable objects that program and judge share.

    Objects get their numbers in the order in which they first cross, so both sides count alike. `mark` notes what is
    in each; `changes` says of which that is no longer true, and `apply` does the same to the other side's. After a
    call the program's side says which objects are still held there (`release`); the judge's keeps these.

    Args:
        borrow: makes the iterator that stands for the other side's of a number; a heap without it lends its own.
    Example:
        >>> judge, program, board = Heap(iter), Heap(), [[0], [0]]
        >>> copy = program.decode(judge.encode(board)); program.mark()
        >>> copy[1] = copy[0]; copy[0].append(1)
        >>> judge.apply(program.changes()); board, board[0] is board[1]
        ([[0, 1], [0, 1]], True)
        >>> judge.decode(program.encode(copy)) is board
        True
    """

    def __init__(self, borrow: Callable[[int], Iterator[Any]] | None = None) -> None:
        self._borrow = borrow
        self._iterators: dict[int, Any] = {}
        self._lent: dict[int, int] = {}  # their numbers, by id
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}  # theirs, by id
        self._before: list[list[Any]] = []

    def encode(self, value: Any, depth: int = 0) -> Any:
        """Return a value as JSON-ready data.

        Raises:
            NotPlainError: the value, or something in it, is of a type that does not cross.
            TooLargeError: it is nested more than MAX_DEPTH deep.
        """
        kind = type(value)
        if kind is int or kind is float:
            return value if -_SAFE_INTEGER < value < _SAFE_INTEGER else self._encode_number(value, kind)
        if kind is str or kind is bool or value is None:
            return value
        number = self._numbers.get(id(value))
        if number is not None:
            return {"ref": number}
        if depth >= MAX_DEPTH:
            raise TooLargeError
        depth += 1
        if kind is list:
            self._add(value)
            return [self.encode(item, depth) for item in value]
        return self._encode_tagged(value, kind, depth)

    def _encode_number(self, value: Any, kind: type) -> Any:
        if kind is float and value == value:
            return value  # JSON of Python has an infinity
        if value is math.nan:
            return {"math.nan": 0}
        number = self._numbers.get(id(value))
        if number is not None:
            return {"ref": number}
        if kind is float:
            self._add(value)
        return {kind.__name__: plain.WRITE[kind](value)}

    def _encode_tagged(self, value: Any, kind: type, depth: int) -> Any:
        base = plain.base_of(kind)
        tag = base.__name__ if base is kind else f"{base.__name__}+"
        fields = plain.fields_of(kind) if tag == "tuple+" else None
        if fields is not None:
            return {"namedtuple": [kind.__name__, *fields, *self._encode_all(plain.ITEMS[tuple](value), depth)]}
        if base in plain.EMPTY:
            self._add(value)
        if base in plain.ITEMS:
            return {tag: self._encode_all(plain.ITEMS[base](value), depth)}
        if tag in plain.CLASSES:
            return {tag: plain.WRITE[base](value)}
        for view, name in plain.VIEWS.items():
            if isinstance(value, view):
                return {name: self.encode(gc.get_referents(value)[0], depth)}
        if isinstance(value, Iterator):
            return {"generator" if kind is GeneratorType else "iterator": self._lend(value)}
        if (parts := plain.date_parts(value)) is None:
            raise NotPlainError
        return {kind.__name__: self._encode_all(parts, depth)}

    def _encode_all(self, items: Iterable[Any], depth: int) -> list[Any]:
        return [self.encode(item, depth) for item in items]

    def _add(self, value: Any) -> None:
        self._numbers[id(value)] = len(self._objects)
        self._objects.append(value)

    def decode(self, data: Any) -> Any:
        """Return the value that the other side's `encode` was given.

        Raises:
            BrokenWireError: the data is not `encode`'s.
        """
        if type(data) in _ATOMS:
            return data
        try:
            return self._decode(data)
        except _BROKEN as error:
            raise BrokenWireError from error

    def _decode(self, data: Any) -> Any:
        if type(data) is list:
            value: list[Any] = []
            self._add(value)
            value += self._decode_all(data)
            return value
        ((tag, payload),) = data.items()
        if tag == "ref":
            return self._objects[_natural(payload)]
        if tag in plain.CLASSES:
            return self._build(tag, payload)
        if tag in ("generator", "iterator"):
            return self._stand_in(tag, _natural(payload))
        if tag == "math.nan":
            return math.nan
        if tag == "namedtuple":
            name, *rest = payload
            half = len(rest) // 2
            return plain.make_namedtuple(name, tuple(rest[:half]))(*self._decode_all(rest[half:]))
        if tag in plain.VIEWS.values():
            value = self._decode(payload)
            return getattr(value if isinstance(value, dict) else None, tag)()
        return plain.make_date(tag, self._decode_all(payload))

    def _decode_all(self, data: list[Any]) -> list[Any]:
        if type(data) is not list:
            raise ValueError
        return [item if type(item) in _ATOMS else self._decode(item) for item in data]

    def _build(self, tag: str, payload: Any) -> Any:
        base, cls = plain.CLASSES[tag]
        if base in plain.EMPTY:
            value = plain.EMPTY[base](cls, payload)
            self._add(value)
            plain.fill(value, self._decode_all(payload))
            return value
        if base in plain.ITEMS:
            return cls(self._decode_all(payload))
        value = plain.READ[base](payload)
        if tag == "float":  # only NaN is sent so
            self._add(value)
        return value if cls is base else cls(value)

    def _lend(self, iterator: Any) -> int:
        number = self._lent.get(id(iterator))
        if number is not None:
            return number
        if self._borrow is not None:  # the test's own: it could not be set to where the program leaves it
            raise NotPlainError
        return self._know(len(self._iterators), iterator)

    def _stand_in(self, tag: str, number: int) -> Any:
        if number not in self._iterators:
            if self._borrow is None:
                raise ValueError
            items = self._borrow(number)
            self._know(number, items if tag == "generator" else iter(items.__next__, object()))
        return self._iterators[number]

    def _know(self, number: int, iterator: Any) -> int:
        if number in self._iterators:
            del self._lent[id(self._iterators[number])]
        self._iterators[number] = iterator
        self._lent[id(iterator)] = number
        return number

    def advance(self, number: int, n_items: int) -> list[Any]:
        """Return the next items of a lent iterator: fewer at its end, and where it raises, which the next call does.

        Example:
            >>> heap = Heap(); heap.encode(iter("abc"))
            {'iterator': 0}
            >>> heap.advance(0, 2), heap.advance(0, 2)
            (['a', 'b'], ['c'])
        """
        items: list[Any] = []
        try:
            while len(items) < n_items:
                items.append(next(self._iterators[number]))
        except StopIteration:
            self._know(number, iter(()))  # lets go of the iterator and all that it has
        except BaseException as error:
            self._know(number, _raise_later(error) if items else iter(()))
            if not items:
                raise
        return items

    def mark(self) -> None:
        """Note what is in each object: `changes` are from here on."""
        self._before = [plain.items_of(value) for value in self._objects]

    def changes(self) -> list[Any]:
        """Return, as JSON-ready data, what is now in each object that is no longer as it was at `mark`."""
        changes = []
        for number, before in enumerate(self._before):
            now = plain.items_of(self._objects[number])
            if len(now) != len(before) or not all(map(is_, now, before)):
                changes.append([number, self._encode_all(now, 1)])
        return changes

    def apply(self, changes: Any) -> None:
        """Change the objects as the other side's have changed; BrokenWireError as in `decode`."""
        try:
            for number, items in changes:
                plain.fill(self._objects[_natural(number)], self._decode_all(items))
        except _BROKEN as error:
            raise BrokenWireError from error

    def keep(self, numbers: Any) -> None:
        """Forget all objects but these, which are numbered anew; BrokenWireError as in `decode`."""
        try:
            self._objects = [self._objects[_natural(number)] for number in numbers]
        except _BROKEN as error:
            raise BrokenWireError from error
        self._numbers = {id(value): number for number, value in enumerate(self._objects)}

    def release(self) -> list[int]:
        """Keep the objects that something beside this heap refers to, and return the numbers they had.

        Example:
            >>> heap = Heap(); held = heap.decode([[]])[0]; heap.release(), heap.encode(held), heap.encode([])
            ([1], {'ref': 0}, [])
        """
        self._before = []
        if not self._objects:
            return []
        numbers = list(range(len(self._objects)))
        self._drop_unheld(numbers)
        if numbers:  # but perhaps by a cycle only, such as a nested function that calls itself leaves behind
            gc.collect(0)
            self._drop_unheld(numbers)
        del numbers[:-KEPT], self._objects[:-KEPT]
        self._numbers = {id(value): number for number, value in enumerate(self._objects)}
        return numbers

    def _drop_unheld(self, numbers: list[int]) -> None:
        """Drop each object that nothing but its place here refers to, then what only those referred to, and so on."""
        objects = self._objects
        while objects:
            objects.append([])
            *counts, unheld = map(sys.getrefcount, objects)
            objects.pop()
            held = [i for i, count in enumerate(counts) if count > unheld and type(objects[i]) is not float]
            if len(held) == len(objects):
                return
            numbers[:] = [numbers[i] for i in held]
            objects[:] = [objects[i] for i in held]


def _natural(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError
    return number


def _raise_later(error: BaseException) -> Iterator[NoReturn]:
    raise error
    yield
