"""One run of a transaction's body: what it read, at one snapshot, and what it will write."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from . import records
from ._calls import Connection, Deadline
from ._proto import common_pb2, ref_service_pb2, transaction_service_pb2, value_pb2, write_pb2
from .codec import from_wire, to_wire
from .errors import ABSENT_REMEDY, Absent, BadValue, SnapshotTooOld, StoreChanged, TransactionClosed, WrongKind
from .op import Op
from .values import ABSENT, Tagged

if TYPE_CHECKING:
    from .client import Ref

T = TypeVar("T")
R = TypeVar("R")
A = TypeVar("A", ref_service_pb2.GetRefsResponse, ref_service_pb2.ListRefsResponse)

current: contextvars.ContextVar[Tx | None] = contextvars.ContextVar("stm_transaction", default=None)


class Abandoned(BaseException):
    """Leaves a body early. A body that swallows it is abandoned all the same."""


class CommuteResult:
    """What an operation gave: known once the transaction has committed. ABSENT where the daemon could not keep it."""

    def __init__(self) -> None:
        self.value: Any = ABSENT


class Written(Generic[T]):
    """What one body does to one entry: a set or delete, or a create; then operations."""

    def __init__(self) -> None:
        self.base = ""  # "", "set" or "delete"
        self.value: value_pb2.Value | None = None  # of base "set"
        self.create: value_pb2.Value | None = None  # of base ""
        self.operations: list[common_pb2.Operation] = []
        self.results: list[CommuteResult] = []

    def copy(self) -> Written[T]:
        other: Written[T] = Written()
        other.base, other.value, other.create = self.base, self.value, self.create
        other.operations, other.results = [*self.operations], [*self.results]
        return other

    def writes(self, name: str) -> Sequence[write_pb2.Write]:
        made = []
        if self.base == "" and self.create is not None:
            made.append(write_pb2.Write(create=self.create))
        if self.base == "set":
            made.append(write_pb2.Write(set=self.value))
        if self.base == "delete":
            made.append(write_pb2.Write(delete_entry=True))
        made += [write_pb2.Write(apply=operation) for operation in self.operations]
        for write in made:
            write.name, write.kind = name, common_pb2.ENTRY_KIND_REF
        return made


class Tx:
    """Handed to the body, and used inside it alone. All reads are of one snapshot. `run` counts from 1."""

    def __init__(self, connection: Connection, deadline: Deadline, run: int) -> None:
        self.run = run
        self._connection = connection
        self._deadline = deadline
        self.snapshot = 0
        self.store = 0
        self.reads: dict[str, None] = {}
        self.lists: dict[str, None] = {}
        self._listed: dict[str, dict[str, value_pb2.Value]] = {}
        self._cache: dict[str, value_pb2.Value] = {}
        self._writes: dict[str, Written[Any]] = {}
        self._records: list[value_pb2.Value] = []
        self._open = False
        self.signal = ""  # "retry", "rerun" or "fail"
        self.failure: BaseException | None = None

    def get(self, ref: Ref[T]) -> T:
        """Absent: its handle's init, which this transaction creates; the error Absent without one."""
        value = self.find(ref)
        if value is not ABSENT:
            return value
        if ref.init is ABSENT:
            self._fail(Absent(f"{ref.name} {ABSENT_REMEDY}", name=ref.name))
        init = self._encode(ref.init, ref.name)
        written = self._written(ref.name)
        if written.base == "delete":
            written.base, written.value = "set", init
        else:
            written.create = init
        made: T = from_wire(init, ref.name)
        return made

    def find(self, ref: Ref[T]) -> T | Any:
        """ABSENT where there is no entry."""
        self._enter()
        written = self._writes.get(ref.name)
        if written is not None:
            return self._written_over(ref.name, written)
        return self._decode(self._fetch(ref.name), ref.name)

    def list(self, prefix: str) -> dict[str, Any]:
        """All entries under `prefix` ("/jobs/"), refs and atoms, by name in order, with what this body wrote over them.

        A commit that creates or deletes one of them meanwhile is a conflict. Names under "/." are listed by such a
        prefix alone.
        """
        self._enter()
        if not (prefix.startswith("/") and prefix.endswith("/")):
            self._fail(BadValue(f'"{prefix}" is no prefix: begin and end it with "/"', name=prefix))
        if prefix not in self._listed:
            self._listed[prefix] = self._pages(prefix)
        self.lists[prefix] = None
        found: dict[str, Any] = {}
        for name, value in self._listed[prefix].items():
            self.reads[name] = None
            found[name] = self._decode(value, name)
        for name, written in self._writes.items():
            if name.startswith(prefix) and name != prefix and (prefix[1:2] == "." or name[1:2] != "."):
                found[name] = self._written_over(name, written)
        return {name: value for name, value in sorted(found.items()) if value is not ABSENT}

    def set(self, ref: Ref[T], value: T) -> None:
        self._enter()
        before = self._writes.get(ref.name)
        if before is not None and before.operations:
            self._fail(
                BadValue(f"{ref.name}: set or alter after commute in one transaction: do one of them", name=ref.name)
            )
        encoded = self._encode(value, ref.name)
        written = self._written(ref.name)
        written.base, written.value, written.create = "set", encoded, None

    def alter(self, ref: Ref[T], function: Callable[[T], T | Any]) -> Any:
        """Sets what `function` makes of the present value, and returns it. Values are immutable: it makes a new one."""
        self.set(ref, function(self.get(ref)))
        return self.find(ref)

    def commute(self, ref: Ref[Any], operation: Op) -> CommuteResult:
        """Applied at the commit point: never conflicts. Absent: to the handle's init, if it has one."""
        self._enter()
        try:
            encoded = operation.to_wire(ref.name)
        except BadValue as error:
            self._fail(error)
        init = ABSENT if ref.init is ABSENT else self._encode(ref.init, ref.name)
        written = self._written(ref.name)
        if written.base == "" and init is not ABSENT:
            written.create = init
        written.operations.append(encoded)
        written.results.append(CommuteResult())
        return written.results[-1]

    def ensure(self, ref: Ref[Any]) -> None:
        """Commits only if the entry is as this snapshot has it, though it is not written."""
        self._enter()
        self._fetch(ref.name)

    def delete(self, ref: Ref[Any]) -> None:
        self._enter()
        written = self._writes[ref.name] = Written()
        written.base = "delete"

    def record(self, value: Any) -> None:
        """A tagged value, kept in the log with the commit."""
        self._enter()
        if not isinstance(value, Tagged) and records.of_type(type(value)) is None:
            self._fail(
                BadValue(f"a record is a tagged value, not {type(value).__name__}: give it a tag by @stm.record")
            )
        self._records.append(self._encode(value, "a record"))

    def retry(self) -> NoReturn:
        """Sleeps until something that was read has changed, then runs the body again."""
        self._enter()
        if not (self.reads or self.lists):
            self._fail(BadValue("retry with nothing read would sleep for ever: read what it waits for first"))
        self.signal = "retry"
        raise Abandoned

    def or_else(self, first: Callable[[], R], second: Callable[[], R]) -> R:
        """`first`; if that calls retry(), what it wrote is dropped and `second` runs."""
        self._enter()
        mark = self._mark()
        try:
            result = first()
        except Abandoned:
            if self.signal != "retry":
                raise
        else:
            if not self.signal:
                return result
            if self.signal != "retry":
                raise Abandoned
        self.signal = ""
        self._return_to(mark)
        return second()

    # What follows is the client's own.

    def execute(self, body: Callable[[Tx], R]) -> R | None:
        """Runs the body; its result counts only if `signal` is empty afterwards."""
        token = current.set(self)
        self._open = True
        try:
            return body(self)
        except Abandoned:
            return None
        except Exception:
            if not self.signal:
                raise
            return None
        finally:
            self._open = False
            current.reset(token)

    def join(self, body: Callable[[Tx], R]) -> R:
        """A transaction inside this one. A body that fails leaves nothing of what it wrote."""
        self._enter()
        mark = self._mark()
        try:
            result = body(self)
        except Exception:
            self._return_to(mark)
            raise
        if self.signal:
            raise Abandoned
        return result

    @property
    def needs_commit(self) -> bool:
        return bool(self._writes or self._records)

    def request(self) -> transaction_service_pb2.CommitRequest:
        return transaction_service_pb2.CommitRequest(
            snapshot=self.snapshot if self.reads or self.lists else 0,
            reads=self.reads,
            lists=self.lists,
            writes=[write for name, written in self._writes.items() for write in written.writes(name)],
            records=self._records,
        )

    def take_results(self, results: Sequence[value_pb2.Value]) -> None:
        """One a write, in order; none at all where there are only sets and deletes."""
        given = iter(results)
        for written in self._writes.values():
            for _ in range(int(bool(written.base or written.create is not None))):
                next(given, None)
            for result in written.results:
                value = next(given, None)
                result.value = ABSENT if value is None else from_wire(value, "a result")

    def take_fresh(self, store: int, snapshot: int, entries: Sequence[common_pb2.Entry]) -> None:
        """Begins at `snapshot`, some of which is known already."""
        if snapshot:
            self.store, self.snapshot = store, snapshot
            self._cache = {entry.name: self._value_of(entry) for entry in entries}

    def _enter(self) -> None:
        if not self._open:
            raise TransactionClosed("a Tx was used after its body had ended: use it inside the body alone")
        if self.signal:
            raise Abandoned

    def _fail(self, error: BaseException) -> NoReturn:
        rerun = isinstance(error, SnapshotTooOld | StoreChanged)
        self.signal, self.failure = ("rerun" if rerun else "fail"), error
        raise Abandoned

    def _encode(self, value: Any, name: str) -> value_pb2.Value:
        try:
            return to_wire(value, name)
        except BadValue as error:
            self._fail(error)

    def _decode(self, value: value_pb2.Value, name: str) -> Any:
        try:
            return from_wire(value, name)
        except BadValue as error:
            self._fail(error)

    def _written(self, name: str) -> Written[Any]:
        return self._writes.setdefault(name, Written())

    def _mark(self) -> tuple[dict[str, Written[Any]], int]:
        return {name: written.copy() for name, written in self._writes.items()}, len(self._records)

    def _return_to(self, mark: tuple[dict[str, Written[Any]], int]) -> None:
        self._writes = mark[0]
        del self._records[mark[1] :]

    def _fetch(self, name: str) -> value_pb2.Value:
        if name not in self._cache:
            self._cache[name] = self._ask(ref_service_pb2.GetRefsRequest(names=[name]))
        self.reads[name] = None
        return self._cache[name]

    def _written_over(self, name: str, written: Written[Any]) -> Any:
        """The entry as this body has made it."""
        if written.operations:
            value = self._ask(ref_service_pb2.GetRefsRequest(names=[name], pending=written.writes(name)))
            self.reads[name] = None
            return self._decode(value, name)
        if written.base == "set" and written.value is not None:
            return self._decode(written.value, name)
        if written.base == "delete":
            return ABSENT
        value = self._decode(self._fetch(name), name)
        return self._decode(written.create, name) if value is ABSENT and written.create is not None else value

    def _pages(self, prefix: str) -> dict[str, value_pb2.Value]:
        found: dict[str, value_pb2.Value] = {}
        request = ref_service_pb2.ListRefsRequest(prefix=prefix)
        while True:
            page = self._read("RefService/ListRefs", request, ref_service_pb2.ListRefsResponse)
            found.update((entry.name, entry.value) for entry in page.entries)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    def _read(
        self, method: str, request: ref_service_pb2.GetRefsRequest | ref_service_pb2.ListRefsRequest, answer: type[A]
    ) -> A:
        """At this run's snapshot; the first read takes it."""
        request.at.seen.CopyFrom(self._connection.seen())
        if self.snapshot:
            request.at.version, request.at.seen.store = self.snapshot, self.store
        try:
            read = self._connection.ask(method, request, answer, self._deadline)
        except Exception as error:
            self._fail(error)
        if not self.snapshot:
            self.snapshot, self.store = read.snapshot, read.header.store
        return read

    def _ask(self, request: ref_service_pb2.GetRefsRequest) -> value_pb2.Value:
        answer = self._read("RefService/GetRefs", request, ref_service_pb2.GetRefsResponse)
        return self._value_of(answer.entries[0])

    def _value_of(self, entry: common_pb2.Entry) -> value_pb2.Value:
        if entry.HasField("value") and entry.kind == common_pb2.ENTRY_KIND_ATOM:
            name = entry.name
            self.signal, self.failure = "fail", WrongKind(f"{name} is an atom and was used as a ref", name=name)
            raise Abandoned
        return entry.value
