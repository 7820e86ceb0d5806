"""Locks, sessions, ephemeral entries, conditions; recipes on them."""

from __future__ import annotations

import threading

import pytest
from conftest import Background, until
from proxy import Proxy

import stm
from stm import recipes


def test_with_waits_its_turn_and_releases_at_the_end(address: str, client: stm.Client) -> None:
    lock = client.lock("/l")
    with stm.connect(address) as other:
        with lock as held:
            assert held.token > 0 and not held.lost.is_set()
            with pytest.raises(stm.LockBusy) as raised:
                other.lock("/l").acquire(wait=0)
            assert raised.value.name == "/l"
            waiter = Background(lambda: other.lock("/l").acquire(timeout=60))
            until(lambda: len(client.lock("/l").info().queue) == 1, "it waits")
        taken = waiter.result()
        assert taken.token > held.token and held.lost.is_set()
        with pytest.raises(stm.LockLost, match="released before"):
            held.release()
        assert lock.info().holders[0].token == taken.token
        taken.release()


def test_an_acquire_whose_time_is_up_leaves_no_place_behind(address: str, client: stm.Client) -> None:
    with client.lock("/l"), stm.connect(address) as other:
        with pytest.raises(TimeoutError):
            other.lock("/l").acquire(timeout=0.1)
        until(lambda: not client.lock("/l").info().queue, "its place is gone")


def test_a_lock_that_an_operator_broke_is_lost_and_told(client: stm.Client) -> None:
    told = threading.Event()
    held = client.lock("/l").acquire()
    held.on_lost(told.set)
    assert client.lock("/l").break_(label="by hand")
    assert held.lost.wait(60) and told.wait(60)
    late = threading.Event()
    held.on_lost(late.set)
    assert late.wait(60)
    with pytest.raises(stm.LockLost):
        client.transact(lambda tx: tx.fence(held))
    with pytest.raises(stm.LockLost):
        held.release()
    assert not client.lock("/l").break_()


def test_a_fence_by_token_is_another_clients_grant(address: str, client: stm.Client) -> None:
    with stm.connect(address) as other:
        held = other.lock("/l").acquire()
        token = held.token
        client.transact(lambda tx: (tx.fence("/l", token), tx.set(client.ref("/x"), 1)))
        held.release()
        with pytest.raises(stm.LockLost, match="/l"):
            client.transact(lambda tx: (tx.fence("/l", token), tx.set(client.ref("/x"), 2)))
        with pytest.raises(stm.BadValue, match="no token"):
            client.transact(lambda tx: tx.fence("/l", 0))
    assert client.ref("/x").get() == 1


def test_a_condition_gives_the_lock_up_and_has_it_again(client: stm.Client) -> None:
    first = client.lock("/l", owner="first").acquire()
    before = first.token
    waiter = Background(lambda: first.wait("full", timeout=60))
    second = client.lock("/l", owner="second").acquire(timeout=60)
    assert second.notify("full") == 1 and second.notify_all("none") == 0
    second.release()
    assert waiter.result() is True and first.token > before and not first.lost.is_set()
    assert first.wait("full", timeout=0.05) is False
    first.release()


def test_waiting_in_a_circle_is_a_deadlock(client: stm.Client) -> None:
    client.lock("/a", owner="one").acquire()
    client.lock("/b", owner="two").acquire()
    waiter = Background(lambda: client.lock("/b", owner="one").acquire())
    until(lambda: client.lock("/b").info().queue, "one waits for two")
    with pytest.raises(stm.Deadlock, match="/a"):
        client.lock("/a", owner="two").acquire()
    client.lock("/b").break_()
    waiter.result()


def test_options_that_contradict_are_refused(client: stm.Client) -> None:
    with pytest.raises(stm.BadValue, match="not shared"):
        client.lock("/l", shared=True, permits_max=2)
    with pytest.raises(stm.BadValue, match="permits_max"):
        client.lock("/l", permits=2)


def test_an_expired_session_takes_locks_and_ephemeral_entries_and_the_next_lock_opens_another(
    address: str, client: stm.Client
) -> None:
    ref = client.ref("/e", definition=stm.Definition(ephemeral=True))
    client.transact(lambda tx: tx.set(ref, 1))
    held = client.lock("/l").acquire()
    session = client.session()
    with stm.connect(address, client_name="operator") as operator:
        mine = next(one for one in operator.sessions() if one.session_id == session.id)
        assert set(mine.locks) == {"/l"} and set(mine.entries) == {"/e"} and mine.ttl >= 2
        assert [one.name for one in operator.locks("/")] == ["/l"]
        operator.expire_session(session.id, label="gone")
        assert held.lost.wait(60) and session.lost
        assert operator.ref("/e").find() is stm.ABSENT
    again = client.lock("/l").acquire(timeout=60)
    assert again.token > held.token and client.session().id != session.id


def test_a_session_outlives_a_cut_and_its_grant_stands(address: str, client: stm.Client, wire: Proxy) -> None:
    with stm.connect(wire.address) as cut_off:
        held = cut_off.lock("/l").acquire()
        for _ in range(3):
            wire.do("cut")
            cut_off.transact(lambda tx: tx.fence(held))
        assert not held.lost.is_set()
        held.release()
    client.lock("/l").acquire(wait=0)


def test_a_queue_gives_in_order_and_sleeps_when_it_is_empty(client: stm.Client) -> None:
    queue: recipes.Queue[str] = recipes.Queue(client, "/queue")
    assert queue.try_take() is stm.ABSENT
    taker = Background(lambda: [queue.take(timeout=60), queue.take(timeout=60)])
    queue.put("a")
    client.transact(lambda tx: queue.put_in(tx, "b"))
    assert taker.result() == ["a", "b"]
    with pytest.raises(TimeoutError):
        queue.take(timeout=0.05)


def test_a_barrier_holds_all_back_until_the_last_has_come(client: stm.Client) -> None:
    barrier = recipes.Barrier(client, "/barrier", 3)
    for _ in range(2):
        first = [Background(lambda: barrier.wait(60)) for _ in range(2)]
        until(lambda: client.ref("/barrier", (0, 0)).get()[0] == 2, "two have come")
        barrier.wait(60)
        for one in first:
            one.result()


def test_an_election_has_one_leader_whom_observers_see(address: str, client: stm.Client) -> None:
    election = recipes.Election(client, "/leader")
    with stm.connect(address) as other, election.observe(timeout=60) as observed:
        theirs = recipes.Election(other, "/leader")
        assert next(observed) is stm.ABSENT
        held = election.campaign("one")
        assert next(observed) == "one"
        next_one = Background(lambda: theirs.campaign("two", timeout=60))
        until(lambda: client.lock("/leader").info().queue, "two waits")
        election.resign(held)
        leader = next_one.result()
        until(lambda: next(observed) == "two", "two leads")
        with pytest.raises(stm.LockLost):
            election.proclaim(held, "still")
        leader.release()


def test_once_does_what_a_key_stands_for_once(client: stm.Client) -> None:
    once = recipes.Once(client, "orders")
    ref = client.ref("/n", 0)
    assert [once("1", lambda tx: tx.alter(ref, lambda n: n + 1)) for _ in range(3)] == [1, 1, 1]


def test_a_fold_takes_in_what_was_recorded_since(client: stm.Client) -> None:
    fold = recipes.Fold(client, 0, lambda total, record: total + record.value, "test.Add")
    assert fold.update() == 0
    for n in (1, 2, 3):
        client.transact(lambda tx, n=n: tx.record(stm.Tagged("test.Add", n)))  # type: ignore[misc]
        fold.update()
    assert fold.update() == fold.state == 6
