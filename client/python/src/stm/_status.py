"""google.rpc.Status's details, read without a dependency that has the message."""

from __future__ import annotations

_DETAILS = 3 << 3 | 2  # field 3, length-delimited


def details(status: bytes) -> list[bytes]:
    """The bytes of each Any in it. IndexError: cut short."""
    parts: list[bytes] = []
    at = 0
    while at < len(status):
        tag, at = _varint(status, at)
        size, at = _varint(status, at)
        if tag & 7 == 2:
            if tag == _DETAILS:
                parts.append(status[at : at + size])
            at += size
    return parts


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
