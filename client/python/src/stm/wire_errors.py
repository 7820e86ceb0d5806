"""Errors of a failed call: by its ErrorDetail, and by its status code where it has none."""

from __future__ import annotations

import grpc

from . import errors
from ._proto import common_pb2

_BY_REASON: dict[int, type[errors.StmError]] = {
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
_BY_CODE: dict[grpc.StatusCode, type[errors.StmError]] = {
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unsupported,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.LimitExceeded,
    grpc.StatusCode.INVALID_ARGUMENT: errors.BadValue,
    grpc.StatusCode.NOT_FOUND: errors.Absent,
    grpc.StatusCode.PERMISSION_DENIED: errors.Denied,
    grpc.StatusCode.UNAUTHENTICATED: errors.Denied,
    grpc.StatusCode.DATA_LOSS: errors.ValueLost,
}


def error_of(code: grpc.StatusCode, message: str, detail: common_pb2.ErrorDetail | None) -> errors.StmError:
    by_code = _BY_CODE.get(code, errors.StmError)
    if detail is None:
        return by_code(message)
    retry_after = None
    if detail.HasField("retry_after"):
        retry_after = detail.retry_after.seconds + detail.retry_after.nanos / 1e9
    return _BY_REASON.get(detail.reason, by_code)(
        message,
        name=detail.name,
        found=detail.found,
        expected=detail.expected,
        limit=detail.limit,
        limit_value=detail.limit_value,
        retry_after=retry_after,
    )
