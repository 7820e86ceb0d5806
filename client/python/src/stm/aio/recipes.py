"""stm.recipes for asyncio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from .. import op
from ..commits import Definition
from ..values import ABSENT
from . import Client, Follow, Held, Ref, Tx

T = TypeVar("T")
S = TypeVar("S")


class Queue(Generic[T]):
    """As stm.recipes.Queue."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._ref: Ref[Any] = client.ref(name, [])

    def put_in(self, tx: Tx, item: T) -> None:
        """In the transaction of `tx`."""
        tx.commute(self._ref, op.conj(item))

    async def put(self, item: T) -> None:
        await self._client.transact(lambda tx: self.put_in(tx, item))

    async def take_in(self, tx: Tx) -> T:
        """In the transaction of `tx`, which sleeps until there is one."""
        items = await tx.get(self._ref)
        if not items:
            tx.retry()
        tx.set(self._ref, items[1:])
        first: T = items[0]
        return first

    async def take(self, *, timeout: float | None = None) -> T:
        return await self._client.transact(self.take_in, timeout=timeout)

    async def try_take(self) -> T | Any:
        """ABSENT: it is empty."""

        async def nothing() -> Any:
            return ABSENT

        return await self._client.transact(lambda tx: tx.or_else(lambda: self.take_in(tx), nothing))


class Barrier:
    """As stm.recipes.Barrier."""

    def __init__(self, client: Client, name: str, parties: int) -> None:
        self._client, self._parties = client, parties
        self._ref = client.ref(name, (0, 0))  # those who came, and the round

    async def wait(self, timeout: float | None = None) -> None:
        async def come(tx: Tx) -> int:
            came, mine = await tx.get(self._ref)
            tx.set(self._ref, (came + 1, mine) if came + 1 < self._parties else (0, mine + 1))
            return mine

        mine = await self._client.transact(come)

        async def pass_by(tx: Tx) -> None:
            if (await tx.get(self._ref))[1] == mine:
                tx.retry()

        await self._client.transact(pass_by, timeout=timeout)


class Election:
    """As stm.recipes.Election."""

    def __init__(self, client: Client, name: str) -> None:
        self._client, self._name = client, name
        self._leader = client.ref(name)

    async def campaign(self, who: str, *, wait: float | None = None, timeout: float | None = None) -> Held:
        held = await self._client.lock(self._name, owner=who).acquire(wait=wait, timeout=timeout)
        await self.proclaim(held, who)
        return held

    async def proclaim(self, held: Held, value: Any) -> None:
        def say(tx: Tx) -> None:
            tx.fence(held)
            tx.set(self._leader, value)
            tx.define(self._leader, Definition(ephemeral=True))

        await self._client.transact(say)

    async def resign(self, held: Held) -> None:
        def clear(tx: Tx) -> None:
            tx.fence(held)
            tx.delete(self._leader)

        await self._client.transact(clear)
        await held.release()

    def observe(self, *, timeout: float | None = None) -> Follow[Any]:
        return self._leader.follow(timeout=timeout)


class Once:
    """As stm.recipes.Once."""

    def __init__(self, client: Client, prefix: str, ttl: float = 86400.0) -> None:
        self._client, self._prefix, self._ttl = client, prefix, ttl

    async def __call__(self, key: str, body: Callable[[Tx], Awaitable[T]]) -> T:
        return await self._client.transact(body, once=f"{self._prefix}-{key}", once_ttl=self._ttl)


class Fold(Generic[S]):
    """As stm.recipes.Fold. One task."""

    def __init__(self, client: Client, state: S, step: Callable[[S, Any], S], *wanted: type | str) -> None:
        self.state = state
        self.version = 0  # of the newest record taken in
        self._client, self._step, self._wanted = client, step, wanted

    async def update(self) -> S:
        state, version = self.state, self.version
        since = version + 1 if version else 0
        async for record in self._client.records(*self._wanted, from_version=since):
            state, version = self._step(state, record.value), record.version
        self.state, self.version = state, version
        return state
