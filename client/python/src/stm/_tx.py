"""One run of a transaction's body: what it read, at one snapshot, and what it will write. The loop of runs is
_transact's.

Always: once a signal is raised every call raises it again, and the run is abandoned."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, Protocol, TypeVar

from google.protobuf import text_format

from . import _wire as wire
from . import records
from ._base import Bounds, Steps
from ._core import Core
from ._proto import common_pb2, ref_service_pb2, transaction_service_pb2, value_pb2, write_pb2
from ._strict import strict_key
from ._unknown import UnknownFields
from .commits import Committed, Definition
from .errors import (
    ABSENT_REMEDY,
    Absent,
    BadValue,
    LockLost,
    SnapshotTooOld,
    StmError,
    StoreChanged,
    TransactionClosed,
    WrongKind,
)
from .op import Op
from .values import ABSENT, Tagged

if TYPE_CHECKING:
    from ._session import Grant
    from ._transact import TransactOptions

T = TypeVar("T")
R = TypeVar("R")

current: contextvars.ContextVar[TxCore | None] = contextvars.ContextVar("stm_transaction", default=None)


class Abandoned(BaseException):
    """Leaves a body early. A body that swallows it is abandoned all the same."""


class CommuteResult:
    """What an operation gave: `value` is known once the transaction has committed. ABSENT where the daemon could not
    keep it (over 1 KiB, and the answer was lost)."""

    def __init__(self) -> None:
        self.value: Any = ABSENT


class Handle(Generic[T]):
    """Of an entry: a name, and what it is made with. It does no I/O when made."""

    is_atom = False

    def __init__(self, core: Core, name: str, init: Any, definition: Definition | None, type: type | None) -> None:
        wire.check_name(name)
        self._core = core
        self.name = name
        self.init = init
        self.definition = definition
        self.type = type
        self._exists = False  # as far as this handle knows: then a commute needs no create
        self._encoded_init: value_pb2.Value | None = None

    def __repr__(self) -> str:
        return f"<{self.__class__.__name__} {self.name}>"

    def wire_init(self) -> value_pb2.Value | None:
        if self._encoded_init is None and self.init is not ABSENT:
            self._encoded_init = self._core.codec.encode(self.init, self.name)
        return self._encoded_init

    def decoded(self, message: value_pb2.Value) -> Any:
        """BadValue: it does not fit the type that the handle asks for."""
        value = self._core.codec.decode(message, self.name)
        if self.type is not None and value is not ABSENT and not isinstance(value, self.type):
            why = records.why_not(value) or f"found {value!r}"
            raise BadValue(
                f"{self.name}: {why}; {self.type.__name__} was asked for: use a handle of another type",
                name=self.name,
                found=type(value).__name__,
                expected=self.type.__name__,
            )
        return value

    def wrong_kind(self, is_atom: bool) -> WrongKind:
        if is_atom:
            return WrongKind(f"{self.name} is an atom and was used as a ref: use client.atom", name=self.name)
        return WrongKind(f"{self.name} is a ref and was used as an atom: use client.ref", name=self.name)


class HasGrant(Protocol):
    @property
    def _grant(self) -> Grant: ...


class Written:
    """What one body does to one entry: a set or delete, or a create; then operations."""

    def __init__(self, is_atom: bool, definition: Definition | None) -> None:
        self.is_atom = is_atom
        self.definition = definition  # of a new entry
        self.base: Literal["", "set", "delete"] = ""
        self.value: value_pb2.Value | None = None  # of base "set"
        self.create: value_pb2.Value | None = None  # of base "": first of all, if the entry is absent
        self.operations: list[common_pb2.Operation] = []
        self.results: list[CommuteResult] = []
        self.define: Definition | None = None
        self.seen: value_pb2.Value | None = None  # as the daemon says it is after all this
        self.handle: Handle[Any] | None = None  # told of existence

    def copy(self) -> Written:
        other = Written(self.is_atom, self.definition)
        other.base, other.value, other.create = self.base, self.value, self.create
        other.operations, other.results = [*self.operations], [*self.results]
        other.define, other.seen, other.handle = self.define, self.seen, self.handle
        return other

    def definitions(self) -> list[Definition]:
        return [one for one in (self.definition, self.define) if one is not None]


@dataclass
class Carried:
    """What a run leaves to the next: entries known to be so at `snapshot`."""

    snapshot: int = 0  # 0: nothing is known, the next run takes a new snapshot
    store: int = 0
    fresh: dict[str, common_pb2.Entry] = field(default_factory=dict)
    wanted: list[str] = field(default_factory=list)  # what the last run read: fetched with the first that is missing


@dataclass
class Mark:
    writes: dict[str, Written]
    records: int
    on_commit: int


class TxCore:
    def __init__(
        self, core: Core, options: TransactOptions, bounds: Bounds, run: int, carried: Carried, alone: bool
    ) -> None:
        """`alone`: the body is the core's own, of one entry, which may be an atom."""
        self.core = core
        self.options = options
        self.run = run
        self.open = False
        self.signal: Literal["", "retry", "rerun", "fail"] = ""
        self.failure: BaseException | None = None
        self.snapshot, self.store = carried.snapshot, carried.store if carried.snapshot else 0
        self.reads: dict[str, None] = {}
        self.lists: dict[str, None] = {}
        self.alone = alone
        self._bounds = bounds
        self._who: object = None
        self._cache = carried.fresh if carried.snapshot else {}
        self._decoded: dict[str, Any] = {}  # of _cache, by handles without a type
        self._wanted = carried.wanted
        self._ensures: dict[str, None] = {}
        self._listed: dict[str, list[str]] = {}
        self._listed_names: dict[str, list[str]] = {}
        self._writes: dict[str, Written] = {}
        self._records: list[value_pb2.Value] = []
        self._fences: list[Grant] = []
        self._handed_on: list[tuple[str, int]] = []
        self._on_commit: list[Callable[[Committed], object]] = []
        self._unknown = UnknownFields()

    # ---- What bodies do

    def get(self, handle: Handle[T]) -> Steps[T]:
        value = yield from self.find(handle)
        if value is not ABSENT:
            return value
        if handle.init is ABSENT:
            self.fail(Absent(f"{handle.name} {ABSENT_REMEDY}", name=handle.name))
        init = self._init(handle)
        # A deleted entry is made again by its init; an atom is not written in transactions, and left absent.
        if not handle.is_atom:
            written = self._written(handle)
            if written.base == "delete":
                written.base, written.value = "set", init
            else:
                written.create, written.handle = init, handle
        made: T = self._decode(handle, init)
        return made

    def find(self, handle: Handle[T]) -> Steps[T | Any]:
        self.enter(handle)
        written = self._writes.get(handle.name)
        if written is None:
            yield from self._fetch_of(handle)
            return self._decode_cached(handle)
        if written.operations:
            value = yield from self._after_writes(handle, written)
            return self._decode(handle, value)
        if written.base == "set" and written.value is not None:
            return self._decode(handle, written.value)
        if written.base == "delete":
            return ABSENT
        entry = yield from self._fetch_of(handle)
        if entry.HasField("value") or written.create is None:
            return self._decode_cached(handle)
        return self._decode(handle, written.create)

    def set(self, handle: Handle[T], value: T) -> None:
        self.check_alter(handle)
        try:
            encoded = self.core.codec.encode(value, handle.name)
        except BadValue as error:
            self.fail(error)
        written = self._written(handle)
        written.base, written.create = "set", None
        written.value = self._unknown.restore(handle.name, encoded)
        written.seen = None

    def check_alter(self, handle: Handle[Any]) -> None:
        self._enter_write(handle)
        written = self._writes.get(handle.name)
        if written is not None and written.operations:
            self.fail(
                BadValue(
                    f"{handle.name}: set or alter after commute in one transaction: the commute would be lost or "
                    "pinned; alter it alone, or commute it alone",
                    name=handle.name,
                )
            )

    def alter(self, handle: Handle[T], function: Callable[[T], T]) -> Steps[Any]:
        self.check_alter(handle)
        value = yield from self.get(handle)
        made = yield self.core.io.user(lambda: function(value))
        self.set(handle, made)
        return (yield from self.find(handle))

    def commute(self, handle: Handle[Any], operation: Op) -> CommuteResult:
        self._enter_write(handle)
        try:
            encoded = operation.to_wire(handle.name, self.core.codec)
        except BadValue as error:
            self.fail(error)
        written = self._written(handle)
        if written.base == "" and written.create is None and handle.init is not ABSENT:
            written.handle = handle
            if not handle._exists:
                written.create = self._init(handle)
        written.operations.append(encoded)
        written.results.append(CommuteResult())
        written.seen = None
        return written.results[-1]

    def ensure(self, handle: Handle[Any]) -> Steps[None]:
        self.enter(handle)
        yield from self._fetch_of(handle)
        self._ensures[handle.name] = None

    def delete(self, handle: Handle[Any]) -> None:
        self._enter_write(handle)
        before = self._written(handle)
        written = self._writes[handle.name] = Written(before.is_atom, before.definition)
        written.base = "delete"

    def define(self, handle: Handle[Any], definition: Definition) -> None:
        self._enter_write(handle)
        self._written(handle).define = definition

    def entries(self, prefix: str) -> Steps[dict[str, Any]]:
        self._enter_prefix(prefix)
        if prefix not in self._listed:
            entries = yield from self._pages(prefix, names_only=False)
            self._listed[prefix] = [entry.name for entry in entries]
            self.lists[prefix] = None
            for entry in entries:
                self._cache[entry.name] = entry
                self.reads[entry.name] = None
        found: dict[str, Any] = {}
        for name in self._listed[prefix]:
            found[name] = self._decode_of(name, self._cache[name].value)
        # What this body wrote lies over what is there.
        for name, written in list(self._writes.items()):
            if wire.under(name, prefix):
                found[name] = yield from self.find(self._handle_of(name, written.is_atom))
        return {name: value for name, value in sorted(found.items()) if value is not ABSENT}

    def names(self, prefix: str) -> Steps[list[str]]:
        self._enter_prefix(prefix)
        if prefix not in self._listed_names:
            entries = yield from self._pages(prefix, names_only=True)
            self._listed_names[prefix] = [entry.name for entry in entries]
            self.lists[prefix] = None
        names = dict.fromkeys(self._listed_names[prefix])
        for name, written in self._writes.items():
            if not wire.under(name, prefix):
                continue
            if written.base == "delete" and not written.operations:
                names.pop(name, None)
            elif written.base == "set" or written.create is not None:
                names[name] = None
        return sorted(names)

    def record(self, value: Any) -> None:
        self.enter()
        if not isinstance(value, Tagged) and records.of_type(type(value)) is None:
            self.fail(BadValue(f"a record is a tagged value, not {type(value).__name__}: give it a tag by @stm.record"))
        try:
            self._records.append(self.core.codec.encode(value, "a record"))
        except BadValue as error:
            self.fail(error)

    def fence(self, grant: Grant) -> None:
        self.enter()
        if grant.over():
            self.fail(grant.lost_error("is gone"))
        self._fences.append(grant)

    def fence_token(self, lock: str, token: int) -> None:
        self.enter()
        try:
            wire.check_name(lock)
        except BadValue as error:
            self.fail(error)
        if token <= 0:
            self.fail(
                BadValue(
                    f"{lock}: {token} is no token of a lock, which are above 0: give the one that its holder has",
                    name=lock,
                )
            )
        self._handed_on.append((lock, token))

    def retry(self) -> NoReturn:
        self.enter()
        if not (self.reads or self.lists):
            self.fail(BadValue("retry with nothing read would sleep for ever: read what it waits for first"))
        self.signal = "retry"
        raise Abandoned

    def or_else(self, first: Callable[[], Any], second: Callable[[], Any]) -> Steps[Any]:
        self.enter()
        mark = self.mark()
        try:
            result = yield self.core.io.user(first)
        except Abandoned:
            if self.signal != "retry":
                raise
        else:
            if not self.signal:
                return result
            if self.signal != "retry":
                raise Abandoned
        self.signal = ""
        self.return_to(mark)
        return (yield self.core.io.user(second))

    def on_commit(self, function: Callable[[Committed], object]) -> None:
        self.enter()
        self._on_commit.append(function)

    def join(self, body: Callable[[], Any]) -> Steps[Any]:
        """A transaction inside this one. A body that fails leaves nothing of what it wrote."""
        self.enter()
        mark = self.mark()
        try:
            result = yield self.core.io.user(body)
        except Abandoned:
            raise
        except BaseException:
            if not self.signal:
                self.return_to(mark)
            raise
        if self.signal:
            raise Abandoned
        return result

    def enter(self, handle: Handle[Any] | None = None) -> None:
        if not self.open:
            raise TransactionClosed("a Tx was used after its body had ended: use it inside the body alone")
        if self._who != self.core.io.who():
            raise TransactionClosed(
                "a Tx was used by another thread or task than its body's: use it in the one that the body runs in"
            )
        if self.signal:
            raise Abandoned
        if handle is not None and handle._core is not self.core:
            self.fail(
                BadValue(
                    f"{handle.name}: a handle of another client than the transaction's: make it by the same client",
                    name=handle.name,
                )
            )

    def _enter_write(self, handle: Handle[Any]) -> None:
        self.enter(handle)
        if handle.is_atom and not self.alone:
            self.fail(
                WrongKind(
                    f"{handle.name} is an atom, which changes alone: by reset, swap, compare_and_set or apply; use a "
                    "ref for what changes in transactions",
                    name=handle.name,
                )
            )

    def fail(self, error: BaseException) -> NoReturn:
        rerun = isinstance(error, SnapshotTooOld | StoreChanged)
        self.signal, self.failure = ("rerun" if rerun else "fail"), error
        raise Abandoned

    # ---- What the loop of runs does

    def execute(self, body: Callable[[], Any]) -> Steps[Any]:
        """Runs the body; its result counts only if `signal` is empty afterwards."""
        token = current.set(self)
        self.open, self._who = True, self.core.io.who()
        try:
            return (yield self.core.io.user(body))
        except Abandoned:
            return None
        except Exception:
            # What the body made of an abandoned run, its exceptions included, counts for nothing.
            if not self.signal:
                raise
            return None
        finally:
            self.open = False
            current.reset(token)

    def read_once(self, name: str) -> Steps[common_pb2.Entry | None]:
        """/.once/KEY, read like any entry of this snapshot."""
        self.open, self._who = True, self.core.io.who()
        try:
            entry = yield from self._fetch(name)
        except Abandoned:
            return None
        finally:
            self.open = False
        self.reads[name] = None
        return entry if entry.HasField("value") else None

    def write_once(self, name: str, result: value_pb2.Value, ttl: float) -> None:
        written = self._writes[name] = Written(False, Definition(ttl=ttl))
        written.base, written.value = "set", result

    def mark(self) -> Mark:
        return Mark(
            {name: written.copy() for name, written in self._writes.items()}, len(self._records), len(self._on_commit)
        )

    def return_to(self, mark: Mark) -> None:
        """What was written since is dropped, what was read stays."""
        self._writes = mark.writes
        del self._records[mark.records :]
        del self._on_commit[mark.on_commit :]

    @property
    def has_reads(self) -> bool:
        return bool(self.reads or self.lists)

    @property
    def needs_commit(self) -> bool:
        return bool(
            self._writes
            or self._records
            or self._fences
            or self._handed_on
            or (self.options.stale_ok and self.has_reads)
        )

    @property
    def needs_session(self) -> bool:
        """Does it make an entry that is bound to the client's session?"""
        return any(one.ephemeral for written in self._writes.values() for one in written.definitions())

    def check_fences(self) -> None:
        for grant in self._fences:
            if grant.over():
                raise grant.lost_error("is gone")

    def fence_lost(self, fence: common_pb2.Fence) -> LockLost:
        self.core.session.lose(fence.lock, fence.token)
        name = self.core.names.short(fence.lock)
        return LockLost(f"the grant of {name} is gone; nothing was changed: acquire the lock again", name=name)

    def request(self, session: str) -> transaction_service_pb2.CommitRequest:
        """All but id, meta and age."""
        full = self.core.names.full
        snapshot = self.options.isolation == "snapshot"
        request = transaction_service_pb2.CommitRequest(
            snapshot=self.snapshot if self.has_reads else 0,
            isolation=(
                transaction_service_pb2.ISOLATION_SNAPSHOT
                if snapshot
                else transaction_service_pb2.ISOLATION_SERIALIZABLE
            ),
            reads=[full(name) for name in self.reads],
            lists=[full(prefix) for prefix in self.lists],
            records=self._records,
        )
        if snapshot:
            request.ensures.extend(full(name) for name in self._ensures)
        for name, written in self._writes.items():
            request.writes.extend(self._wire_writes(name, written, session))
        for grant in self._fences:
            request.fences.add(lock=grant.lock, token=grant.token)
        for lock, token in self._handed_on:
            request.fences.add(lock=full(lock), token=token)
        return request

    def await_request(self) -> transaction_service_pb2.AwaitChangeRequest:
        full = self.core.names.full
        return transaction_service_pb2.AwaitChangeRequest(
            seen=common_pb2.Seen(version=self.core.position.seen, store=self.store),
            snapshot=self.snapshot,
            reads=[full(name) for name in self.reads],
            lists=[full(prefix) for prefix in self.lists],
        )

    def carry(self) -> Carried:
        return Carried(wanted=list(self.reads))

    def carry_same(self) -> Carried:
        """The same snapshot and values, for a second run of the body on them."""
        return Carried(self.snapshot, self.store, self._cache)

    def take_results(self, results: Sequence[value_pb2.Value]) -> None:
        """One a write, in order; none at all where there are only sets, deletes and defines."""
        given = iter(results)
        for written in self._writes.values():
            for _ in range(int(bool(written.base or written.create is not None))):
                next(given, None)
            for result in written.results:
                value = next(given, None)
                result.value = ABSENT if value is None else self.core.codec.decode(value, "a result")
            if written.define is not None:
                next(given, None)
            if written.handle is not None:
                written.handle._exists = True

    def call_on_commit(self, committed: Committed) -> Steps[None]:
        """All are called, whatever one raises; then the first of what they raised."""
        first: BaseException | None = None
        for function in self._on_commit:
            try:
                yield self.core.io.user(lambda function=function: function(committed))  # type: ignore[misc]
            except Exception as error:
                first = first or error
        if first is not None:
            raise first

    def forget_existence(self, name: str) -> bool:
        """An operation met an absent entry that was thought to exist: may a re-run that creates it help?"""
        written = self._writes.get(name)
        if written is None or written.handle is None or written.create is not None:
            return False
        written.handle._exists = False
        return True

    def lines(self) -> list[tuple[str, object]]:
        """What was read, written and recorded, for rerun_check: a text each, and what is compared."""
        decode = self.core.codec.decode
        lines: list[tuple[str, object]] = []

        def say(text: str, value: value_pb2.Value | None = None) -> None:
            made = ABSENT if value is None else decode(value, text)
            lines.append((text if value is None else f"{text} {made!r}", (text, strict_key(made))))

        for name in sorted(self.reads):
            say(f"read {name}")
        for prefix in self.lists:
            say(f"list {prefix}")
        for name in self._ensures:
            say(f"ensure {name}")
        for name, written in self._writes.items():
            if written.create is not None:
                say(f"create {name}", written.create)
            if written.base == "set":
                say(f"set {name}", written.value)
            if written.base == "delete":
                say(f"delete {name}")
            for operation in written.operations:
                say(f"commute {name} {text_format.MessageToString(operation, as_one_line=True)}")
            if written.define is not None:
                say(f"define {name} {written.define}")
        for record in self._records:
            say("record", record)
        for grant in self._fences:
            say(f"fence {grant.name} {grant.token}")
        for lock, token in self._handed_on:
            say(f"fence {lock} {token}")
        if self.signal == "retry":
            say("retry")
        if self.signal == "fail":
            say(f"fail: {self.failure}")
        return lines

    # ---- Reads

    def _init(self, handle: Handle[Any]) -> value_pb2.Value:
        try:
            init = handle.wire_init()
        except BadValue as error:
            self.fail(error)
        assert init is not None
        return init

    def _decode(self, handle: Handle[Any], value: value_pb2.Value) -> Any:
        try:
            before = records.kept()
            decoded = handle.decoded(value)
            if records.kept() != before:
                known = self.core.codec.encode(decoded, handle.name, known_only=True)
                self._unknown.keep(handle.name, value, known)
            return decoded
        except BadValue as error:
            self.fail(error)

    def _decode_cached(self, handle: Handle[Any]) -> Any:
        """As this snapshot has it. Values are immutable, so one is decoded once."""
        if handle.type is not None:
            return self._decode(handle, self._cache[handle.name].value)
        if handle.name not in self._decoded:
            self._decoded[handle.name] = self._decode(handle, self._cache[handle.name].value)
        return self._decoded[handle.name]

    def _decode_of(self, name: str, value: value_pb2.Value) -> Any:
        return self._decode(self._handle_of(name, False), value)

    def _handle_of(self, name: str, is_atom: bool) -> Handle[Any]:
        handle: Handle[Any] = Handle(self.core, name, ABSENT, None, None)
        handle.is_atom = is_atom
        return handle

    def _written(self, handle: Handle[Any]) -> Written:
        written = self._writes.get(handle.name)
        if written is None:
            written = self._writes[handle.name] = Written(handle.is_atom, handle.definition)
        return written

    def _fetch_of(self, handle: Handle[Any]) -> Steps[common_pb2.Entry]:
        entry = self._cache.get(handle.name)
        if entry is None:
            entry = yield from self._fetch(handle.name)
        self.reads[handle.name] = None
        if entry.HasField("value"):
            if wire.atom_or_ref(entry.kind) != handle.is_atom:
                self.fail(handle.wrong_kind(not handle.is_atom))
            handle._exists = True
        return entry

    def _fetch(self, name: str) -> Steps[common_pb2.Entry]:
        if name in self._cache:
            return self._cache[name]
        names = [name, *(one for one in self._wanted if one != name and one not in self._cache)]
        self._wanted = []
        full = [self.core.names.full(one) for one in names]
        answer = yield from self._read(
            "RefService/GetRefs", lambda: ref_service_pb2.GetRefsRequest(names=full, at=self._point())
        )
        if len(answer.entries) != len(names):
            self.fail(StmError(f"{name}: the daemon's answer lacks it: report this", name=name))
        for one, entry in zip(names, answer.entries, strict=True):
            self._cache[one] = entry
        return self._cache[name]

    def _after_writes(self, handle: Handle[Any], written: Written) -> Steps[value_pb2.Value]:
        if written.seen is not None:
            return written.seen
        # Whether the entry exists is the daemon's to know: with the create, the answer is right in both cases.
        if written.base == "" and handle.init is not ABSENT:
            written.create = self._init(handle)
        pending = self._wire_writes(handle.name, written, "")
        full = self.core.names.full(handle.name)
        answer = yield from self._read(
            "RefService/GetRefs",
            lambda: ref_service_pb2.GetRefsRequest(names=[full], pending=pending, at=self._point()),
        )
        self.reads[handle.name] = None
        written.seen = answer.entries[0].value
        return written.seen

    def _enter_prefix(self, prefix: str) -> None:
        self.enter()
        try:
            wire.check_prefix(prefix)
        except BadValue as error:
            self.fail(error)

    def _pages(self, prefix: str, names_only: bool) -> Steps[list[common_pb2.Entry]]:
        entries: list[common_pb2.Entry] = []
        full, token = self.core.names.full(prefix), ""
        while True:
            page = yield from self._read(
                "RefService/ListRefs",
                lambda token=token: ref_service_pb2.ListRefsRequest(  # type: ignore[misc]
                    prefix=full, names_only=names_only, page_token=token, at=self._point()
                ),
            )
            for entry in page.entries:
                entry.name = self.core.names.short(entry.name)
                entries.append(entry)
            token = page.next_page_token
            if not token:
                return entries

    def _point(self) -> common_pb2.ReadPoint:
        position = self.core.position
        if self.snapshot:
            seen = common_pb2.Seen(version=position.seen, store=self.store)
            return common_pb2.ReadPoint(version=self.snapshot, seen=seen)
        if self.options.stale_ok:
            return common_pb2.ReadPoint(stale=True, seen=position.known())
        return common_pb2.ReadPoint(seen=position.known())

    def _read(self, method: str, fill: Callable[[], Any]) -> Steps[Any]:
        """At this run's snapshot; the first read takes it."""
        try:
            answer = yield from self.core.ask(method, fill, self._bounds)
        except (StmError, TimeoutError) as error:
            self.fail(error)
        if not self.snapshot:
            self.snapshot, self.store = answer.snapshot, answer.header.store
        return answer

    # ---- Writes

    def _wire_writes(self, name: str, written: Written, session: str) -> list[write_pb2.Write]:
        kind = common_pb2.ENTRY_KIND_ATOM if written.is_atom else common_pb2.ENTRY_KIND_REF
        full, codec = self.core.names.full(name), self.core.codec
        made = []
        if written.base == "" and written.create is not None:
            made.append(write_pb2.Write(name=full, kind=kind, create=written.create))
        if written.base == "set":
            made.append(write_pb2.Write(name=full, kind=kind, set=written.value))
        if written.base == "delete":
            made.append(write_pb2.Write(name=full, kind=kind, delete_entry=True))
        made += [write_pb2.Write(name=full, kind=kind, apply=operation) for operation in written.operations]
        if written.definition is not None:
            for write in made:
                if write.WhichOneof("change") != "delete_entry":
                    wire.fill_definition(write.definition, written.definition, session, codec, name)
        if written.define is not None:
            write = write_pb2.Write(name=full, kind=kind)
            write.define.SetInParent()
            wire.fill_definition(write.define, written.define, session, codec, name)
            made.append(write)
        return made
