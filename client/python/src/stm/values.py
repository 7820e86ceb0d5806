"""EDN's values that Python has no type for. All are immutable and hashable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime, timedelta, timezone
from typing import Any, Final, Generic, TypeVar, final

from ._strict import strict_key

T_co = TypeVar("T_co", covariant=True)
K = TypeVar("K")
V_co = TypeVar("V_co", covariant=True)

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@final
class Absent_:
    """The type of ABSENT."""

    _one: Absent_ | None = None

    def __new__(cls) -> Absent_:
        if cls._one is None:
            cls._one = super().__new__(cls)
        return cls._one

    def __repr__(self) -> str:
        return "stm.ABSENT"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent_()
"""There is no entry: never the same as None, which is EDN's nil."""


class _Name:
    """`text` is "name" or "ns/name"."""

    __slots__ = ("text",)
    text: str

    def __init__(self, text: str) -> None:
        object.__setattr__(self, "text", text)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: make another")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, _Name) and other.text == self.text

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.text))

    def __reduce__(self) -> tuple[type[_Name], tuple[str]]:
        return (type(self), (self.text,))


@final
class Keyword(_Name):
    """:name, written without its colon. Not a str."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"stm.Keyword({self.text!r})"

    def __str__(self) -> str:
        return ":" + self.text


@final
class Symbol(_Name):
    """A symbol. Not a str."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"stm.Symbol({self.text!r})"

    def __str__(self) -> str:
        return self.text


@final
class Character(_Name):
    r"""One character, as \a. Not a str."""

    __slots__ = ()

    def __init__(self, text: str) -> None:
        if len(text) != 1:
            raise ValueError(f"{text!r} is not one character: use a str")
        super().__init__(text)

    def __repr__(self) -> str:
        return f"stm.Character({self.text!r})"


@final
class BigInt(int):
    """123N: stays one however small it is. Arithmetic gives int; make a BigInt of the result again."""

    def __repr__(self) -> str:
        return f"stm.BigInt({int(self)})"


@final
class Vector(tuple[T_co, ...], Generic[T_co]):
    """[1 2 3]. Equal to a tuple of the same items, never to a List."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return not isinstance(other, List) and tuple.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__

    def __repr__(self) -> str:
        return f"stm.Vector({list(self)!r})"


@final
class List(tuple[T_co, ...], Generic[T_co]):
    """(1 2 3). Equal to another List alone: a list and a vector are two values."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, List) and tuple.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(("stm.List", tuple.__hash__(self)))

    def __repr__(self) -> str:
        return f"stm.List({list(self)!r})"


@final
class Map(Mapping[K, V_co], Generic[K, V_co]):
    """{:a 1}: a mapping that is hashable, keeps its order, and has True, 1 and 1.0 as three keys."""

    __slots__ = ("_entries",)
    _entries: dict[Any, tuple[K, V_co]]

    def __init__(self, of: Mapping[K, V_co] | Iterable[tuple[K, V_co]] = ()) -> None:
        pairs = of.items() if isinstance(of, Mapping) else of
        object.__setattr__(self, "_entries", {strict_key(key): (key, value) for key, value in pairs})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Map is immutable: make another, as stm.Map({**old, key: value})")

    def __getitem__(self, key: K) -> V_co:
        try:
            return self._entries[strict_key(key)][1]
        except KeyError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[K]:
        return (key for key, _ in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        mine, theirs = self._entries, (other if isinstance(other, Map) else Map(other))._entries
        return mine.keys() == theirs.keys() and all(theirs[key][1] == pair[1] for key, pair in mine.items())

    def __hash__(self) -> int:
        return hash(frozenset((key, hash(pair[1])) for key, pair in self._entries.items()))

    def __repr__(self) -> str:
        return f"stm.Map({dict(self._entries.values())!r})"

    def __reduce__(self) -> tuple[type[Map[Any, Any]], tuple[list[tuple[K, V_co]]]]:
        return (Map, (list(self._entries.values()),))


@final
class Set(AbstractSet[T_co], Generic[T_co]):
    """#{1 1.0}: a set that has True, 1 and 1.0 as three items, hashable. Sets are read as frozensets where those can
    hold them, and as this where they cannot."""

    __slots__ = ("_items",)
    _items: dict[Any, T_co]

    def __init__(self, of: Iterable[T_co] = ()) -> None:
        object.__setattr__(self, "_items", {strict_key(item): item for item in of})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Set is immutable: make another")

    def __contains__(self, item: object) -> bool:
        return strict_key(item) in self._items

    def __iter__(self) -> Iterator[T_co]:
        return iter(self._items.values())

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        return self._items.keys() == (other if isinstance(other, Set) else Set(other))._items.keys()

    def __hash__(self) -> int:
        return hash(frozenset(self._items))

    def __repr__(self) -> str:
        return f"stm.Set({list(self._items.values())!r})"

    def __reduce__(self) -> tuple[type[Set[Any]], tuple[list[T_co]]]:
        return (Set, (list(self._items.values()),))


@final
class Tagged:
    """#tag value, of a tag that no type here is registered for. Written back whole."""

    __slots__ = ("tag", "value")
    tag: str
    value: Any

    def __init__(self, tag: str, value: Any) -> None:
        object.__setattr__(self, "tag", tag)
        object.__setattr__(self, "value", value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Tagged is immutable: make another")

    def _strict_key(self) -> object:
        return (self.tag, strict_key(self.value))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tagged) and other.tag == self.tag and other.value == self.value

    def __hash__(self) -> int:
        return hash((self.tag, self.value))

    def __repr__(self) -> str:
        return f"stm.Tagged({self.tag!r}, {self.value!r})"

    def __reduce__(self) -> tuple[type[Tagged], tuple[str, Any]]:
        return (Tagged, (self.tag, self.value))


@final
class Instant(datetime):
    """A moment in UTC, to the nanosecond: `.nanosecond` is 0 to 999,999,999, `.microsecond` its start. Years 1 to 9999.

    Made by of() and from_epoch(). Sums with timedelta keep the nanoseconds; replace() and astimezone() give what
    datetime has, without what is below a microsecond.
    """

    _below: int = 0  # nanoseconds below the microsecond, 0 to 999

    @classmethod
    def from_epoch(cls, seconds: int, nanosecond: int = 0) -> Instant:
        """`seconds` since 1970-01-01T00:00:00Z; `nanosecond` counts forward from them."""
        if not 0 <= nanosecond < 1_000_000_000:
            raise ValueError(f"nanosecond {nanosecond} is not in 0 to 999999999: carry it into seconds")
        at = _EPOCH + timedelta(seconds=seconds, microseconds=nanosecond // 1000)
        return cls._at(at, nanosecond % 1000)

    @classmethod
    def of(cls, moment: datetime) -> Instant:
        """Of an aware datetime; a naive one is a ValueError, since it is no moment."""
        if isinstance(moment, Instant):
            return moment
        if moment.tzinfo is None:
            raise ValueError(f"{moment!r} has no time zone, so it is no moment: give it tzinfo, as timezone.utc")
        return cls._at(moment.astimezone(timezone.utc), 0)

    @classmethod
    def _at(cls, at: datetime, below: int) -> Instant:
        made = cls(at.year, at.month, at.day, at.hour, at.minute, at.second, at.microsecond, timezone.utc)
        made._below = below
        return made

    @property
    def nanosecond(self) -> int:
        return self.microsecond * 1000 + self._below

    @property
    def epoch_second(self) -> int:
        """Whole seconds since 1970, rounded down."""
        since = datetime.__sub__(self, _EPOCH)
        return since.days * 86400 + since.seconds

    def __add__(self, delta: timedelta) -> Instant:
        made = super().__add__(delta)
        made._below = self._below
        return made

    __radd__ = __add__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, datetime):
            return datetime.__eq__(self, other) is True and self._below == getattr(other, "_below", 0)
        return NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: date) -> bool:
        if not isinstance(other, datetime):
            return NotImplemented
        same = datetime.__eq__(self, other) is True
        return self._below < getattr(other, "_below", 0) if same else datetime.__lt__(self, other)

    def __le__(self, other: date) -> bool:
        return self == other or self < other

    def __gt__(self, other: date) -> bool:
        return not self <= other

    def __ge__(self, other: date) -> bool:
        return not self < other

    def __hash__(self) -> int:
        return datetime.__hash__(self) if self._below == 0 else hash((datetime.__hash__(self), self._below))

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return (Instant.from_epoch, (self.epoch_second, self.nanosecond))

    def __repr__(self) -> str:
        return f"stm.Instant.from_epoch({self.epoch_second}, {self.nanosecond})"


def now() -> Instant:
    """This machine's clock, to the nanosecond where it has them."""
    import time

    seconds, nanosecond = divmod(time.time_ns(), 1_000_000_000)
    return Instant.from_epoch(seconds, nanosecond)
