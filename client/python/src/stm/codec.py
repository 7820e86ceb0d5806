"""Values to the wire and back. Nothing is lost: what was read and is written back is the same value."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from . import records
from ._proto import value_pb2 as v1
from .errors import BadValue
from .values import ABSENT, BigInt, Character, Instant, Keyword, List, Map, Symbol, Tagged, Vector

INT_MIN, INT_MAX = -(2**63), 2**63 - 1


def to_wire(value: Any, name: str) -> v1.Value:
    """`name` is the entry's, for the BadValue that a value without an EDN form raises."""
    registered = records.of_type(type(value))
    if registered is not None:
        return v1.Value(tagged=v1.Tagged(tag=registered.tag, value=to_wire(registered.encode(value), name)))
    match value:
        case None:
            return v1.Value(nil=True)
        case bool():
            return v1.Value(boolean=value)
        case BigInt():
            return v1.Value(bigint=str(int(value)))
        case float() if type(value) is float:
            return v1.Value(float64=value)
        case int() if type(value) is int:
            if not INT_MIN <= value <= INT_MAX:
                raise BadValue(f"{name}: {value} is past 64 bits: write stm.BigInt({value})", name=name)
            return v1.Value(integer=value)
        case str() if type(value) is str:
            try:
                return v1.Value(text=value)
            except (UnicodeEncodeError, ValueError) as error:
                raise BadValue(f"{name}: a str that has no UTF-8: keep it as bytes", name=name) from error
        case bytes():
            return v1.Value(blob=bytes(value))
        case Decimal():
            if not value.is_finite():
                raise BadValue(f"{name}: {value!r} is no number that EDN has: use a float", name=name)
            return v1.Value(decimal=str(value))
        case Keyword():
            return v1.Value(keyword=value.text)
        case Symbol():
            return v1.Value(symbol=value.text)
        case Character():
            return v1.Value(character=ord(value.text))
        case uuid.UUID():
            return v1.Value(uuid=str(value))
        case datetime():
            try:
                at = Instant.of(value)
            except ValueError as error:
                raise BadValue(f"{name}: {error}", name=name) from error
            return v1.Value(instant=Timestamp(seconds=at.epoch_second, nanos=at.nanosecond))
        case List():
            return v1.Value(list=_items(value, name))
        case list() | Vector():
            return v1.Value(vector=_items(value, name))
        case tuple() if type(value) is tuple:
            return v1.Value(vector=_items(value, name))
        case Mapping():
            pairs = [v1.MapEntry(key=to_wire(k, name), value=to_wire(item, name)) for k, item in value.items()]
            return v1.Value(map=v1.Map(entries=pairs))
        case set() | frozenset():
            return v1.Value(set=_items(value, name))
        case Tagged():
            return v1.Value(tagged=v1.Tagged(tag=value.tag, value=to_wire(value.value, name)))
    if value is ABSENT:
        raise BadValue(f"{name}: stm.ABSENT is no value: delete the entry", name=name)
    raise BadValue(
        f"{name}: {type(value).__module__}.{type(value).__qualname__} has no EDN form: "
        "register its type by @stm.record or stm.register, or write plain values",
        name=name,
    )


def _items(items: Any, name: str) -> v1.Items:
    return v1.Items(items=[to_wire(item, name) for item in items])


def from_wire(message: v1.Value, name: str) -> Any:
    """ABSENT for a message with no kind; BadValue, naming `name`, for what this client cannot hold."""
    kind = message.WhichOneof("kind")
    match kind:
        case None:
            return ABSENT
        case "nil":
            return None
        case "boolean" | "integer" | "float64" | "text" | "blob":
            return getattr(message, kind)
        case "character":
            return Character(chr(message.character))
        case "keyword":
            return Keyword(message.keyword)
        case "symbol":
            return Symbol(message.symbol)
        case "instant":
            return Instant.from_epoch(message.instant.seconds, message.instant.nanos)
        case "uuid":
            return uuid.UUID(message.uuid)
        case "list":
            return List(_read(message.list, name))
        case "vector":
            return Vector(_read(message.vector, name))
        case "map":
            return Map((from_wire(entry.key, name), from_wire(entry.value, name)) for entry in message.map.entries)
        case "set":
            items = frozenset(_read(message.set, name))
            if len(items) != len(message.set.items):
                raise BadValue(
                    f"{name}: a set of what Python's == cannot tell apart (as 1 and 1.0): keep them as a map's keys",
                    name=name,
                )
            return items
        case "tagged":
            return _read_tagged(message.tagged, name)
        case "bigint":
            return BigInt(message.bigint)
        case "decimal":
            try:
                return Decimal(message.decimal)
            except InvalidOperation as error:
                raise BadValue(f"{name}: decimal {message.decimal} is out of Python's range", name=name) from error
    raise BadValue(f"{name}: a value of kind {kind}, which this client does not know: use a newer one", name=name)


def _read(items: v1.Items, name: str) -> list[Any]:
    return [from_wire(item, name) for item in items.items]


def _read_tagged(message: v1.Tagged, name: str) -> Any:
    inside = from_wire(message.value, name)
    registered = records.of_tag(message.tag)
    if registered is None:
        return Tagged(message.tag, inside)
    try:
        return registered.decode(inside)
    except BadValue as error:
        raise BadValue(f"{name}: {error}", name=name) from error
