"""Containers in the client's own process."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import until
from proxy import Proxy

import stm


class Refs:
    """Of refs, in a dict."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], Any] = {}
        self.failure: Exception | None = None

    def init(self, name: str) -> None: ...

    def destroy(self, name: str) -> None: ...

    def get_state_at(self, name: str, stamp: str) -> Any:
        return self.values.get((name, stamp), stm.ABSENT)

    def set_state_at(self, name: str, stamp: str, value: Any) -> None:
        if self.failure is not None:
            raise self.failure
        self.values[name, stamp] = value

    def delete_state_at(self, name: str, stamp: str) -> None:
        self.values.pop((name, stamp), None)


class Atoms:
    def __init__(self) -> None:
        self.values: dict[str, tuple[int, Any]] = {}

    def init(self, name: str) -> None: ...

    def destroy(self, name: str, version: int) -> None:
        self.values.pop(name, None)

    def get_state(self, name: str) -> Any:
        return self.values.get(name, (0, stm.ABSENT))[1]

    def set_state(self, name: str, value: Any, version: int) -> None:
        if version >= self.values.get(name, (0, None))[0]:
            self.values[name] = version, value


def test_values_of_refs_and_copies_of_atoms_are_kept_here(address: str, client: stm.Client) -> None:
    refs, atoms = Refs(), Atoms()
    with client.offer("mine", refs, atoms) as offer:
        assert offer.standing and offer.failure is None and offer.container == "offered:mine"
        kept = stm.Definition(container=offer.container)
        ref = client.ref("/r", definition=kept)
        client.transact(lambda tx: tx.set(ref, [1, {"a": stm.Keyword("k")}]))
        assert [*refs.values.values()] == [stm.Vector([1, stm.Map({"a": stm.Keyword("k")})])]
        with stm.connect(address) as other:
            assert other.ref("/r").get() == (1, {"a": stm.Keyword("k")})
        atom = client.atom("/a", definition=kept)
        atom.reset(7)
        until(lambda: atoms.values.get("/a", (0, None))[1] == 7, "the copy")
    assert not offer.standing


def test_what_a_container_raises_reaches_the_caller_of_the_transaction(client: stm.Client) -> None:
    refs = Refs()
    with client.offer("mine", refs) as offer:
        ref = client.ref("/r", definition=stm.Definition(container=offer.container))
        refs.failure = stm.Denied("not on Sundays")
        with pytest.raises(stm.Denied, match="not on Sundays"):
            client.transact(lambda tx: tx.set(ref, 1))
        refs.failure = None
        client.transact(lambda tx: tx.set(ref, 1))
        assert ref.get() == 1


def test_a_name_that_another_offers_is_refused(address: str, client: stm.Client) -> None:
    with client.offer("mine", Refs()), stm.connect(address) as other, pytest.raises(stm.StmError, match="mine"):
        other.offer("mine", Refs())


def test_an_offer_is_renewed_over_a_cut(address: str, client: stm.Client, wire: Proxy) -> None:
    refs = Refs()
    with stm.connect(wire.address) as far, far.offer("mine", refs) as offer:
        ref = client.ref("/r", definition=stm.Definition(container=offer.container))
        for n in range(3):
            client.transact(lambda tx, n=n: tx.set(ref, n), timeout=60)  # type: ignore[misc]
            wire.do("cut")
            assert offer.await_standing(60)
        assert ref.get() == 2
