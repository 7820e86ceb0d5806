"""Between the wire's messages and what users see: names below a prefix, errors, commits, definitions, methods."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from . import errors
from ._proto import (
    admin_service_pb2,
    common_pb2,
    event_pb2,
    lock_service_pb2,
    log_service_pb2,
    offer_service_pb2,
    ref_service_pb2,
    session_service_pb2,
    transaction_service_pb2,
    value_pb2,
    watch_service_pb2,
)
from ._status import details
from .codec import Codec
from .commits import Change, ChangeKind, Commit, Definition
from .errors import BadValue, Cause, Meta, Rejected, StmError
from .values import Instant

NAME_BYTES_MAX = 512  # the daemon's bounds
NAME_SEGMENTS_MAX = 32
_SERVICES = {
    "AdminService": admin_service_pb2,
    "LockService": lock_service_pb2,
    "LogService": log_service_pb2,
    "OfferService": offer_service_pb2,
    "RefService": ref_service_pb2,
    "SessionService": session_service_pb2,
    "TransactionService": transaction_service_pb2,
    "WatchService": watch_service_pb2,
}


@functools.cache
def method_of(name: str) -> tuple[str, Any, Any]:
    """Of "RefService/GetRefs": its path, and how requests and answers are written and read."""
    service, rpc = name.split("/")
    made = _SERVICES[service].DESCRIPTOR.services_by_name[service].methods_by_name[rpc]
    request: Any = _class_of(made.input_type.name, service)
    answer: Any = _class_of(made.output_type.name, service)
    return f"/stm.v1.{name}", request.SerializeToString, answer.FromString


def _class_of(message: str, service: str) -> type[Message]:
    found: type[Message] = getattr(_SERVICES[service], message)
    return found


OPTIONS = [
    # A daemon may send and take what gRPC's own bound would cut off; it names the bound that is passed itself.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Backing off is ours: each try is a connection of its own.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]


def _is_system(name: str) -> bool:
    return name[:2] == "/."


_NAME = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[^/\x00-\x1f\x7f-\x9f\ud800-\udfff]+)+")


def check_name(name: str) -> None:
    """The daemon's own rule (engine/name.h), before anything is sent."""
    if _NAME.fullmatch(name) is None:
        raise BadValue(f"name {name!r}{_fault(name)}", name=name)
    if len(name) > NAME_BYTES_MAX // 4 and len(name.encode()) > NAME_BYTES_MAX:
        raise BadValue(
            f"name {name[:64]!r}...: {len(name.encode())} bytes, at most {NAME_BYTES_MAX} (name_bytes_max): shorten it",
            name=name,
        )
    if name.count("/") > NAME_SEGMENTS_MAX:
        raise BadValue(
            f"name {name!r}: {name.count('/')} segments, at most {NAME_SEGMENTS_MAX} (name_segments_max)", name=name
        )


def _fault(name: str) -> str:
    if name[:1] != "/":
        return ': must begin with "/"'
    if name.endswith("/"):
        return ': must not end in "/"'
    if "//" in name:
        return ": empty segment"
    if any(segment in (".", "..") for segment in name.split("/")):
        return ': a segment may not be "." or ".."'
    return ": control character, or not Unicode"


def check_prefix(prefix: str) -> None:
    if prefix == "/":
        return
    if not prefix.endswith("/"):
        raise BadValue(f'prefix {prefix!r}: must end in "/", which means all that is under it', name=prefix)
    try:
        check_name(prefix[:-1])
    except BadValue as error:
        raise BadValue(f"prefix {prefix!r}: {error}", name=prefix) from None


def check_selector(selector: str) -> None:
    """What a watch selects: a name, or a prefix."""
    (check_prefix if selector.endswith("/") else check_name)(selector)


def under(name: str, prefix: str) -> bool:
    """Is it listed by the prefix? The system's names ("/.once/...") are by their own alone."""
    if len(name) <= len(prefix) or not name.startswith(prefix):
        return False
    return not _is_system(name) or _is_system(prefix)


class Names:
    """Names below a prefix: without it here, with it on the wire."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def full(self, name: str) -> str:
        if not self.prefix:
            return name
        at = self._system_end(name)
        return name[:at] + self.prefix + name[at:]

    def short(self, name: str) -> str:
        if not self.prefix:
            return name
        at = self._system_end(name)
        return name[:at] + name[at + len(self.prefix) :] if name.startswith(self.prefix, at) else name

    @staticmethod
    def _system_end(name: str) -> int:
        if not _is_system(name):
            return 0
        end = name.find("/", 1)
        return len(name) if end < 0 else end


def seconds_of(message: Duration) -> float:
    return float(message.seconds + message.nanos / 1e9)


def duration(seconds: float) -> Duration:
    nanos = round(max(seconds, 0.0) * 1e9)
    return Duration(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


def instant_of(message: Timestamp) -> Instant:
    return Instant.from_epoch(message.seconds, message.nanos)


def timestamp(at: Instant) -> Timestamp:
    return Timestamp(seconds=at.epoch_second, nanos=at.nanosecond)


def meta_of(message: common_pb2.Meta) -> Meta:
    return Meta(message.label, message.client, message.traceparent, message.principal)


# ---- Errors

_BY_REASON: dict[int, type[StmError]] = {
    common_pb2.ERROR_REASON_SNAPSHOT_TOO_OLD: errors.SnapshotTooOld,
    common_pb2.ERROR_REASON_LIMIT: errors.LimitExceeded,
    common_pb2.ERROR_REASON_WRONG_KIND: errors.WrongKind,
    common_pb2.ERROR_REASON_SESSION_EXPIRED: errors.SessionExpired,
    common_pb2.ERROR_REASON_CONTAINER_DOWN: errors.Unavailable,
    common_pb2.ERROR_REASON_DENIED: errors.Denied,
    common_pb2.ERROR_REASON_BAD_VALUE: errors.BadValue,
    common_pb2.ERROR_REASON_NO_SPACE: errors.NoSpace,
    common_pb2.ERROR_REASON_ABSENT: errors.Absent,
    common_pb2.ERROR_REASON_STORE_CHANGED: errors.StoreChanged,
    common_pb2.ERROR_REASON_UNSUPPORTED: errors.Unsupported,
    common_pb2.ERROR_REASON_SLOW_READER: errors.LimitExceeded,
    common_pb2.ERROR_REASON_NOT_READY: errors.Unavailable,
    common_pb2.ERROR_REASON_VALUE_LOST: errors.ValueLost,
}
_BY_CODE: dict[grpc.StatusCode, type[StmError]] = {
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unsupported,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.LimitExceeded,
    grpc.StatusCode.INVALID_ARGUMENT: errors.BadValue,
    grpc.StatusCode.NOT_FOUND: errors.Absent,
    grpc.StatusCode.PERMISSION_DENIED: errors.Denied,
    grpc.StatusCode.UNAUTHENTICATED: errors.Denied,
    grpc.StatusCode.DATA_LOSS: errors.ValueLost,
}


def detail_of(metadata: Iterable[tuple[str, Any]] | None) -> common_pb2.ErrorDetail | None:
    for key, value in metadata or ():
        if key == "grpc-status-details-bin":
            detail = common_pb2.ErrorDetail()
            if any(AnyMessage.FromString(part).Unpack(detail) for part in details(value)):
                return detail
    return None


def error_of(code: grpc.StatusCode, message: str, detail: common_pb2.ErrorDetail | None, names: Names) -> StmError:
    """By its ErrorDetail, and by its status code where it has none."""
    by_code = _BY_CODE.get(code, StmError)
    if detail is None:
        return by_code(message)
    name = names.short(detail.name)
    if name != detail.name:
        message = message.replace(detail.name, name)
    return _BY_REASON.get(detail.reason, by_code)(
        message,
        name=name,
        found=detail.found,
        expected=detail.expected,
        limit=detail.limit,
        limit_value=detail.limit_value,
        retry_after=seconds_of(detail.retry_after) if detail.HasField("retry_after") else None,
    )


def causes_of(conflict: transaction_service_pb2.Conflict, names: Names) -> tuple[Cause, ...]:
    return tuple(Cause(names.short(one.name), one.version, meta_of(one.by)) for one in conflict.causes)


_REMEDIES = {
    transaction_service_pb2.REJECT_CAUSE_VALIDATOR: ("validator", "write a value that the rule takes, or change it"),
    transaction_service_pb2.REJECT_CAUSE_TYPE: ("type", "use an operation of the value's type"),
    transaction_service_pb2.REJECT_CAUSE_COMPARE: ("compare", "read it again and decide anew"),
    transaction_service_pb2.REJECT_CAUSE_OVERFLOW: ("overflow", "keep larger numbers as BigInt"),
}


def rejected_error(message: transaction_service_pb2.Rejected, names: Names, codec: Codec) -> StmError:
    name = names.short(message.name)
    said = message.message.replace(message.name, name) if message.name != name else message.message
    said = said or f"found {message.found}"
    text = f"rejected: {said}" if said.startswith(f"{name}:") else f"rejected: {name}: {said}"
    if message.cause == transaction_service_pb2.REJECT_CAUSE_ABSENT:
        return errors.Absent(f"{text}: set it first, or give its handle an init", name=name)
    if message.cause == transaction_service_pb2.REJECT_CAUSE_KIND:
        return errors.WrongKind(f"{text}: use client.ref for a ref and client.atom for an atom", name=name)
    cause, remedy = _REMEDIES.get(message.cause, ("", "the same write would be rejected again"))
    error = Rejected(f"{text}: nothing was changed; {remedy}", name=name, found=message.found)
    error.cause = cause
    error.rule = codec.decode(message.rule, name) if message.HasField("rule") else None
    return error


# ---- What is in answers


def atom_or_ref(kind: int) -> bool:
    return kind == common_pb2.ENTRY_KIND_ATOM


_CHANGES: dict[int, ChangeKind] = {
    event_pb2.CHANGE_KIND_DELETED: "deleted",
    event_pb2.CHANGE_KIND_EXPIRED: "expired",
    event_pb2.CHANGE_KIND_DEFINED: "defined",
}


class CommitParts:
    """One commit out of the messages that it comes in."""

    def __init__(self, names: Names, codec: Codec) -> None:
        self._names, self._codec = names, codec
        self._changes: list[Change] = []
        self._records: list[value_pb2.Value] = []
        self._begun = False

    def add(self, event: event_pb2.CommitEvent) -> tuple[Commit, list[value_pb2.Value]] | None:
        """The whole commit with the message that ends it, and its records as they came."""
        codec, short = self._codec, self._names.short
        for change in event.changes:
            name = short(change.name)
            self._changes.append(
                Change(
                    name,
                    _CHANGES.get(change.kind, "set"),
                    codec.decode(change.before, name),
                    codec.decode(change.after, name),
                    change.before_unknown,
                    atom_or_ref(change.entry_kind),
                )
            )
        self._records += event.records
        if event.more:
            return None
        changes, records = self._changes, self._records
        self._changes, self._records = [], []
        commit = Commit(
            event.version,
            instant_of(event.at),
            event.transaction_id,
            meta_of(event.meta),
            tuple(changes),
            tuple(codec.decode(record, f"a record of version {event.version}") for record in records),
        )
        return commit, records


def fill_definition(
    message: common_pb2.Definition, definition: Definition, session: str, codec: Codec, name: str
) -> None:
    if definition.validator is not None:
        message.validator.CopyFrom(codec.encode(definition.validator, name))
    if definition.ttl is not None:
        message.ttl.CopyFrom(duration(definition.ttl))
    if definition.ephemeral:
        message.session_id = session
    message.container = definition.container


def definition_of(message: common_pb2.Definition, codec: Codec, name: str) -> Definition:
    return Definition(
        validator=codec.decode(message.validator, name) if message.HasField("validator") else None,
        ttl=seconds_of(message.ttl) if message.HasField("ttl") else None,
        ephemeral=bool(message.session_id),
        container=message.container,
    )
