"""The session that a client holds locks and ephemeral entries by: one lease at a time, opened when it is first needed,
and kept by beats on a stream of its own. Always: a lease is believed in until the sending of the newest answered beat,
and the TTL less a margin; then it is over for good, with every grant of it. What a commit may do is decided by fences,
whatever is believed here."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from . import _wire as wire
from ._base import (
    Bounds,
    Broken,
    ClientClosed,
    Deadline,
    Link,
    Outage,
    RpcFailed,
    Signal,
    Steps,
    StreamEnded,
    StreamSilent,
)
from ._core import CallId, Core, time_is_up
from ._proto import session_service_pb2
from .errors import LockLost, SessionExpired, StmError, StoreChanged, Unavailable

CLOSE_MAX = 1.0  # seconds that closing a client waits for the end of its session
CLOSE_DROPPED_MAX = 10.0  # seconds of closing, in the background, a session that this client believes in no more
# The client stops believing so much of the TTL before the daemon does: for clocks that do not run alike.
MARGIN_PART, MARGIN_MAX = 10, 1.0
BEATS_IN_TTL = 3
ANSWER_MIN = 1.0  # a beat that is not answered for so long, or between beats if that is longer, broke its connection
SLEEP_MAX = 1.0  # the longest sleep that a clock which stood still in suspend may prolong
REFUSALS_MAX = 2  # streams in a row that ended by the daemon's own word before another daemon is tried
LOST_EARLY_MAX = 1024
CLIENT_BYTES_MAX = 256  # the daemon's bound


def boot_time() -> float:
    """Seconds since the machine's start, suspend included where the system tells."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Lease:
    """One session of the daemon's, as this client believes in it. Any thread."""

    def __init__(self, session_id: str, ttl: float, sent: float, ended: Signal) -> None:
        """`sent`: when the call that opened it was first sent."""
        self.id = session_id
        self.ttl = ttl
        self.ended = ended
        self.margin = min(ttl / MARGIN_PART, MARGIN_MAX)
        self._lock = threading.Lock()
        self._until = sent + ttl - self.margin
        self._over = False

    def over(self) -> bool:
        """Once true it stays so, whatever is answered later."""
        if not self._over and boot_time() >= self._until:
            self._over = True
        return self._over

    @property
    def until(self) -> float:
        return self._until

    def left(self) -> float:
        return 0.0 if self.over() else max(self._until - boot_time(), 0.0)

    def answered(self, sent: float) -> None:
        """A beat that was sent then."""
        with self._lock:
            if not self.over():  # whoever asked may have been told that it is over
                self._until = max(self._until, sent + self.ttl - self.margin)

    def end(self) -> None:
        self._over = True
        self.ended.set()


class Grant:
    """What a Held shares with the session that may lose it. Any thread."""

    def __init__(self, lease: Lease, lock: str, name: str, owner: str, token: int, lost: Any) -> None:
        """`lock` as the daemon names it, `name` as the client does."""
        self.lease, self.lock, self.name, self.owner = lease, lock, name, owner
        self.token = token
        self.lost = lost
        lost.over = self.over
        self.released = False
        self.release = CallId()  # the one call that gives it back, over all who try
        self._lost = False
        self._lock = threading.Lock()
        self._on_lost: list[Callable[[], object]] = []

    def over(self) -> bool:
        return self._lost or self.released or self.lease.over()

    def lose(self) -> list[Callable[[], object]]:
        """The callbacks that wait for the loss; empty if it was over before."""
        with self._lock:
            before, self._lost = self._lost or self.released, True
            callbacks, self._on_lost = self._on_lost, []
        self.lost.set()
        return [] if before else callbacks

    def end(self) -> None:
        """It was released: nothing is called any more."""
        with self._lock:
            self.released = True
            self._on_lost.clear()
        self.lost.set()

    def on_lost(self, callback: Callable[[], object]) -> bool:
        """False: it is lost already, and the callback is not kept."""
        with self._lock:
            if self._lost and not self.released:
                return False
            if not self.released:
                self._on_lost.append(callback)
            return True

    def lost_error(self, what: str) -> LockLost:
        return LockLost(f"the grant of {self.name} {what}: acquire the lock again", name=self.name)


class Session:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._io = core.io
        self.forget()

    def forget(self) -> None:
        """As new: after fork the session is the parent's, whose grants mean nothing here."""
        self._lock = threading.Lock()
        self.closing = False
        self._opening: Signal | None = None
        self._lease: Lease | None = None
        for grant in getattr(self, "_grants", {}).values():
            grant._lock = threading.Lock()
            grant._lost = True
        self._grants: dict[tuple[str, int, int], Grant] = {}  # by lock, token, and which of several holds
        self._lost_early: dict[tuple[str, int], None] = {}
        self._keeper: Any = None
        self._beats: Any = None

    # ---- Leases

    def get(self, bounds: Bounds) -> Steps[Lease]:
        """One that is believed in, opened if there is none."""
        while True:
            dead: Lease | None = None
            with self._lock:
                if self.closing:
                    raise ClientClosed
                waits_for = self._opening
                if waits_for is None:
                    if self._lease is None:
                        mine = self._opening = self._io.signal()
                        break
                    if not self._lease.over():
                        return self._lease
                    dead = self._lease
            bounds.check()
            if bounds.deadline.passed():
                raise time_is_up()
            if dead is not None:
                self.drop(dead, known=False)
            elif waits_for is not None:
                yield self._io.wait(waits_for, bounds.deadline.at_most(SLEEP_MAX), bounds.canceller)
        try:
            lease = yield from self._open(bounds)
            with self._lock:
                self._lease = lease
            self._keeper = self._io.spawn(self._keep(lease), "beats")
            return lease
        finally:
            with self._lock:
                self._opening = None
            mine.set()

    def _open(self, bounds: Bounds) -> Steps[Lease]:
        sent: dict[str, float] = {}
        options = self._core.options
        text = f"{socket.gethostname()}/{options.client_name}/{os.getpid()}"

        def fill(commit_id: Any) -> session_service_pb2.OpenSessionRequest:
            # Its lease began no earlier than the first send of its id.
            sent.setdefault(commit_id.transaction_id, boot_time())
            request = session_service_pb2.OpenSessionRequest(id=commit_id, client=_cut(text, CLIENT_BYTES_MAX))
            if options.session_ttl is not None:
                request.ttl.CopyFrom(wire.duration(options.session_ttl))
            return request

        call = CallId()
        answer = yield from self._core.send_once(
            "SessionService/OpenSession", fill, call, bounds, options.unavailable_timeout
        )
        began = sent[call.id.transaction_id]
        return Lease(answer.session_id, wire.seconds_of(answer.ttl), began, self._io.signal())

    def drop(self, lease: Lease, known: bool) -> None:
        """It is over, with all that it had. `known`: the daemon said so; else it is closed there too, in the
        background."""
        lease.end()
        with self._lock:
            lost = [grant for grant in self._grants.values() if grant.lease is lease]
            self._grants = {key: grant for key, grant in self._grants.items() if grant.lease is not lease}
            if self._lease is lease:
                self._lease = None
            else:
                known = True  # whoever dropped it first saw to that
        for grant in lost:
            self._tell(grant.lose())
        if not known:
            self._io.spawn(self._close_at_daemon(lease.id, CLOSE_DROPPED_MAX), "closing a session")

    def _tell(self, callbacks: list[Callable[[], object]]) -> None:
        for callback in callbacks:
            self._io.spawn(self._call(callback), "on_lost")

    def _call(self, callback: Callable[[], object]) -> Steps[None]:
        yield self._io.user(callback)

    def _close_at_daemon(self, session_id: str, seconds: float) -> Steps[None]:
        try:
            yield from self._core.send_once(
                "SessionService/CloseSession",
                lambda commit_id: session_service_pb2.CloseSessionRequest(id=commit_id, session_id=session_id),
                CallId(),
                Bounds(seconds),
                None,
            )
        except (StmError, TimeoutError):
            pass  # its TTL ends it

    def close(self) -> Steps[None]:
        with self._lock:
            self.closing = True
            lease, self._lease = self._lease, None
            grants, self._grants = list(self._grants.values()), {}
            keeper, beats = self._keeper, self._beats
        if lease is not None:
            lease.end()
        if beats is not None:
            beats.cancel()
        for grant in grants:
            grant.lose()
        if lease is not None:
            yield from self._close_at_daemon(lease.id, CLOSE_MAX)
        if keeper is not None:
            yield self._io.join(keeper, CLOSE_MAX)

    # ---- Grants

    def add(self, grant: Grant) -> None:
        """From now on the session may lose it, or has already."""
        with self._lock:
            # Its lease may have been dropped meanwhile.
            if (grant.lock, grant.token) not in self._lost_early and self._lease is grant.lease:
                self._grants[grant.lock, grant.token, id(grant)] = grant
                return
        self._tell(grant.lose())

    def remove(self, grant: Grant) -> None:
        with self._lock:
            self._grants.pop((grant.lock, grant.token, id(grant)), None)

    def _take(self, lock: str, token: int) -> list[Grant]:
        keys = [key for key in self._grants if key[:2] == (lock, token)]
        return [self._grants.pop(key) for key in keys]

    def retoken(self, lock: str, before: int, after: int) -> None:
        """After a condition: the grant has another token now, for all who have a hold of it."""
        with self._lock:
            grants = self._take(lock, before)
        for grant in grants:
            grant.token = after
            self.add(grant)

    def lose(self, lock: str, token: int) -> None:
        """Every grant of this lock and token that is here; one whose answer is still on its way when it comes."""
        with self._lock:
            lost = self._take(lock, token)
            if not lost:
                self._lost_early[lock, token] = None
                if len(self._lost_early) > LOST_EARLY_MAX:
                    del self._lost_early[next(iter(self._lost_early))]
        for grant in lost:
            self._tell(grant.lose())

    # ---- Beats

    def _keep(self, lease: Lease) -> Steps[None]:
        outage = Outage(None)
        refusals = 0
        core = self._core
        while not self.closing and not lease.over():
            try:
                link = yield from core.link(Deadline(lease.left()), Bounds())
            except ClientClosed:
                return
            except Unavailable as error:
                failure: StmError = error
            else:
                before = lease.until
                ended = yield from self._beat_on(link, lease)
                if lease.until > before:
                    outage.end()
                    refusals = 0
                if ended is None:
                    return self.drop(lease, known=True)
                failure = ended
                refusals += 1
                if refusals >= REFUSALS_MAX and link.alive:
                    core.leave(link)
                    refusals = 0
            if self.closing:
                return
            outage.fail(failure)
            yield self._io.wait(lease.ended, min(outage.pause(), lease.left()))
        if not self.closing:
            self.drop(lease, known=False)

    def _beat_on(self, link: Link, lease: Lease) -> Steps[StmError | None]:
        """Until the stream breaks or the lease is over. None: the daemon says that the session is over."""
        every = lease.ttl / BEATS_IN_TTL
        patience = max(every, ANSWER_MIN)
        sent: dict[int, float] = {}  # unanswered, oldest first
        beat = 0
        due = boot_time()
        beats = self._beats = self._io.both_ways(link, "SessionService/KeepAlive")
        try:
            while not self.closing:
                now = boot_time()
                if lease.over():
                    return Unavailable("no beat was answered for the session's TTL")
                oldest = next(iter(sent.values()), None)
                if oldest is not None and now - oldest >= patience:
                    self._core.drop(link)
                    return Broken(f"{link.address} did not answer a beat for {patience:.3f} s")
                if now >= due:
                    beat += 1
                    seen = self._core.position.known()
                    beats.send(session_service_pb2.KeepAliveRequest(session_id=lease.id, beat=beat, seen=seen))
                    sent[beat] = now
                    oldest = now if oldest is None else oldest
                    due = now + every
                wait = min(due - now, lease.left(), SLEEP_MAX)
                if oldest is not None:
                    wait = min(wait, oldest + patience - now)
                try:
                    message = yield beats.take(max(wait, 0.001))
                except StreamSilent:
                    continue
                link.heard = time.monotonic()
                self._core.position.observe(message.header)
                if message.session_id != lease.id:
                    continue
                if message.expired:
                    return None
                if message.beat in sent:
                    lease.answered(sent[message.beat])
                    sent = {number: at for number, at in sent.items() if number > message.beat}
                for fence in message.lost:
                    self.lose(fence.lock, fence.token)
        except StreamEnded:
            return Broken("the daemon ended the stream of beats")
        except RpcFailed as error:
            failure = self._core._failure(link, "SessionService/KeepAlive", error, Deadline(None))
            if isinstance(failure, SessionExpired | StoreChanged):
                return None
            return failure if isinstance(failure, StmError) else Broken(str(failure))
        finally:
            beats.cancel()
            self._beats = None
        return ClientClosed()


def _cut(text: str, bytes_max: int) -> str:
    return text.encode()[:bytes_max].decode(errors="ignore")
