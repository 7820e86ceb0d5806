"""Operations that the daemon applies at the commit point, so that they never conflict: tx.commute(ref, op.add(1)).

At a path into the value: op.add(1).at("visits", 0). What an operation does and on which types is the daemon's to say:
one that does not fit is Rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ._proto import common_pb2, value_pb2
from .codec import Codec
from .errors import BadValue
from .values import ABSENT

_PLAIN = Codec()


class Op(NamedTuple):
    """Made by the functions below; a value, for any number of uses."""

    fill: Callable[[common_pb2.Operation, Codec, str], None]
    path: tuple[Any, ...] = ()

    def at(self, *path: Any) -> Op:
        """The same, of what is at these keys and indexes inside the value."""
        return self._replace(path=self.path + path)

    def to_wire(self, name: str, codec: Codec = _PLAIN) -> common_pb2.Operation:
        operation = common_pb2.Operation(path=[_key(codec, step, name) for step in self.path])
        self.fill(operation, codec, name)
        return operation


def _key(codec: Codec, key: Any, name: str) -> value_pb2.Value:
    """Of a map, as the maps of this client have it."""
    if codec.keyword_keys and type(key) is str:
        return value_pb2.Value(keyword=key)
    return codec.encode(key, name)


def _value(field: str, value: Any) -> Op:
    return Op(lambda operation, codec, name: getattr(operation, field).CopyFrom(codec.encode(value, name)))


def _items(field: str, items: Iterable[Any]) -> Op:
    kept = tuple(items)
    return Op(
        lambda operation, codec, name: getattr(operation, field).CopyFrom(
            value_pb2.Items(items=[codec.encode(item, name) for item in kept])
        )
    )


def _count(field: str, n: int) -> Op:
    if n < 1:
        raise BadValue(f"{field} of {n}: take at least 1")
    return Op(lambda operation, codec, name: setattr(operation, field, n))


def set(value: Any) -> Op:
    """The value itself. With at(): what assoc-in does."""
    return _value("set", value)


def add(number: int | float) -> Op:
    """A sum past 64 bits is Rejected."""
    return _value("add", number)


def minimum(number: int | float) -> Op:
    return _value("min", number)


def maximum(number: int | float) -> Op:
    return _value("max", number)


def append(value: Any) -> Op:
    """All items, characters or bytes of `value`, at the end of a list, vector, string or bytes."""
    return _value("append", value)


def conj(*items: Any) -> Op:
    """At the end of a vector, the front of a list, or into a set or a map (of [key, value])."""
    return _items("conj", items)


def disj(*items: Any) -> Op:
    """Out of a set."""
    return _items("disj", items)


def union(items: Iterable[Any]) -> Op:
    """All of them into a set."""
    return _items("conj", items)


def pop(n: int = 1) -> Op:
    """From the end of a vector or the front of a list. Gives what was removed: one item when n is 1, else a vector."""
    return _count("pop", n)


def shift(n: int = 1) -> Op:
    """From the front of a vector or list, as pop gives it. With conj on a vector: a queue's take."""
    return _count("shift", n)


def assoc(*keys_and_values: Any) -> Op:
    """assoc(key, value, key, value...): into a map, or at existing indexes of a vector, or its end."""
    if not keys_and_values or len(keys_and_values) % 2:
        raise BadValue("assoc takes keys and values in turn: give each key a value")
    pairs = tuple(zip(keys_and_values[::2], keys_and_values[1::2], strict=True))

    def fill(operation: common_pb2.Operation, codec: Codec, name: str) -> None:
        entries = [value_pb2.MapEntry(key=_key(codec, k, name), value=codec.encode(v, name)) for k, v in pairs]
        operation.assoc.CopyFrom(value_pb2.Map(entries=entries))

    return Op(fill)


def merge(entries: Mapping[Any, Any]) -> Op:
    """All of them into a map."""
    kept = dict(entries) if type(entries) is dict else entries
    return Op(
        lambda operation, codec, name: operation.assoc.CopyFrom(codec.encode(kept, name).map),
    )


def dissoc(*keys: Any) -> Op:
    """Out of a map."""

    def fill(operation: common_pb2.Operation, codec: Codec, name: str) -> None:
        operation.dissoc.CopyFrom(value_pb2.Items(items=[_key(codec, key, name) for key in keys]))

    return Op(fill)


def toggle() -> Op:
    """not, of a boolean."""
    return Op(lambda operation, codec, name: setattr(operation, "toggle", True))


def compare_and_set(expected: Any, value: Any) -> Op:
    """Rejects the whole transaction (cause "compare") where the present value is another. ABSENT: only if absent."""

    def fill(operation: common_pb2.Operation, codec: Codec, name: str) -> None:
        if expected is not ABSENT:
            operation.compare_and_set.expected.CopyFrom(codec.encode(expected, name))
        operation.compare_and_set.value.CopyFrom(codec.encode(value, name))

    return Op(fill)
