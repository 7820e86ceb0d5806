"""What calls tell of entries, commits, locks and sessions. Plain values; moments are Instants, spans are seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from .errors import Cause, Meta
from .values import Instant

T_co = TypeVar("T_co", covariant=True)

ChangeKind = Literal["set", "deleted", "expired", "defined"]
LockMode = Literal["exclusive", "shared", "permits"]


@dataclass(frozen=True)
class Definition:
    """Of an entry, fixed by whoever creates it; define() replaces all of it but the container."""

    validator: Any = None  # a rule in EDN's form, as [:and :int [:min 0]] in Keywords; None: none
    ttl: float | None = None  # seconds, at least 0.001; each write starts it again. None: for ever
    ephemeral: bool = False  # bound to this client's session, whose end deletes it
    container: str = ""  # that keeps the value, as "mongo" or "offered:mine"; "": inline, in the log


@dataclass(frozen=True)
class Committed:
    """What a transaction was when it was durable."""

    version: int = 0  # 0: it only read, and had nothing to commit
    at: Instant | None = None
    transaction_id: str = ""
    repeated: bool = False  # a once key was spent already: version is the first call's
    resends: int = 0  # over all its runs: sent again under the same id, since no answer had come


@dataclass(frozen=True)
class Rerun:
    run: int  # that begins now; 2 is the first re-run
    causes: tuple[Cause, ...]
    why: str  # where no entry is to blame: "snapshot-too-old", "store-changed"; else ""


@dataclass(frozen=True)
class CallInfo:
    """One send of one call, for connect(on_call=...)."""

    method: str  # "TransactionService/Commit"
    seconds: float
    ok: bool


@dataclass(frozen=True)
class Change:
    name: str
    kind: ChangeKind
    before: Any  # ABSENT: there was no entry, unless before_unknown
    after: Any  # ABSENT: there is none
    before_unknown: bool = False
    is_atom: bool = False


@dataclass(frozen=True)
class Commit:
    """One commit, whole, as watches and histories show it."""

    version: int
    at: Instant | None = None
    transaction_id: str = ""
    meta: Meta = field(default_factory=Meta)
    changes: tuple[Change, ...] = ()  # those selected
    records: tuple[Any, ...] = ()
    initial: bool = False  # no commit, but all that is there at `version`: what was known before is void


@dataclass(frozen=True)
class Record(Generic[T_co]):
    """One record of a commit."""

    value: T_co
    version: int
    at: Instant
    transaction_id: str
    meta: Meta


@dataclass(frozen=True)
class LockHold:
    """One who holds a lock, or waits for it."""

    session_id: str
    owner: str
    mode: LockMode
    token: int  # 0: it waits
    holds: int
    permits: int
    since: Instant  # when it was granted, or began to wait


@dataclass(frozen=True)
class LockInfo:
    """A lock as an operator sees it."""

    name: str
    holders: tuple[LockHold, ...]
    queue: tuple[LockHold, ...]  # in order; the first 1000, and none in a listing
    permits_max: int  # 0: it is no semaphore
    last_token: int


@dataclass(frozen=True)
class SessionInfo:
    session_id: str
    client: str  # "host/program/pid"
    ttl: float
    left: float | None  # until it expires if nothing is heard; None: another daemon knows
    daemon: int  # that has its lease
    since: Instant
    locks: tuple[str, ...]  # that it holds, waits for, or awaits a condition of
    entries: tuple[str, ...]  # bound to it


__all__ = [
    "CallInfo",
    "Change",
    "ChangeKind",
    "Commit",
    "Committed",
    "Definition",
    "LockHold",
    "LockInfo",
    "LockMode",
    "Record",
    "Rerun",
    "SessionInfo",
]
