"""What can go wrong, one class a reason. Built from what the daemon's ErrorDetail says, never from its text.

Deadlines are Python's own TimeoutError. Every message ends with what to do.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Meta:
    """Who committed, and why."""

    label: str = ""
    client: str = ""
    traceparent: str = ""
    principal: str = ""


@dataclass(frozen=True)
class Cause:
    """An entry (or a listed prefix) that another commit changed meanwhile."""

    name: str
    version: int
    by: Meta


class StmError(Exception):
    """Of all errors here. `reason` is the same word in every language; `name` is the entry or the field at fault."""

    reason = "none"
    retryable = False  # by the caller, unchanged, later
    detail_reason = 0  # of the wire's ErrorDetail; 0: it had none

    def __init__(
        self,
        message: str,
        *,
        name: str = "",
        found: str = "",
        expected: str = "",
        limit: str = "",
        limit_value: int = 0,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.name = name
        self.found = found
        self.expected = expected
        self.limit = limit
        self.limit_value = limit_value
        self.retry_after = retry_after  # seconds; None: do not retry


class Conflict(StmError):
    """The caller's runs or time are spent on conflicts; `causes` name the entries and by whom."""

    reason = "conflict"
    retryable = True
    causes: tuple[Cause, ...] = ()


class Rejected(StmError):
    """Said no: a validator, an operation on another type, a compare, or an overflow: `cause` is which."""

    reason = "rejected"
    cause: str = ""
    rule: object = None  # the validator's rule, in EDN's form


class LockLost(StmError):
    reason = "fence-lost"


class SessionExpired(StmError):
    reason = "session-expired"


class CommitUnknown(StmError):
    """A commit was sent and whether it happened is not known. `outcome_word` is what `stmctl outcome` takes."""

    reason = "commit-unknown"
    outcome_word: str = ""


class SnapshotTooOld(StmError):
    reason = "snapshot-too-old"
    retryable = True


class LimitExceeded(StmError):
    """`limit` names the setting, `limit_value` its value."""

    reason = "limit-exceeded"


class Unavailable(StmError):
    reason = "unavailable"
    retryable = True


class StoreChanged(StmError):
    reason = "store-changed"
    retryable = True


class NoSpace(StmError):
    reason = "no-space"


class Unsupported(StmError):
    reason = "unsupported"


class ValueLost(StmError):
    reason = "value-lost"


class Absent(StmError):
    reason = "absent"


class WrongKind(StmError):
    reason = "wrong-kind"


class BadValue(StmError, ValueError):
    reason = "bad-value"


class Denied(StmError):
    reason = "denied"


class TransactionClosed(StmError):
    reason = "transaction-closed"


class InTransaction(StmError):
    reason = "in-transaction"


class RerunDiffers(StmError):
    """rerun_check: a body did otherwise the second time on the same snapshot; `expected` and `found` are where."""

    reason = "rerun-differs"


class LockBusy(StmError):
    """Not within the wait; `found` says who holds it."""

    reason = "lock-busy"
    retryable = True


class UpgradeRefused(StmError):
    """Others read, too: release the shared hold before the lock is acquired alone."""

    reason = "upgrade-refused"


class Deadlock(StmError):
    """Waiting for it would be waiting for oneself; `found` is the cycle."""

    reason = "deadlock"


ABSENT_REMEDY = "is absent: set it first, give its handle an init, or use find"
