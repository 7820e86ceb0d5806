"""The loop of runs: body, commit, and again until a snapshot still stands. And calls outside of transactions that are
transactions of one entry."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

from . import _wire as wire
from . import op
from ._base import Bounds, Canceller, Steps
from ._core import Core, Told
from ._proto import common_pb2, ref_service_pb2, transaction_service_pb2
from ._session import Lease
from ._tx import Carried, CommuteResult, Handle, TxCore
from .commits import Committed, Definition, Rerun
from .errors import (
    ABSENT_REMEDY,
    Absent,
    BadValue,
    Cause,
    Conflict,
    InTransaction,
    Rejected,
    RerunDiffers,
    SessionExpired,
    SnapshotTooOld,
    StmError,
    StoreChanged,
    ValueLost,
)
from .op import Op
from .values import ABSENT

T = TypeVar("T")

RUNS_AT_ONCE = 3  # the first and two re-runs; later ones back off
RERUN_MIN, RERUN_MAX = 0.001, 0.1  # seconds
WARN_AT_RUN = 10
ONCE_TTL = 86400.0  # seconds

Isolation = Literal["serializable", "snapshot"]


@dataclass(frozen=True)
class TransactOptions:
    """As client.transact() takes them."""

    timeout: float | None = None
    runs_max: int = 0
    label: str = ""
    traceparent: str = ""
    isolation: Isolation = "serializable"
    once: str = ""
    once_ttl: float = ONCE_TTL
    stale_ok: bool = False
    rerun_check: bool = False
    on_rerun: Callable[[Rerun], object] | None = None
    on_committed: Callable[[Committed], object] | None = None
    canceller: Canceller | None = None

    def check(self) -> None:
        if self.isolation not in ("serializable", "snapshot"):
            raise BadValue(f'isolation "{self.isolation}": write "serializable" or "snapshot"', name="isolation")


NO_OPTIONS = TransactOptions()


def traceparent_of_now() -> str:
    """W3C trace context of the span that is current by OpenTelemetry's API, if the program uses it."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return ""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


class _Again(Exception):
    """Another run."""


def transact(core: Core, body: Callable[[TxCore], Any], options: TransactOptions, alone: bool = False) -> Steps[Any]:
    """Runs `body` until its commit stands. Inside another transaction of this client it joins that. `alone`: the body
    is the core's own, of one entry."""
    outer = core.current()
    if outer is None:
        from ._tx import current

        if (other := current.get()) is not None and other.open:
            raise InTransaction("a transaction of another client inside a body: use the outer one's client")
        options.check()
        return (yield from _Transaction(core, body, options, alone).run())
    if outer.core is not core:
        raise InTransaction("a transaction of another client inside a body: use the outer one's client")
    if options != NO_OPTIONS and any(
        getattr(options, one.name) != getattr(outer.options, one.name) for one in fields(options)
    ):
        raise BadValue(
            "a transaction inside a transaction joins it, and its options differ from the outer one's: give them to "
            "the outer one",
            name="options",
        )
    return (yield from outer.join(lambda: body(outer)))


class _Transaction:
    def __init__(self, core: Core, body: Callable[[TxCore], Any], options: TransactOptions, alone: bool) -> None:
        self.core, self.body, self.options, self.alone = core, body, options, alone
        self.bounds = Bounds(options.timeout, options.canceller)
        self.traceparent = options.traceparent or traceparent_of_now()
        self.once = f"/.once/{options.once}" if options.once else ""
        self.runs = 0
        self.runs_since_sleep = 0
        self.first_run = 0.0
        self.reservation = 0
        self.causes: tuple[Cause, ...] = ()
        self.why = ""
        self.carried = Carried()
        self.told = Told()

    def run(self) -> Steps[Any]:
        while True:
            self.bounds.check()
            self.runs += 1
            self.runs_since_sleep += 1
            if self.runs_since_sleep == 1:
                self.first_run = time.monotonic()
            carried, self.carried = self.carried, Carried()
            tx = TxCore(self.core, self.options, self.bounds, self.runs, carried, self.alone)
            try:
                return (yield from self._run_once(tx))
            except _Again:
                continue

    def _run_once(self, tx: TxCore) -> Steps[Any]:
        if self.once:
            spent = yield from tx.read_once(self.once)
            if tx.signal:
                yield from self._after_signal(tx)
            if spent is not None:
                return self._spent(spent)
        if self.options.rerun_check:
            tx, result = yield from self._run_twice(tx)
        else:
            result = yield from tx.execute(lambda: self.body(tx))
        if tx.signal:
            yield from self._after_signal(tx)
        if self.once:
            tx.write_once(self.once, self.core.codec.encode(result, self.once), self.options.once_ttl)
        committed = Committed()
        if tx.needs_commit:
            committed = yield from self._commit(tx)
        if self.options.on_committed is not None:
            self.options.on_committed(committed)
        yield from tx.call_on_commit(committed)
        return result

    def _spent(self, entry: common_pb2.Entry) -> Any:
        result = self.core.codec.decode(entry.value, self.once)
        if self.options.on_committed is not None:
            self.options.on_committed(Committed(version=entry.version, repeated=True))
        return result

    def _run_twice(self, first: TxCore) -> Steps[tuple[TxCore, Any]]:
        def attempt(tx: TxCore) -> Steps[tuple[Any, Exception | None]]:
            try:
                return (yield from tx.execute(lambda: self.body(tx))), None
            except Exception as error:
                return None, error

        result, error = yield from attempt(first)
        if first.signal == "rerun":
            return first, result
        second = TxCore(self.core, self.options, self.bounds, self.runs, first.carry_same(), self.alone)
        if self.once:
            yield from second.read_once(self.once)
        result, error_again = yield from attempt(second)
        if second.signal == "rerun":
            return second, result
        before, after = first.lines(), second.lines()
        for lines, raised in ((before, error), (after, error_again)):
            if raised is not None:
                lines.append((f"error: {raised!r}", f"error: {raised!r}"))
        at = 0
        while at < min(len(before), len(after)) and before[at][1] == after[at][1]:
            at += 1
        if at == len(before) == len(after):
            if error_again is not None:
                raise error_again
            return second, result
        expected = before[at][0] if at < len(before) else "nothing more"
        found = after[at][0] if at < len(after) else "nothing more"
        raise RerunDiffers(
            f'rerun_check: on one snapshot the first run did "{expected}" and the second "{found}": a body must depend '
            "on nothing but what it reads; take time, chance and input before the transaction",
            expected=expected,
            found=found,
        )

    def _after_signal(self, tx: TxCore) -> Steps[None]:
        """Raises: _Again, or the failure."""
        if tx.signal == "retry":
            yield from self._sleep_until_change(tx)
        if tx.signal == "rerun" and isinstance(tx.failure, StmError):
            yield from self._again(tx, (), tx.failure.reason)
        if isinstance(tx.failure, TimeoutError):
            raise self._time_is_up(tx.failure)
        assert tx.failure is not None
        raise tx.failure

    def _sleep_until_change(self, tx: TxCore) -> Steps[None]:
        def fill() -> transaction_service_pb2.AwaitChangeRequest:
            request = tx.await_request()
            request.reservation = self.reservation
            return request

        self.carried = tx.carry()
        try:
            changed = yield from self.core.ask("TransactionService/AwaitChange", fill, self.bounds)
        except (SnapshotTooOld, StoreChanged):
            pass  # begins anew
        else:
            self._take_fresh(changed.header.store, changed.snapshot, changed.fresh)
        # It waited for a change, not for its turn: its age begins anew.
        self.runs_since_sleep = self.reservation = 0
        raise _Again

    def _take_fresh(self, store: int, snapshot: int, entries: Sequence[common_pb2.Entry]) -> None:
        if snapshot:
            short = self.core.names.short
            self.carried.snapshot, self.carried.store = snapshot, store
            self.carried.fresh = {short(entry.name): entry for entry in entries}

    def _commit(self, tx: TxCore) -> Steps[Committed]:
        tx.check_fences()
        lease: Lease | None = None
        if tx.needs_session:
            lease = yield from self.core.session.get(self.bounds)

        def fill() -> transaction_service_pb2.CommitRequest:
            request = tx.request("" if lease is None else lease.id)
            meta = request.meta
            meta.label, meta.client = self.options.label, self.core.options.client_name
            meta.traceparent = self.traceparent
            if self.runs_since_sleep > 1:
                request.age.since_first_run.CopyFrom(wire.duration(time.monotonic() - self.first_run))
                request.age.runs, request.age.reservation = self.runs_since_sleep, self.reservation
            return request

        try:
            response = yield from self.core.commit(fill, tx.store, self.bounds, self.told)
        except (SnapshotTooOld, StoreChanged) as error:
            yield from self._again(tx, (), error.reason)
        except SessionExpired as error:
            if lease is None:
                raise
            self.core.session.drop(lease, known=True)
            yield from self._again(tx, (), error.reason)
        except TimeoutError as error:
            raise self._time_is_up(error) from error
        match response.WhichOneof("outcome"):
            case "committed":
                done = response.committed
                self.core.position.observe_version(response.header.store, done.version)
                tx.take_results(list(done.results))
                return Committed(
                    done.version, wire.instant_of(done.at), self.told.transaction_id, False, self.told.resends
                )
            case "conflict":
                conflict = response.conflict
                self.reservation = conflict.reservation
                self.carried = tx.carry()
                self._take_fresh(response.header.store, conflict.snapshot, conflict.fresh)
                causes = wire.causes_of(conflict, self.core.names)
                yield from self._again(tx, causes, "", at_once=conflict.HasField("reserved_for"))
            case "rejected":
                rejected = response.rejected
                absent = rejected.cause == transaction_service_pb2.REJECT_CAUSE_ABSENT
                if absent and tx.forget_existence(self.core.names.short(rejected.name)):
                    self.carried = tx.carry()
                    raise _Again
                raise wire.rejected_error(rejected, self.core.names, self.core.codec)
            case "fence_lost":
                raise tx.fence_lost(response.fence_lost.fence)
        raise StmError("the daemon answered a commit with no outcome: use a client as new as the daemon")

    def _again(self, tx: TxCore, causes: tuple[Cause, ...], why: str, at_once: bool = False) -> Steps[None]:
        """Before another run: the caller's bounds, the hooks, and the pause. Raises _Again."""
        if why:
            self.carried = tx.carry()
        self.causes, self.why = causes, why
        if 0 < self.options.runs_max <= self.runs:
            raise self._conflict(f"{self.runs} runs are spent")
        if self.bounds.deadline.passed():
            raise self._conflict("the time is up")
        rerun = Rerun(self.runs + 1, causes, why)
        for hook in (self.core.options.on_rerun, self.options.on_rerun):
            if hook is not None:
                hook(rerun)
        if self.runs_since_sleep + 1 == WARN_AT_RUN:
            label = f'"{self.options.label}" ' if self.options.label else ""
            self.core.options.warn(
                f"transaction {label}is at its {WARN_AT_RUN}th run: {self._blame()}: "
                "make its body shorter, or commute what it only adds to"
            )
        if not at_once and self.runs_since_sleep + 1 > RUNS_AT_ONCE:
            doublings = min(self.runs_since_sleep - RUNS_AT_ONCE + 1, 7)
            pause = random.uniform(RERUN_MIN, min(RERUN_MAX, RERUN_MIN * 2.0**doublings))
            yield self.core.io.sleep(self.bounds.deadline.at_most(pause), self.options.canceller)
            if self.bounds.deadline.passed():
                raise self._conflict("the time is up")
        raise _Again

    def _time_is_up(self, error: TimeoutError) -> Exception:
        """After conflicts it is those that took the time."""
        return self._conflict("the time is up") if self.runs_since_sleep > 1 else error

    def _blame(self) -> str:
        if self.why or not self.causes:
            return self.why or "what was read changed meanwhile"
        first = self.causes[0]
        by = f" by {first.by.client}" if first.by.client else ""
        label = f" ({first.by.label})" if first.by.label else ""
        more = f", and {len(self.causes) - 1} more" if len(self.causes) > 1 else ""
        return f"changed meanwhile: {first.name}{by}{label} at version {first.version}{more}"

    def _conflict(self, spent: str) -> Conflict:
        error = Conflict(
            f"conflict: {self._blame()}, and {spent}; nothing was changed: allow more, or make the body shorter",
            name=self.causes[0].name if self.causes else "",
        )
        error.causes = self.causes
        return error


# ---- Outside of transactions


def find_outside(handle: Handle[T], bounds: Bounds, stale_ok: bool) -> Steps[T | Any]:
    core = handle._core
    core.check_outside(f"reading {handle.name} by its handle")
    names = [core.names.full(handle.name)]

    def fill() -> ref_service_pb2.GetRefsRequest:
        at = common_pb2.ReadPoint(seen=core.position.known())
        if stale_ok:
            at.stale = True
        return ref_service_pb2.GetRefsRequest(names=names, at=at)

    while True:
        try:
            answer = yield from core.ask("RefService/GetRefs", fill, bounds)
        except StoreChanged:
            continue  # the new store is taken, and nothing hangs on the old
        entry = answer.entries[0]
        if entry.HasField("value") and wire.atom_or_ref(entry.kind) != handle.is_atom:
            raise handle.wrong_kind(not handle.is_atom)
        return handle.decoded(entry.value)


def get_outside(handle: Handle[T], bounds: Bounds, stale_ok: bool) -> Steps[T]:
    value = yield from find_outside(handle, bounds, stale_ok)
    if value is ABSENT:
        if handle.init is ABSENT:
            raise Absent(f"{handle.name} {ABSENT_REMEDY}", name=handle.name)
        init = handle.wire_init()
        assert init is not None
        value = handle.decoded(init)
    return value


def definition_outside(handle: Handle[Any], bounds: Bounds) -> Steps[Definition | None]:
    core = handle._core
    core.check_outside(f"reading {handle.name} by its handle")
    names = [core.names.full(handle.name)]
    answer = yield from core.ask(
        "RefService/GetRefs",
        lambda: ref_service_pb2.GetRefsRequest(
            names=names, with_definition=True, at=common_pb2.ReadPoint(seen=core.position.known())
        ),
        bounds,
    )
    entry = answer.entries[0]
    return wire.definition_of(entry.definition, core.codec, handle.name) if entry.HasField("value") else None


def run_outside(handle: Handle[Any], what: str, options: TransactOptions, body: Callable[[TxCore], Any]) -> Steps[Any]:
    """A transaction of one entry, whose body does no more than one thing of the core's."""
    handle._core.check_outside(f"{what} of {handle.name}")
    return (yield from transact(handle._core, body, options, alone=True))


def set_outside(handle: Handle[T], value: T, options: TransactOptions) -> Steps[None]:
    yield from run_outside(handle, "reset", options, lambda tx: tx.set(handle, value))


def delete_outside(handle: Handle[Any], options: TransactOptions) -> Steps[None]:
    yield from run_outside(handle, "delete", options, lambda tx: tx.delete(handle))


def define_outside(handle: Handle[Any], definition: Definition, options: TransactOptions) -> Steps[None]:
    yield from run_outside(handle, "define", options, lambda tx: tx.define(handle, definition))


def apply_outside(handle: Handle[Any], operation: Op, options: TransactOptions) -> Steps[Any]:
    results: list[CommuteResult] = []
    yield from run_outside(handle, "apply", options, lambda tx: results.append(tx.commute(handle, operation)))
    if results[-1].value is ABSENT:
        raise ValueLost(
            f"{handle.name}: the operation was applied, and its result was lost with the connection: read the entry",
            name=handle.name,
        )
    return results[-1].value


def swap_outside(handle: Handle[T], function: Callable[[T], T], options: TransactOptions) -> Steps[T]:
    made: list[T] = []

    def steps(tx: TxCore) -> Steps[None]:
        before = yield from tx.find(handle)
        if before is ABSENT:
            if handle.init is ABSENT:
                tx.fail(Absent(f"{handle.name} {ABSENT_REMEDY}", name=handle.name))
            init = handle.wire_init()
            assert init is not None
            before = handle.decoded(init)
        after = yield handle._core.io.user(lambda: function(before))
        tx.set(handle, after)
        made.append((yield from tx.find(handle)))

    yield from run_outside(handle, "swap", options, lambda tx: handle._core.io.run(steps(tx)))
    return made[-1]


def compare_and_set_outside(handle: Handle[T], expected: Any, value: T, options: TransactOptions) -> Steps[bool]:
    """By an operation, so that it never conflicts."""
    operation = op.compare_and_set(expected, value)
    try:
        yield from run_outside(handle, "compare_and_set", options, lambda tx: tx.commute(handle, operation))
    except Rejected as error:
        if error.cause == "compare":
            return False
        raise
    return True
