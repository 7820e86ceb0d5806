"""Plays what tests/conformance/play.py says by the Python client: a command a line on standard input, answers and
events a line each on standard output. README.md there has the words. With --aio by stm.aio: what is written here is the
same, and its coroutines are awaited; without, each command has a thread, and no coroutine ever waits."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple

from google.protobuf import json_format
from google.protobuf.empty_pb2 import Empty

import stm
import stm.aio
from stm._proto import value_pb2
from stm.codec import from_wire, to_wire

AIO = "--aio" in sys.argv[1:]
CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)
api: Any = stm.aio if AIO else stm


@stm.record("conf.Point")
class Point(NamedTuple):
    """The user's type that every driver has."""

    x: int
    y_axis: int


class BodyFailed(Exception):
    """What the body raised itself."""


async def settled(result: Any) -> Any:
    """Of either client."""
    return (await result) if inspect.isawaitable(result) else result


def done(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("a coroutine of the client of threads waits")


def of_client(function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """As the client takes functions of the user's."""
    return function if AIO else lambda *arguments: done(function(*arguments))


async def each(stream: Any) -> Any:
    if AIO:
        async for one in stream:
            yield one
    else:
        for one in stream:
            yield one


# ---- Values and what goes out


def value_of(message: Any) -> Any:
    return from_wire(json_format.ParseDict(message, value_pb2.Value()), "a command")


def json_of(value: Any) -> Any:
    """{}: absent."""
    return {} if value is stm.ABSENT else json_format.MessageToDict(to_wire(value, "an answer"))


_out = threading.Lock()


def say(number: Any, **fields: Any) -> None:
    line = json.dumps({"id": number, **fields}) + "\n"
    with _out:
        sys.stdout.write(line)
        sys.stdout.flush()


def error_of(error: BaseException) -> dict[str, Any]:
    if isinstance(error, BodyFailed):
        return {"reason": "body", "message": str(error)}
    reason = "other"
    if isinstance(error, stm.StmError) and error.reason != "none":
        reason = error.reason
    elif isinstance(error, TimeoutError):
        reason = "deadline"
    elif isinstance(error, CANCELLED):
        reason = "cancelled"
    causes = [[one.name, one.by.label, one.by.client] for one in getattr(error, "causes", ())]
    words = {word: getattr(error, word, "") for word in ("name", "limit", "cause")}
    return {
        "reason": reason,
        "message": str(error),
        "word": getattr(error, "outcome_word", ""),
        "causes": causes,
        **words,
    }


def commit_of(commit: stm.Commit) -> dict[str, Any]:
    return {
        "version": str(commit.version),
        "initial": commit.initial,
        "label": commit.meta.label,
        "by": commit.meta.client,
        "changes": [[one.name, json_of(one.before), json_of(one.after)] for one in commit.changes],
        "records": [json_of(record) for record in commit.records],
    }


_OPERATIONS: dict[str, Callable[..., stm.op.Op]] = {
    "set": stm.op.set,
    "add": stm.op.add,
    "min": stm.op.minimum,
    "max": stm.op.maximum,
    "append": stm.op.append,
    "conj": stm.op.conj,
    "disj": stm.op.disj,
    "pop": stm.op.pop,
    "shift": stm.op.shift,
    "assoc": stm.op.assoc,
    "dissoc": stm.op.dissoc,
    "toggle": stm.op.toggle,
}


def operation_of(words: list[Any]) -> stm.op.Op:
    return _OPERATIONS[words[0]](*(value_of(one) for one in words[1]))


def definition_of(command: dict[str, Any]) -> stm.Definition | None:
    if not command.keys() & {"validator", "ttl_ms", "ephemeral"}:
        return None
    ttl = command.get("ttl_ms")
    return stm.Definition(
        validator=value_of(command["validator"]) if "validator" in command else None,
        ttl=None if ttl is None else int(ttl) / 1000,
        ephemeral=command.get("ephemeral", False),
    )


def seconds(command: dict[str, Any], word: str) -> float | None:
    return int(command[word]) / 1000 if word in command else None


# ---- Commands under way


class Running:
    def __init__(self) -> None:
        self.canceller = stm.Canceller()
        self.task: asyncio.Task[Any] | None = None
        self.pauses = self.gone_on = 0
        self.changed: Any = asyncio.Condition() if AIO else threading.Condition()

    def stop(self) -> None:
        if self.task is not None:
            # After its first step: a task that is cancelled before it says nothing at all.
            asyncio.get_running_loop().call_soon(self.task.cancel)
        self.canceller.cancel()

    async def go(self, times: int) -> None:
        if AIO:
            async with self.changed:
                self.gone_on += times
                self.changed.notify_all()
            return
        with self.changed:
            self.gone_on += times
            self.changed.notify_all()

    async def pause(self) -> None:
        self.pauses += 1
        if AIO:
            async with self.changed:
                await self.changed.wait_for(lambda: self.gone_on >= self.pauses)
            return
        with self.changed:
            self.changed.wait_for(lambda: self.gone_on >= self.pauses)

    def bounds(self) -> dict[str, Any]:
        """asyncio cancels tasks, and has no cancellers."""
        return {} if AIO else {"canceller": self.canceller}


class Body:
    """What transactions do, step by step."""

    def __init__(self, player: Player, number: Any, running: Running, client: Any, steps: list[Any]) -> None:
        self.player, self.number, self.running, self.client, self.steps = player, number, running, client, steps
        self.runs = self.on_commits = 0
        self.results: list[Any] = []
        self.kept: Any = None

    async def __call__(self, tx: Any) -> None:
        self.runs += 1
        self.results.clear()
        await self.play(tx, self.steps)

    async def play(self, tx: Any, steps: list[Any]) -> None:
        for verb, *words in steps:
            await self.step(tx, verb, words)

    async def step(self, tx: Any, verb: str, words: list[Any]) -> None:
        ref, results = self.client.ref, self.results
        match verb:
            case "get":
                handle = ref(words[0], value_of(words[1])) if len(words) > 1 else ref(words[0])
                results.append(json_of(await settled(tx.get(handle))))
            case "find":
                results.append(json_of(await settled(tx.find(ref(words[0])))))
            case "set":
                tx.set(ref(words[0]), value_of(words[1]))
            case "alter-add":
                results.append(json_of(await settled(tx.alter(ref(words[0]), lambda n: n + words[1]))))
            case "commute":
                tx.commute(ref(words[0]), operation_of(words[1:]))
            case "delete":
                tx.delete(ref(words[0]))
            case "ensure":
                await settled(tx.ensure(ref(words[0])))
            case "list":
                listed = await settled(tx.list(words[0]))
                results.append([[name, json_of(value)] for name, value in listed.items()])
            case "record":
                tx.record(value_of(words[0]))
            case "fence":
                tx.fence(self.player.held[words[0]][1])
            case "retry":
                tx.retry()
            case "retry-if":
                if to_wire(await settled(tx.get(ref(words[0]))), "") == to_wire(value_of(words[1]), ""):
                    tx.retry()
            case "or-else":
                await self.or_else(tx, words)
            case "swallow":
                try:
                    await self.play(tx, words[0])
                except BaseException:
                    results.append("swallowed")
            case "join":
                try:
                    await settled(self.client.transact(of_client(lambda inner: self.play(inner, words[1])), **words[0]))
                except stm.StmError as error:
                    results.append(error.reason)
            case "try-join":
                try:
                    await settled(self.client.transact(of_client(lambda inner: self.play(inner, words[0]))))
                except BodyFailed:
                    results.append("failed")
            case "fail":
                raise BodyFailed(words[0])
            case "io":
                try:
                    await settled(ref(words[0]).get())
                    results.append("none")
                except stm.StmError as error:
                    results.append(error.reason)
            case "on-commit":
                tx.on_commit(self.count)
            case "keep-tx":
                self.kept = tx
            case "pause":
                say(self.number, event="paused", run=self.runs)
                await self.running.pause()
            case _:
                raise ValueError(f"no such step: {verb}")

    async def or_else(self, tx: Any, words: list[Any]) -> None:
        before = list(self.results)

        async def second() -> None:
            self.results[:] = before
            await self.play(tx, words[1])

        await settled(tx.or_else(of_client(lambda: self.play(tx, words[0])), of_client(second)))

    def count(self, committed: stm.Committed) -> None:
        self.on_commits += 1


class Player:
    def __init__(self) -> None:
        self.clients: dict[str, Any] = {}
        self.held: dict[str, tuple[str, Any]] = {}
        self.running: dict[Any, Running] = {}

    async def play(self, number: Any, running: Running, command: dict[str, Any]) -> None:
        try:
            say(number, ok=await self.do(number, running, command))
        except (stm.StmError, TimeoutError, BodyFailed, *CANCELLED) as error:
            say(number, error=error_of(error))
        except BaseException as error:
            say(number, broken=repr(error))
        finally:
            self.running.pop(number, None)

    async def close(self) -> None:
        for client in self.clients.values():
            await settled(client.close())

    async def do(self, number: Any, running: Running, command: dict[str, Any]) -> Any:
        verb, name = command["do"], command.get("name", "")
        if verb == "connect":
            return await self.connect(number, command)
        if verb == "release":
            await settled(self.held[command["held"]][1].release())
            return None
        if verb == "lost":
            return await self.lost(command)
        client = self.clients[command["client"]]
        bounds = {"timeout": seconds(command, "timeout_ms"), **running.bounds()}
        writing = {**bounds, "label": command.get("label", "")}
        init = value_of(command["init"]) if "init" in command else stm.ABSENT
        match verb:
            case "close":
                del self.clients[command["client"]]
                self.held = {key: one for key, one in self.held.items() if one[0] != command["client"]}
                await settled(client.close())
            case "transact":
                return await self.transact(number, running, client, command)
            case "get":
                return json_of(
                    await settled((client.atom if command.get("atom") else client.ref)(name, init).get(**bounds))
                )
            case "find":
                return json_of(
                    await settled((client.atom if command.get("atom") else client.ref)(name, init).find(**bounds))
                )
            case "set":
                handle = client.ref(name, definition=definition_of(command))
                await settled(client.transact(lambda tx: tx.set(handle, value_of(command["value"])), **writing))
            case "delete":
                await settled(client.transact(lambda tx: tx.delete(client.ref(name)), **writing))
            case "move-point":
                point = client.ref(name, type=Point)
                by = int(command["by"])
                move = of_client(lambda tx: settled(tx.alter(point, lambda was: Point(was.x + by, was.y_axis))))
                await settled(client.transact(move, **writing))
                return await self.raw(client, name)
            case "define":
                await settled(client.ref(name, init).define(definition_of(command) or stm.Definition()))
            case "reset":
                await settled(client.atom(name, init).reset(value_of(command["value"]), **writing))
            case "swap-add":
                return json_of(await settled(client.atom(name, init).swap(lambda n: n + int(command["by"]), **writing)))
            case "compare-and-set":
                expected = value_of(command["expected"]) if "expected" in command else stm.ABSENT
                return await settled(
                    client.atom(name, init).compare_and_set(expected, value_of(command["value"]), **writing)
                )
            case "apply":
                return json_of(await settled(client.atom(name, init).apply(operation_of(command["op"]), **writing)))
            case "list":
                listed = await settled(client.list(name))
                return [[one, json_of(value)] for one, value in listed.items()]
            case "history":
                return [commit_of(commit) for commit in await settled(client.ref(name, init).history())]
            case "at":
                return json_of(await settled(client.at(int(command["version"])).find(client.ref(name))))
            case "records":
                return [json_of(one.value) async for one in each(client.records(*command["tags"]))]
            case "watch":
                await self.watch(number, running, client, command, bounds)
            case "follow":
                async for value in each(client.ref(name, init).follow(**running.bounds())):
                    say(number, event="value", value=json_of(value))
            case "acquire":
                return await self.acquire(running, client, command, bounds)
            case "lock":
                info = await settled(client.lock(name).info())
                return [len(info.holders), len(info.queue)]
            case "outcome":
                version = await settled(client.outcome(command["word"]))
                return "not-committed" if version is None else "committed"
            case "null":
                await settled(null_call(client)())
            case "repeat":
                return await self.repeat(client, command)
            case _:
                raise ValueError(f"no such command: {verb}")
        return None

    async def connect(self, number: Any, command: dict[str, Any]) -> None:
        options: dict[str, Any] = {}
        if "unavailable_ms" in command:
            options["unavailable_timeout"] = int(command["unavailable_ms"]) / 1000
        self.clients[command["client"]] = await settled(
            api.connect(
                command.get("address", ""),
                prefix=command.get("prefix", ""),
                client_name=command.get("client_name", ""),
                session_ttl=seconds(command, "session_ttl_ms"),
                warn=lambda text: say(number, event="warning", text=text),
                **options,
            )
        )

    async def raw(self, client: Any, name: str) -> Any:
        return json_of(await settled(client.ref(name).get()))

    async def lost(self, command: dict[str, Any]) -> bool:
        held = self.held[command["held"]][1]
        wait = int(command["wait_ms"]) / 1000
        if not AIO:
            return bool(held.lost.wait(wait))
        try:
            await asyncio.wait_for(held.lost.wait(), wait)
        except (asyncio.TimeoutError, TimeoutError):
            pass
        return bool(held.lost.is_set())

    async def transact(self, number: Any, running: Running, client: Any, command: dict[str, Any]) -> Any:
        body = Body(self, number, running, client, command["body"])
        causes: list[str] = []
        committed: list[stm.Committed] = []
        options: dict[str, Any] = {}
        if command.get("isolation") == "snapshot":
            options["isolation"] = "snapshot"
        try:
            await settled(
                client.transact(
                    of_client(body),
                    timeout=seconds(command, "timeout_ms"),
                    label=command.get("label", ""),
                    once=command.get("once", ""),
                    runs_max=int(command.get("runs_max", 0)),
                    stale_ok=command.get("stale_ok", False),
                    rerun_check=command.get("rerun_check", False),
                    on_rerun=lambda rerun: causes.extend(cause.name for cause in rerun.causes),
                    on_committed=committed.append,
                    **options,
                    **running.bounds(),
                )
            )
        finally:
            if body.kept is not None:
                try:
                    await settled(body.kept.find(client.ref("/kept")))
                    body.results.append("used")
                except stm.TransactionClosed:
                    body.results.append("transaction-closed")
        return {
            "results": body.results,
            "version": str(committed[-1].version),
            "runs": body.runs,
            "on_commits": body.on_commits,
            "repeated": committed[-1].repeated,
            "causes": causes,
        }

    async def watch(
        self, number: Any, running: Running, client: Any, command: dict[str, Any], bounds: dict[str, Any]
    ) -> None:
        options: dict[str, Any] = {}
        if "progress_ms" in command:
            options["progress_every"] = int(command["progress_ms"]) / 1000
        stream = client.watch(
            *command["names"],
            initial=command.get("initial", False),
            after=int(command.get("after", 0)),
            on_synced=lambda version: say(number, event="synced", version=str(version)),
            **options,
            **bounds,
        )
        async for commit in each(stream):
            say(number, event="commit", commit=commit_of(commit))

    async def acquire(self, running: Running, client: Any, command: dict[str, Any], bounds: dict[str, Any]) -> str:
        lock = client.lock(
            command["name"],
            shared=command.get("shared", False),
            owner=command.get("owner", ""),
            permits_max=int(command.get("permits_max", 0)),
            permits=int(command.get("permits", 0)),
        )
        held = await settled(lock.acquire(wait=seconds(command, "wait_ms"), **bounds))
        self.held[command["held"]] = command["client"], held
        return str(held.token)

    # ---- What is repeated

    async def repeat(self, client: Any, command: dict[str, Any]) -> Any:
        call = self.call_of(client, command["command"])
        times, callers = int(command.get("times", 1)), int(command.get("callers", 1))
        tally = Tally(times)
        began = time.perf_counter()
        if AIO:
            await asyncio.gather(*(tally.work_aio(call) for _ in range(callers)))
        else:
            threads = [threading.Thread(target=tally.work, args=(call,)) for _ in range(callers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return tally.summary(time.perf_counter() - began)

    def call_of(self, client: Any, command: dict[str, Any]) -> Callable[[], Any]:
        """One call of what is repeated, with its command read once."""
        verb, name = command["do"], command.get("name", "")
        init = value_of(command["init"]) if "init" in command else stm.ABSENT
        match verb:
            case "null":
                return null_call(client)
            case "get":
                return client.ref(name, init).get  # type: ignore[no-any-return]
            case "set":
                handle, value = client.ref(name, definition=definition_of(command)), value_of(command["value"])
                return lambda: client.transact(lambda tx: tx.set(handle, value))
            case "apply":
                atom, operation = client.atom(name, init), operation_of(command["op"])
                return lambda: atom.apply(operation)
            case "lock-unlock":
                lock = client.lock(name)
                return of_client(lambda: _lock_unlock(lock))
            case "watch":
                names = command["names"]
                return of_client(lambda: _open_watch(client, names))
            case "transact":
                running = Running()
                body = Body(self, 0, running, client, command["body"])
                fresh = of_client(lambda tx: Body(self, 0, running, client, body.steps)(tx))
                return lambda: client.transact(fresh)
        raise ValueError(f"no such command is repeated: {verb}")


async def _lock_unlock(lock: Any) -> None:
    held = await settled(lock.acquire())
    await settled(held.release())


async def _open_watch(client: Any, names: list[str]) -> None:
    stream = client.watch(*names)
    if AIO:
        async with stream:
            return
    stream.close()


def null_call(client: Any) -> Callable[[], Any]:
    """The null RPC of this language: what any call costs at least."""
    check = client._core._link.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=Empty.SerializeToString,
        response_deserializer=Empty.FromString,
    )
    request = Empty()
    return lambda: check(request)


class Tally:
    def __init__(self, times: int) -> None:
        self.left = iter(range(times))
        self.took: list[float] = []
        self.failed = 0
        self.first: BaseException | None = None

    def note(self, error: BaseException) -> None:
        self.failed += 1
        self.first = self.first or error

    def work(self, call: Callable[[], Any]) -> None:
        clock, took = time.perf_counter, self.took
        for _ in self.left:
            began = clock()
            try:
                call()
            except Exception as error:
                self.note(error)
            took.append(clock() - began)

    async def work_aio(self, call: Callable[[], Awaitable[Any]]) -> None:
        clock, took = time.perf_counter, self.took
        for _ in self.left:
            began = clock()
            try:
                await call()
            except Exception as error:
                self.note(error)
            took.append(clock() - began)

    def summary(self, took_s: float) -> dict[str, Any]:
        times = sorted(self.took)

        def at(share: float) -> float:
            return times[int(share * (len(times) - 1))] * 1e6 if times else 0.0

        first = None if self.first is None else error_of(self.first)
        return {
            "p50_us": at(0.5),
            "p99_us": at(0.99),
            "seconds": took_s,
            "failed": self.failed,
            "first_error": first,
        }


# ---- The loop


def main_threads() -> int:
    player = Player()
    threads: dict[threading.Thread, None] = {}
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] in ("go", "stop"):
            running = player.running.get(command["of"])
            if running is not None:
                done(running.go(1)) if command["do"] == "go" else running.stop()
            continue
        running = player.running[command["id"]] = Running()

        def work(running: Running = running, command: dict[str, Any] = command) -> None:
            done(player.play(command["id"], running, command))
            threads.pop(threading.current_thread(), None)

        thread = threading.Thread(target=work)
        threads[thread] = None
        thread.start()
    for running in list(player.running.values()):
        running.stop()
        done(running.go(1_000_000))
    for thread in list(threads):
        thread.join()
    done(player.close())
    return 0


async def main_aio() -> int:
    player = Player()
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=read, daemon=True).start()
    while line := await lines.get():
        command = json.loads(line)
        if command["do"] in ("go", "stop"):
            running = player.running.get(command["of"])
            if running is not None:
                await running.go(1) if command["do"] == "go" else running.stop()
            continue
        running = player.running[command["id"]] = Running()
        running.task = asyncio.ensure_future(player.play(command["id"], running, command))
    tasks = []
    for running in list(player.running.values()):
        running.stop()
        await running.go(1_000_000)
        if running.task is not None:
            tasks.append(running.task)
    await asyncio.gather(*tasks, return_exceptions=True)
    await player.close()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main_aio()) if AIO else main_threads())
