"""The side of asyncio: steps are awaited, over grpc.aio. One event loop a client, that which connected it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from . import _wire as wire
from ._base import BodyStopped, Bounds, Link, RpcFailed, Steps, StreamEnded, StreamSilent
from ._core import LOOK_EVERY

if TYPE_CHECKING:
    from ._core import Core

T = TypeVar("T")

log = logging.getLogger("stm")


async def run(steps: Steps[T]) -> T:
    """Does all its steps in this task."""
    try:
        step = steps.send(None)
        while True:
            try:
                result = await step
            except BodyStopped as error:
                step = steps.throw(error)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as done:
        value: T = done.value
        return value
    except BodyStopped as stopped:
        # A coroutine cannot raise StopIteration: Python makes a RuntimeError of it.
        raise RuntimeError("the body raised StopIteration") from stopped.error


def _failed(error: grpc.aio.AioRpcError) -> RpcFailed:
    return RpcFailed(error.code(), error.details() or "", error.trailing_metadata())


def _lost(link: Link) -> RpcFailed:
    return RpcFailed(grpc.StatusCode.UNAVAILABLE, f"the connection to {link.address} is lost", None)


class TaskSignal:
    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait(self, timeout: float | None) -> None:
        if timeout is None:
            await self._event.wait()
            return
        try:
            await asyncio.wait_for(self._event.wait(), timeout)
        except (asyncio.TimeoutError, TimeoutError):
            pass


class LostEvent(asyncio.Event):
    """Set when the grant is gone by the daemon's word, and read as set when it is by this client's clock."""

    over: Callable[[], bool] = staticmethod(lambda: False)

    def is_set(self) -> bool:
        return super().is_set() or self.over()


class TaskLink(Link):
    def __init__(self, address: str, closings: set[asyncio.Task[None]]) -> None:
        super().__init__(address)
        self.channel: Any = grpc.aio.insecure_channel(address, options=wire.OPTIONS)
        self.unary: dict[str, Any] = {}  # one multicallable a method
        self.calls: dict[Any, None] = {}  # under way
        self._closings = closings

    def close(self) -> None:
        if not self.alive:
            return
        self.alive = False
        for call in list(self.calls):
            call.cancel()
        try:
            closing = asyncio.get_running_loop().create_task(self.channel.close())
        except RuntimeError:
            return  # the loop has ended, and all that is on it
        self._closings.add(closing)
        closing.add_done_callback(self._closings.discard)


class TaskStream:
    def __init__(self, link: TaskLink, method: str, request: Any, bounds: Bounds) -> None:
        self._link = link
        self._cancelled = False
        path, write, read = wire.method_of(method)
        make = link.unary.get(method)
        if make is None:
            make = link.unary[method] = link.channel.unary_stream(
                path, request_serializer=write, response_deserializer=read
            )
        self._call: Any = make(request, timeout=bounds.deadline.left())

    async def take(self, silence: float | None) -> Any:
        link, call = self._link, self._call
        if not link.alive:
            raise _lost(link)
        link.waits[self] = time.monotonic()
        link.calls[call] = None
        try:
            message = await (call.read() if silence is None else asyncio.wait_for(call.read(), silence))
            if message is not grpc.aio.EOF:
                link.heard = time.monotonic()
                return message
            code = await call.code()
            if code is grpc.StatusCode.OK:
                raise StreamEnded
            raise RpcFailed(code, await call.details() or "", await call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            raise _failed(error) from None
        except (asyncio.TimeoutError, TimeoutError):
            call.cancel()
            raise StreamSilent from None
        except (asyncio.CancelledError, asyncio.InvalidStateError, grpc.aio.UsageError):
            if self._cancelled or not link.alive:
                raise _lost(link) from None
            raise
        finally:
            link.waits.pop(self, None)
            link.calls.pop(call, None)

    def send(self, message: Any) -> None:
        raise NotImplementedError

    def cancel(self) -> None:
        self._cancelled = True
        self._call.cancel()


class TaskBothWays:
    def __init__(self, link: TaskLink, method: str) -> None:
        self._link = link
        path, write, read = wire.method_of(method)
        make = link.channel.stream_stream(path, request_serializer=write, response_deserializer=read)
        self._call: Any = make()
        self._cancelled = False
        self._outgoing: asyncio.Queue[Any] = asyncio.Queue()
        self._reading: asyncio.Task[Any] | None = None
        self._writing = asyncio.ensure_future(self._write())
        link.calls[self._call] = None

    async def _write(self) -> None:
        try:
            while True:
                await self._call.write(await self._outgoing.get())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            pass  # the reader is told

    async def _read(self) -> Any:
        try:
            message = await self._call.read()
            if message is not grpc.aio.EOF:
                return message
            code = await self._call.code()
            if code is grpc.StatusCode.OK:
                return StreamEnded()
            return RpcFailed(code, await self._call.details() or "", await self._call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            return _failed(error)
        except (asyncio.CancelledError, asyncio.InvalidStateError, grpc.aio.UsageError):
            return _lost(self._link)

    async def take(self, silence: float | None) -> Any:
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        self._link.waits[self] = time.monotonic()
        try:
            done, _ = await asyncio.wait({self._reading}, timeout=silence)
        finally:
            self._link.waits.pop(self, None)
        if not done:
            raise StreamSilent
        message = self._reading.result()
        if isinstance(message, Exception):
            raise message
        self._reading = None
        return message

    def send(self, message: Any) -> None:
        self._outgoing.put_nowait(message)

    def cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            self._link.calls.pop(self._call, None)
            self._writing.cancel()
            self._call.cancel()


class TaskWorkers:
    def __init__(self, io: TaskIo, calls_max: int) -> None:
        self._io = io
        self._turn = asyncio.Semaphore(max(calls_max, 1))
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, make: Callable[[], Steps[Any]]) -> None:
        async def work() -> None:
            async with self._turn:
                await run(make())

        task = asyncio.ensure_future(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)


class TaskIo:
    def __init__(self) -> None:
        self.core: weakref.ref[Core] | None = None
        self.closed = asyncio.Event()
        self._spawned: set[asyncio.Task[Any]] = set()
        self._closings: set[asyncio.Task[None]] = set()
        self._watchdog: asyncio.Task[None] | None = None

    def link(self, address: str) -> Link:
        if self._watchdog is None and self.core is not None:
            self._watchdog = asyncio.ensure_future(_watch(self.core, self.closed))
        return TaskLink(address, self._closings)

    def signal(self) -> TaskSignal:
        return TaskSignal()

    def lost(self) -> LostEvent:
        return LostEvent()

    def who(self) -> object:
        return asyncio.current_task()

    async def call(self, link: TaskLink, method: str, request: Any, timeout: float | None, canceller: Any) -> Any:
        if not link.alive:
            raise _lost(link)
        make = link.unary.get(method)
        if make is None:
            path, write, read = wire.method_of(method)
            make = link.unary[method] = link.channel.unary_unary(
                path, request_serializer=write, response_deserializer=read
            )
        waits, calls = link.waits, link.calls
        call = make(request, timeout=timeout)
        waits[call] = time.monotonic()
        calls[call] = None
        try:
            answer = await call
            link.heard = time.monotonic()
            return answer
        except grpc.aio.AioRpcError as error:
            raise _failed(error) from None
        except asyncio.CancelledError:
            if not link.alive and not _is_cancelled():
                raise _lost(link) from None
            raise
        except grpc.aio.UsageError:
            raise _lost(link) from None
        finally:
            waits.pop(call, None)
            calls.pop(call, None)

    async def sleep(self, seconds: float, canceller: Any = None) -> None:
        if seconds <= 0:
            return
        try:
            await asyncio.wait_for(self.closed.wait(), seconds)
        except (asyncio.TimeoutError, TimeoutError):
            pass

    def wait(self, signal: TaskSignal, timeout: float | None, canceller: Any = None) -> Awaitable[None]:
        return signal.wait(timeout)

    async def user(self, function: Callable[[], Any]) -> Any:
        try:
            result = function()
            return (await result) if inspect.isawaitable(result) else result
        except StopIteration as error:
            raise BodyStopped(error) from None

    def run(self, steps: Steps[T]) -> Coroutine[Any, Any, T]:
        return run(steps)

    def stream(self, link: TaskLink, method: str, request: Any, bounds: Bounds) -> TaskStream:
        return TaskStream(link, method, request, bounds)

    def both_ways(self, link: TaskLink, method: str) -> TaskBothWays:
        return TaskBothWays(link, method)

    def workers(self, calls_max: int) -> TaskWorkers:
        return TaskWorkers(self, calls_max)

    def spawn(self, steps: Steps[Any], what: str) -> asyncio.Task[Any]:
        async def work() -> None:
            try:
                await run(steps)
            except Exception:
                log.exception("%s failed", what)

        task = asyncio.ensure_future(work())
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)
        return task

    async def join(self, spawned: asyncio.Task[Any], timeout: float) -> None:
        if spawned is not asyncio.current_task():
            await asyncio.wait({spawned}, timeout=timeout)

    async def close(self) -> None:
        self.closed.set()
        left = {*self._spawned, *self._closings, *([self._watchdog] if self._watchdog else [])}
        left.discard(asyncio.current_task())
        if left:
            _, late = await asyncio.wait(left, timeout=LOOK_EVERY)
            for task in late:
                task.cancel()


def _is_cancelled() -> bool:
    """Is it this task that is cancelled? Before Python 3.11 it cannot be asked, and a broken link is taken for the
    cause."""
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is not None and cancelling() > 0


async def _watch(core: weakref.ref[Core], closed: asyncio.Event) -> None:
    """As long as the client is there."""
    while not closed.is_set():
        one = core()
        if one is None:
            return
        try:
            await run(one.look())
        except Exception:
            log.exception("the watchdog failed")
        del one
        try:
            await asyncio.wait_for(closed.wait(), LOOK_EVERY)
        except (asyncio.TimeoutError, TimeoutError):
            pass
