"""The side of threads: steps block. One watchdog thread a client; a stream both ways has a reader; background work has
a thread each, and is rare. What goes on all the time (reads, commits, watches) has no thread of its own."""

from __future__ import annotations

import concurrent.futures
import functools
import logging
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from . import _wire as wire
from ._base import (
    BodyStopped,
    Bounds,
    Canceller,
    Link,
    RpcFailed,
    Steps,
    StreamEnded,
    StreamSilent,
)
from ._core import LOOK_EVERY

if TYPE_CHECKING:
    from ._core import Core

T = TypeVar("T")

log = logging.getLogger("stm")


def run(steps: Steps[T]) -> T:
    """Does all its steps in this thread."""
    step = None
    try:
        step = steps.send(None)
        while True:
            try:
                result = step()
            except StopIteration as error:
                step = steps.throw(BodyStopped(error))
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as done:
        value: T = done.value
        return value
    except BodyStopped as stopped:
        raise stopped.error from None


def _failed(error: grpc.RpcError) -> RpcFailed:
    call: Any = error
    return RpcFailed(call.code(), call.details() or "", call.trailing_metadata())


def _lost(error: BaseException) -> RpcFailed:
    """Another thread closed the channel, as it found it broken."""
    return RpcFailed(grpc.StatusCode.UNAVAILABLE, f"the connection is lost: {error}", None)


def _cancelled() -> concurrent.futures.CancelledError:
    return concurrent.futures.CancelledError("cancelled by its Canceller; nothing was changed")


class ThreadSignal:
    """Also woken by a canceller, without being set."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._set = False

    def set(self) -> None:
        with self._condition:
            self._set = True
            self._condition.notify_all()

    def is_set(self) -> bool:
        return self._set

    def poke(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def wait(self, timeout: float | None, canceller: Canceller | None) -> None:
        key = None if canceller is None else canceller._add(self.poke)
        try:
            with self._condition:
                if not self._set and not (canceller and canceller.cancelled):
                    self._condition.wait(timeout)
        finally:
            if canceller is not None:
                canceller._remove(key)


class LostEvent(threading.Event):
    """Set when the grant is gone by the daemon's word, and read as set when it is by this client's clock."""

    over: Callable[[], bool] = staticmethod(lambda: False)

    def is_set(self) -> bool:
        return super().is_set() or self.over()

    def wait(self, timeout: float | None = None) -> bool:
        until = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = LOOK_EVERY if until is None else min(until - time.monotonic(), LOOK_EVERY)
            if left <= 0:
                return False
            super().wait(left)
        return True


class ThreadLink(Link):
    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.channel: Any = grpc.insecure_channel(address, options=wire.OPTIONS)
        self.unary: dict[str, Any] = {}  # one multicallable a method

    def close(self) -> None:
        if self.alive:
            self.alive = False
            self.channel.close()


class ThreadStream:
    """Messages of one answer. Blocking reads, ended from without by a cancel of the call."""

    def __init__(self, io: ThreadIo, link: ThreadLink, method: str, request: Any, bounds: Bounds) -> None:
        self._io, self._link, self._canceller = io, link, bounds.canceller
        self.silent_at: float | None = None
        self.was_silent = False
        path, write, read = wire.method_of(method)
        make = link.unary.get(method)
        if make is None:
            make = link.unary[method] = link.channel.unary_stream(
                path, request_serializer=write, response_deserializer=read
            )
        self._call: Any = None
        try:
            self._call = make(request, timeout=bounds.deadline.left())
        except ValueError as error:
            self._dead = _lost(error)

    def take(self, silence: float | None) -> Any:
        return lambda: self._take(silence)

    def _take(self, silence: float | None) -> Any:
        if self._call is None:
            raise self._dead
        waits = self._link.waits
        waits[self] = now = time.monotonic()
        if silence is not None:
            self.silent_at = now + silence
            self._io.streams[self] = None
        key = None if self._canceller is None else self._canceller._add(self._call.cancel)
        try:
            message = next(self._call)
            self._link.heard = time.monotonic()
            return message
        except StopIteration:
            raise StreamEnded from None
        except grpc.RpcError as error:
            if self._canceller is not None and self._canceller.cancelled:
                raise _cancelled() from None
            if self.was_silent:
                raise StreamSilent from None
            raise _failed(error) from None
        finally:
            self.silent_at = None
            self._io.streams.pop(self, None)
            waits.pop(self, None)
            if self._canceller is not None:
                self._canceller._remove(key)

    def look(self, now: float) -> None:
        if self.silent_at is not None and now >= self.silent_at:
            self.was_silent = True
            self._call.cancel()

    def send(self, message: Any) -> None:
        raise NotImplementedError

    def cancel(self) -> None:
        if self._call is not None:
            self._call.cancel()


class ThreadBothWays:
    def __init__(self, link: ThreadLink, method: str) -> None:
        self._link = link
        self._outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._incoming: queue.SimpleQueue[Any] = queue.SimpleQueue()
        path, write, read = wire.method_of(method)
        self._call: Any = None
        try:
            make = link.channel.stream_stream(path, request_serializer=write, response_deserializer=read)
            self._call = make(iter(self._outgoing.get, None))
        except ValueError as error:
            self._incoming.put(_lost(error))
            return
        threading.Thread(target=self._read, name=f"stm {method}", daemon=True).start()

    def _read(self) -> None:
        end: Exception = StreamEnded()
        try:
            for message in self._call:
                self._incoming.put(message)
        except grpc.RpcError as error:
            end = _failed(error)
        except Exception as error:
            end = _lost(error)
        self._outgoing.put(None)
        self._incoming.put(end)

    def take(self, silence: float | None) -> Any:
        return lambda: self._take(silence)

    def _take(self, silence: float | None) -> Any:
        self._link.waits[self] = time.monotonic()
        try:
            message = self._incoming.get(timeout=silence)
        except queue.Empty:
            raise StreamSilent from None
        finally:
            self._link.waits.pop(self, None)
        if isinstance(message, Exception):
            self._incoming.put(message)
            raise message
        return message

    def send(self, message: Any) -> None:
        self._outgoing.put(message)

    def cancel(self) -> None:
        self._outgoing.put(None)
        if self._call is not None:
            self._call.cancel()


class ThreadWorkers:
    def __init__(self, calls_max: int) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(max(calls_max, 1), thread_name_prefix="stm container")

    def run(self, make: Callable[[], Steps[Any]]) -> None:
        try:
            self._pool.submit(lambda: run(make()))
        except RuntimeError:
            pass  # the offer is withdrawn: the daemon asks another, or again

    def close(self) -> Any:
        return self._pool.shutdown


class ThreadIo:
    def __init__(self) -> None:
        self.streams: dict[ThreadStream, None] = {}
        self.core: weakref.ref[Core] | None = None
        self.after_fork()

    def after_fork(self) -> None:
        self.closed = ThreadSignal()
        self.streams.clear()
        self._spawned: dict[threading.Thread, None] = {}
        self._watchdog: threading.Thread | None = None
        self._pid = os.getpid()

    def link(self, address: str) -> Link:
        if self._watchdog is None and self.core is not None:
            self._watchdog = threading.Thread(
                target=_watch, args=(self.core, self.closed), name="stm watchdog", daemon=True
            )
            self._watchdog.start()
        return ThreadLink(address)

    def signal(self) -> ThreadSignal:
        return ThreadSignal()

    def lost(self) -> LostEvent:
        return LostEvent()

    def who(self) -> object:
        return threading.get_ident()

    def call(self, link: ThreadLink, method: str, request: Any, timeout: float | None, canceller: Any) -> Any:
        return functools.partial(self._call, link, method, request, timeout, canceller)

    @staticmethod
    def _call(link: ThreadLink, method: str, request: Any, timeout: float | None, canceller: Canceller | None) -> Any:
        make = link.unary.get(method)
        if make is None:
            path, write, read = wire.method_of(method)
            make = link.unary[method] = link.channel.unary_unary(
                path, request_serializer=write, response_deserializer=read
            )
        waits = link.waits
        key = object()
        waits[key] = time.monotonic()
        try:
            if canceller is None:
                answer = make(request, timeout=timeout)
            else:
                answer = _cancellable(make.future(request, timeout=timeout), canceller)
            link.heard = time.monotonic()
            return answer
        except grpc.RpcError as error:
            raise _failed(error) from None
        except ValueError as error:
            raise _lost(error) from None
        except grpc.FutureCancelledError as error:
            if canceller is not None and canceller.cancelled:
                raise _cancelled() from None
            raise _lost(error) from None
        except BaseException:
            # A Ctrl-C leaves a call that nobody waits for, and that cannot be cancelled: it ends with its connection.
            link.close()
            raise
        finally:
            del waits[key]

    def sleep(self, seconds: float, canceller: Canceller | None = None) -> Any:
        def step() -> None:
            if seconds > 0:
                self.closed.wait(seconds, canceller)
            if canceller is not None and canceller.cancelled:
                raise _cancelled()

        return step

    def wait(self, signal: ThreadSignal, timeout: float | None, canceller: Canceller | None = None) -> Any:
        return lambda: signal.wait(timeout, canceller)

    def user(self, function: Callable[[], Any]) -> Any:
        return function

    def run(self, steps: Steps[T]) -> T:
        return run(steps)

    def stream(self, link: ThreadLink, method: str, request: Any, bounds: Bounds) -> ThreadStream:
        return ThreadStream(self, link, method, request, bounds)

    def both_ways(self, link: ThreadLink, method: str) -> ThreadBothWays:
        return ThreadBothWays(link, method)

    def workers(self, calls_max: int) -> ThreadWorkers:
        return ThreadWorkers(calls_max)

    def spawn(self, steps: Steps[Any], what: str) -> threading.Thread:
        def work() -> None:
            try:
                run(steps)
            except Exception:
                log.exception("%s failed", what)
            finally:
                self._spawned.pop(thread, None)

        thread = threading.Thread(target=work, name=f"stm {what}", daemon=True)
        self._spawned[thread] = None
        thread.start()
        return thread

    def join(self, spawned: threading.Thread, timeout: float) -> Any:
        return lambda: spawned.join(timeout) if spawned is not threading.current_thread() else None

    def close(self) -> None:
        """Whoever sleeps is woken; what is in the background has ended when it returns, if it does in time."""
        self.closed.set()
        for thread in [*self._spawned, *([self._watchdog] if self._watchdog else [])]:
            if thread is not threading.current_thread():
                thread.join(LOOK_EVERY)


def _cancellable(call: Any, canceller: Canceller) -> Any:
    key = canceller._add(call.cancel)
    try:
        return call.result()
    finally:
        canceller._remove(key)


def _watch(core: weakref.ref[Core], closed: ThreadSignal) -> None:
    """As long as the client is there."""
    while not closed.is_set():
        one = core()
        if one is None:
            return
        io: Any = one.io
        try:
            now = time.monotonic()
            for stream in list(io.streams):
                stream.look(now)
            run(one.look())
        except Exception:
            log.exception("the watchdog failed")
        del one, io
        closed.wait(LOOK_EVERY, None)
