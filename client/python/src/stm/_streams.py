"""What comes by streams, over as many of them as it takes: watches, an entry's newest values, the log's records. And
views of the past and histories, which are lists."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from . import _wire as wire
from . import records as registered_types
from ._base import Bounds, Outage, RpcFailed, Steps, Stream, StreamEnded, StreamSilent, transient
from ._core import Core, store_changed
from ._proto import common_pb2, log_service_pb2, ref_service_pb2, watch_service_pb2
from ._tx import Handle
from .commits import Change, Commit, Record
from .errors import ABSENT_REMEDY, Absent, BadValue, SnapshotTooOld, StmError, StoreChanged, Unavailable
from .values import ABSENT, Instant

PROGRESS_EVERY = 10.0  # seconds


def time_is_over(what: str) -> TimeoutError:
    return TimeoutError(f"{what}: its time is up: allow more time")


class Watcher:
    """A watch: next() gives its commits, one at a time. Of one reader."""

    def __init__(
        self,
        core: Core,
        selectors: Sequence[str],
        bounds: Bounds,
        *,
        initial: bool = False,
        after: int = 0,
        conflate: bool = False,
        progress_every: float = PROGRESS_EVERY,
        on_synced: Callable[[int], object] | None = None,
        on_progress: Callable[[int], object] | None = None,
    ) -> None:
        core.check_outside("a watch")
        if initial and after:
            raise BadValue(
                "a watch begins with the present state or after a version, not both: leave out one", name="after"
            )
        self._core, self._bounds = core, bounds
        self._selector = common_pb2.Selector()
        for one in selectors:
            wire.check_selector(one)
            (self._selector.prefixes if one.endswith("/") else self._selector.names).append(core.names.full(one))
        # Nothing named is all; below a prefix that is all of the prefix.
        if not selectors and core.names.prefix:
            self._selector.prefixes.append(core.names.full("/"))
        self._conflate, self._progress_every = conflate, progress_every
        self._on_synced, self._on_progress = on_synced, on_progress
        self._outage = Outage(core.options.unavailable_timeout)
        self._initial, self._after = initial, after
        self._synced = False
        self._store = core.position.store
        self._stream: Stream | None = None
        self._link: Any = None
        self._state: list[Change] = []  # with initial, until it is whole
        self._parts = wire.CommitParts(core.names, core.codec)
        self._ready: collections.deque[Commit] = collections.deque()
        self._closed = False

    def open(self) -> Steps[None]:
        """Until it is set: every later commit will be told."""
        while not self._synced and not self._closed:
            yield from self._pull()

    def next(self) -> Steps[Commit | None]:
        """None: it was closed."""
        while not self._closed:
            if self._ready:
                return self._ready.popleft()
            yield from self._pull()
        return None

    def close(self) -> None:
        self._closed = True
        if self._stream is not None:
            self._stream.cancel()

    def _pull(self) -> Steps[None]:
        """One message further, or a new stream."""
        if self._stream is None:
            yield from self._open_stream()
            return
        try:
            event = yield self._stream.take(self._progress_every * 3 + 5.0)
        except StreamSilent:
            self._core.drop(self._link)
            yield from self._after_end(Unavailable(f"{self._link.address} sent no progress mark in time"))
        except StreamEnded:
            yield from self._after_end(Unavailable("the daemon ended the watch"))
        except RpcFailed as error:
            yield from self._after_failure(error)
        except BaseException:
            self._stream.cancel()
            self._stream = None
            raise
        else:
            self._outage.end()
            self._take(event)

    def _open_stream(self) -> Steps[None]:
        core, bounds = self._core, self._bounds
        bounds.check()
        if bounds.deadline.passed():
            raise time_is_over("the watch")
        try:
            self._link = yield from core.link(bounds.deadline.or_earlier(self._outage.until()), bounds)
        except Unavailable:
            if bounds.deadline.passed() and not core.closed:
                raise time_is_over("the watch") from None
            raise
        # Versions of another store mean nothing; and without any, what came meanwhile is only in the present state.
        store = core.position.store
        if store != self._store or (self._synced and self._after == 0):
            self._initial = True
        self._store = store
        request = watch_service_pb2.WatchRequest(
            selector=self._selector,
            conflate=self._conflate,
            progress_every=wire.duration(self._progress_every),
            seen=core.position.known(),
        )
        if self._initial:
            request.initial = True
        else:
            request.after_version = self._after
        self._state = []
        self._parts = wire.CommitParts(core.names, core.codec)
        self._stream = core.io.stream(self._link, "WatchService/Watch", request, bounds)
        if self._closed:
            self._stream.cancel()

    def _take(self, event: watch_service_pb2.WatchResponse) -> None:
        core = self._core
        match event.WhichOneof("event"):
            case "opened":
                core.position.observe(event.opened)
            case "initial":
                entry = event.initial
                name = core.names.short(entry.name)
                value = core.codec.decode(entry.value, name)
                self._state.append(Change(name, "set", ABSENT, value, is_atom=wire.atom_or_ref(entry.kind)))
            case "synced":
                self._after = event.synced
                core.position.observe_version(self._store, self._after)
                first, self._synced = not self._synced, True
                if first and self._on_synced is not None:
                    self._on_synced(self._after)
                if self._initial:
                    self._initial = False
                    self._ready.append(Commit(self._after, changes=tuple(self._state), initial=True))
                    self._state = []
            case "commit":
                whole = self._parts.add(event.commit)
                if whole is not None:
                    self._after = whole[0].version
                    core.position.observe_version(self._store, self._after)
                    self._ready.append(whole[0])
            case "progress":
                self._after = event.progress
                core.position.observe_version(self._store, self._after)
                if self._on_progress is not None:
                    self._on_progress(self._after)
            case "gap":
                if event.gap.store:
                    resume = event.gap.resume_version
                    core.position.observe(
                        common_pb2.Header(store=event.gap.store, installed_version=resume), adopt=True
                    )
                self._initial = True
                self._end_stream()

    def _end_stream(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None

    def _after_failure(self, error: RpcFailed) -> Steps[None]:
        deadline = self._bounds.deadline
        if self._closed:
            return
        if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and deadline.at is not None and deadline.at_most(1.0) < 0.1:
            self._end_stream()
            raise time_is_over("the watch")
        failure = self._core._failure(self._link, "WatchService/Watch", error, deadline)
        if not isinstance(failure, StmError):
            raise failure
        if isinstance(failure, StoreChanged | SnapshotTooOld):
            self._initial = True
        # Cut off as too slow: it goes on after what it was told last.
        elif failure.detail_reason != common_pb2.ERROR_REASON_SLOW_READER and not transient(failure):
            self._end_stream()
            raise failure
        yield from self._after_end(failure)

    def _after_end(self, failure: StmError) -> Steps[None]:
        self._end_stream()
        self._outage.fail(failure)
        if self._outage.over():
            raise failure
        yield self._core.io.sleep(self._outage.pause(self._bounds.deadline), self._bounds.canceller)


class Follower:
    """The newest values of one entry, beginning with the present one; those between may be left out."""

    def __init__(self, handle: Handle[Any], bounds: Bounds) -> None:
        self._handle = handle
        self._watcher = Watcher(handle._core, [handle.name], bounds, initial=True, conflate=True)
        self._ready: collections.deque[Any] = collections.deque()

    def next(self) -> Steps[tuple[Any] | None]:
        while not self._ready:
            commit = yield from self._watcher.next()
            if commit is None:
                return None
            if commit.initial and not commit.changes:
                self._ready.append(ABSENT)
            self._ready.extend(change.after for change in commit.changes if change.kind != "defined")
        return (self._ready.popleft(),)

    def close(self) -> None:
        self._watcher.close()


class RecordReader:
    """Records of the log, in order, each once."""

    def __init__(
        self,
        core: Core,
        wanted: Sequence[type | str],
        bounds: Bounds,
        *,
        from_version: int = 0,
        to_version: int = 0,
        follow: bool = False,
    ) -> None:
        self._tags = [self._tag_of(one) for one in wanted]
        self._typed = any(not isinstance(one, str) for one in wanted)
        self._core, self._bounds = core, bounds
        self._from, self._to, self._follow = from_version, to_version, follow
        self._outage = Outage(core.options.unavailable_timeout)
        self._store = 0
        self._stream: Stream | None = None
        self._link: Any = None
        self._parts = wire.CommitParts(core.names, core.codec)
        self._ready: collections.deque[Record[Any]] = collections.deque()
        self._over = False
        self.first_version = 0  # the oldest that the log keeps; 0 before the first record

    @staticmethod
    def _tag_of(wanted: type | str) -> str:
        if isinstance(wanted, str):
            return wanted
        registered = registered_types.of_type(wanted)
        if registered is None:
            raise BadValue(f"{wanted.__name__} has no tag: give it one by @stm.record, or name a tag")
        return registered.tag

    def next(self) -> Steps[Record[Any] | None]:
        """None: there are no more."""
        self._core.check_outside("reading records")
        while not self._ready:
            if self._over:
                return None
            try:
                yield from self._pull()
            except BaseException:
                self.close()
                raise
        return self._ready.popleft()

    def close(self) -> None:
        self._over = True
        if self._stream is not None:
            self._stream.cancel()

    def _pull(self) -> Steps[None]:
        if self._stream is None:
            yield from self._open_stream()
            return
        try:
            event = yield self._stream.take(None)
        except StreamEnded:
            if not self._follow:
                self._over = True
                return
            yield from self._after_end(Unavailable("the daemon ended the log"))
        except RpcFailed as error:
            if self._over:
                return
            yield from self._after_failure(error)
        else:
            self._outage.end()
            self._take(event)

    def _take(self, event: log_service_pb2.ReadLogResponse) -> None:
        core = self._core
        if event.HasField("opened"):
            header = event.opened.header
            core.position.observe(header)
            self.first_version = event.opened.first_version
            if self._store not in (0, header.store):
                raise store_changed()
            self._store = header.store
            return
        whole = self._parts.add(event.commit)
        if whole is None:
            return
        commit, messages = whole
        self._from = commit.version + 1
        core.position.observe_version(self._store, commit.version)
        assert commit.at is not None
        for message, value in zip(messages, commit.records, strict=True):
            # A commit has all its records, also those that were not asked for.
            if self._selected(message.tagged.tag):
                if self._typed and (why := registered_types.why_not(value)):
                    name = f"a record of version {commit.version}"
                    raise BadValue(f"{name}: {why}: read it by its tag, as {message.tagged.tag!r}", name=name)
                self._ready.append(Record(value, commit.version, commit.at, commit.transaction_id, commit.meta))

    def _selected(self, tag: str) -> bool:
        return not self._tags or any(
            tag == one or (one.endswith(".*") and tag.startswith(one[:-1])) for one in self._tags
        )

    def _open_stream(self) -> Steps[None]:
        core, bounds = self._core, self._bounds
        bounds.check()
        if bounds.deadline.passed():
            raise time_is_over("reading records")
        if self._to and self._from > self._to:
            self._over = True
            return
        self._link = yield from core.link(bounds.deadline.or_earlier(self._outage.until()), bounds)
        seen = core.position.known()
        if self._store:
            seen.store = self._store
        request = log_service_pb2.ReadLogRequest(
            from_version=self._from,
            to_version=self._to,
            tags=self._tags,
            follow=self._follow,
            records_only=True,
            seen=seen,
        )
        self._parts = wire.CommitParts(core.names, core.codec)
        self._stream = core.io.stream(self._link, "LogService/ReadLog", request, bounds)

    def _after_failure(self, error: RpcFailed) -> Steps[None]:
        deadline = self._bounds.deadline
        if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and deadline.at is not None and deadline.at_most(1.0) < 0.1:
            raise time_is_over("reading records")
        failure = self._core._failure(self._link, "LogService/ReadLog", error, deadline)
        if not isinstance(failure, StmError):
            raise failure
        if failure.detail_reason != common_pb2.ERROR_REASON_SLOW_READER and not transient(failure):
            raise failure
        yield from self._after_end(failure)

    def _after_end(self, failure: StmError) -> Steps[None]:
        self._stream = None
        self._outage.fail(failure)
        if self._outage.over():
            raise failure
        yield self._core.io.sleep(self._outage.pause(self._bounds.deadline), self._bounds.canceller)


# ---- Listings and the past


def list_outside(core: Core, prefix: str, names_only: bool) -> Steps[dict[str, Any]]:
    """All entries under a prefix, of one snapshot: begun again where that was trimmed, or the store changed,
    meanwhile."""
    core.check_outside("client.list")
    wire.check_prefix(prefix)
    while True:
        try:
            return (
                yield from _pages(core, prefix, names_only, lambda: common_pb2.ReadPoint(seen=core.position.known()))
            )
        except (SnapshotTooOld, StoreChanged):
            continue


def _pages(
    core: Core,
    prefix: str,
    names_only: bool,
    point: Callable[[], common_pb2.ReadPoint],
    settle: Callable[[int], None] = lambda snapshot: None,
) -> Steps[dict[str, Any]]:
    """`settle` is told of each page's snapshot, which is one."""
    found: dict[str, Any] = {}
    full, token = core.names.full(prefix), ""
    while True:
        page = yield from core.ask(
            "RefService/ListRefs",
            lambda token=token: ref_service_pb2.ListRefsRequest(  # type: ignore[misc]
                prefix=full, names_only=names_only, page_token=token, at=point()
            ),
            Bounds(),
        )
        settle(page.snapshot)
        for entry in page.entries:
            name = core.names.short(entry.name)
            found[name] = core.codec.decode(entry.value, name)
        token = page.next_page_token
        if not token:
            return found


class ViewCore:
    """Where a view reads; an instant becomes a version at the first read."""

    def __init__(self, core: Core, at: int | Instant) -> None:
        self.core = core
        self.version = at if isinstance(at, int) else 0
        self._instant = None if isinstance(at, int) else at
        self._store = core.position.store  # the versions are of this one

    def _point(self) -> common_pb2.ReadPoint:
        seen = common_pb2.Seen(version=self.core.position.seen, store=self._store)
        if self.version or self._instant is None:
            return common_pb2.ReadPoint(version=self.version, seen=seen)
        return common_pb2.ReadPoint(instant=wire.timestamp(self._instant), seen=seen)

    def find(self, handle: Handle[Any]) -> Steps[Any]:
        core = self.core
        core.check_outside("reading a View")
        names = [core.names.full(handle.name)]
        answer = yield from core.ask(
            "RefService/GetRefs",
            lambda: ref_service_pb2.GetRefsRequest(names=names, at=self._point()),
            Bounds(),
        )
        self._settle(answer.snapshot)
        return handle.decoded(answer.entries[0].value)

    def _settle(self, snapshot: int) -> None:
        self.version = self.version or snapshot

    def get(self, handle: Handle[Any]) -> Steps[Any]:
        value = yield from self.find(handle)
        if value is ABSENT:
            raise Absent(f"{handle.name} {ABSENT_REMEDY}", name=handle.name)
        return value

    def list(self, prefix: str, names_only: bool) -> Steps[dict[str, Any]]:
        self.core.check_outside("reading a View")
        wire.check_prefix(prefix)
        return (yield from _pages(self.core, prefix, names_only, self._point, self._settle))


def history(handle: Handle[Any], before_version: int, limit: int, bounds: Bounds) -> Steps[list[Commit]]:
    core = handle._core
    core.check_outside(f"history of {handle.name}")
    full = core.names.full(handle.name)
    answer = yield from core.ask(
        "RefService/GetHistory",
        lambda: ref_service_pb2.GetHistoryRequest(
            name=full, before_version=before_version, limit=limit, seen=core.position.known()
        ),
        bounds,
    )
    parts = wire.CommitParts(core.names, core.codec)
    found = (parts.add(event) for event in answer.commits)
    return [whole[0] for whole in found if whole is not None]
