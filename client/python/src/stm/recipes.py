"""What programs build from refs again and again, on the public API alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from . import op
from .client import Client, Follow, Held, Ref, Tx
from .commits import Definition
from .values import ABSENT

T = TypeVar("T")
S = TypeVar("S")


class Queue(Generic[T]):
    """One ref that holds a vector: first in, first out, whole within a transaction with whatever else it changes. A
    value is bounded (value_bytes_max), and so is the queue: it is for work to be done, not for storage. Any thread."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._ref: Ref[Any] = client.ref(name, [])

    def put_in(self, tx: Tx, item: T) -> None:
        """In the transaction of `tx`. Never conflicts with others that put."""
        tx.commute(self._ref, op.conj(item))

    def put(self, item: T) -> None:
        self._client.transact(lambda tx: self.put_in(tx, item))

    def take_in(self, tx: Tx) -> T:
        """In the transaction of `tx`, which sleeps until there is one."""
        items = tx.get(self._ref)
        if not items:
            tx.retry()
        tx.set(self._ref, items[1:])
        first: T = items[0]
        return first

    def take(self, *, timeout: float | None = None) -> T:
        """Sleeps until there is one; TimeoutError after `timeout` seconds."""
        return self._client.transact(self.take_in, timeout=timeout)

    def try_take(self) -> T | Any:
        """ABSENT: it is empty."""
        return self._client.transact(lambda tx: tx.or_else(lambda: self.take_in(tx), lambda: ABSENT))


class Barrier:
    """Holds `parties` callers back until all of them have come, and then is as new. Any thread."""

    def __init__(self, client: Client, name: str, parties: int) -> None:
        self._client, self._parties = client, parties
        self._ref = client.ref(name, (0, 0))  # those who came, and the round

    def wait(self, timeout: float | None = None) -> None:
        """A caller whose time is up (TimeoutError) has come all the same: it is counted once, and does not come
        again."""

        def come(tx: Tx) -> int:
            came, mine = tx.get(self._ref)
            tx.set(self._ref, (came + 1, mine) if came + 1 < self._parties else (0, mine + 1))
            return mine

        mine = self._client.transact(come)

        def pass_by(tx: Tx) -> None:
            if tx.get(self._ref)[1] == mine:
                tx.retry()

        self._client.transact(pass_by, timeout=timeout)


class Election:
    """One leader at a time: who holds the lock `name`, and says so in the ref `name`, written under its fence and bound
    to its session, so that it goes with it. What a leader does for others it fences by its Held."""

    def __init__(self, client: Client, name: str) -> None:
        self._client, self._name = client, name
        self._leader = client.ref(name)

    def campaign(self, who: str, *, wait: float | None = None, timeout: float | None = None) -> Held:
        """Waits its turn and proclaims `who`, as which the lock is held, too. It leads until it resigns or the Held is
        lost."""
        held = self._client.lock(self._name, owner=who).acquire(wait=wait, timeout=timeout)
        self.proclaim(held, who)
        return held

    def proclaim(self, held: Held, value: Any) -> None:
        """What observers see, anew. LockLost: it leads no more, and nothing was changed."""

        def say(tx: Tx) -> None:
            tx.fence(held)
            tx.set(self._leader, value)
            tx.define(self._leader, Definition(ephemeral=True))

        self._client.transact(say)

    def resign(self, held: Held) -> None:
        def clear(tx: Tx) -> None:
            tx.fence(held)
            tx.delete(self._leader)

        self._client.transact(clear)
        held.release()

    def observe(self, *, timeout: float | None = None) -> Follow[Any]:
        """Who leads now (ABSENT: nobody), then each change. Whose lock an operator broke is seen until the next leads,
        or its session ends."""
        return self._leader.follow(timeout=timeout)


class Once:
    """Does what each key stands for once, from whatever process, and gives what it gave to all who ask within `ttl`
    seconds. The effect must be the transaction's own: what else it does may happen again."""

    def __init__(self, client: Client, prefix: str, ttl: float = 86400.0) -> None:
        self._client, self._prefix, self._ttl = client, prefix, ttl

    def __call__(self, key: str, body: Callable[[Tx], T]) -> T:
        return self._client.transact(body, once=f"{self._prefix}-{key}", once_ttl=self._ttl)


class Fold(Generic[S]):
    """Follows records into a state of this process's own: an index, a read model, a triple store. One thread.

    fold = Fold(client, [], lambda users, event: event.update(users), CreateUser, DeleteUser)
    """

    def __init__(self, client: Client, state: S, step: Callable[[S, Any], S], *wanted: type | str) -> None:
        self.state = state
        self.version = 0  # of the newest record taken in
        self._client, self._step, self._wanted = client, step, wanted

    def update(self) -> S:
        """Takes in what was recorded since. After an error the state is as it was before the call."""
        state, version = self.state, self.version
        since = version + 1 if version else 0
        for record in self._client.records(*self._wanted, from_version=since):
            state, version = self._step(state, record.value), record.version
        self.state, self.version = state, version
        return state
