"""The user's own types, by tag, for the whole process. A tag on the wire never names a class to load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

from .errors import BadValue
from .values import Keyword, Map

C = TypeVar("C", bound=type)


class Registered(NamedTuple):
    tag: str
    type: type
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


_by_tag: dict[str, Registered] = {}
_by_type: dict[type, Registered] = {}


def register(tag: str, type: type, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> None:
    """`encode` makes any EDN value of an instance of exactly `type`, `decode` the instance again.

    A tag or a type that is registered already, with another partner, is a BadValue.
    """
    other = _by_tag.get(tag) or _by_type.get(type)
    if other is not None and (other.tag, other.type) != (tag, type):
        raise BadValue(f"#{tag} for {type.__name__}: #{other.tag} is {other.type.__name__} already: choose another tag")
    _by_tag[tag] = _by_type[type] = Registered(tag, type, encode, decode)


def record(tag: str) -> Callable[[C], C]:
    """Registers a NamedTuple under `tag`: a map of its fields, as keywords in kebab case (start_date: :start-date).

    Fields on the wire that the class does not know are kept, also by _replace, and written back. A field that is
    missing there takes its default, and is a BadValue if it has none.
    """

    def registered(cls: C) -> C:
        fields: tuple[str, ...] | None = getattr(cls, "_fields", None)
        if fields is None or not issubclass(cls, tuple):
            raise BadValue(
                f"{cls.__name__} is no NamedTuple: make it one, or use stm.register(tag, type, encode, decode)"
            )
        _register_named_tuple(tag, cls, fields)
        return cls

    return registered


def _register_named_tuple(tag: str, cls: type, fields: tuple[str, ...]) -> None:
    keywords = {field: Keyword(field.strip("_").replace("_", "-")) for field in fields}
    if len(set(keywords.values())) != len(fields):
        raise BadValue(f"{cls.__name__}: two fields spell the same keyword in kebab case: rename one")
    known = set(keywords.values())
    made = cast(Any, cls)

    class Kept(cls):  # type: ignore[misc]
        """One that came with fields its class does not know."""

        _stm_unknown: Map[Any, Any]

        def _replace(self, **changes: Any) -> Any:
            return keeping(made._replace(made(*self), **changes), self._stm_unknown)

        def __reduce__(self) -> Any:
            return (made, tuple(self))

    Kept.__name__, Kept.__qualname__ = cls.__name__, cls.__qualname__

    def keeping(plain: Any, unknown: Map[Any, Any]) -> Any:
        kept = Kept(*plain)
        kept._stm_unknown = unknown
        return kept

    def encode(value: Any) -> Map[Any, Any]:
        own = [(keywords[field], getattr(value, field)) for field in fields]
        return Map([*own, *getattr(value, "_stm_unknown", Map()).items()])

    def decode(value: Any) -> Any:
        if not isinstance(value, Map):
            raise BadValue(f"#{tag}: its value is no map: register a type that reads it by stm.register")
        missing = [f for f in fields if keywords[f] not in value and f not in made._field_defaults]
        if missing:
            raise BadValue(f"#{tag} has no {keywords[missing[0]]}: give {cls.__name__}.{missing[0]} a default")
        plain = made(**{field: value[keywords[field]] for field in fields if keywords[field] in value})
        unknown = Map((key, item) for key, item in value.items() if key not in known)
        return keeping(plain, unknown) if unknown else plain

    register(tag, cls, encode, decode)
    _by_type[Kept] = _by_tag[tag]


def of_tag(tag: str) -> Registered | None:
    return _by_tag.get(tag)


def of_type(cls: type) -> Registered | None:
    return _by_type.get(cls)
