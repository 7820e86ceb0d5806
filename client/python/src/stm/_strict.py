"""Keys that tell apart what Python's == does not: True, 1 and 1.0 are three values in EDN."""

from __future__ import annotations

import struct
from collections.abc import Hashable, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal


def strict_key(value: object) -> Hashable:
    """Equal for two values if and only if they are one EDN value. `value` is immutable as decoded values are."""
    if isinstance(value, float):
        return (float, "nan") if value != value else (float, 0.0 if value == 0 else struct.pack(">d", value))
    if isinstance(value, Decimal):
        return (Decimal, value.as_tuple())
    if isinstance(value, tuple):
        return (type(value), tuple(strict_key(item) for item in value))
    if isinstance(value, AbstractSet):
        return (frozenset, frozenset(strict_key(item) for item in value))
    if isinstance(value, Mapping):
        return (Mapping, frozenset((strict_key(key), strict_key(item)) for key, item in value.items()))
    own = getattr(value, "_strict_key", None)
    if own is not None:
        return (type(value), own())
    if not isinstance(value, Hashable):
        raise TypeError(f"{type(value).__name__} is mutable and can be no key: use a tuple, stm.Map or frozenset")
    return (type(value), value)
