"""Handles outside of transactions: refs, atoms, definitions, operations, the past, a prefix, keys as keywords."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Background, until

import stm
import stm.testing
from stm import op


def test_an_atom_changes_alone_and_says_what_it_became(client: stm.Client) -> None:
    atom = client.atom("/a", 1)
    assert atom.get() == 1 and atom.find() is stm.ABSENT
    assert atom.swap(lambda n: n + 1) == 2
    atom.reset(10)
    assert atom.apply(op.add(5)) == 15
    assert atom.compare_and_set(15, 16) and not atom.compare_and_set(15, 17)
    assert atom.get() == 16
    atom.delete()
    assert atom.find() is stm.ABSENT
    assert client.atom("/b").compare_and_set(stm.ABSENT, "new")


def test_a_ref_used_as_an_atom_is_wrong_kind(client: stm.Client) -> None:
    client.transact(lambda tx: tx.set(client.ref("/r"), 1))
    with pytest.raises(stm.WrongKind, match=r"client\.ref"):
        client.atom("/r").get()
    with pytest.raises(stm.WrongKind, match=r"client\.ref"):
        client.atom("/r").reset(2)


@pytest.mark.parametrize(
    ("before", "operation", "after", "gives"),
    [
        (1, op.set("x"), "x", "x"),
        (5, op.minimum(3), 3, 3),
        (5, op.maximum(9), 9, 9),
        ("a", op.append("bc"), "abc", "abc"),
        ([1], op.conj(2, 3), (1, 2, 3), (1, 2, 3)),
        ({1, 2}, op.disj(2), {1}, {1}),
        ({1}, op.union({2}), {1, 2}, {1, 2}),
        ([1, 2, 3], op.pop(), (1, 2), 3),
        ([1, 2, 3], op.shift(2), (3,), (1, 2)),
        ({"a": 1}, op.assoc("b", 2), {"a": 1, "b": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, op.merge({"a": 2}), {"a": 2}, {"a": 2}),
        ({"a": 1, "b": 2}, op.dissoc("a"), {"b": 2}, {"b": 2}),
        (True, op.toggle(), False, False),
        (1, op.compare_and_set(1, 2), 2, 2),
        ({"n": {"m": [1, 5]}}, op.add(1).at("n", "m", 1), {"n": {"m": (1, 6)}}, {"n": {"m": (1, 6)}}),
    ],
)
def test_an_operation_does_what_its_name_says(
    client: stm.Client, before: Any, operation: op.Op, after: Any, gives: Any
) -> None:
    atom = client.atom("/a")
    atom.reset(before)
    assert atom.apply(operation) == gives
    assert atom.get() == after


def test_operations_that_can_do_nothing_are_refused_where_they_are_made() -> None:
    for make in (lambda: op.assoc("a"), lambda: op.assoc(), lambda: op.pop(0)):
        with pytest.raises(stm.BadValue):
            make()


RULE = [stm.Keyword("and"), stm.Keyword("int"), [stm.Keyword("min"), 0]]


def test_a_validator_rejects_names_its_rule_and_can_be_defined_anew(client: stm.Client) -> None:
    ref = client.ref("/n", 1, definition=stm.Definition(validator=RULE))
    client.transact(lambda tx: tx.get(ref))
    with pytest.raises(stm.Rejected) as raised:
        client.transact(lambda tx: tx.set(ref, -1))
    assert (raised.value.name, raised.value.cause) == ("/n", "validator") and raised.value.rule
    found = ref.read_definition()
    assert found is not None and found.validator == stm.Vector([RULE[0], RULE[1], stm.Vector(RULE[2])])
    ref.define(stm.Definition())
    client.transact(lambda tx: tx.set(ref, -1))
    assert ref.get() == -1 and client.ref("/none").read_definition() is None


def test_an_entry_with_a_ttl_expires_and_the_watch_says_so(client: stm.Client) -> None:
    ref = client.ref("/short", definition=stm.Definition(ttl=0.05))
    with client.watch("/short", timeout=60) as watch:
        client.transact(lambda tx: tx.set(ref, 1))
        kinds = [next(watch).changes[0].kind, next(watch).changes[0].kind]
    assert kinds == ["set", "expired"] and ref.find() is stm.ABSENT


def test_the_past_is_read_at_a_version_and_at_a_moment(client: stm.Client) -> None:
    ref = client.ref("/n")
    told: list[stm.Committed] = []
    for n in range(3):
        client.transact(lambda tx, n=n: tx.set(ref, n), label=f"set {n}", on_committed=told.append)  # type: ignore[misc]
    then = client.at(told[0].version)
    assert (then.get(ref), then.list("/"), then.names("/"), then.version) == (0, {"/n": 0}, ["/n"], told[0].version)
    assert told[1].at is not None
    by_instant = client.at(told[1].at)
    assert by_instant.version == 0
    assert by_instant.list("/") in ({"/n": 1}, {"/n": 2}) and by_instant.version >= told[1].version
    with pytest.raises(stm.Absent):
        client.at(told[0].version - 1).get(ref)
    history = ref.history()
    assert [(one.meta.label, one.changes[0].after) for one in history] == [("set 2", 2), ("set 1", 1), ("set 0", 0)]
    assert len(ref.history(limit=1, before_version=history[0].version)) == 1


def test_below_a_prefix_names_are_seen_without_it_in_errors_too(address: str, client: stm.Client) -> None:
    with stm.connect(address, prefix="/team-a") as team:
        ref = team.ref("/x")
        with pytest.raises(stm.Absent, match=r"^/x"):
            team.transact(lambda tx: tx.commute(ref, op.add(1)) and tx.get(ref))
        team.transact(lambda tx: tx.set(ref, 1), once="key")
        assert client.ref("/team-a/x").get() == 1
        assert team.list("/") == {"/x": 1} and team.list("/.once/") == {"/.once/key": None}
        assert client.names("/.once/team-a/") == ["/.once/team-a/key"]
        with pytest.raises(stm.Rejected, match=r"/x") as raised:
            team.transact(lambda tx: tx.commute(ref, op.append("x")))
        assert "/team-a" not in str(raised.value)
    with pytest.raises(stm.BadValue):
        stm.connect(address, prefix="/.hidden")


def test_keys_of_maps_are_keywords_both_ways_where_that_is_asked_for(address: str, client: stm.Client) -> None:
    with stm.connect(address, keys="keyword") as clojure:
        ref = clojure.ref("/m")
        clojure.transact(lambda tx: tx.set(ref, {"name": "Bob", 1: {"deep": "text"}}))
        assert ref.get() == {"name": "Bob", 1: {"deep": "text"}}
        raw = client.ref("/m").get()
        assert raw == {stm.Keyword("name"): "Bob", 1: {stm.Keyword("deep"): "text"}}
        atom = clojure.atom("/a", {"n": 1})
        assert atom.apply(op.add(1).at("n")) == {"n": 2}
        client.transact(lambda tx: tx.set(client.ref("/s"), {"text": 1}))
        with pytest.raises(stm.BadValue, match=r"^/s: .*string key"):
            clojure.ref("/s").get()
        with pytest.raises(stm.BadValue, match=r"^/m: .*one with keys"):
            clojure.transact(lambda tx: tx.set(ref, {"a": 1, stm.Keyword("a"): 2}))


def test_a_name_is_checked_where_its_handle_is_made(client: stm.Client) -> None:
    with pytest.raises(stm.BadValue, match="must begin with"):
        client.ref("x")
    with pytest.raises(stm.BadValue, match="must end in"):
        client.list("/x")


def test_a_handle_of_another_client_is_refused(address: str, client: stm.Client) -> None:
    with stm.connect(address) as other, pytest.raises(stm.BadValue, match="another client"):
        client.transact(lambda tx: tx.find(other.ref("/x")))


def test_a_read_that_is_cancelled_ends_at_once(client: stm.Client) -> None:
    from concurrent.futures import CancelledError

    canceller = stm.Canceller()
    ref = client.ref("/q", [])

    def body(tx: stm.Tx) -> None:
        if not tx.get(ref):
            tx.retry()

    sleeper = Background(lambda: client.transact(body, canceller=canceller))
    until(lambda: client._core._link and client._core._link.waits, "the sleep")
    canceller.cancel()
    with pytest.raises(CancelledError):
        sleeper.result()
    with pytest.raises(CancelledError):
        ref.get(canceller=canceller)


def test_close_wakes_what_waits_and_leaves_no_thread(address: str) -> None:
    import threading

    before = set(threading.enumerate())
    client = stm.connect(address)
    ref = client.ref("/q", [])
    client.lock("/l").acquire()

    def body(tx: stm.Tx) -> None:
        if not tx.get(ref):
            tx.retry()

    sleeper = Background(lambda: client.transact(body))
    watcher = Background(lambda: list(client.watch("/q")))
    waiter = Background(lambda: client.lock("/l", owner="other").acquire())
    until(lambda: client._core._link and len(client._core._link.waits) >= 3, "all three wait")
    began = time.monotonic()
    client.close()
    for background in (sleeper, watcher, waiter):
        with pytest.raises(stm.Unavailable, match="the client is closed"):
            background.result()
    assert time.monotonic() - began < 30
    with pytest.raises(stm.Unavailable, match="the client is closed"):
        ref.get()
    ours = [one for one in threading.enumerate() if one not in before and one.name.startswith("stm")]
    assert not ours
    client.close()


def test_a_name_is_checked_whole_before_it_is_sent(client: stm.Client) -> None:
    for name in ("", "x", "/", "/a/", "/a//b", "/a/./b", "/..", "/a\n", "/" + "x" * 512, "/a" * 33, "/\ud800"):
        with pytest.raises(stm.BadValue) as refused:
            client.ref(name).get()
        assert refused.value.name == name
    for name in ("/..a", "/a.", "/\u00e9", "/a b", "/" + "x" * 511, "/a" * 32):
        assert client.ref(name).find() is stm.ABSENT


def test_an_atom_is_read_in_transactions_and_changes_alone(client: stm.Client) -> None:
    atom = client.atom("/a", 1)
    atom.reset(5)
    assert client.transact(lambda tx: (tx.get(atom), tx.ensure(atom))[0]) == 5
    for change in (
        lambda tx: tx.set(atom, 6),
        lambda tx: tx.alter(atom, lambda n: n + 1),
        lambda tx: tx.commute(atom, op.add(1)),
        lambda tx: tx.delete(atom),
    ):
        with pytest.raises(stm.WrongKind, match="changes alone"):
            client.transact(change)  # type: ignore[arg-type]
    assert atom.get() == 5


def test_a_daemon_on_a_unix_socket_is_reached_by_its_path(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/stmd"
    with stm.testing.daemon(flags=["--listen", address]), stm.connect(address) as client:
        client.transact(lambda tx: tx.set(client.ref("/x"), 1))
        assert client.ref("/x").get() == 1 and client.address == address
