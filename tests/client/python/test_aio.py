"""stm.aio: the same words awaited. It plays the scenarios of tests/conformance, too: what is here is asyncio's own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from conftest import DEADLINE_S
from proxy import Proxy

import stm
import stm.aio
from stm.aio import recipes

Test = Callable[..., Coroutine[Any, Any, None]]


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, DEADLINE_S))


async def until(holds: Callable[[], Any]) -> None:
    while not holds():
        await asyncio.sleep(0.002)


def test_it_has_the_names_of_the_client_of_threads() -> None:
    for name in ("Client", "Ref", "Atom", "Tx", "Held", "Lock", "View", "Offer", "Session"):
        ours, theirs = getattr(stm.aio, name), getattr(stm.client, name)
        mine = {one for one in dir(ours) if not one.startswith("_")}
        assert mine == {one for one in dir(theirs) if not one.startswith("_")}
        for one in mine:
            if callable(getattr(ours, one)):
                words = [set(inspect.signature(getattr(side, one)).parameters) for side in (ours, theirs)]
                assert words[0] == words[1] - {"canceller"}


def test_transactions_of_many_tasks_are_all_kept(address: str) -> None:
    async def main() -> None:
        async with await stm.aio.connect(address) as client:
            ref = client.ref("/n", 0)

            @stm.aio.transactional
            async def visit(tx: stm.aio.Tx) -> int:
                before = await tx.get(ref)
                tx.set(ref, before + 1)
                return before + 1

            found = await asyncio.gather(*(visit(client) for _ in range(30)))
            assert sorted(found) == list(range(1, 31)) and await ref.get() == 30
            assert await client.transact(lambda tx: tx.set(ref, 5)) is None
            assert await client.transact(lambda tx: visit(tx), label="joined") == 6

    run(main())


def test_or_else_retry_and_a_timeout(address: str) -> None:
    async def main() -> None:
        async with await stm.aio.connect(address) as client:
            urgent, normal = client.ref("/urgent", []), client.ref("/normal", [])

            async def take(tx: stm.aio.Tx, queue: stm.aio.Ref[Any]) -> Any:
                jobs = await tx.get(queue)
                if not jobs:
                    tx.retry()
                tx.set(queue, jobs[1:])
                return jobs[0]

            async def either(tx: stm.aio.Tx) -> Any:
                return await tx.or_else(lambda: take(tx, urgent), lambda: take(tx, normal))

            taker = asyncio.ensure_future(client.transact(either))
            await asyncio.sleep(0)
            await client.transact(lambda tx: tx.set(normal, ["job"]))
            assert await taker == "job"
            with pytest.raises(TimeoutError):
                await client.transact(either, timeout=0.1)
            with pytest.raises((TimeoutError, asyncio.TimeoutError)):
                await asyncio.wait_for(client.transact(either), 0.1)

    run(main())


def test_a_task_that_is_cancelled_while_its_commit_is_unanswered_learns_of_it(address: str, wire: Proxy) -> None:
    async def main() -> None:
        async with await stm.aio.connect(address) as near, await stm.aio.connect(wire.address) as far:
            ref = near.ref("/n", 0)
            mine = far.ref("/n", 0)
            wire.lose_down = True
            commit = asyncio.ensure_future(far.transact(lambda tx: tx.commute(mine, stm.op.add(1))))
            while await ref.get() != 1:
                await asyncio.sleep(0.002)
            commit.cancel()
            with pytest.raises(stm.CommitUnknown) as raised:
                await commit
            assert await near.outcome(raised.value.outcome_word) is not None
            wire.lose_down = False
            wire.do("cut")

    run(main())


def test_a_tx_is_of_the_task_that_runs_its_body(address: str) -> None:
    async def main() -> None:
        async with await stm.aio.connect(address) as client:
            ref = client.ref("/n", 0)

            async def body(tx: stm.aio.Tx) -> None:
                with pytest.raises(stm.TransactionClosed, match="another thread or task"):
                    await asyncio.ensure_future(tx.get(ref))
                with pytest.raises(stm.InTransaction):
                    await ref.get()

            await client.transact(body)

    run(main())


def test_watches_follows_and_records_are_iterated(address: str) -> None:
    async def main() -> None:
        async with await stm.aio.connect(address) as client:
            ref = client.ref("/w/a")
            async with client.watch("/w/") as watch:
                await client.transact(lambda tx: (tx.set(ref, 1), tx.record(stm.Tagged("t.T", 1))) and None)
                async for commit in watch:
                    assert [(one.name, one.before, one.after) for one in commit.changes] == [("/w/a", stm.ABSENT, 1)]
                    break
            seen = []
            async for value in ref.follow():
                seen.append(value)
                if value == 1:
                    await client.transact(lambda tx: tx.set(ref, 2))
                else:
                    break
            assert seen == [1, 2]
            assert [one.value.value async for one in client.records("t.*")] == [1]
            waits = asyncio.ensure_future(client.watch("/none").__anext__())
            await asyncio.sleep(0.05)
            waits.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waits

    run(main())


def test_locks_are_held_by_async_with_and_their_loss_is_an_event(address: str) -> None:
    async def main() -> None:
        async with await stm.aio.connect(address) as client:
            lock = client.lock("/l", owner="one")
            async with lock as held:
                waiter = asyncio.ensure_future(client.lock("/l", owner="two").acquire())
                while not (await lock.info()).queue:
                    await asyncio.sleep(0.002)
                waiter.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiter
                while (await lock.info()).queue:
                    await asyncio.sleep(0.002)
                await client.transact(lambda tx: tx.fence(held))
            assert held.lost.is_set()
            told = asyncio.Event()
            again = await lock.acquire()
            again.on_lost(told.set)
            assert await lock.break_(label="by hand")
            await again.lost.wait()
            await told.wait()
            assert (await client.session()).id and len(await client.sessions()) == 1

    run(main())


def test_atoms_views_and_definitions(address: str) -> None:
    async def main() -> None:
        async with await stm.aio.connect(address, prefix="/p") as client:
            atom = client.atom("/a", 1)
            assert await atom.swap(lambda n: n + 1) == 2 and await atom.apply(stm.op.add(3)) == 5
            assert await atom.compare_and_set(5, 6) and await atom.get() == 6
            await atom.reset(7)
            version = client.seen_version
            await atom.delete()
            assert await client.at(version).get(atom) == 7 and await client.list("/") == {}
            assert len(await atom.history()) >= 4
            ref = client.ref("/r", 0)
            await client.transact(lambda tx: tx.set(ref, 1))
            await ref.define(stm.Definition(validator=stm.Keyword("int")))
            with pytest.raises(stm.Rejected):
                await client.transact(lambda tx: tx.set(ref, "text"))

    run(main())


def test_close_wakes_what_waits_and_leaves_no_task(address: str) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        client = await stm.aio.connect(address)
        ref = client.ref("/q", [])
        await client.lock("/l").acquire()

        async def body(tx: stm.aio.Tx) -> None:
            if not await tx.get(ref):
                tx.retry()

        waits = [
            asyncio.ensure_future(client.transact(body)),
            asyncio.ensure_future(client.lock("/l", owner="other").acquire()),
            asyncio.ensure_future(client.watch("/q").__anext__()),
        ]
        link: Any = client._core._link
        await until(lambda: len(link.waits) >= 4)
        await client.close()
        for one in waits:
            with pytest.raises(stm.Unavailable, match="the client is closed"):
                await one
        # grpc.aio ends a task of its own a moment after the call that it was for.
        await until(lambda: asyncio.all_tasks() == before)

    run(main())


def test_a_cut_connection_costs_a_task_nothing_but_time(address: str, wire: Proxy) -> None:
    async def main() -> None:
        async with await stm.aio.connect(wire.address) as client:
            ref = client.ref("/n", 0)
            for n in range(5):
                commits = [
                    asyncio.ensure_future(client.transact(lambda tx: tx.commute(ref, stm.op.add(1)))) for _ in range(20)
                ]
                await asyncio.sleep(0)
                wire.do("cut")
                await asyncio.gather(*commits)
                assert await ref.get() == 20 * (n + 1)

    run(main())


def test_a_container_of_this_process_keeps_values_by_coroutines(address: str) -> None:
    class Kept:
        def __init__(self) -> None:
            self.values: dict[tuple[str, str], Any] = {}

        async def init(self, name: str) -> None: ...

        async def destroy(self, name: str) -> None: ...

        async def get_state_at(self, name: str, stamp: str) -> Any:
            return self.values.get((name, stamp), stm.ABSENT)

        async def set_state_at(self, name: str, stamp: str, value: Any) -> None:
            self.values[name, stamp] = value

        async def delete_state_at(self, name: str, stamp: str) -> None:
            self.values.pop((name, stamp), None)

    async def main() -> None:
        kept = Kept()
        async with await stm.aio.connect(address) as client:
            async with await client.offer("mine", kept) as offer:
                ref = client.ref("/r", definition=stm.Definition(container=offer.container))
                await client.transact(lambda tx: tx.set(ref, {"a": 1}))
                assert list(kept.values.values()) == [{"a": 1}] and await ref.get() == {"a": 1}
            assert not offer.standing

    run(main())


def test_the_recipes_do_what_those_of_threads_do(address: str) -> None:
    async def main() -> None:
        async with await stm.aio.connect(address) as client, await stm.aio.connect(address) as other:
            queue: recipes.Queue[str] = recipes.Queue(client, "/queue")
            assert await queue.try_take() is stm.ABSENT
            taker = asyncio.ensure_future(queue.take(timeout=60))
            await queue.put("a")
            assert await taker == "a"
            barrier = recipes.Barrier(client, "/barrier", 3)
            await asyncio.gather(*(barrier.wait(60) for _ in range(3)))
            election = recipes.Election(client, "/leader")
            held = await election.campaign("one")
            second = asyncio.ensure_future(recipes.Election(other, "/leader").campaign("two"))
            async for leader in election.observe():
                if leader == "one":
                    await election.resign(held)
                if leader == "two":
                    break
            await (await second).release()
            once = recipes.Once(client, "orders")
            ref = client.ref("/n", 0)
            assert [await once("1", lambda tx: tx.alter(ref, lambda n: n + 1)) for _ in range(2)] == [1, 1]
            fold = recipes.Fold(client, 0, lambda total, record: total + record.value, "test.Add")
            for n in (1, 2):
                await client.transact(lambda tx, n=n: tx.record(stm.Tagged("test.Add", n)))  # type: ignore[misc]
                await fold.update()
            assert await fold.update() == 3

    run(main())
