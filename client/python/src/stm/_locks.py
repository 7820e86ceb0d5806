"""Locks: calls that are commits of their own, each exactly once, and what operators ask of locks and sessions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from . import _wire as wire
from ._base import CANCELLED, NEVER, Bounds, Deadline, Outage, Steps
from ._core import CallId, Core
from ._proto import common_pb2, lock_service_pb2, session_service_pb2
from ._session import Grant, Lease
from .commits import LockHold, LockInfo, LockMode, SessionInfo
from .errors import (
    BadValue,
    Deadlock,
    LockBusy,
    LockLost,
    SessionExpired,
    StmError,
    Unavailable,
    UpgradeRefused,
)

GIVE_UP_MAX = 10.0  # seconds of giving back, in the background, what nobody waits for; then its session's end does it
PAGE_MAX = 1000


@dataclass(frozen=True)
class LockOptions:
    """As client.lock() takes them."""

    shared: bool = False
    permits: int = 0
    permits_max: int = 0
    owner: str = ""
    label: str = ""

    def check(self, name: str) -> None:
        wire.check_name(name)
        if self.shared and self.permits_max:
            raise BadValue(f"{name}: a semaphore is not shared: leave out shared, or permits_max", name=name)
        if self.permits and not self.permits_max:
            raise BadValue(f"{name}: permits are a semaphore's: say its permits_max, too", name=name)


def _meta(core: Core, label: str = "") -> common_pb2.Meta:
    return common_pb2.Meta(label=label, client=core.options.client_name)


def _who(hold: lock_service_pb2.LockHold) -> str:
    return f"{hold.owner} (session {hold.session_id})" if hold.owner else f"session {hold.session_id}"


def _holders(holds: Any) -> str:
    if not holds:
        return "others"
    return _who(holds[0]) + (" and others" if len(holds) > 1 else "")


def _refusal(core: Core, name: str, answer: lock_service_pb2.AcquireLockResponse) -> StmError:
    outcomes = lock_service_pb2.LockOutcome
    in_the_way = answer.in_the_way
    match answer.outcome:
        case outcomes.LOCK_OUTCOME_BUSY:
            held = _holders(in_the_way)
            return LockBusy(f"{name} is held by {held}: wait longer, or try again later", name=name, found=held)
        case outcomes.LOCK_OUTCOME_UPGRADE_REFUSED:
            held = _holders(in_the_way)
            return UpgradeRefused(
                f"{name} is held shared by this owner and not alone ({held}), and cannot become exclusive: release the "
                "shared hold first",
                name=name,
                found=held,
            )
        case outcomes.LOCK_OUTCOME_DEADLOCK:
            short = core.names.short
            cycle = ", ".join(f"{_who(s)} holds {short(s.lock)} and waits for {short(s.waits_for)}" for s in in_the_way)
            return Deadlock(
                f"waiting for {name} would be a deadlock: {cycle}: release what you hold, and acquire locks in one "
                "order everywhere",
                name=name,
                found=cycle,
            )
        case outcomes.LOCK_OUTCOME_LEFT:
            return LockLost(
                f"the grant of {name} came and was taken, or its place in the queue was given up by another: acquire "
                "the lock again",
                name=name,
            )
    return StmError(
        f"{name}: the daemon answered with no outcome that is known here: use a client as new as the daemon", name=name
    )


def acquire(core: Core, name: str, options: LockOptions, wait: float | None, bounds: Bounds) -> Steps[Grant]:
    """Waits its turn, `wait` seconds at most: None: until it is granted; 0: at once, past those who wait, or
    LockBusy."""
    core.check_outside(f"acquire of {name}")
    options.check(name)
    lock = core.names.full(name)
    until = Deadline(wait)
    sessions = Outage(core.options.unavailable_timeout)
    while True:
        lease = yield from core.session.get(bounds)
        call = CallId()
        sessions.begin()
        try:
            answer = yield from _send_acquire(core, lease, lock, options, bounds, until, call)
            if lease.over():
                raise Unavailable("its session is over")
        except (StmError, TimeoutError, *CANCELLED) as error:
            expired = isinstance(error, SessionExpired)
            if not expired and not lease.over():
                if call.sent:
                    core.io.spawn(_give_up(core, lease, lock, options.owner, call.id), "giving up a place")
                raise
            # Its place went with the session: it begins again, at the queue's end, with another.
            core.session.drop(lease, expired)
            if not isinstance(error, StmError) or bounds.deadline.passed():
                raise
            sessions.fail(error)
            if sessions.over():
                raise
            yield core.io.sleep(sessions.pause(bounds.deadline), bounds.canceller)
            continue
        if answer.outcome != lock_service_pb2.LOCK_OUTCOME_GRANTED:
            raise _refusal(core, name, answer)
        grant = Grant(lease, lock, name, options.owner, answer.token, core.io.lost())
        core.session.add(grant)
        return grant


def _send_acquire(
    core: Core, lease: Lease, lock: str, options: LockOptions, bounds: Bounds, until: Deadline, call: CallId
) -> Steps[Any]:
    """One try; GRANTED or an outcome that ends it. `call` tells whether there is something to give up."""

    def fill(commit_id: common_pb2.CommitId) -> lock_service_pb2.AcquireLockRequest:
        request = lock_service_pb2.AcquireLockRequest(
            id=commit_id, name=lock, session_id=lease.id, owner=options.owner, meta=_meta(core, options.label)
        )
        if options.permits_max:
            request.mode = lock_service_pb2.LOCK_MODE_PERMITS
            request.permits, request.permits_max = options.permits, options.permits_max
        elif options.shared:
            request.mode = lock_service_pb2.LOCK_MODE_SHARED
        else:
            request.mode = lock_service_pb2.LOCK_MODE_EXCLUSIVE
        if (left := until.left()) is not None:
            request.wait.CopyFrom(wire.duration(left))
        return request

    return (
        yield from core.send_once(
            "LockService/AcquireLock", fill, call, bounds, core.options.unavailable_timeout, lease.over
        )
    )


def _give_up(core: Core, lease: Lease, lock: str, owner: str, acquire_id: common_pb2.CommitId) -> Steps[None]:
    """Nobody waits for this acquire any more: it is to leave no place behind, and no hold."""
    acquire_id.resend = True

    def fill(commit_id: common_pb2.CommitId) -> lock_service_pb2.ReleaseLockRequest:
        return lock_service_pb2.ReleaseLockRequest(
            id=commit_id, name=lock, session_id=lease.id, owner=owner, acquire_id=acquire_id, meta=_meta(core)
        )

    try:
        yield from core.send_once("LockService/ReleaseLock", fill, CallId(), Bounds(GIVE_UP_MAX), None, lease.over)
    except (StmError, TimeoutError):
        pass  # its session's end does it


def release(core: Core, grant: Grant, bounds: Bounds) -> Steps[None]:
    """LockLost: it was lost before, or released. Unavailable: no daemon answered, and it may be called again."""
    core.check_outside(f"release of {grant.name}")
    if grant.released:
        raise grant.lost_error("was released before")
    if grant.over():
        core.session.remove(grant)
        grant.end()
        raise grant.lost_error("is gone")
    lease = grant.lease

    def fill(commit_id: common_pb2.CommitId) -> lock_service_pb2.ReleaseLockRequest:
        return lock_service_pb2.ReleaseLockRequest(
            id=commit_id,
            name=grant.lock,
            session_id=lease.id,
            owner=grant.owner,
            token=grant.token,
            meta=_meta(core),
        )

    outcome: int | None = None
    try:
        answer = yield from core.send_once(
            "LockService/ReleaseLock",
            fill,
            grant.release,
            bounds,
            core.options.unavailable_timeout,
            lease.over,
        )
        outcome = answer.outcome
    except StmError as error:
        # No verdict: it may be asked for again.
        if not lease.over() and not isinstance(error, SessionExpired):
            raise
    core.session.remove(grant)
    grant.end()
    if outcome not in (lock_service_pb2.LOCK_OUTCOME_RELEASED, lock_service_pb2.LOCK_OUTCOME_STILL_HELD):
        raise grant.lost_error("is gone")


def release_in_background(core: Core, grant: Grant) -> None:
    """What could not be released in time: within GIVE_UP_MAX, or by its session's end."""

    def steps() -> Steps[None]:
        try:
            yield from release(core, grant, Bounds(GIVE_UP_MAX))
        except (StmError, TimeoutError):
            core.session.remove(grant)

    core.io.spawn(steps(), "a release")


def await_condition(core: Core, grant: Grant, condition: str, wait: float | None) -> Steps[bool]:
    """Of an exclusive hold: gives the lock up with all its holds, awaits a signal, and has the lock again, however long
    that takes. False: `wait` was over before a signal came."""
    core.check_outside(f"await of {grant.name}")
    if grant.over():
        raise grant.lost_error("is gone")
    until = NEVER if wait is None else Deadline(wait)

    def fill(commit_id: common_pb2.CommitId) -> lock_service_pb2.AwaitConditionRequest:
        request = lock_service_pb2.AwaitConditionRequest(
            id=commit_id,
            lock=common_pb2.Fence(lock=grant.lock, token=grant.token),
            condition=condition,
            session_id=grant.lease.id,
            owner=grant.owner,
            meta=_meta(core),
        )
        if (left := until.left()) is not None:
            request.wait.CopyFrom(wire.duration(left))
        return request

    # For as long as its session lives: whoever gave up would leave a place that nobody takes the lock from.
    try:
        answer = yield from core.send_once(
            "LockService/AwaitCondition", fill, CallId(), Bounds(), None, grant.lease.over
        )
    except StmError as error:
        if not grant.lease.over() and not isinstance(error, SessionExpired):
            raise
        raise grant.lost_error("is gone with its session") from error
    if answer.outcome != lock_service_pb2.LOCK_OUTCOME_GRANTED:
        core.session.lose(grant.lock, grant.token)
        raise grant.lost_error("is gone")
    core.session.retoken(grant.lock, grant.token, answer.token)
    return bool(answer.signalled)


def wake(core: Core, grant: Grant, condition: str, everyone: bool) -> Steps[int]:
    """How many of those who await it were woken: the first, or all."""
    core.check_outside(f"signal of {grant.name}")
    if grant.over():
        raise grant.lost_error("is gone")

    def fill(commit_id: common_pb2.CommitId) -> lock_service_pb2.SignalConditionRequest:
        return lock_service_pb2.SignalConditionRequest(
            id=commit_id,
            lock=common_pb2.Fence(lock=grant.lock, token=grant.token),
            condition=condition,
            all=everyone,
            meta=_meta(core),
        )

    answer = yield from core.send_once(
        "LockService/SignalCondition",
        fill,
        CallId(),
        Bounds(),
        core.options.unavailable_timeout,
        grant.lease.over,
    )
    if answer.outcome != lock_service_pb2.LOCK_OUTCOME_SIGNALLED:
        raise grant.lost_error("is gone")
    return int(answer.woken)


# ---- What operators ask

_MODES: dict[int, LockMode] = {
    lock_service_pb2.LOCK_MODE_SHARED: "shared",
    lock_service_pb2.LOCK_MODE_PERMITS: "permits",
}


def _holds(messages: Iterable[lock_service_pb2.LockHold]) -> tuple[LockHold, ...]:
    return tuple(
        LockHold(
            one.session_id,
            one.owner,
            _MODES.get(one.mode, "exclusive"),
            one.token,
            one.holds,
            one.permits,
            wire.instant_of(one.since),
        )
        for one in messages
    )


def _info(core: Core, lock: lock_service_pb2.Lock) -> LockInfo:
    return LockInfo(
        core.names.short(lock.name), _holds(lock.holders), _holds(lock.queue), lock.permits_max, lock.last_token
    )


def lock_info(core: Core, name: str) -> Steps[LockInfo]:
    core.check_outside("lock info")
    wire.check_name(name)
    full = core.names.full(name)
    answer = yield from core.ask(
        "LockService/GetLock",
        lambda: lock_service_pb2.GetLockRequest(name=full, seen=core.position.known()),
        Bounds(),
    )
    return _info(core, answer.lock)


def locks(core: Core, prefix: str) -> Steps[list[LockInfo]]:
    core.check_outside("client.locks")
    wire.check_prefix(prefix)
    found: list[LockInfo] = []
    full, token = core.names.full(prefix), ""
    while True:
        page = yield from core.ask(
            "LockService/ListLocks",
            lambda token=token: lock_service_pb2.ListLocksRequest(  # type: ignore[misc]
                prefix=full, page_size=PAGE_MAX, page_token=token, seen=core.position.known()
            ),
            Bounds(),
        )
        found += [_info(core, lock) for lock in page.locks]
        token = page.next_page_token
        if not token:
            return found


def break_lock(core: Core, name: str, label: str) -> Steps[bool]:
    core.check_outside(f"breaking {name}")
    wire.check_name(name)
    full = core.names.full(name)
    answer = yield from core.send_once(
        "LockService/BreakLock",
        lambda commit_id: lock_service_pb2.BreakLockRequest(id=commit_id, name=full, meta=_meta(core, label)),
        CallId(),
        Bounds(),
        core.options.unavailable_timeout,
    )
    return bool(answer.outcome == lock_service_pb2.LOCK_OUTCOME_RELEASED)


def sessions(core: Core) -> Steps[list[SessionInfo]]:
    core.check_outside("client.sessions")
    found: list[SessionInfo] = []
    short, token = core.names.short, ""
    while True:
        page = yield from core.ask(
            "SessionService/ListSessions",
            lambda token=token: session_service_pb2.ListSessionsRequest(  # type: ignore[misc]
                page_size=PAGE_MAX, page_token=token, seen=core.position.known()
            ),
            Bounds(),
        )
        for one in page.sessions:
            found.append(
                SessionInfo(
                    one.session_id,
                    one.client,
                    wire.seconds_of(one.ttl),
                    wire.seconds_of(one.left) if one.HasField("left") else None,
                    one.daemon,
                    wire.instant_of(one.since),
                    tuple(short(lock) for lock in one.locks),
                    tuple(short(entry) for entry in one.entries),
                )
            )
        token = page.next_page_token
        if not token:
            return found


def expire_session(core: Core, session_id: str, label: str) -> Steps[None]:
    core.check_outside("expiring a session")
    yield from core.send_once(
        "SessionService/ExpireSession",
        lambda commit_id: session_service_pb2.ExpireSessionRequest(
            id=commit_id, session_id=session_id, meta=_meta(core, label)
        ),
        CallId(),
        Bounds(),
        core.options.unavailable_timeout,
    )
