"""What the core and both of its sides (threads and asyncio) share: time, outages, how calls end, and what a side does.

The core is generators. They yield steps, which the side that runs them does (`Io`), and get what came of each: so each
rule is written once, and blocks a thread or awaits as its caller does.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import random
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

import grpc

from .errors import StmError, Unavailable

T = TypeVar("T")
# A part of the core: yields steps, returns T.
Steps = Generator[Any, Any, T]

CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)
WAS_WELL_AFTER = 1.0  # seconds: a call that was under way for so long before it broke was no part of an outage


class Deadline:
    """`timeout` seconds from now; None: never."""

    __slots__ = ("at",)

    def __init__(self, timeout: float | None) -> None:
        self.at = None if timeout is None else time.monotonic() + max(timeout, 0.0)

    def left(self) -> float | None:
        return None if self.at is None else max(self.at - time.monotonic(), 0.0)

    def passed(self) -> bool:
        return self.at is not None and time.monotonic() >= self.at

    def at_most(self, seconds: float) -> float:
        return seconds if self.at is None else min(seconds, max(self.at - time.monotonic(), 0.0))

    def or_earlier(self, other: Deadline) -> Deadline:
        if self.at is None or (other.at is not None and other.at < self.at):
            return other
        return self


NEVER = Deadline(None)


class Canceller:
    """Ends calls from another thread: they raise concurrent.futures.CancelledError, or CommitUnknown where a commit
    was sent and its outcome cannot be found out within 1 s. Any thread; cancelled once, it stays so."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hooks: dict[object, Callable[[], object]] = {}
        self.cancelled = False

    def cancel(self) -> None:
        with self._lock:
            self.cancelled = True
            hooks = list(self._hooks.values())
        for hook in hooks:
            hook()

    def _add(self, hook: Callable[[], object]) -> object:
        key = object()
        with self._lock:
            self._hooks[key] = hook
            late = self.cancelled
        if late:
            hook()
        return key

    def _remove(self, key: object) -> None:
        with self._lock:
            self._hooks.pop(key, None)


class Bounds:
    """When a caller waits no longer. asyncio cancels tasks, and has no cancellers."""

    __slots__ = ("canceller", "deadline")

    def __init__(self, timeout: float | None = None, canceller: Canceller | None = None) -> None:
        self.deadline = NEVER if timeout is None else Deadline(timeout)
        self.canceller = canceller

    def check(self) -> None:
        if self.canceller is not None and self.canceller.cancelled:
            raise concurrent.futures.CancelledError("cancelled by its Canceller; nothing was changed")


class Outage:
    """Failures in a row: no pause after the first, then 10 ms to 1 s, until `limit` seconds after the first. A call
    that was under way for a second before it failed ends the outage before it. None: no limit."""

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self._until: Deadline | None = None
        self._began: float | None = None
        self.failures = 0
        self.cause: StmError | None = None

    def begin(self) -> None:
        """Of each call."""
        self._began = time.monotonic()

    def end(self) -> None:
        self._until, self.failures = None, 0

    def until(self) -> Deadline:
        return self._until or Deadline(self.limit)

    def fail(self, cause: StmError) -> None:
        if self._began is not None and time.monotonic() - self._began >= WAS_WELL_AFTER:
            self.end()
        self._began = None
        self._until = self._until or Deadline(self.limit)
        self.failures += 1
        self.cause = cause

    def over(self) -> bool:
        return self._until is not None and self._until.passed()

    def pause(self, deadline: Deadline = NEVER) -> float:
        """Before the next try."""
        backoff = 0.0 if self.failures <= 1 else min(0.01 * 2.0 ** min(self.failures - 2, 7), 1.0)
        wait = max(random.uniform(backoff / 2, backoff), (self.cause and self.cause.retry_after) or 0.0)
        return deadline.at_most(self.until().at_most(wait))


class Broken(Unavailable):
    """No answer came: what was sent may have been done."""


class ClientClosed(Unavailable):
    """The client was closed."""

    retryable = False

    def __init__(self) -> None:
        super().__init__("the client is closed: connect again")


def transient(failure: StmError) -> bool:
    """May the same call be sent again after this answer?"""
    if isinstance(failure, ClientClosed):
        return False
    return isinstance(failure, Unavailable) or failure.retry_after is not None


class RpcFailed(Exception):
    """A call ended otherwise than well: `code` by the daemon's word or the network's."""

    def __init__(self, code: grpc.StatusCode, message: str, metadata: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.metadata = code, message, metadata


class StreamEnded(Exception):
    """The daemon ended the stream well."""


class StreamSilent(Exception):
    """Nothing came on it for as long as was to be waited."""


class BodyStopped(Exception):
    """A user's function raised StopIteration, which no generator lets through: `error` is it."""

    def __init__(self, error: StopIteration) -> None:
        self.error = error


class Link:
    """One connection to one daemon, from its making to its break."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.alive = True
        self.heard = time.monotonic()  # when the daemon answered last
        self.waits: dict[object, float] = {}  # since when each who waits for it has waited

    def close(self) -> None:
        """What is under way on it ends as broken."""
        raise NotImplementedError


class Signal(Protocol):
    """Set once; who waits for it is woken."""

    def set(self) -> None: ...
    def is_set(self) -> bool: ...


class Stream(Protocol):
    """Of one reader."""

    def take(self, silence: float | None) -> Any:
        """A step: the next message. Raises StreamEnded, RpcFailed, or StreamSilent after so many seconds."""

    def send(self, message: Any) -> None: ...
    def cancel(self) -> None: ...


class Workers(Protocol):
    def run(self, make: Callable[[], Steps[Any]]) -> None:
        """In its turn."""

    def close(self) -> Any:
        """A step: until what is under way has ended."""


class Io(Protocol):
    """A side: what it does is a step each, which a generator of the core yields."""

    def link(self, address: str) -> Link: ...
    def signal(self) -> Signal: ...
    def lost(self) -> Any:
        """A Signal that users see, as Held.lost; set too when its `over()` is true."""

    def who(self) -> object:
        """The thread or task that runs now."""

    def call(self, link: Any, method: str, request: Any, timeout: float | None, canceller: Canceller | None) -> Any:
        """A step: the answer. Raises RpcFailed."""

    def sleep(self, seconds: float, canceller: Canceller | None = None) -> Any:
        """A step: less where cancelled (which is raised) or the client is closed."""

    def wait(self, signal: Any, timeout: float | None, canceller: Canceller | None = None) -> Any:
        """A step: until it is set, or for so long."""

    def user(self, function: Callable[[], Any]) -> Any:
        """A step: what a user's function gives, awaited where that is asyncio's way."""

    def run(self, steps: Steps[Any]) -> Any:
        """No step: does them all, as a user's function on this side would."""

    def stream(self, link: Any, method: str, request: Any, bounds: Bounds) -> Stream:
        """Messages come down it."""

    def both_ways(self, link: Any, method: str) -> Stream: ...
    def workers(self, calls_max: int) -> Workers:
        """Of a user's functions, so many at once."""

    def spawn(self, steps: Steps[Any], what: str) -> Any:
        """Runs it in the background, until it ends or the client is closed."""

    def join(self, spawned: Any, timeout: float) -> Any:
        """A step: until it has ended, or for so long."""
