"""Values to the wire and back. Nothing is lost: what was read and is written back is the same value."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from . import records
from ._proto import value_pb2 as v1
from .errors import BadValue
from .values import ABSENT, BigInt, Character, Instant, Keyword, List, Map, Set, Symbol, Tagged, Vector

INT_MIN, INT_MAX = -(2**63), 2**63 - 1


class Codec:
    """`keyword_keys`: keys of maps that are str here are keywords on the wire, both ways. Any thread."""

    def __init__(self, keyword_keys: bool = False) -> None:
        self.keyword_keys = keyword_keys

    # ---- To the wire

    def encode(self, value: Any, name: str, known_only: bool = False) -> v1.Value:
        """`name` is the entry's, for the BadValue that a value without an EDN form raises. `known_only`: without the
        fields of records that this program does not know."""
        simple = _SIMPLE.get(type(value))
        if simple is not None:
            return simple(value, name)
        return self._encode(value, name, known_only)

    def _encode(self, value: Any, name: str, known_only: bool) -> v1.Value:
        registered = records.of_type(type(value))
        if registered is not None:
            encoded = registered.encode_known(value) if known_only else registered.encode(value)
            inside = (
                self._map(encoded, name, known_only, keyword_keys=False)
                if registered.is_record
                else self.encode(encoded, name, known_only)
            )
            return v1.Value(tagged=v1.Tagged(tag=registered.tag, value=inside))
        match value:
            case Vector():
                return v1.Value(vector=self._items(value, name, known_only))
            case List():
                return v1.Value(list=self._items(value, name, known_only))
            case list():
                return v1.Value(vector=self._items(value, name, known_only))
            case tuple() if type(value) is tuple:
                return v1.Value(vector=self._items(value, name, known_only))
            case Mapping():
                return self._map(value, name, known_only, self.keyword_keys)
            case set() | frozenset() | Set():
                return v1.Value(set=self._items(value, name, known_only))
            case Tagged():
                inside = self.encode(value.value, name, known_only)
                return v1.Value(tagged=v1.Tagged(tag=value.tag, value=inside))
            case Decimal():
                return _decimal(value, name)
            case datetime():
                return _instant(value, name)
            case uuid.UUID():
                return v1.Value(uuid=str(value))
        if value is ABSENT:
            raise BadValue(f"{name}: stm.ABSENT is no value: delete the entry", name=name)
        raise BadValue(
            f"{name}: {type(value).__module__}.{type(value).__qualname__} has no EDN form: "
            "register its type by @stm.record or stm.register, or write plain values",
            name=name,
        )

    def _items(self, items: Iterable[Any], name: str, known_only: bool) -> v1.Items:
        encode = self.encode
        return v1.Items(items=[encode(item, name, known_only) for item in items])

    def _map(self, value: Mapping[Any, Any], name: str, known_only: bool, keyword_keys: bool) -> v1.Value:
        encode = self.encode
        if not keyword_keys:
            pairs = [
                v1.MapEntry(key=encode(k, name, known_only), value=encode(item, name, known_only))
                for k, item in value.items()
            ]
            return v1.Value(map=v1.Map(entries=pairs))
        pairs = []
        for key, item in value.items():
            if type(key) is Keyword and key.text in value:
                raise BadValue(
                    f'{name}: a map with the keys "{key.text}" and {key}, which are one with keys="keyword": '
                    "give it one of them",
                    name=name,
                )
            wire = v1.Value(keyword=key) if type(key) is str else encode(key, name, known_only)
            pairs.append(v1.MapEntry(key=wire, value=encode(item, name, known_only)))
        return v1.Value(map=v1.Map(entries=pairs))

    # ---- From the wire

    def decode(self, message: v1.Value, name: str) -> Any:
        """ABSENT for a message with no kind; BadValue, naming `name`, for what this client cannot hold."""
        kind = message.WhichOneof("kind")
        if kind in _PLAIN:
            return getattr(message, kind)
        match kind:
            case None:
                return ABSENT
            case "nil":
                return None
            case "vector":
                return Vector(self._read(message.vector, name))
            case "map":
                return self._read_map(message.map, name, self.keyword_keys)
            case "keyword":
                return Keyword(message.keyword)
            case "tagged":
                return self._read_tagged(message.tagged, name)
            case "list":
                return List(self._read(message.list, name))
            case "set":
                found = self._read(message.set, name)
                items = frozenset(found)
                # Python's == cannot tell 1, 1.0 and True apart.
                return items if len(items) == len(found) else Set(found)
            case "character":
                return Character(chr(message.character))
            case "symbol":
                return Symbol(message.symbol)
            case "instant":
                return Instant.from_epoch(message.instant.seconds, message.instant.nanos)
            case "uuid":
                return uuid.UUID(message.uuid)
            case "bigint":
                return BigInt(message.bigint)
            case "decimal":
                try:
                    return Decimal(message.decimal)
                except InvalidOperation as error:
                    raise BadValue(f"{name}: decimal {message.decimal} is out of Python's range", name=name) from error
        raise BadValue(f"{name}: a value of kind {kind}, which this client does not know: use a newer one", name=name)

    def _read(self, items: v1.Items, name: str) -> list[Any]:
        decode = self.decode
        return [decode(item, name) for item in items.items]

    def _read_map(self, message: v1.Map, name: str, keyword_keys: bool) -> Map[Any, Any]:
        decode = self.decode
        if not keyword_keys:
            return Map((decode(entry.key, name), decode(entry.value, name)) for entry in message.entries)
        pairs = []
        for entry in message.entries:
            kind = entry.key.WhichOneof("kind")
            if kind == "text":
                raise BadValue(
                    f'{name}: a map with the string key "{entry.key.text}", which keys="keyword" would write back as a '
                    "keyword: connect without it",
                    name=name,
                )
            key = entry.key.keyword if kind == "keyword" else decode(entry.key, name)
            pairs.append((key, decode(entry.value, name)))
        return Map(pairs)

    def _read_tagged(self, message: v1.Tagged, name: str) -> Any:
        registered = records.of_tag(message.tag)
        if registered is None:
            return Tagged(message.tag, self.decode(message.value, name))
        if registered.is_record and message.value.WhichOneof("kind") == "map":
            inside: Any = self._read_map(message.value.map, name, keyword_keys=False)
        else:
            inside = self.decode(message.value, name)
        try:
            return registered.decode(inside)
        except BadValue:
            # It is read as what it is, and written back whole: who asks for the type is told why it is none.
            return Tagged(message.tag, inside)


def _integer(value: int, name: str) -> v1.Value:
    if not INT_MIN <= value <= INT_MAX:
        raise BadValue(f"{name}: {value} is past 64 bits: write stm.BigInt({value})", name=name)
    return v1.Value(integer=value)


def _text(value: str, name: str) -> v1.Value:
    try:
        return v1.Value(text=value)
    except (UnicodeEncodeError, ValueError) as error:
        raise BadValue(f"{name}: a str that has no UTF-8: keep it as bytes", name=name) from error


def _decimal(value: Decimal, name: str) -> v1.Value:
    if not value.is_finite():
        raise BadValue(f"{name}: {value!r} is no number that EDN has: use a float", name=name)
    return v1.Value(decimal=str(value))


def _instant(value: datetime, name: str) -> v1.Value:
    try:
        at = Instant.of(value)
    except ValueError as error:
        raise BadValue(f"{name}: {error}", name=name) from error
    return v1.Value(instant=Timestamp(seconds=at.epoch_second, nanos=at.nanosecond))


_PLAIN = frozenset({"boolean", "integer", "float64", "text", "blob"})

# Of values without others in them, by their very type: a subclass of one may be somebody's record.
_SIMPLE: dict[type, Callable[[Any, str], v1.Value]] = {
    type(None): lambda value, name: v1.Value(nil=True),
    bool: lambda value, name: v1.Value(boolean=value),
    int: _integer,
    float: lambda value, name: v1.Value(float64=value),
    str: _text,
    bytes: lambda value, name: v1.Value(blob=value),
    BigInt: lambda value, name: v1.Value(bigint=str(int(value))),
    Decimal: _decimal,
    Keyword: lambda value, name: v1.Value(keyword=value.text),
    Symbol: lambda value, name: v1.Value(symbol=value.text),
    Character: lambda value, name: v1.Value(character=ord(value.text)),
    Instant: _instant,
    datetime: _instant,
    uuid.UUID: lambda value, name: v1.Value(uuid=str(value)),
}

_plain = Codec()


def to_wire(value: Any, name: str) -> v1.Value:
    return _plain.encode(value, name)


def from_wire(message: v1.Value, name: str) -> Any:
    return _plain.decode(message, name)
