"""The core of a client: one connection to one daemon of several addresses, what it has seen, and calls that are sent
again until they are answered. What may be repeated is asked; what changes something goes under an id, so that it
happens once.

Any thread, or one event loop: see _base.Io."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import grpc

from . import _wire as wire
from ._base import (
    CANCELLED,
    Bounds,
    Broken,
    ClientClosed,
    Deadline,
    Io,
    Link,
    Outage,
    RpcFailed,
    Signal,
    Steps,
    transient,
)
from ._proto import admin_service_pb2, common_pb2, transaction_service_pb2
from .codec import Codec
from .commits import CallInfo, Rerun
from .errors import BadValue, CommitUnknown, InTransaction, StmError, StoreChanged, Unavailable
from .outcome import outcome_word, parse_outcome_word

if TYPE_CHECKING:
    from ._session import Session
    from ._tx import TxCore

DEFAULT_ADDRESS = "127.0.0.1:7440"
BACKOFF_MIN, BACKOFF_MAX = 0.01, 1.0  # seconds between rounds of all addresses
ATTEMPT_MAX = 3.0  # seconds of one try to connect
SETTLE_MAX = 1.0  # seconds that a commit whose caller waits no longer is asked after
PROBE_AFTER = 5.0  # seconds of silence, while somebody waits, after which a daemon is asked for its status
PROBE_TIMEOUT = 5.0  # seconds that it has to answer
LOOK_EVERY = 1.0  # seconds
STATUS = "AdminService/GetStatus"
GET_OUTCOME = "TransactionService/GetOutcome"

# Without an ErrorDetail these say that no answer came, whatever was done.
_BROKEN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True)
class ConnectOptions:
    """As stm.connect() takes them."""

    addresses: tuple[str, ...]
    prefix: str
    client_name: str
    unavailable_timeout: float
    session_ttl: float | None
    keys: Literal["string", "keyword"]
    warn: Callable[[str], object]
    on_rerun: Callable[[Rerun], object] | None
    on_call: Callable[[CallInfo], object] | None

    @staticmethod
    def of(
        address: str,
        prefix: str,
        client_name: str,
        unavailable_timeout: float,
        session_ttl: float | None,
        keys: Literal["string", "keyword"],
        warn: Callable[[str], object],
        on_rerun: Callable[[Rerun], object] | None,
        on_call: Callable[[CallInfo], object] | None,
    ) -> ConnectOptions:
        written = address or os.environ.get("STM_ADDRESS") or DEFAULT_ADDRESS
        addresses = tuple(part.strip() for part in written.split(",") if part.strip())
        for one in addresses or ("",):
            if not one.startswith("unix:") and ":" not in one:
                raise BadValue(
                    f'address "{one}" has no port: write host:port, as {DEFAULT_ADDRESS}, or unix:/path', name="address"
                )
        prefix = prefix.rstrip("/")
        if prefix:
            wire.check_name(prefix)
            if "/." in prefix:
                raise BadValue(f'prefix {prefix} has a segment that begins with ".": choose another', name="prefix")
        if keys not in ("string", "keyword"):
            raise BadValue(f'keys="{keys}": write "string" or "keyword"', name="keys")
        name = client_name or os.path.basename(sys.argv[0] if sys.argv else "") or "python"
        return ConnectOptions(addresses, prefix, name, unavailable_timeout, session_ttl, keys, warn, on_rerun, on_call)


class Position:
    """What this client was told: a store, its newest version, and the writer that ids name. Headers of another store
    mean nothing; `adopt` takes that store for ours."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.store = self.writer = self.seen = 0

    def observe(self, header: common_pb2.Header, adopt: bool = False) -> None:
        with self._lock:
            if header.store != self.store:
                if not adopt:
                    return
                self.store, self.writer, self.seen = header.store, 0, 0
            if header.installed_version > self.seen:
                self.seen = header.installed_version
            if header.writer:
                self.writer = header.writer

    def observe_version(self, store: int, version: int) -> None:
        with self._lock:
            if store == self.store and version > self.seen:
                self.seen = version

    def known(self) -> common_pb2.Seen:
        with self._lock:
            return common_pb2.Seen(version=self.seen, store=self.store)

    def name(self, commit_id: common_pb2.CommitId) -> None:
        """A new id, named by what is known now: that writer alone may ever execute it."""
        with self._lock:
            commit_id.transaction_id = str(uuid.uuid4())
            commit_id.writer = self.writer
            commit_id.seen.version, commit_id.seen.store = self.seen, self.store
        commit_id.resend = False


class CallId:
    """The id of a call that changes something, over all its sends."""

    def __init__(self) -> None:
        self.id = common_pb2.CommitId()
        self.sent = False  # it may have reached a daemon, and no verdict came


def time_is_up(cause: StmError | None = None) -> TimeoutError:
    why = "" if cause is None else f": {cause}"
    return TimeoutError(f"the deadline passed; nothing was changed{why}: allow more time")


def store_changed() -> StoreChanged:
    return StoreChanged("the daemon has another store (wiped, restored, or another daemon): read again")


def commit_unknown(commit_id: common_pb2.CommitId, why: str) -> CommitUnknown:
    word = outcome_word(commit_id)
    error = CommitUnknown(
        f"a commit was sent and its outcome is not known: {why}: ask by `stmctl outcome {word}`, or client.outcome"
    )
    error.outcome_word = word
    return error


class Core:
    session: Session

    def __init__(self, io: Io, options: ConnectOptions) -> None:
        self.io = io
        self.options = options
        self.names = wire.Names(options.prefix)
        self.codec = Codec(options.keys == "keyword")
        self.position = Position()
        self.closed = False
        self.api_minor = 0
        self.version = ""  # of the daemon's program
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._connecting: Signal | None = None
        self._pinned = 0
        self._last_error: StmError | None = None

    # ---- Connections

    @property
    def address(self) -> str:
        """Of the daemon that is in use."""
        return self.options.addresses[self._pinned]

    def link(self, deadline: Deadline, bounds: Bounds) -> Steps[Link]:
        """The one in use, else a new one to a daemon that is ready. Unavailable, at the deadline, names the
        addresses."""
        link = self._link
        if link is not None and link.alive:
            return link
        began = time.monotonic()
        while True:
            bounds.check()
            with self._lock:
                if self.closed:
                    raise ClientClosed
                if self._link is not None and self._link.alive:
                    return self._link
                waits_for = self._connecting
                if waits_for is None:
                    mine = self._connecting = self.io.signal()
            if waits_for is None:
                break
            if deadline.passed():
                raise self._no_daemon(began, self._last_error)
            yield self.io.wait(waits_for, deadline.at_most(LOOK_EVERY), bounds.canceller)
        try:
            made = yield from self._connect(deadline, bounds, began)
            with self._lock:
                if self.closed:
                    made.close()
                    raise ClientClosed
                self._link = made
            return made
        except StmError as error:
            self._last_error = error
            raise
        finally:
            with self._lock:
                self._connecting = None
            mine.set()

    def _connect(self, deadline: Deadline, bounds: Bounds, began: float) -> Steps[Link]:
        backoff = BACKOFF_MIN
        first = self._pinned
        count = len(self.options.addresses)
        last: StmError | None = None
        while True:
            for at in ((first + i) % count for i in range(count)):
                bounds.check()
                if self.closed:
                    raise ClientClosed
                try:
                    link = yield from self._try(self.options.addresses[at], deadline, bounds)
                except Unavailable as error:
                    last = error
                else:
                    self._pinned = at
                    return link
                if deadline.passed():
                    break
            pause = random.uniform(backoff / 2, backoff)
            backoff = min(backoff * 2, BACKOFF_MAX)
            left = deadline.left()
            if left is not None and pause >= left:
                raise self._no_daemon(began, last)
            yield self.io.sleep(pause, bounds.canceller)

    def _no_daemon(self, began: float, last: StmError | None) -> Unavailable:
        addresses = ",".join(self.options.addresses)
        return Unavailable(
            f"no stmd at {addresses} for {time.monotonic() - began:.3f} s: {last or 'no time left to connect'}: start "
            "stmd there, or set STM_ADDRESS to where it runs",
            name=addresses,
            found=str(last or ""),
        )

    def _try(self, address: str, deadline: Deadline, bounds: Bounds) -> Steps[Link]:
        link = self.io.link(address)
        request = admin_service_pb2.GetStatusRequest()
        try:
            status = yield self.io.call(link, STATUS, request, deadline.at_most(ATTEMPT_MAX), bounds.canceller)
        except RpcFailed as error:
            link.close()
            raise Unavailable(f"{address}: {error.message}") from error
        except BaseException:
            link.close()
            raise
        if not status.ready:
            link.close()
            raise Unavailable(f"{address} is not ready: {status.not_ready_because}")
        self.position.observe(status.header, adopt=True)
        self.api_minor, self.version = status.api_minor, status.version
        return link

    def drop(self, link: Link) -> None:
        """It broke: what is under way on it ends, and the next call finds another."""
        link.close()

    def leave(self, link: Link) -> None:
        """Breaks it, if there is another daemon to go to: that is tried first."""
        if len(self.options.addresses) > 1:
            self._pinned = (self._pinned + 1) % len(self.options.addresses)
            link.close()

    def look(self) -> Steps[None]:
        """Every LOOK_EVERY: is a daemon that is waited for still there?"""
        link = self._link
        if link is None or not link.alive:
            return
        now = time.monotonic()
        try:
            oldest = min(list(link.waits.values()), default=now)
        except RuntimeError:
            return  # it changed meanwhile, so something goes on
        if now - max(oldest, link.heard) < PROBE_AFTER:
            return
        try:
            yield self.io.call(link, STATUS, admin_service_pb2.GetStatusRequest(), PROBE_TIMEOUT, None)
        except RpcFailed:
            self.drop(link)

    def close(self) -> Steps[None]:
        """Ends the session, then all that is under way."""
        with self._lock:
            if self.closed:
                return
        try:
            yield from self.session.close()
        finally:
            with self._lock:
                self.closed = True
                link = self._link
            if link is not None:
                link.close()

    def forget(self) -> None:
        """In the child after fork: the connection and the session are the parent's."""
        self._lock = threading.Lock()
        self.position._lock = threading.Lock()
        self._link = None
        self._connecting = None
        self.session.forget()

    # ---- Calls

    def send(self, link: Link, method: str, request: Any, bounds: Bounds) -> Steps[Any]:
        """Once. Broken: no answer came. TimeoutError: the deadline passed while it was under way."""
        deadline = bounds.deadline
        on_call = self.options.on_call
        began = time.monotonic() if on_call is not None else 0.0
        try:
            answer = yield self.io.call(link, method, request, deadline.left(), bounds.canceller)
        except RpcFailed as error:
            if on_call is not None:
                on_call(CallInfo(method, time.monotonic() - began, False))
            raise self._failure(link, method, error, deadline) from error
        if on_call is not None:
            on_call(CallInfo(method, time.monotonic() - began, True))
        return answer

    def _failure(self, link: Link, method: str, error: RpcFailed, deadline: Deadline) -> Exception:
        if self.closed:
            return ClientClosed()
        if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and deadline.at is not None and deadline.at_most(1.0) < 0.1:
            return TimeoutError(f"{method}: the deadline passed")
        detail = wire.detail_of(error.metadata)
        if detail is None and error.code in _BROKEN:
            self.drop(link)
            return Broken(f"{link.address}: {error.message or 'the connection is lost'}: see whether the daemon runs")
        if detail is None and error.code is grpc.StatusCode.UNIMPLEMENTED:
            return self._lacks(link, method)
        failure = wire.error_of(error.code, error.message, detail, self.names)
        if detail is not None:
            failure.detail_reason = detail.reason
            if detail.HasField("header"):
                self.position.observe(detail.header, adopt=isinstance(failure, StoreChanged))
        return failure

    def _lacks(self, link: Link, method: str) -> StmError:
        return wire.error_of(
            grpc.StatusCode.UNIMPLEMENTED,
            f"the daemon at {link.address} (stmd {self.version}, stm.v1 minor {self.api_minor}) has no {method}: "
            "use a newer one",
            None,
            self.names,
        )

    def ask(self, method: str, fill: Callable[[], Any], bounds: Bounds) -> Steps[Any]:
        """Until it is answered: what may be repeated. `fill` makes the request, for each try."""
        outage = Outage(self.options.unavailable_timeout)
        deadline = bounds.deadline
        while True:
            if deadline.passed():
                raise time_is_up(outage.cause)
            bounds.check()
            link = self._link
            if link is None or not link.alive:
                try:
                    link = yield from self.link(deadline.or_earlier(outage.until()), bounds)
                except Unavailable as error:
                    if deadline.passed() and not self.closed:
                        raise time_is_up(error) from error
                    raise
            outage.begin()
            try:
                answer = yield from self.send(link, method, fill(), bounds)
            except TimeoutError as error:
                raise time_is_up(outage.cause) from error
            except StmError as error:
                if not transient(error):
                    raise
                outage.fail(error)
                if outage.over():
                    raise
                yield self.io.sleep(outage.pause(deadline), bounds.canceller)
            else:
                self.position.observe((answer.outcome if method == GET_OUTCOME else answer).header)
                return answer

    def commit(
        self, fill: Callable[[], transaction_service_pb2.CommitRequest], store: int, bounds: Bounds, told: Told
    ) -> Steps[transaction_service_pb2.CommitResponse]:
        """Until there is a verdict: committed, conflict, rejected or fence_lost. `store`: of what was read; 0: none."""
        call = CallId()
        try:
            return (yield from self._commit(call, fill, store, bounds, told))
        except CANCELLED as cancelled:
            if not call.sent:
                raise
            return (yield from self._settle(call.id, None, cancelled))

    def _commit(
        self,
        call: CallId,
        fill: Callable[[], transaction_service_pb2.CommitRequest],
        store: int,
        bounds: Bounds,
        told: Told,
    ) -> Steps[transaction_service_pb2.CommitResponse]:
        outage = Outage(self.options.unavailable_timeout)
        deadline = bounds.deadline
        while True:
            if deadline.passed():
                if call.sent:
                    return (yield from self._settle(call.id, outage.cause))
                raise time_is_up(outage.cause)
            bounds.check()
            link = self._link
            if link is None or not link.alive:
                try:
                    link = yield from self.link(deadline.or_earlier(outage.until()), bounds)
                except Unavailable as error:
                    if deadline.passed() and not self.closed:
                        continue
                    if call.sent:
                        raise commit_unknown(call.id, str(error)) from error
                    raise
            if call.sent:
                call.id.resend = True
                told.resends += 1
            else:
                if store not in (0, self.position.store):
                    raise store_changed()
                self.position.name(call.id)
            request = fill()
            request.id.CopyFrom(call.id)
            resend = call.sent
            call.sent = True
            outage.begin()
            try:
                response = yield from self.send(link, "TransactionService/Commit", request, bounds)
            except TimeoutError:
                return (yield from self._settle(call.id, outage.cause))
            except StmError as error:
                failure = self._after_refusal(call, resend, error)
            else:
                verdict: transaction_service_pb2.CommitResponse = response
                self.position.observe(verdict.header)
                outcome = verdict.WhichOneof("outcome")
                if outcome == "id_too_old" and resend:
                    raise commit_unknown(call.id, "it was sent too long ago for the daemon to tell")
                if outcome not in ("not_committed", "id_too_old"):
                    told.transaction_id = call.id.transaction_id
                    return verdict
                failure = Unavailable("the daemon that the commit was sent to is gone")
                call.sent = False
            outage.fail(failure)
            if outage.over():
                if call.sent:
                    raise commit_unknown(call.id, str(failure))
                raise failure
            yield self.io.sleep(outage.pause(deadline), bounds.canceller)

    def _after_refusal(self, call: CallId, resend: bool, failure: StmError) -> StmError:
        """What to try again after; else raises. A failure is a verdict on what was sent just now: nothing was changed.
        On what was sent before only where that would have been refused then, too."""
        if isinstance(failure, Broken):
            return failure
        if isinstance(failure, ClientClosed):
            raise commit_unknown(call.id, str(failure)) from failure
        if isinstance(failure, StoreChanged):
            if resend:
                raise commit_unknown(call.id, "the store was changed (wiped or restored) meanwhile") from failure
            raise failure
        certain = not resend or failure.reason in ("limit-exceeded", "no-space", "bad-value")
        if not transient(failure):
            if certain:
                raise failure
            raise commit_unknown(call.id, str(failure)) from failure
        if certain:
            call.sent = False
        return failure

    def _settle(
        self, commit_id: common_pb2.CommitId, cause: StmError | None, cancelled: BaseException | None = None
    ) -> Steps[transaction_service_pb2.CommitResponse]:
        """Its caller waits no longer: a verdict that comes in time after all."""
        try:
            outcome = yield from self.get_outcome(commit_id, Bounds(SETTLE_MAX))
        except (StmError, TimeoutError, *CANCELLED) as error:
            raise commit_unknown(commit_id, str(cause or error)) from error
        match outcome.WhichOneof("outcome"):
            case "committed" | "rejected" | "fence_lost":
                return outcome
            case "conflict" | "not_committed":
                raise cancelled or time_is_up(cause)
        raise commit_unknown(commit_id, "the daemon cannot tell any more")

    def get_outcome(
        self, commit_id: common_pb2.CommitId, bounds: Bounds
    ) -> Steps[transaction_service_pb2.CommitResponse]:
        asked = common_pb2.CommitId()
        asked.CopyFrom(commit_id)
        asked.resend = True
        request = transaction_service_pb2.GetOutcomeRequest(id=asked)
        answer = yield from self.ask(GET_OUTCOME, lambda: request, bounds)
        outcome: transaction_service_pb2.CommitResponse = answer.outcome
        return outcome

    def outcome(self, word: str, timeout: float | None) -> Steps[int | None]:
        self.check_outside("client.outcome")
        commit_id = parse_outcome_word(word)
        outcome = yield from self.get_outcome(commit_id, Bounds(timeout))
        match outcome.WhichOneof("outcome"):
            case "committed":
                return int(outcome.committed.version)
            case "conflict" | "rejected" | "fence_lost" | "not_committed":
                return None
        raise commit_unknown(commit_id, "it was sent too long ago for the daemon to tell")

    def send_once(
        self,
        method: str,
        fill: Callable[[common_pb2.CommitId], Any],
        call: CallId,
        bounds: Bounds,
        outage_max: float | None,
        over: Callable[[], bool] | None = None,
    ) -> Steps[Any]:
        """Until there is a verdict: what changes something beside commits. `call` goes on where an earlier send_once
        left it. Unavailable, TimeoutError and cancelling leave `call.sent` as it is: the same may be sent again.
        `over`: what it is for is over, and it ends as Unavailable."""
        outage = Outage(outage_max)
        deadline = bounds.deadline
        while True:
            if deadline.passed():
                raise time_is_up(outage.cause)
            bounds.check()
            link = self._link
            if link is None or not link.alive:
                try:
                    link = yield from self.link(deadline.or_earlier(outage.until()), bounds)
                except Unavailable as error:
                    if deadline.passed() and not self.closed:
                        raise time_is_up(error) from error
                    raise
            if call.sent:
                call.id.resend = True
            else:
                self.position.name(call.id)
            resend = call.sent
            call.sent = True
            outage.begin()
            try:
                answer = yield from self.send(link, method, fill(call.id), bounds)
            except TimeoutError as error:
                raise time_is_up(outage.cause) from error
            except StmError as error:
                failure = error
                if failure.detail_reason == common_pb2.ERROR_REASON_NOT_COMMITTED:
                    failure = Unavailable("the daemon that the call was sent to is gone")
                    call.sent = False
                elif failure.detail_reason == common_pb2.ERROR_REASON_ID_TOO_OLD:
                    call.sent = False
                    if resend:
                        raise commit_unknown(call.id, "it was sent too long ago for the daemon to tell") from error
                    failure = Unavailable("the call's id was too old when it came")
                elif not transient(failure):
                    if not isinstance(failure, ClientClosed):
                        call.sent = False
                    raise
            else:
                call.sent = False
                self.position.observe(answer.header)
                return answer
            # Unavailable may be the network's word: whether the daemon did it is found out by the same id.
            if over is not None and over():
                raise failure
            outage.fail(failure)
            if outage.over():
                raise failure
            yield self.io.sleep(outage.pause(deadline), bounds.canceller)

    # ---- Bodies

    def current(self) -> TxCore | None:
        """The run of a body that this is called in."""
        from ._tx import current

        tx = current.get()
        return tx if tx is not None and tx.open else None

    def check_outside(self, what: str) -> None:
        if self.current() is not None:
            raise InTransaction(
                f"{what} inside a transaction's body, which may run several times: do it before or after, or by "
                "tx.on_commit; a body reads and writes by its tx",
                name=what,
            )


class Told:
    """What became known of a commit beside its verdict."""

    def __init__(self) -> None:
        self.transaction_id = ""
        self.resends = 0  # counted up, whatever came of it
