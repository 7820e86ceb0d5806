"""One connection to one daemon of several addresses, and calls on it that are sent again until they are answered.

Any thread may call. A call that may be repeated is repeated through an outage of at most `unavailable_timeout`; a
commit keeps its id in every resend, so that it happens once.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from typing import Any, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from ._proto import admin_service_pb2, common_pb2, transaction_service_pb2
from ._status import details
from .errors import CommitUnknown, StmError, StoreChanged, Unavailable
from .wire_errors import error_of

M = TypeVar("M", bound=Message)

SETTLE_MAX = 1.0  # seconds that a commit whose caller's time is up is asked after
WAS_WELL_AFTER = 1.0  # seconds: a call that was under way for so long before it broke was no part of an outage
LOOK_EVERY = 5.0  # seconds after which a call that waits sees whether its daemon still answers


class Deadline:
    """`timeout` seconds from now; None: never."""

    def __init__(self, timeout: float | None) -> None:
        self.at = None if timeout is None else time.monotonic() + max(timeout, 0.0)

    def left(self) -> float | None:
        return None if self.at is None else max(self.at - time.monotonic(), 0.0)

    def passed(self) -> bool:
        return self.at is not None and time.monotonic() >= self.at

    def at_most(self, seconds: float) -> float:
        left = self.left()
        return seconds if left is None else min(seconds, left)


class Outage:
    """Failures in a row: no pause after the first, then 10 ms to 1 s, until `limit` seconds after the first."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.until: Deadline | None = None
        self.failures = 0

    def fail(self) -> None:
        self.until = self.until or Deadline(self.limit)
        self.failures += 1

    def over(self) -> bool:
        return self.until is not None and self.until.passed()

    def pause(self, failure: StmError, deadline: Deadline) -> None:
        backoff = 0.0 if self.failures <= 1 else min(0.01 * 2 ** min(self.failures - 2, 7), 1.0)
        wait = deadline.at_most(max(random.uniform(backoff / 2, backoff), failure.retry_after or 0.0))
        time.sleep(self.until.at_most(wait) if self.until else wait)


def time_is_up(cause: StmError | None) -> TimeoutError:
    why = "" if cause is None else f": {cause}"
    return TimeoutError(f"the deadline passed; nothing was changed{why}: allow more time")


def transient(failure: StmError) -> bool:
    return isinstance(failure, Unavailable) or failure.retry_after is not None


class Broken(Unavailable):
    """No answer came: what was sent may have been done."""


def detail_of(error: grpc.RpcError) -> common_pb2.ErrorDetail | None:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            detail = common_pb2.ErrorDetail()
            if any(AnyMessage.FromString(part).Unpack(detail) for part in details(value)):
                return detail
    return None


class Connection:
    def __init__(self, addresses: list[str], unavailable_timeout: float) -> None:
        self.addresses = addresses
        self.unavailable_timeout = unavailable_timeout
        self._lock = threading.Lock()
        self._channel: Any = None
        self._at = 0
        self._store = 0
        self._writer = 0
        self._seen = 0

    def close(self) -> None:
        self.drop(self._channel)

    def drop(self, channel: Any) -> None:
        """Moves to the next address, if `channel` is still the one in use."""
        with self._lock:
            if channel is None or channel is not self._channel:
                return
            self._channel = None
            self._at += 1
        channel.close()

    def observe(self, header: common_pb2.Header, adopt: bool = False) -> None:
        """Versions of another store mean nothing; `adopt` takes the other store for ours."""
        with self._lock:
            if header.store != self._store:
                if not adopt:
                    return
                self._store, self._writer, self._seen = header.store, 0, 0
            self._seen = max(self._seen, header.installed_version)
            self._writer = header.writer or self._writer

    def observe_version(self, store: int, version: int) -> None:
        with self._lock:
            if store == self._store:
                self._seen = max(self._seen, version)

    def seen(self) -> common_pb2.Seen:
        with self._lock:
            return common_pb2.Seen(version=self._seen, store=self._store)

    def new_id(self, store: int) -> common_pb2.CommitId:
        """Named by what is known now: that writer alone may ever execute it. `store`: of what was read; 0: any."""
        with self._lock:
            if store not in (0, self._store):
                raise StoreChanged("the daemon has another store (wiped, restored, or another daemon): read again")
            seen = common_pb2.Seen(version=self._seen, store=self._store)
            return common_pb2.CommitId(transaction_id=str(uuid.uuid4()), writer=self._writer, seen=seen)

    def channel(self, deadline: Deadline) -> Any:
        """The one in use, else a new one that a daemon answers on. Raises Broken for an address that does not."""
        with self._lock:
            if self._channel is not None:
                return self._channel
            address = self.addresses[self._at % len(self.addresses)]
        unbounded = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        options = [*unbounded, ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        channel = grpc.insecure_channel(address, options=options)
        try:
            status = self._status(channel, deadline.at_most(self.unavailable_timeout))
        except grpc.RpcError as error:
            channel.close()
            with self._lock:
                self._at += 1
            raise Broken(f"{address}: {error.details()}: start stmd there, or give another address") from error
        with self._lock:
            if self._channel is None:
                self._channel, channel = channel, None
            chosen = self._channel
        if channel is not None:
            channel.close()
        else:
            self.observe(status.header, adopt=True)
        return chosen

    @staticmethod
    def _status(channel: Any, timeout: float) -> admin_service_pb2.GetStatusResponse:
        ask = channel.unary_unary(
            "/stm.v1.AdminService/GetStatus",
            request_serializer=admin_service_pb2.GetStatusRequest.SerializeToString,
            response_deserializer=admin_service_pb2.GetStatusResponse.FromString,
        )
        answer: admin_service_pb2.GetStatusResponse = ask(admin_service_pb2.GetStatusRequest(), timeout=timeout)
        return answer

    def send(self, channel: Any, method: str, request: Message, answer: type[M], deadline: Deadline) -> M:
        """Once. Broken: no answer came. TimeoutError: `deadline` passed while it was under way."""
        make = channel.unary_unary(
            f"/stm.v1.{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            call = make.future(request, timeout=deadline.left())
        except ValueError as error:  # another thread closed the channel, as it found it broken
            raise Broken(f"{method}: the connection is lost: {error}") from error
        try:
            while True:
                try:
                    response: M = call.result(timeout=LOOK_EVERY)
                    return response
                except grpc.FutureTimeoutError:
                    self._status(channel, LOOK_EVERY)
        except (grpc.RpcError, ValueError, grpc.FutureCancelledError) as error:
            if not isinstance(error, grpc.RpcError):
                raise Broken(f"{method}: the connection is lost: {error}") from error
            code, detail = error.code(), detail_of(error)
            if detail is not None and detail.HasField("header"):
                changed = detail.reason == common_pb2.ERROR_REASON_STORE_CHANGED
                self.observe(detail.header, adopt=changed)
            if code is grpc.StatusCode.DEADLINE_EXCEEDED and deadline.passed():
                raise TimeoutError from error
            if detail is None and code in _BROKEN:
                self.drop(channel)
                raise Broken(f"{method}: {error.details()}: see whether the daemon runs") from error
            raise error_of(code, error.details() or "", detail) from error
        finally:
            call.cancel()

    def ask(self, method: str, request: Message, answer: type[M], deadline: Deadline) -> M:
        """Until it is answered: what may be repeated."""
        outage = Outage(self.unavailable_timeout)
        cause: StmError | None = None
        while True:
            if deadline.passed():
                raise time_is_up(cause)
            began = None
            try:
                channel = self.channel(deadline)
                began = time.monotonic()
                return self.send(channel, method, request, answer, deadline)
            except TimeoutError as error:
                raise time_is_up(cause) from error
            except StmError as error:
                if not transient(error):
                    raise
                cause = error
            if began is not None and time.monotonic() - began > WAS_WELL_AFTER:
                outage = Outage(self.unavailable_timeout)
            outage.fail()
            if outage.over():
                raise cause
            outage.pause(cause, deadline)

    def commit(
        self, request: transaction_service_pb2.CommitRequest, store: int, deadline: Deadline
    ) -> transaction_service_pb2.CommitResponse:
        """Until there is a verdict: under one id as long as that may have been executed."""
        outage = Outage(self.unavailable_timeout)
        sent = False
        cause: StmError | None = None
        method = "TransactionService/Commit"
        while True:
            if deadline.passed():
                return self._settle(request.id, cause) if sent else _never(cause)
            try:
                channel = self.channel(deadline)
                if not sent:
                    request.id.CopyFrom(self.new_id(store))
                resend = sent
                sent = True
                response = self.send(channel, method, request, transaction_service_pb2.CommitResponse, deadline)
                self.observe(response.header)
                outcome = response.WhichOneof("outcome")
                if outcome == "id_too_old" and resend:
                    raise commit_unknown(request.id, "it was sent too long ago for the daemon to tell")
                if outcome not in ("not_committed", "id_too_old"):
                    return response
                cause, sent = Unavailable("the daemon that the commit was sent to is gone"), False
            except TimeoutError:
                return self._settle(request.id, cause)
            except CommitUnknown:
                raise
            except Broken as error:
                cause = error
            except StmError as error:
                # A verdict on this send; on earlier ones only where those would have been refused too.
                certain = not sent or not request.id.resend or error.reason in ("limit-exceeded", "bad-value")
                if isinstance(error, StoreChanged) or not transient(error):
                    if certain and not (isinstance(error, StoreChanged) and request.id.resend):
                        raise
                    raise commit_unknown(request.id, str(error)) from error
                cause, sent = error, sent and not certain
            request.id.resend = sent
            outage.fail()
            if outage.over():
                raise commit_unknown(request.id, str(cause)) if sent else cause
            outage.pause(cause, deadline)

    def _settle(self, commit_id: common_pb2.CommitId, cause: StmError | None) -> transaction_service_pb2.CommitResponse:
        asked = common_pb2.CommitId()
        asked.CopyFrom(commit_id)
        asked.resend = True
        try:
            outcome = self.ask(
                "TransactionService/GetOutcome",
                transaction_service_pb2.GetOutcomeRequest(id=asked),
                transaction_service_pb2.GetOutcomeResponse,
                Deadline(SETTLE_MAX),
            ).outcome
        except (StmError, TimeoutError) as error:
            raise commit_unknown(commit_id, str(error)) from error
        match outcome.WhichOneof("outcome"):
            case "committed" | "rejected" | "fence_lost":
                return outcome
            case "conflict" | "not_committed":
                return _never(cause)
        raise commit_unknown(commit_id, "the daemon cannot tell any more")


_BROKEN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


def _never(cause: StmError | None) -> transaction_service_pb2.CommitResponse:
    raise time_is_up(cause)


def commit_unknown(commit_id: common_pb2.CommitId, why: str) -> CommitUnknown:
    word = outcome_word(commit_id)
    error = CommitUnknown(f"a commit was sent and its outcome is not known: {why}: ask by `stmctl outcome {word}`")
    error.outcome_word = word
    return error


def outcome_word(commit_id: common_pb2.CommitId) -> str:
    """What `stmctl outcome` takes: id, writer, seen version and store, and a check of them, in one word."""
    digits = commit_id.transaction_id.replace("-", "")
    word = f"{digits}.{commit_id.writer:016x}.{commit_id.seen.version}.{commit_id.seen.store:016x}"
    check = 2166136261  # FNV-1a, folded to 16 bits
    for byte in word.encode():
        check = (check ^ byte) * 16777619 & 0xFFFFFFFF
    return f"{word}.{check >> 16 ^ check & 0xFFFF:04x}"
