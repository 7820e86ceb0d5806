"""Connections, refs, and the loop of a transaction's runs: body, commit, and again until a snapshot still stands."""

from __future__ import annotations

import functools
import os
import random
import time
import warnings
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from ._calls import Connection, Deadline, Outage
from ._proto import common_pb2, ref_service_pb2, transaction_service_pb2
from .codec import from_wire
from .errors import (
    ABSENT_REMEDY,
    Absent,
    BadValue,
    Cause,
    Conflict,
    InTransaction,
    Meta,
    Rejected,
    SnapshotTooOld,
    StmError,
    StoreChanged,
    Unavailable,
    WrongKind,
)
from .tx import Tx, current
from .values import ABSENT

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")

DEFAULT_ADDRESS = "127.0.0.1:7440"
RUNS_AT_ONCE = 3  # the first and two re-runs; later ones back off
WARN_AT_RUN = 10


def connect(address: str = "", *, unavailable_timeout: float = 10.0, client_name: str = "python") -> Client:
    """`address`: host:port or unix:/path, several by comma; "": STM_ADDRESS, else 127.0.0.1:7440.

    Waits `unavailable_timeout` seconds for a daemon to answer, then raises Unavailable; each later call does, too.
    """
    written = address or os.environ.get("STM_ADDRESS") or DEFAULT_ADDRESS
    addresses = [part.strip() for part in written.split(",") if part.strip()]
    for one in addresses or [""]:
        if ":" not in one:
            raise BadValue(f'address "{one}" has no port: write host:port, as {DEFAULT_ADDRESS}', name="address")
    connection = Connection(addresses, unavailable_timeout)
    outage = Outage(unavailable_timeout)
    while True:
        try:
            connection.channel(Deadline(unavailable_timeout))
            return Client(connection, client_name)
        except Unavailable as error:
            outage.fail()
            if outage.over():
                raise
            outage.pause(error, Deadline(None))


class Ref(Generic[T]):
    """A handle: it does no I/O when made. Its init creates the entry in the first transaction that reads or commutes
    it, if it is absent then, and never overwrites."""

    def __init__(self, client: Client, name: str, init: Any) -> None:
        if not name.startswith("/"):
            raise BadValue(f'"{name}" is no name of an entry: begin it with "/"', name=name)
        self.client, self.name, self.init = client, name, init

    def get(self, *, timeout: float | None = None) -> T:
        """The newest value, linearizable. Absent: the handle's init, else the error Absent. `timeout`: seconds."""
        value = self.find(timeout=timeout)
        if value is ABSENT:
            value = self.init
        if value is ABSENT:
            raise Absent(f"{self.name} {ABSENT_REMEDY}", name=self.name)
        return value

    def find(self, *, timeout: float | None = None) -> T | Any:
        """ABSENT where there is no entry."""
        if current.get() is not None:
            raise InTransaction(f"{self.name}: read inside a transaction's body: use tx.get", name=self.name)
        deadline = Deadline(timeout)
        connection = self.client.connection
        while True:
            request = ref_service_pb2.GetRefsRequest(names=[self.name])
            request.at.seen.CopyFrom(connection.seen())
            try:
                answer = connection.ask("RefService/GetRefs", request, ref_service_pb2.GetRefsResponse, deadline)
            except StoreChanged:
                continue  # the new store is taken, and nothing hangs on the old
            connection.observe(answer.header)
            entry = answer.entries[0]
            if entry.HasField("value") and entry.kind == common_pb2.ENTRY_KIND_ATOM:
                raise WrongKind(f"{self.name} is an atom and was used as a ref", name=self.name)
            return from_wire(entry.value, self.name)


class Client:
    """Made by connect(). Any thread may use it; close() or `with` ends it."""

    def __init__(self, connection: Connection, client_name: str) -> None:
        self.connection = connection
        self.client_name = client_name

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *of: object) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()

    def ref(self, name: str, init: Any = ABSENT) -> Ref[Any]:
        return Ref(self, name, init)

    def transact(
        self, body: Callable[[Tx], R], *, timeout: float | None = None, runs_max: int = 0, label: str = ""
    ) -> R:
        """Runs `body` until its commit stands, and returns its result: strictly serializable, exactly once.

        `timeout` in seconds and `runs_max` (None and 0: no bound) end in Conflict after conflicts, in TimeoutError
        otherwise, or in CommitUnknown. Inside another transaction of this client it joins that.
        """
        outer = current.get()
        if outer is None:
            return _Transaction(self, body, timeout, runs_max, label).run()
        if outer._connection is not self.connection:
            raise InTransaction("a transaction of another client inside a body: use the outer one's client")
        if timeout is not None or runs_max or label:
            raise BadValue("a transaction inside a transaction joins it: give its options to the outer one")
        return outer.join(body)


def transactional(function: Callable[Concatenate[Tx, P], R]) -> Callable[Concatenate[Client | Tx, P], R]:
    """f(client, ...) runs a transaction; f(tx, ...) joins that of tx."""

    @functools.wraps(function)
    def run(on: Client | Tx, /, *args: P.args, **named: P.kwargs) -> R:
        if isinstance(on, Tx):
            return on.join(lambda tx: function(tx, *args, **named))
        return on.transact(lambda tx: function(tx, *args, **named))

    return run


class _Again(Exception):
    """Another run."""


class _Transaction(Generic[R]):
    def __init__(
        self, client: Client, body: Callable[[Tx], R], timeout: float | None, runs_max: int, label: str
    ) -> None:
        self.client, self.body, self.runs_max, self.label = client, body, runs_max, label
        self.connection = client.connection
        self.deadline = Deadline(timeout)
        self.runs = 0
        self.runs_since_sleep = 0
        self.first_run = time.monotonic()
        self.reservation = 0
        self.causes: tuple[Cause, ...] = ()
        self.why = ""
        self.fresh: tuple[int, int, list[common_pb2.Entry]] = (0, 0, [])

    def run(self) -> R:
        while True:
            self.runs += 1
            self.runs_since_sleep += 1
            if self.runs_since_sleep == 1:
                self.first_run = time.monotonic()
            tx = Tx(self.connection, self.deadline, self.runs)
            fresh, self.fresh = self.fresh, (0, 0, [])
            try:
                result = tx.execute(lambda inner, fresh=fresh: self._body(inner, fresh))  # type: ignore[misc]
                if tx.signal:
                    self._after_signal(tx)
                elif tx.needs_commit:
                    self._commit(tx)
                return result  # type: ignore[return-value]
            except _Again:
                continue
            except TimeoutError as error:
                if self.runs_since_sleep > 1:
                    raise self._conflict("the time is up") from error
                raise

    def _body(self, tx: Tx, fresh: tuple[int, int, list[common_pb2.Entry]]) -> R:
        tx.take_fresh(*fresh)
        return self.body(tx)

    def _after_signal(self, tx: Tx) -> None:
        if tx.signal == "retry":
            self._sleep_until_change(tx)
        elif tx.signal == "rerun" and isinstance(tx.failure, StmError):
            self._again((), tx.failure.reason)
        elif tx.failure is not None:
            raise tx.failure

    def _sleep_until_change(self, tx: Tx) -> None:
        request = transaction_service_pb2.AwaitChangeRequest(
            seen=common_pb2.Seen(version=self.connection.seen().version, store=tx.store),
            snapshot=tx.snapshot,
            reads=tx.reads,
            lists=tx.lists,
            reservation=self.reservation,
        )
        answer = transaction_service_pb2.AwaitChangeResponse
        try:
            changed = self.connection.ask("TransactionService/AwaitChange", request, answer, self.deadline)
            self.fresh = (changed.header.store, changed.snapshot, list(changed.fresh))
        except (SnapshotTooOld, StoreChanged):
            pass  # begins anew
        # It waited for a change, not for its turn: its age begins anew.
        self.runs_since_sleep = self.reservation = 0
        raise _Again

    def _commit(self, tx: Tx) -> None:
        request = tx.request()
        request.meta.label, request.meta.client = self.label, self.client.client_name
        if self.runs_since_sleep > 1:
            request.age.since_first_run.FromMilliseconds(int((time.monotonic() - self.first_run) * 1000))
            request.age.runs, request.age.reservation = self.runs_since_sleep, self.reservation
        try:
            response = self.connection.commit(request, tx.store, self.deadline)
        except (SnapshotTooOld, StoreChanged) as error:
            self._again((), error.reason)
        match response.WhichOneof("outcome"):
            case "committed":
                self.connection.observe_version(response.header.store, response.committed.version)
                tx.take_results(list(response.committed.results))
            case "conflict":
                conflict = response.conflict
                self.reservation = conflict.reservation
                self.fresh = (response.header.store, conflict.snapshot, list(conflict.fresh))
                self._again(_causes(conflict), "", at_once=conflict.HasField("reserved_for"))
            case "rejected":
                raise _rejected(response.rejected)
            case other:
                raise StmError(f"the daemon answered a commit with {other}: use a client as new as the daemon")

    def _again(self, causes: tuple[Cause, ...], why: str, at_once: bool = False) -> None:
        self.causes, self.why = causes, why
        if 0 < self.runs_max <= self.runs:
            raise self._conflict(f"{self.runs} runs are spent")
        if self.deadline.passed():
            raise self._conflict("the time is up")
        if self.runs_since_sleep + 1 == WARN_AT_RUN:
            warnings.warn(
                f"transaction {self.label!r} is at its {WARN_AT_RUN}th run: {self._blame()}: "
                "make its body shorter, or commute what it only adds to",
                stacklevel=2,
            )
        if not at_once and self.runs_since_sleep + 1 > RUNS_AT_ONCE:
            doublings = min(self.runs_since_sleep - RUNS_AT_ONCE, 7)
            time.sleep(self.deadline.at_most(random.uniform(0.001, min(0.1, 0.001 * 2 ** (doublings + 1)))))
            if self.deadline.passed():
                raise self._conflict("the time is up")
        raise _Again

    def _blame(self) -> str:
        if self.why or not self.causes:
            return self.why or "what was read changed meanwhile"
        first = self.causes[0]
        by = f" by {first.by.client}" if first.by.client else ""
        return f"changed meanwhile: {first.name}{by} at version {first.version}"

    def _conflict(self, spent: str) -> Conflict:
        error = Conflict(
            f"conflict: {self._blame()}, and {spent}; nothing was changed: allow more, or make the body shorter",
            name=self.causes[0].name if self.causes else "",
        )
        error.causes = self.causes
        return error


def _causes(conflict: transaction_service_pb2.Conflict) -> tuple[Cause, ...]:
    return tuple(
        Cause(
            cause.name, cause.version, Meta(cause.by.label, cause.by.client, cause.by.traceparent, cause.by.principal)
        )
        for cause in conflict.causes
    )


_REMEDIES = {
    transaction_service_pb2.REJECT_CAUSE_VALIDATOR: ("validator", "write a value that the rule takes"),
    transaction_service_pb2.REJECT_CAUSE_TYPE: ("type", "use an operation of the value's type"),
    transaction_service_pb2.REJECT_CAUSE_COMPARE: ("compare", "read it again and decide anew"),
    transaction_service_pb2.REJECT_CAUSE_OVERFLOW: ("overflow", "keep larger numbers as BigInt"),
}


def _rejected(message: transaction_service_pb2.Rejected) -> StmError:
    text = f"rejected: {message.name}: {message.message or message.found}"
    if message.cause == transaction_service_pb2.REJECT_CAUSE_ABSENT:
        return Absent(f"{text}: set it first, or give its handle an init", name=message.name)
    if message.cause == transaction_service_pb2.REJECT_CAUSE_KIND:
        return WrongKind(f"{text}: it is an atom, and this client has refs alone", name=message.name)
    cause, remedy = _REMEDIES.get(message.cause, ("", "the same write would be rejected again"))
    error = Rejected(f"{text}: nothing was changed; {remedy}", name=message.name, found=message.found)
    error.cause = cause
    error.rule = from_wire(message.rule, message.name) if message.HasField("rule") else None
    return error
