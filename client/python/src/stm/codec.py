"""Values to the wire and back. Nothing is lost: what was read and is written back is the same value."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from . import records
from ._proto import value_pb2 as v1
from .errors import BadValue
from .values import ABSENT, BigInt, Character, Instant, Keyword, List, Map, Set, Symbol, Tagged, Vector

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
# Messages inside each other: protobuf parses 100. What is within this bound the daemon judges, by its own.
NESTING_MAX = 94


class Codec:
    """`keyword_keys`: keys of maps that are str here are keywords on the wire, both ways. Any thread."""

    def __init__(self, keyword_keys: bool = False) -> None:
        self.keyword_keys = keyword_keys

    # ---- To the wire

    def encode(self, value: Any, name: str, known_only: bool = False) -> v1.Value:
        """`name` is the entry's, for the BadValue that a value without an EDN form raises. `known_only`: without the
        fields of records that this program does not know."""
        message = v1.Value()
        self._fill(message, value, name, known_only, 1)
        return message

    def _fill(self, message: v1.Value, value: Any, name: str, known_only: bool, nesting: int) -> None:
        """In place: protobuf copies what is put into another message."""
        simple = _SIMPLE.get(type(value))
        if simple is not None:
            simple(message, value, name)
            return
        if nesting > NESTING_MAX:
            raise BadValue(
                f"{name}: nests too many levels for clients to parse (value_wire_nesting_max, where a map's level "
                "counts 3 and another's 2): make it flatter",
                name=name,
            )
        registered = records.of_type(type(value))
        if registered is not None:
            encoded = registered.encode_known(value) if known_only else registered.encode(value)
            message.tagged.tag = registered.tag
            inside = message.tagged.value
            if registered.is_record:
                self._fill_map(inside.map, encoded, name, known_only, nesting + 2, keyword_keys=False)
            else:
                self._fill(inside, encoded, name, known_only, nesting + 2)
            return
        match value:
            case List():
                self._fill_items(message.list, value, name, known_only, nesting)
            case Vector() | list():
                self._fill_items(message.vector, value, name, known_only, nesting)
            case tuple() if type(value) is tuple:
                self._fill_items(message.vector, value, name, known_only, nesting)
            case Mapping():
                self._fill_map(message.map, value, name, known_only, nesting, self.keyword_keys)
            case set() | frozenset() | Set():
                self._fill_items(message.set, value, name, known_only, nesting)
            case Tagged():
                message.tagged.tag = value.tag
                self._fill(message.tagged.value, value.value, name, known_only, nesting + 2)
            case Decimal():
                _decimal(message, value, name)
            case datetime():
                _instant(message, value, name)
            case uuid.UUID():
                message.uuid = str(value)
            case _ if value is ABSENT:
                raise BadValue(f"{name}: stm.ABSENT is no value: delete the entry", name=name)
            case _:
                raise BadValue(
                    f"{name}: {type(value).__module__}.{type(value).__qualname__} has no EDN form: "
                    "register its type by @stm.record or stm.register, or write plain values",
                    name=name,
                )

    def _fill_items(self, message: v1.Items, items: Iterable[Any], name: str, known_only: bool, nesting: int) -> None:
        message.SetInParent()
        fill, add = self._fill, message.items.add
        for item in items:
            fill(add(), item, name, known_only, nesting + 2)

    def _fill_map(
        self,
        message: v1.Map,
        value: Mapping[Any, Any],
        name: str,
        known_only: bool,
        nesting: int,
        keyword_keys: bool,
    ) -> None:
        message.SetInParent()
        fill, add = self._fill, message.entries.add
        for key, item in value.items():
            entry = add()
            if keyword_keys and type(key) is str:
                entry.key.keyword = key
            else:
                fill(entry.key, key, name, known_only, nesting + 3)
            fill(entry.value, item, name, known_only, nesting + 3)
            if keyword_keys and type(key) is Keyword and key.text in value:
                raise BadValue(
                    f'{name}: a map with the keys "{key.text}" and {key}, which are one with keys="keyword": '
                    "give it one of them",
                    name=name,
                )

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


def _integer(message: v1.Value, value: int, name: str) -> None:
    if not INT_MIN <= value <= INT_MAX:
        raise BadValue(f"{name}: {value} is past 64 bits: write stm.BigInt({value})", name=name)
    message.integer = value


def _text(message: v1.Value, value: str, name: str) -> None:
    try:
        message.text = value
    except (UnicodeEncodeError, ValueError) as error:
        raise BadValue(f"{name}: a str that has no UTF-8: keep it as bytes", name=name) from error


def _decimal(message: v1.Value, value: Decimal, name: str) -> None:
    if not value.is_finite():
        raise BadValue(f"{name}: {value!r} is no number that EDN has: use a float", name=name)
    message.decimal = str(value)


def _instant(message: v1.Value, value: datetime, name: str) -> None:
    try:
        at = Instant.of(value)
    except ValueError as error:
        raise BadValue(f"{name}: {error}", name=name) from error
    message.instant.seconds, message.instant.nanos = at.epoch_second, at.nanosecond
    message.instant.SetInParent()


def _set(field: str, of: Callable[[Any], Any]) -> Callable[[v1.Value, Any, str], None]:
    return lambda message, value, name: setattr(message, field, of(value))


_PLAIN = frozenset({"boolean", "integer", "float64", "text", "blob"})

# Of values without others in them, by their very type: a subclass of one may be somebody's record.
_SIMPLE: dict[type, Callable[[v1.Value, Any, str], None]] = {
    type(None): _set("nil", lambda value: True),
    bool: _set("boolean", bool),
    int: _integer,
    float: _set("float64", float),
    str: _text,
    bytes: _set("blob", bytes),
    BigInt: _set("bigint", lambda value: str(int(value))),
    Decimal: _decimal,
    Keyword: _set("keyword", lambda value: value.text),
    Symbol: _set("symbol", lambda value: value.text),
    Character: _set("character", lambda value: ord(value.text)),
    Instant: _instant,
    datetime: _instant,
    uuid.UUID: _set("uuid", str),
}

_plain = Codec()


def to_wire(value: Any, name: str) -> v1.Value:
    return _plain.encode(value, name)


def from_wire(message: v1.Value, name: str) -> Any:
    return _plain.decode(message, name)
