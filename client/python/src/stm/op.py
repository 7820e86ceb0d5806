"""Operations that the daemon applies at the commit point, so that they never conflict: tx.commute(ref, op.add(1))."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ._proto import common_pb2, value_pb2
from .codec import to_wire


class Op(NamedTuple):
    """Made by the functions below. `fill(operation, name)` writes it; `name` is the entry's, for errors."""

    fill: Callable[[common_pb2.Operation, str], None]

    def to_wire(self, name: str) -> common_pb2.Operation:
        operation = common_pb2.Operation()
        self.fill(operation, name)
        return operation


def _value(field: str, value: Any) -> Op:
    return Op(lambda operation, name: getattr(operation, field).CopyFrom(to_wire(value, name)))


def _items(field: str, items: tuple[Any, ...]) -> Op:
    return Op(
        lambda operation, name: getattr(operation, field).CopyFrom(
            value_pb2.Items(items=[to_wire(item, name) for item in items])
        )
    )


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
    return _items("disj", items)


def dissoc(*keys: Any) -> Op:
    return _items("dissoc", keys)
