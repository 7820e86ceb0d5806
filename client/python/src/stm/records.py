"""The user's own types, by tag, for the whole process. A tag on the wire never names a class to load."""

from __future__ import annotations

import dataclasses
import functools
import threading
import types
import typing
import uuid
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar, cast

from .errors import BadValue
from .values import BigInt, Instant, Keyword, Map, Symbol, Tagged

C = TypeVar("C", bound=type)


class Registered(NamedTuple):
    tag: str
    type: type
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    encode_known: Callable[[Any], Any]  # without the fields that the class does not know
    is_record: bool


_by_tag: dict[str, Registered] = {}
_by_type: dict[type, Registered] = {}
# How many records with unknown fields this thread has read: whoever decodes sees whether there were any.
_kept = threading.local()


def kept() -> int:
    return getattr(_kept, "count", 0)


def register(tag: str, type: type, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> None:
    """`encode` makes any EDN value of an instance of exactly `type`, `decode` the instance again.

    A tag or a type that is registered already, with another partner, is a BadValue.
    """
    _register(Registered(tag, type, encode, decode, encode, False))


def _register(made: Registered) -> None:
    tag, type_ = made.tag, made.type
    other = _by_tag.get(tag) or _by_type.get(type_)
    if other is not None and (other.tag, other.type) != (tag, type_):
        raise BadValue(
            f"#{tag} for {type_.__name__}: #{other.tag} is {other.type.__name__} already: choose another tag"
        )
    _by_tag[tag] = _by_type[type_] = made


def record(tag: str) -> Callable[[C], C]:
    """Registers a NamedTuple or a frozen dataclass under `tag`: a map of its fields, as keywords in kebab case
    (start_date: :start-date).

    Fields on the wire that the class does not know are kept, also by _replace (of a NamedTuple) and by the transaction
    that read them, and written back. A field that is missing there takes its default. What does not fit (a field
    without a default is missing, or is not what its annotation says: int, str, datetime and their like, also with "|
    None") is read as Tagged, and is a BadValue, which says why, for a handle that asks for the type: client.ref(name,
    type=User)."""

    def registered(cls: C) -> C:
        fields: tuple[str, ...] | None = getattr(cls, "_fields", None)
        if fields is not None and issubclass(cls, tuple):
            defaults = set(cast(Any, cls)._field_defaults)
        elif dataclasses.is_dataclass(cls) and cast(Any, cls).__dataclass_params__.frozen:
            own = [field for field in dataclasses.fields(cls) if field.init]
            fields = tuple(field.name for field in own)
            missing = dataclasses.MISSING
            defaults = {f.name for f in own if f.default is not missing or f.default_factory is not missing}
        else:
            raise BadValue(
                f"{cls.__name__} is neither a NamedTuple nor a frozen dataclass: make it one, or use "
                "stm.register(tag, type, encode, decode)"
            )
        _register_fields(tag, cls, fields, defaults)
        return cls

    return registered


def _register_fields(tag: str, cls: type, fields: tuple[str, ...], defaults: set[str]) -> None:
    keywords = {field: Keyword(field.strip("_").replace("_", "-")) for field in fields}
    if len(set(keywords.values())) != len(fields):
        raise BadValue(f"{cls.__name__}: two fields spell the same keyword in kebab case: rename one")
    known = set(keywords.values())
    made = cast(Any, cls)
    keeping = _keeper(made, fields)

    @functools.cache
    def checks() -> dict[str, tuple[type, ...]]:
        return _checks(cls, fields)

    def encode_known(value: Any) -> Map[Any, Any]:
        return Map((keywords[field], getattr(value, field)) for field in fields)

    def encode(value: Any) -> Map[Any, Any]:
        unknown = getattr(value, "_stm_unknown", None)
        own = encode_known(value)
        return own if unknown is None else Map([*own.items(), *unknown.items()])

    def decode(value: Any) -> Any:
        if not isinstance(value, Map):
            raise BadValue(f"#{tag}: its value is no map: register a type that reads it by stm.register")
        missing = [f for f in fields if keywords[f] not in value and f not in defaults]
        if missing:
            raise BadValue(f"#{tag} has no {keywords[missing[0]]}: give {cls.__name__}.{missing[0]} a default")
        found = {field: value[keywords[field]] for field in fields if keywords[field] in value}
        for field, allowed in checks().items():
            if field in found and not _fits(found[field], allowed):
                wanted = " or ".join(one.__name__ for one in allowed)
                raise BadValue(
                    f"#{tag}: {keywords[field]} is {found[field]!r}, and {cls.__name__}.{field} is {wanted}: "
                    "mend the entry or the class"
                )
        plain = made(**found)
        unknown = Map((key, item) for key, item in value.items() if key not in known)
        if not unknown:
            return plain
        _kept.count = kept() + 1
        return keeping(plain, unknown)

    _register(Registered(tag, cls, encode, decode, encode_known, True))


def _keeper(made: Any, fields: tuple[str, ...]) -> Callable[[Any, Map[Any, Any]], Any]:
    """Of instances that came with fields their class does not know."""
    if not issubclass(made, tuple):

        def on_instance(plain: Any, unknown: Map[Any, Any]) -> Any:
            try:
                object.__setattr__(plain, "_stm_unknown", unknown)
            except AttributeError:
                pass  # it has slots: the transaction that reads it keeps them all the same
            return plain

        return on_instance

    class Kept(made):  # type: ignore[misc]
        _stm_unknown: Map[Any, Any]

        def _replace(self, **changes: Any) -> Any:
            return keeping(made._replace(made(*self), **changes), self._stm_unknown)

        def __reduce__(self) -> Any:
            return (made, tuple(self))

    Kept.__name__, Kept.__qualname__ = made.__name__, made.__qualname__

    def keeping(plain: Any, unknown: Map[Any, Any]) -> Any:
        one = Kept(*plain)
        one._stm_unknown = unknown
        return one

    _kept_types[Kept] = made
    return keeping


_kept_types: dict[type, type] = {}

# Annotations that are checked; of others a program sees to itself.
_CHECKED = {int, float, str, bytes, bool, datetime, Instant, Keyword, Symbol, BigInt, Decimal, uuid.UUID}


def _checks(cls: type, fields: tuple[str, ...]) -> dict[str, tuple[type, ...]]:
    try:
        hints = typing.get_type_hints(cls)
    except Exception:
        return {}  # an annotation that cannot be looked up here says nothing
    found = {}
    for field in fields:
        hint = hints.get(field)
        union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        parts = typing.get_args(hint) if union else (hint,)
        if parts and all(part in _CHECKED or part is type(None) for part in parts):
            found[field] = tuple(parts)
    return found


def _fits(value: Any, allowed: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in allowed
    if isinstance(value, int) and not isinstance(value, BigInt) and float in allowed:
        return True  # as Python's own type checkers have it
    return isinstance(value, allowed)


def why_not(value: Any) -> str:
    """Why a value that was read is Tagged though its tag is registered; "": another reason, or none."""
    if isinstance(value, Tagged) and (registered := _by_tag.get(value.tag)) is not None:
        try:
            registered.decode(value.value)
        except BadValue as error:
            return str(error)
    return ""


def of_tag(tag: str) -> Registered | None:
    return _by_tag.get(tag)


def of_type(cls: type) -> Registered | None:
    return _by_type.get(_kept_types.get(cls, cls))
