"""What transactions can beside the plain: isolation, once, rerun_check, hooks, traces, records, joins."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from typing import Any, NamedTuple

import pytest
from conftest import Background

import stm


@stm.record("test.Event")
class Event(NamedTuple):
    name: str
    number: int = 0


def elsewhere(function: Any) -> Any:
    return Background(function).result()


def test_a_once_key_runs_its_body_once_and_gives_its_result_again(address: str, client: stm.Client) -> None:
    ref = client.ref("/n", 0)
    told: list[stm.Committed] = []

    def order(tx: stm.Tx) -> Any:
        return {"n": tx.alter(ref, lambda n: n + 1)}

    first = client.transact(order, once="order-1", on_committed=told.append)
    with stm.connect(address) as other:
        again = other.transact(order, once="order-1", on_committed=told.append)  # its refs are never touched
    assert first == again == {"n": 1} and ref.get() == 1
    assert [one.repeated for one in told] == [False, True] and told[0].version == told[1].version


def test_rerun_check_shows_where_a_body_differs_from_itself(client: stm.Client) -> None:
    ref = client.ref("/n", 0)
    numbers = itertools.count()
    with pytest.raises(stm.RerunDiffers, match='the first run did "set /n 0" and the second "set /n 1"') as raised:
        client.transact(lambda tx: tx.set(ref, next(numbers)), rerun_check=True)
    assert (raised.value.reason, raised.value.expected) == ("rerun-differs", "set /n 0")
    assert ref.find() is stm.ABSENT
    sets = client.ref("/sets")
    order = itertools.cycle([["a", "b"], ["b", "a"]])
    client.transact(lambda tx: tx.set(sets, {key: 1 for key in next(order)}), rerun_check=True)


def test_hooks_hear_of_each_rerun_and_each_call(address: str) -> None:
    reruns: list[stm.Rerun] = []
    mine: list[stm.Rerun] = []
    calls: list[stm.CallInfo] = []
    with stm.connect(address, on_rerun=reruns.append, on_call=calls.append, client_name="hooked") as client:
        ref = client.ref("/n", 0)

        def body(tx: stm.Tx) -> None:
            tx.get(ref)
            if tx.run == 1:
                elsewhere(lambda: client.transact(lambda tx: tx.set(ref, 7), label="rival"))
            tx.set(ref, 1)

        client.transact(body, on_rerun=mine.append)
    assert reruns == mine and len(mine) == 1
    assert (mine[0].run, mine[0].causes[0].name, mine[0].causes[0].by.label) == (2, "/n", "rival")
    assert {one.method for one in calls} >= {"RefService/GetRefs", "TransactionService/Commit"}
    assert all(one.ok and one.seconds > 0 for one in calls)


def test_the_tenth_run_warns_once_by_logging(client: stm.Client, caplog: pytest.LogCaptureFixture) -> None:
    ref = client.ref("/busy", 0)

    def body(tx: stm.Tx) -> None:
        tx.get(ref)
        if tx.run < 12:
            elsewhere(lambda: client.transact(lambda tx: tx.commute(ref, stm.op.add(1))))
        tx.set(ref, -1)

    client.transact(body, label="slow")
    assert [one for one in caplog.messages if "10th run" in one and "/busy" in one and "slow" in one]
    assert len(caplog.messages) == 1


def test_label_name_and_trace_come_back_in_the_watch(address: str, client: stm.Client) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with client.watch("/x", timeout=60) as watch, stm.connect(address, client_name="billing") as other:
        other.transact(lambda tx: tx.set(other.ref("/x"), 1), label="signup", traceparent=trace)
        meta = next(watch).meta
    assert (meta.label, meta.client, meta.traceparent) == ("signup", "billing", trace)


def test_the_present_span_of_opentelemetry_goes_along(client: stm.Client) -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1))
    with client.watch("/x", timeout=60) as watch:
        with trace.use_span(trace.NonRecordingSpan(context)):
            client.transact(lambda tx: tx.set(client.ref("/x"), 1))
        assert next(watch).meta.traceparent == f"00-{0xABC:032x}-{0xDEF:016x}-01"


def test_a_tx_is_of_the_thread_that_runs_its_body(client: stm.Client) -> None:
    ref = client.ref("/n", 0)

    def body(tx: stm.Tx) -> None:
        with pytest.raises(stm.TransactionClosed, match="another thread"):
            elsewhere(lambda: tx.get(ref))
        tx.set(ref, 1)

    client.transact(body)
    assert ref.get() == 1


def test_io_inside_a_body_ends_the_transaction(client: stm.Client) -> None:
    def body(tx: stm.Tx) -> None:
        tx.set(client.ref("/x"), 1)
        try:
            stm.io()
        except BaseException:
            pass

    with pytest.raises(stm.InTransaction):
        client.transact(body)
    stm.io()
    assert client.ref("/x").find() is stm.ABSENT
    for call in (
        lambda: client.list("/"),
        lambda: client.watch("/x"),
        lambda: client.lock("/l").acquire(),
        lambda: client.atom("/a").reset(1),
        lambda: next(client.records()),
        lambda: client.at(1).find(client.ref("/x")),
        lambda: client.ref("/x").history(),
        lambda: client.outcome("x"),
        lambda: client.session(),
    ):
        with pytest.raises(stm.InTransaction):
            client.transact(lambda tx, call=call: call())  # type: ignore[misc]


def test_on_commit_is_called_once_with_what_was_committed(client: stm.Client) -> None:
    told: list[stm.Committed] = []

    def body(tx: stm.Tx) -> None:
        tx.on_commit(told.append)
        tx.set(client.ref("/x"), 1)

    client.transact(body)
    assert len(told) == 1 and told[0].version > 0 and told[0].at is not None


def test_stop_iteration_of_a_body_comes_out_as_it_is(client: stm.Client) -> None:
    with pytest.raises(StopIteration):
        client.transact(lambda tx: next(iter([])))
    with pytest.raises(StopIteration):
        client.transact(lambda tx: tx.or_else(lambda: next(iter([])), lambda: 1))


def test_an_inner_transaction_joins_and_its_failure_drops_what_it_wrote(client: stm.Client) -> None:
    a, b = client.ref("/a"), client.ref("/b")

    @stm.transactional
    def inner(tx: stm.Tx, fails: bool) -> None:
        tx.set(b, 1)
        if fails:
            raise KeyError("no")

    def body(tx: stm.Tx) -> None:
        tx.set(a, 1)
        with pytest.raises(KeyError):
            inner(tx, True)
        assert tx.find(b) is stm.ABSENT
        inner(client, False)

    client.transact(body)
    assert client.list("/") == {"/a": 1, "/b": 1}


def test_options_of_a_decorator_are_those_of_its_transaction(client: stm.Client) -> None:
    ref = client.ref("/x")

    @stm.transactional(label="decorated")
    def change(tx: stm.Tx, value: int) -> None:
        tx.set(ref, value)

    change(client, 5)
    assert ref.history()[0].meta.label == "decorated"


def test_snapshot_isolation_does_not_check_what_was_only_read(client: stm.Client) -> None:
    ref, mine = client.ref("/x", 0), client.ref("/y")
    runs: list[int] = []

    def body(tx: stm.Tx) -> None:
        runs.append(tx.run)
        tx.get(ref)
        if tx.run == 1:
            elsewhere(lambda: client.transact(lambda tx: tx.set(ref, 1)))
        tx.set(mine, 1)

    client.transact(body, isolation="snapshot")
    assert runs == [1]
    with pytest.raises(stm.BadValue, match="isolation"):
        client.transact(body, isolation="none")  # type: ignore[arg-type]


def test_records_come_back_in_order_by_type_and_by_tag_and_with_follow(client: stm.Client) -> None:
    for n in range(3):
        client.transact(lambda tx, n=n: (tx.record(Event("e", n)), tx.record(stm.Tagged("other.X", n))))  # type: ignore[misc]
    assert [one.value for one in client.records(Event)] == [Event("e", n) for n in range(3)]
    assert [one.value.value for one in client.records("other.*")] == [0, 1, 2]
    everything = list(client.records())
    assert len(everything) == 6 and everything[0].version == everything[1].version
    assert [one.value for one in client.records(Event, from_version=everything[2].version)] == [
        Event("e", 1),
        Event("e", 2),
    ]
    with client.records(Event, from_version=everything[-1].version, follow=True, timeout=60) as following:
        assert next(following).value == Event("e", 2)
        client.transact(lambda tx: tx.record(Event("later")))
        assert next(following).value == Event("later")
    client.transact(lambda tx: tx.record(stm.Tagged("test.Event", {stm.Keyword("name"): 5})))
    with pytest.raises(stm.BadValue, match=r"Event\.name is str"):
        list(client.records(Event))
    with pytest.raises(stm.BadValue, match="no tag"):
        client.records(int)


def test_unknown_fields_are_kept_for_a_record_that_is_made_anew_and_moved(client: stm.Client) -> None:
    ref, other = client.ref("/events"), client.ref("/other")
    name, colour = stm.Keyword("name"), stm.Keyword("colour")
    raw = [stm.Tagged("test.Event", {name: one, colour: one}) for one in ("red", "blue")]
    client.transact(lambda tx: tx.set(ref, raw))

    def body(tx: stm.Tx) -> None:
        tx.alter(ref, lambda events: [Event("crimson", 1), Event(events[1].name, events[1].number)])
        tx.set(other, Event("blue"))

    client.transact(body)

    def fields(value: Any) -> Any:
        return {k: v for k, v in stm.codec.from_wire(stm.codec.to_wire(value, "").tagged.value, "").items()}

    events = ref.get()
    number = stm.Keyword("number")
    assert fields(events[0]) == {name: "crimson", number: 1, colour: "red"}
    assert fields(events[1])[colour] == "blue" and fields(other.get())[colour] == "blue"


def test_what_is_no_such_record_is_tagged_and_says_why_where_the_type_is_asked_for(client: stm.Client) -> None:
    client.transact(lambda tx: tx.set(client.ref("/e"), stm.Tagged("test.Event", {stm.Keyword("number"): 1})))
    assert client.ref("/e").get() == stm.Tagged("test.Event", stm.Map({stm.Keyword("number"): 1}))
    with pytest.raises(stm.BadValue, match=r"^/e: #test.Event has no :name"):
        client.ref("/e", type=Event).get()
    client.transact(lambda tx: tx.set(client.ref("/e"), "text"))
    with pytest.raises(stm.BadValue, match=r"^/e: found 'text'; Event was asked for"):
        client.ref("/e", type=Event).get()


def test_a_conflict_warns_nobody_of_another_client_in_its_body(address: str, client: stm.Client) -> None:
    with stm.connect(address) as other, pytest.raises(stm.InTransaction, match="another client"):
        client.transact(lambda tx: other.transact(lambda inner: None))


def test_many_threads_share_one_client(client: stm.Client) -> None:
    ref = client.ref("/n", 0)
    threads = [
        threading.Thread(target=lambda: [client.transact(lambda tx: tx.commute(ref, stm.op.add(1))) for _ in range(20)])
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert ref.get() == 320


def test_an_interrupt_leaves_a_sleep_at_once_and_the_client_goes_on(address: str) -> None:
    program = """
import os, signal, stm, threading
client = stm.connect()
ref = client.ref("/q", [])
def interrupt():
    while not (client._core._link and client._core._link.waits):
        pass
    os.kill(os.getpid(), signal.SIGINT)
def body(tx):
    if not tx.get(ref):
        threading.Thread(target=interrupt, daemon=True).start()
        tx.retry()
try:
    client.transact(body)
except KeyboardInterrupt:
    client.transact(lambda tx: tx.set(ref, [1]))
    print(ref.get())
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "STM_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout) == (0, "stm.Vector([1])\n")
