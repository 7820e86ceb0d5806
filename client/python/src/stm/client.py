"""The client of threads. Its calls block; any thread may make them. stm.aio has the same names, awaited."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Concatenate, Generic, Literal, NoReturn, ParamSpec, TypeVar, cast, overload

from . import _locks as locks
from . import _streams as streams
from . import _transact as transactions
from ._base import Bounds, Canceller, Deadline
from ._core import ConnectOptions, Core
from ._locks import LockOptions
from ._offer import Offering, StateContainer, VersionedStateContainer, offer
from ._session import Grant, Lease
from ._session import Session as CoreSession
from ._threads import LostEvent, ThreadIo, run
from ._transact import ONCE_TTL, Isolation, TransactOptions
from ._tx import CommuteResult, Handle, TxCore
from .commits import (
    CallInfo,
    Commit,
    Committed,
    Definition,
    LockInfo,
    Record,
    Rerun,
    SessionInfo,
)
from .errors import InTransaction, StmError
from .op import Op
from .values import ABSENT, Instant

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")

RELEASE_IN_EXIT_MAX = 1.0  # seconds that the end of `with` waits for a release, which then goes on in the background

log = logging.getLogger("stm")


def connect(
    address: str = "",
    *,
    prefix: str = "",
    client_name: str = "",
    unavailable_timeout: float = 10.0,
    session_ttl: float | None = None,
    keys: Literal["string", "keyword"] = "string",
    warn: Callable[[str], object] = log.warning,
    on_rerun: Callable[[Rerun], object] | None = None,
    on_call: Callable[[CallInfo], object] | None = None,
) -> Client:
    """Waits for a daemon that is ready, `unavailable_timeout` seconds at most, then raises Unavailable; each later call
    waits out an outage as long.

    `address`: host:port or unix:/path, several by comma, of which the first that answers is kept until it fails; "":
    STM_ADDRESS, else 127.0.0.1:7440. `prefix`: "/team-a": every name is below it, and seen without it. `client_name`:
    kept with each commit; "": the program's. `session_ttl`: seconds that locks and ephemeral entries outlive what the
    daemon heard of this client last, 2 to 600; None: the daemon's default. `keys`: "keyword": keys of maps that are str
    here are keywords on the wire. `warn` takes the client's own warnings; on_rerun each re-run with its causes; on_call
    each call that was sent, with its latency."""
    options = ConnectOptions.of(
        address, prefix, client_name, unavailable_timeout, session_ttl, keys, warn, on_rerun, on_call
    )
    io = ThreadIo()
    core = Core(io, options)
    core.session = CoreSession(core)
    io.core = weakref.ref(core)
    try:
        run(core.link(Deadline(unavailable_timeout), Bounds()))
    except BaseException:
        io.close()
        raise
    return Client(core, io)


class Ref(Handle[T]):
    """A handle of a ref, which changes inside transactions alone: it does no I/O when made. Its init creates the entry
    in the first transaction that reads or commutes it, if it is absent then, and never overwrites."""

    def get(self, *, timeout: float | None = None, canceller: Canceller | None = None, stale_ok: bool = False) -> T:
        """The newest value, linearizable. Absent: the handle's init, else the error Absent. `timeout`: seconds.
        `stale_ok`: what the daemon has in memory, at once; never older than this client saw."""
        return run(transactions.get_outside(self, Bounds(timeout, canceller), stale_ok))

    def find(
        self, *, timeout: float | None = None, canceller: Canceller | None = None, stale_ok: bool = False
    ) -> T | Any:
        """ABSENT where there is no entry."""
        return run(transactions.find_outside(self, Bounds(timeout, canceller), stale_ok))

    def define(self, definition: Definition, *, timeout: float | None = None, label: str = "") -> None:
        """Replaces validator, TTL and session, whole, by a commit of its own; the present value must satisfy the
        rule."""
        run(transactions.define_outside(self, definition, TransactOptions(timeout=timeout, label=label)))

    def read_definition(self, *, timeout: float | None = None) -> Definition | None:
        """As the entry has it; None: it is absent."""
        return run(transactions.definition_outside(self, Bounds(timeout)))

    def history(self, *, before_version: int = 0, limit: int = 100, timeout: float | None = None) -> list[Commit]:
        """Its commits, newest first, with who and why; before `before_version` (0: from the newest), 1000 at most."""
        return run(streams.history(self, before_version, limit, Bounds(timeout)))

    def follow(self, *, timeout: float | None = None, canceller: Canceller | None = None) -> Follow[T]:
        """Its newest values, beginning with the present one; values between may be left out. ABSENT: no entry."""
        return Follow(streams.Follower(self, Bounds(timeout, canceller)))


class Atom(Ref[T]):
    """A handle of an atom, which changes alone: each change is a transaction of one entry."""

    is_atom = True

    def reset(
        self, value: T, *, timeout: float | None = None, label: str = "", canceller: Canceller | None = None
    ) -> None:
        options = TransactOptions(timeout=timeout, label=label, canceller=canceller)
        run(transactions.set_outside(self, value, options))

    def swap(
        self,
        function: Callable[[T], T],
        *,
        timeout: float | None = None,
        label: str = "",
        canceller: Canceller | None = None,
    ) -> T:
        """Sets what `function` makes of the present value, and returns it. It may be called several times."""
        options = TransactOptions(timeout=timeout, label=label, canceller=canceller)
        return run(transactions.swap_outside(self, function, options))

    def compare_and_set(
        self,
        expected: T | Any,
        value: T,
        *,
        timeout: float | None = None,
        label: str = "",
        canceller: Canceller | None = None,
    ) -> bool:
        """False: the present value is another, and nothing was changed. `expected` ABSENT: only if there is none."""
        options = TransactOptions(timeout=timeout, label=label, canceller=canceller)
        return run(transactions.compare_and_set_outside(self, expected, value, options))

    def apply(
        self, operation: Op, *, timeout: float | None = None, label: str = "", canceller: Canceller | None = None
    ) -> Any:
        """An operation, and what it gives: the new value, but what was removed for pop and shift."""
        options = TransactOptions(timeout=timeout, label=label, canceller=canceller)
        return run(transactions.apply_outside(self, operation, options))

    def delete(self, *, timeout: float | None = None, label: str = "") -> None:
        run(transactions.delete_outside(self, TransactOptions(timeout=timeout, label=label)))


class Tx:
    """Handed to a body, and used inside it alone, by its thread. All reads are of one snapshot."""

    __slots__ = ("_core",)

    def __init__(self, core: TxCore) -> None:
        self._core = core

    @property
    def run(self) -> int:
        """Which run of the body this is, from 1."""
        return self._core.run

    def get(self, ref: Handle[T]) -> T:
        """Absent: its handle's init, which this transaction creates; the error Absent without one."""
        return run(self._core.get(ref))

    def find(self, ref: Handle[T]) -> T | Any:
        """ABSENT where there is no entry."""
        return run(self._core.find(ref))

    def set(self, ref: Handle[T], value: T) -> None:
        self._core.set(ref, value)

    def alter(self, ref: Handle[T], function: Callable[[T], Any]) -> T:
        """Sets what `function` makes of the present value, and returns it. Values are immutable: it makes a new one."""
        return cast(T, run(self._core.alter(ref, function)))

    def commute(self, ref: Handle[Any], operation: Op) -> CommuteResult:
        """Applied at the commit point: never conflicts. Absent: to the handle's init, if it has one."""
        return self._core.commute(ref, operation)

    def ensure(self, ref: Handle[Any]) -> None:
        """Commits only if the entry is as this snapshot has it, though it is not written."""
        run(self._core.ensure(ref))

    def delete(self, ref: Handle[Any]) -> None:
        self._core.delete(ref)

    def define(self, ref: Handle[Any], definition: Definition) -> None:
        """Replaces the entry's validator, TTL and session, whole."""
        self._core.define(ref, definition)

    def list(self, prefix: str) -> dict[str, Any]:
        """All entries under `prefix` ("/jobs/"), refs and atoms, by name in order, with what this body wrote over them.

        A commit that creates or deletes one of them meanwhile is a conflict. Names under "/." are listed by such a
        prefix alone.
        """
        return run(self._core.entries(prefix))

    def names(self, prefix: str) -> Sequence[str]:
        """As list, without the values, which then are not read."""
        return run(self._core.names(prefix))

    def record(self, value: Any) -> None:
        """A tagged value, kept in the log with the commit."""
        self._core.record(value)

    @overload
    def fence(self, held: Held) -> None: ...
    @overload
    def fence(self, held: str, token: int) -> None: ...
    def fence(self, held: Held | str, token: int = 0) -> None:
        """Commits only while this grant stands, else LockLost; or another's grant, by lock and token."""
        if isinstance(held, str):
            self._core.fence_token(held, token)
        else:
            self._core.fence(held._grant)

    def retry(self) -> NoReturn:
        """Sleeps until something that was read has changed, then runs the body again."""
        self._core.retry()

    def or_else(self, first: Callable[[], R], second: Callable[[], R]) -> R:
        """`first`; if that calls retry(), what it wrote is dropped and `second` runs."""
        return cast(R, run(self._core.or_else(first, second)))

    def on_commit(self, function: Callable[[Committed], object]) -> None:
        """Called once, after the commit, by the thread that ran the body; in no run that was abandoned."""
        self._core.on_commit(function)


class Held:
    """One hold of a lock. It is this client's belief: what a commit may do under the lock is decided by tx.fence(held)
    alone. Any thread. `lost`: set when the grant is gone, its time is over by this client's own clock, or it was
    released; it stays so."""

    def __init__(self, core: Core, grant: Grant) -> None:
        self._core = core
        self._grant = grant
        self._releasing = threading.Lock()
        self.lost: LostEvent = grant.lost

    @property
    def token(self) -> int:
        """What fences name; grows with each grant of the lock. wait() changes it."""
        return self._grant.token

    @property
    def name(self) -> str:
        return self._grant.name

    def __repr__(self) -> str:
        return f"<Held {self.name} {self.token}{' lost' if self.lost.is_set() else ''}>"

    def on_lost(self, callback: Callable[[], object]) -> None:
        """Called once, by a thread of its own, when it is lost, at once if it is already; not for a release."""
        if not self._grant.on_lost(callback):
            self._core.session._tell([callback])

    def release(self, *, timeout: float | None = None) -> None:
        """LockLost: it was lost or released before. Unavailable: no daemon answered, and it may be called again."""
        with self._releasing:
            run(locks.release(self._core, self._grant, Bounds(timeout)))

    def wait(self, condition: str, timeout: float | None = None) -> bool:
        """Of an exclusive hold. Gives the lock up with all its holds, awaits a notify, and has the lock again, however
        long that takes. False: `timeout` was over first. LockLost: it is not held any more."""
        return run(locks.await_condition(self._core, self._grant, condition, timeout))

    def notify(self, condition: str) -> int:
        """Wakes the first who waits for it. How many were woken."""
        return run(locks.wake(self._core, self._grant, condition, everyone=False))

    def notify_all(self, condition: str) -> int:
        return run(locks.wake(self._core, self._grant, condition, everyone=True))

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *of: object) -> None:
        self._end()

    def _end(self) -> None:
        """Errors are dropped: a loss is `lost`'s to tell, and a session's end releases what could not be."""
        if self._grant.released:
            return
        try:
            self.release(timeout=RELEASE_IN_EXIT_MAX)
        except (StmError, TimeoutError):
            if not self._grant.released:
                locks.release_in_background(self._core, self._grant)


class Lock:
    """A handle of a lock: first come, first served. `with` waits its turn and releases at the end."""

    def __init__(self, core: Core, name: str, options: LockOptions) -> None:
        options.check(name)
        self._core = core
        self.name = name
        self._options = options
        self._entered = threading.local()

    def acquire(
        self, *, wait: float | None = None, timeout: float | None = None, canceller: Canceller | None = None
    ) -> Held:
        """Waits its turn. `wait` seconds, then LockBusy; 0: at once, past those who wait, or LockBusy. `timeout`: of
        the whole call, then TimeoutError. Either way the place in the queue is given up. UpgradeRefused, Deadlock;
        LockLost: its place was taken from it."""
        grant = run(locks.acquire(self._core, self.name, self._options, wait, Bounds(timeout, canceller)))
        return Held(self._core, grant)

    def info(self) -> LockInfo:
        """Who holds it and who waits."""
        return run(locks.lock_info(self._core, self.name))

    def break_(self, *, label: str = "") -> bool:
        """An operator's: takes it from all who hold it, by a commit that says who and, as `label`, why. False: nobody
        does."""
        return run(locks.break_lock(self._core, self.name, label))

    def __enter__(self) -> Held:
        held = self.acquire()
        self._stack().append(held)
        return held

    def __exit__(self, *of: object) -> None:
        self._stack().pop()._end()

    def _stack(self) -> list[Held]:
        if not hasattr(self._entered, "stack"):
            self._entered.stack = []
        stack: list[Held] = self._entered.stack
        return stack


class Session:
    """What a client holds locks and ephemeral entries by, as far as it believes in it: one session's handle."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    @property
    def id(self) -> str:
        return self._lease.id

    @property
    def lost(self) -> bool:
        """It was expired, or not heard of for its TTL by this client's own clock. Stays true."""
        return self._lease.over()


class _Stream(Generic[T]):
    """An iterator, of one thread at a time; close() may be called by any."""

    def __init__(self, of: Any) -> None:
        self._of = of

    def __iter__(self: S) -> S:
        return self

    def close(self) -> None:
        self._of.close()

    def __enter__(self: S) -> S:
        return self

    def __exit__(self, *of: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


S = TypeVar("S", bound=_Stream[Any])


class Watch(_Stream[Commit], Iterator[Commit]):
    """Commits, each once, whole, in order; it has begun when client.watch() returns."""

    def __next__(self) -> Commit:
        commit: Commit | None = run(self._of.next())
        if commit is None:
            raise StopIteration
        return commit


class Follow(_Stream[T], Iterator[T]):
    def __next__(self) -> T:
        value = run(self._of.next())
        if value is None:
            raise StopIteration
        return cast(T, value[0])


class Records(_Stream[Record[T]], Iterator[Record[T]]):
    def __next__(self) -> Record[T]:
        record: Record[T] | None = run(self._of.next())
        if record is None:
            raise StopIteration
        return record

    @property
    def first_version(self) -> int:
        """The oldest that the log keeps; 0 before the first record was asked for."""
        return cast(int, self._of.first_version)


class View:
    """Reads the past: all its reads are of one version. SnapshotTooOld when that is no longer kept."""

    def __init__(self, core: streams.ViewCore) -> None:
        self._core = core

    @property
    def version(self) -> int:
        """0: not known before the first read."""
        return self._core.version

    def get(self, ref: Handle[T]) -> T:
        return cast(T, run(self._core.get(ref)))

    def find(self, ref: Handle[T]) -> T | Any:
        return run(self._core.find(ref))

    def list(self, prefix: str) -> dict[str, Any]:
        return run(self._core.list(prefix, names_only=False))

    def names(self, prefix: str) -> Sequence[str]:
        return [*run(self._core.list(prefix, names_only=True))]


class Offer:
    """A container of this process that the daemon may ask. close() withdraws it; calls under way are waited for."""

    def __init__(self, offering: Offering) -> None:
        self._offering = offering

    @property
    def container(self) -> str:
        """ "offered:mine": what definitions give as their container."""
        return self._offering.container

    @property
    def standing(self) -> bool:
        """The daemon asks here now."""
        return self._offering.standing

    @property
    def failure(self) -> StmError | None:
        """Why it does not stand; None: it does, or was never interrupted."""
        return self._offering.failure

    def await_standing(self, timeout: float) -> bool:
        """False: not within so many seconds."""
        return run(self._offering.await_standing(timeout))

    def close(self) -> None:
        run(self._offering.withdraw())

    def __enter__(self) -> Offer:
        return self

    def __exit__(self, *of: object) -> None:
        self.close()


class Client:
    """Made by connect(). Any thread may use it; close() or `with` ends it, its session, and all that waits."""

    def __init__(self, core: Core, io: ThreadIo) -> None:
        self._core = core
        self._io = io
        _clients.add(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *of: object) -> None:
        self.close()

    def close(self) -> None:
        try:
            run(self._core.close())
        finally:
            self._io.close()

    @property
    def address(self) -> str:
        """Of the daemon that is in use."""
        return self._core.address

    @property
    def seen_version(self) -> int:
        """The newest version this client knows."""
        return self._core.position.seen

    @overload
    def ref(self, name: str, *, definition: Definition | None = None) -> Ref[Any]: ...
    @overload
    def ref(
        self, name: str, init: T, *, definition: Definition | None = None, type: type[T] | None = None
    ) -> Ref[T]: ...
    @overload
    def ref(self, name: str, *, definition: Definition | None = None, type: type[T]) -> Ref[T]: ...
    def ref(
        self, name: str, init: Any = ABSENT, *, definition: Definition | None = None, type: type[Any] | None = None
    ) -> Ref[Any]:
        """A handle. `init`: the entry is made with it if absent. `definition`: for who creates the entry; an existing
        one keeps its own. `type`: a value that is none of it is BadValue."""
        return Ref(self._core, name, init, definition, type)

    @overload
    def atom(self, name: str, *, definition: Definition | None = None) -> Atom[Any]: ...
    @overload
    def atom(
        self, name: str, init: T, *, definition: Definition | None = None, type: type[T] | None = None
    ) -> Atom[T]: ...
    @overload
    def atom(self, name: str, *, definition: Definition | None = None, type: type[T]) -> Atom[T]: ...
    def atom(
        self, name: str, init: Any = ABSENT, *, definition: Definition | None = None, type: type[Any] | None = None
    ) -> Atom[Any]:
        return Atom(self._core, name, init, definition, type)

    def transact(
        self,
        body: Callable[[Tx], R],
        *,
        timeout: float | None = None,
        runs_max: int = 0,
        label: str = "",
        traceparent: str = "",
        isolation: Isolation = "serializable",
        once: str = "",
        once_ttl: float = ONCE_TTL,
        stale_ok: bool = False,
        rerun_check: bool = False,
        on_rerun: Callable[[Rerun], object] | None = None,
        on_committed: Callable[[Committed], object] | None = None,
        canceller: Canceller | None = None,
    ) -> R:
        """Runs `body` until its commit stands, and returns its result: strictly serializable, exactly once.

        `timeout` in seconds and `runs_max` (None and 0: no bound) end in Conflict after conflicts, in TimeoutError
        otherwise, or in CommitUnknown. `label` comes back in the log, watches and causes, as `traceparent` does (W3C;
        "": of OpenTelemetry's present span, if the program uses that). `isolation`: "snapshot" is Clojure's: only what
        was set, deleted or ensured is checked. `once`: a key: a second transaction of it, from any process, within
        `once_ttl` seconds, runs nothing and returns the first one's result. `stale_ok`: the first read may be of what
        the daemon has in memory; then a transaction that only reads is committed, to check that. `rerun_check`: for
        tests: the body runs twice on one snapshot and must do the same, else RerunDiffers. Inside another transaction
        of this client it joins that."""
        options = TransactOptions(
            timeout=timeout,
            runs_max=runs_max,
            label=label,
            traceparent=traceparent,
            isolation=isolation,
            once=once,
            once_ttl=once_ttl,
            stale_ok=stale_ok,
            rerun_check=rerun_check,
            on_rerun=on_rerun,
            on_committed=on_committed,
            canceller=canceller,
        )
        return cast(R, run(transactions.transact(self._core, lambda tx: body(Tx(tx)), options)))

    def list(self, prefix: str) -> dict[str, Any]:
        """Entries under a prefix, by name in order, all of one snapshot, without the system's ("/.once/...")."""
        return run(streams.list_outside(self._core, prefix, names_only=False))

    def names(self, prefix: str) -> Sequence[str]:
        return [*run(streams.list_outside(self._core, prefix, names_only=True))]

    def watch(
        self,
        *names: str,
        initial: bool = False,
        after: int = 0,
        conflate: bool = False,
        progress_every: float = streams.PROGRESS_EVERY,
        on_synced: Callable[[int], object] | None = None,
        on_progress: Callable[[int], object] | None = None,
        timeout: float | None = None,
        canceller: Canceller | None = None,
    ) -> Watch:
        """An iterator of the commits that change something selected: names, prefixes that end in "/", nothing: all.

        `initial`: first all as it is, as one Commit marked initial. `after`: commits after this version; 0: from now.
        `conflate`: for a slow reader: commits not yet told are merged. `progress_every`: seconds of idleness after
        which on_progress hears up to where nothing changed. Reconnects are invisible; what was lost meanwhile is mended
        by a Commit marked initial. `timeout`: seconds of the whole, then TimeoutError."""
        watcher = streams.Watcher(
            self._core,
            names,
            Bounds(timeout, canceller),
            initial=initial,
            after=after,
            conflate=conflate,
            progress_every=progress_every,
            on_synced=on_synced,
            on_progress=on_progress,
        )
        run(watcher.open())
        return Watch(watcher)

    @overload
    def records(
        self,
        wanted: type[T],
        /,
        *,
        from_version: int = 0,
        to_version: int = 0,
        follow: bool = False,
        timeout: float | None = None,
        canceller: Canceller | None = None,
    ) -> Records[T]: ...
    @overload
    def records(
        self,
        *wanted: type[Any] | str,
        from_version: int = 0,
        to_version: int = 0,
        follow: bool = False,
        timeout: float | None = None,
        canceller: Canceller | None = None,
    ) -> Records[Any]: ...
    def records(
        self,
        *wanted: type[Any] | str,
        from_version: int = 0,
        to_version: int = 0,
        follow: bool = False,
        timeout: float | None = None,
        canceller: Canceller | None = None,
    ) -> Records[Any]:
        """An iterator of the records of these types or tags ("blog.*": all that begin so; none: all), in order.

        From `from_version` (at it; 0: the oldest kept; asked for less than is kept: SnapshotTooOld) to `to_version` (0:
        the newest); `follow`: without an end.
        """
        bounds = Bounds(timeout, canceller)
        return Records(
            streams.RecordReader(
                self._core, wanted, bounds, from_version=from_version, to_version=to_version, follow=follow
            )
        )

    def at(self, when: int | Instant) -> View:
        """The past: at a version, or at the newest version at or before a moment."""
        return View(streams.ViewCore(self._core, when))

    def lock(
        self,
        name: str,
        *,
        shared: bool = False,
        permits: int = 0,
        permits_max: int = 0,
        owner: str = "",
        label: str = "",
    ) -> Lock:
        """A handle. `shared`: with others who read; else alone. `permits_max`: a semaphore of so many, the same for all
        who use it, and how many `permits` of them (0: one). `owner`: reentrant for the same owner of this client; "":
        the client itself, so threads that are to exclude one another name themselves. At most 256 bytes."""
        return Lock(self._core, name, LockOptions(shared, permits, permits_max, owner, label))

    def session(self) -> Session:
        """That locks and ephemeral entries are held by, opened if there is none."""
        self._core.check_outside("client.session")
        return Session(run(self._core.session.get(Bounds())))

    def offer(
        self,
        name: str,
        refs: VersionedStateContainer | None = None,
        atoms: StateContainer | None = None,
        *,
        calls_max: int = 8,
        timeout: float = 10.0,
    ) -> Offer:
        """Keeps values in this process: of refs and atoms whose Definition.container is "offered:NAME". None: it keeps
        none of that kind. Returns when it stands, within `timeout` seconds. `calls_max`: at once."""
        return Offer(run(offer(self._core, name, refs, atoms, calls_max, timeout)))

    def locks(self, prefix: str = "/") -> Sequence[LockInfo]:
        """Those that are held, or were of late, without their queues."""
        return run(locks.locks(self._core, prefix))

    def sessions(self) -> Sequence[SessionInfo]:
        """All of the store."""
        return run(locks.sessions(self._core))

    def expire_session(self, session_id: str, *, label: str = "") -> None:
        """With all that it has. Well too if it is over."""
        run(locks.expire_session(self._core, session_id, label))

    def outcome(self, word: str, *, timeout: float | None = 10.0) -> int | None:
        """What became of a commit whose outcome was unknown, by CommitUnknown.outcome_word: the version of its commit,
        or None: it never was and never will be. CommitUnknown: too long ago to tell."""
        return run(self._core.outcome(word, timeout))


@overload
def transactional(function: Callable[Concatenate[Tx, P], R], /) -> Callable[Concatenate[Client | Tx, P], R]: ...
@overload
def transactional(
    **options: Any,
) -> Callable[[Callable[Concatenate[Tx, P], R]], Callable[Concatenate[Client | Tx, P], R]]: ...
def transactional(function: Any = None, /, **options: Any) -> Any:
    """f(client, ...) runs a transaction; f(tx, ...) joins that of tx. @transactional(label="signup"): with options of
    client.transact, for when it is run."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(on: Client | Tx, /, *args: Any, **named: Any) -> Any:
            if isinstance(on, Tx):
                return run(on._core.join(lambda: function(on, *args, **named)))
            return on.transact(lambda tx: function(tx, *args, **named), **options)

        return call

    return decorate if function is None else decorate(function)


def io() -> None:
    """Says that what follows is I/O: inside a body the transaction ends as InTransaction."""
    from ._tx import current

    tx = current.get()
    if tx is not None and tx.open:
        tx.fail(
            InTransaction("stm.io() inside a transaction's body, which may run several times: do it by tx.on_commit")
        )


# After fork the connection and the session are the parent's: the child opens its own when it needs them.
_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _after_fork() -> None:
    for client in list(_clients):
        client._io.after_fork()
        client._core.forget()


@atexit.register
def _at_exit() -> None:
    """A program that ends gives up its locks at once, also where it does not close its clients."""
    for client in list(_clients):
        with contextlib.suppress(Exception):
            client.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
