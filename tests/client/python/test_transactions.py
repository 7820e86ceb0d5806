"""Transactions against a real daemon: exactly once, at one snapshot, all or nothing."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import Background, until
from proxy import Proxy

import stm
import stm.testing


def test_increments_of_four_threads_are_all_kept(client: stm.Client) -> None:
    ref = client.ref("/n", 0)

    def work() -> None:
        for _ in range(25):
            client.transact(lambda tx: tx.alter(ref, lambda n: n + 1))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert ref.get() == 100


def test_a_commit_whose_answer_is_cut_off_happens_once(client: stm.Client, wire: Proxy) -> None:
    ref = client.ref("/cut", 0)
    with stm.connect(wire.address) as cut_off:
        mine = cut_off.ref("/cut", 0)
        for n in range(1, 6):
            committed: list[stm.Committed] = []
            wire.lose_down = True
            commit = Background(
                lambda told=committed: cut_off.transact(  # type: ignore[misc]
                    lambda tx: tx.commute(mine, stm.op.add(1)), timeout=30, on_committed=told.append
                )
            )
            until(lambda n=n: ref.get() == n, "the commit")  # type: ignore[misc]
            wire.do("cut")  # first: the answer may still be on its way
            wire.lose_down = False
            commit.result()
            assert committed[0].resends == 1
    assert ref.get() == 5


def test_a_body_that_swallows_everything_is_abandoned_all_the_same(client: stm.Client) -> None:
    ref = client.ref("/missing")
    other = client.ref("/other")

    def body(tx: stm.Tx) -> str:
        try:
            tx.get(ref)
        except BaseException:
            pass
        return "swallowed"

    with pytest.raises(stm.Absent) as raised:
        client.transact(body)
    assert (raised.value.reason, raised.value.name) == ("absent", "/missing")
    assert other.find() is stm.ABSENT


def test_an_exception_of_the_body_comes_out_and_nothing_is_written(client: stm.Client) -> None:
    ref = client.ref("/n", 0)

    def body(tx: stm.Tx) -> None:
        tx.set(ref, 1)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        client.transact(body)
    assert ref.find() is stm.ABSENT


def test_a_tx_after_its_body_is_closed_and_a_read_by_handle_inside_one_is_refused(client: stm.Client) -> None:
    ref = client.ref("/n", 0)
    kept = client.transact(lambda tx: tx)
    with pytest.raises(stm.TransactionClosed):
        kept.get(ref)
    with pytest.raises(stm.InTransaction):
        client.transact(lambda tx: ref.get())


def test_conflicts_end_in_conflict_when_the_callers_runs_are_spent(client: stm.Client) -> None:
    ref = client.ref("/busy", 0)

    def body(tx: stm.Tx) -> None:
        tx.get(ref)
        other = threading.Thread(target=lambda: client.transact(lambda t: t.alter(ref, lambda n: n + 1), label="rival"))
        other.start()
        other.join(30)
        tx.set(ref, -1)

    with pytest.raises(stm.Conflict, match="/busy") as raised:
        client.transact(body, runs_max=2)
    assert raised.value.causes[0].by.label == "rival"
    assert ref.get() == 2


def test_retry_sleeps_until_what_was_read_changes_and_or_else_takes_the_other(client: stm.Client) -> None:
    urgent, normal = client.ref("/jobs/urgent", []), client.ref("/jobs/normal", [])

    @stm.transactional
    def take(tx: stm.Tx, queue: stm.Ref[Any]) -> Any:
        jobs = tx.get(queue)
        if not jobs:
            tx.retry()
        tx.set(queue, jobs[1:])
        return jobs[0]

    taken: list[Any] = []

    def either(tx: stm.Tx) -> Any:
        return tx.or_else(lambda: take(tx, urgent), lambda: take(tx, normal))

    taker = threading.Thread(target=lambda: taken.append(client.transact(either, timeout=30)))
    taker.start()
    client.transact(lambda tx: tx.set(normal, ["job"]))
    taker.join(30)
    assert taken == ["job"] and normal.get() == ()
    with pytest.raises(TimeoutError):
        client.transact(either, timeout=0.2)


def test_a_commute_is_seen_by_a_later_read_and_its_result_comes_with_the_commit(client: stm.Client) -> None:
    ref = client.ref("/n", 5)
    result, seen = client.transact(lambda tx: (tx.commute(ref, stm.op.add(2)), tx.get(ref)))
    assert (seen, result.value, ref.get()) == (7, 7, 7)


def test_a_rejected_operation_names_the_entry_and_the_cause(client: stm.Client) -> None:
    ref = client.ref("/text", "a")
    with pytest.raises(stm.Rejected) as raised:
        client.transact(lambda tx: tx.commute(ref, stm.op.add(1)))
    assert (raised.value.name, raised.value.cause) == ("/text", "type")


def test_a_list_shows_what_the_body_wrote_and_one_that_grows_meanwhile_is_a_conflict(client: stm.Client) -> None:
    a, b, c = (client.ref(f"/list/{name}") for name in "abc")
    client.transact(lambda tx: (tx.set(a, 1), tx.set(b, 2)))

    def mixed(tx: stm.Tx) -> Any:
        tx.delete(a)
        tx.set(c, 3)
        tx.commute(b, stm.op.add(5))
        return tx.list("/list/")

    assert client.transact(mixed) == {"/list/b": 7, "/list/c": 3}
    counted: list[int] = []

    def count(tx: stm.Tx) -> None:
        counted.append(len(tx.list("/list/")))
        if tx.run == 1:
            other = threading.Thread(target=lambda: client.transact(lambda t: t.set(client.ref("/list/d"), 4)))
            other.start()
            other.join(30)
        tx.set(client.ref("/count"), counted[-1])

    client.transact(count)
    assert counted == [2, 3] and client.ref("/count").get() == 3


def test_a_list_of_more_than_one_page_is_whole(client: stm.Client) -> None:
    client.transact(lambda tx: [tx.set(client.ref(f"/many/{i:04}"), i) for i in range(1100)])
    assert list(client.transact(lambda tx: tx.list("/many/")).values()) == list(range(1100))


def test_delete_leaves_absent_which_is_not_nil(client: stm.Client) -> None:
    ref = client.ref("/gone")
    client.transact(lambda tx: tx.set(ref, None))
    assert ref.get() is None
    client.transact(lambda tx: tx.delete(ref))
    assert ref.find() is stm.ABSENT


def test_a_value_that_is_altered_in_place_raises(client: stm.Client) -> None:
    ref = client.ref("/v", [])
    with pytest.raises(AttributeError):
        client.transact(lambda tx: tx.alter(ref, lambda v: v.append(1)))


def test_no_daemon_is_unavailable_and_names_the_address() -> None:
    with pytest.raises(stm.Unavailable, match=r"127\.0\.0\.1:1: "):
        stm.connect("127.0.0.1:1", unavailable_timeout=0.3)


def test_an_outcome_word_is_what_stmctl_takes(address: str, client: stm.Client) -> None:
    from stm._proto import common_pb2
    from stm.outcome import outcome_word, parse_outcome_word

    commit_id = common_pb2.CommitId()
    client._core.position.name(commit_id)
    word = outcome_word(commit_id)
    assert parse_outcome_word(word).transaction_id == commit_id.transaction_id
    stmctl = Path(stm.testing.binary()).parent / "stmctl"
    if not stmctl.exists():
        pytest.skip("no stmctl beside the daemon")
    told = subprocess.run([stmctl, "--address", address, "outcome", word], capture_output=True, text=True, timeout=30)
    assert told.returncode != 2 and "check" not in told.stderr, told.stderr


def test_a_bound_that_is_reached_is_named_by_the_error_detail(client: stm.Client) -> None:
    with pytest.raises(stm.LimitExceeded) as raised:
        client.transact(lambda tx: tx.set(client.ref("/big"), "x" * (2 << 20)))
    assert (raised.value.limit, raised.value.limit_value) == ("value_bytes_max", 1 << 20)
