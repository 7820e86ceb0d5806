"""Reading never loses: what is written comes back as the same value of the same type."""

from __future__ import annotations

import copy
import pickle
import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stm
from stm._strict import strict_key

names = st.text("abcxyz-", min_size=1, max_size=8).map(lambda text: "k" + text)
instants = st.builds(stm.Instant.from_epoch, st.integers(-62135596800, 253402300799), st.integers(0, 999999999))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.integers().map(stm.BigInt)
    | st.decimals(allow_nan=False, allow_infinity=False, places=3)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | names.map(stm.Keyword)
    | names.map(stm.Symbol)
    | st.sampled_from("aZ1").map(stm.Character)
    | st.uuids()
    | instants
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4).map(stm.Vector)
        | st.lists(inner, max_size=4).map(stm.List)
        | st.lists(st.tuples(inner, inner), max_size=4).map(stm.Map)
        | st.frozensets(st.text("ab") | names.map(stm.Keyword), max_size=4)
        | st.builds(stm.Tagged, st.just("test/unknown"), inner)
    ),
    max_leaves=10,
)


@given(value=values)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_value_comes_back_the_same_through_a_daemon(client: stm.Client, value: Any) -> None:
    ref = client.ref("/v")
    client.transact(lambda tx: tx.set(ref, value))
    back = ref.get()
    assert strict_key(back) == strict_key(value)
    assert type(back) is type(value)
    client.transact(lambda tx: tx.set(ref, back))
    assert strict_key(ref.get()) == strict_key(value)


def test_true_one_and_one_point_zero_are_three_keys_of_a_map(client: stm.Client) -> None:
    ref = client.ref("/m")
    client.transact(lambda tx: tx.set(ref, stm.Map([(True, "t"), (1, "i"), (1.0, "d")])))
    back = ref.get()
    assert (back[True], back[1], back[1.0]) == ("t", "i", "d")


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, datetime(2026, 1, 1), object(), Decimal("NaN"), stm.ABSENT])
def test_what_edn_cannot_hold_is_a_bad_value_that_names_the_entry(client: stm.Client, value: Any) -> None:
    ref = client.ref("/bad")
    with pytest.raises(stm.BadValue, match=r"/bad: ") as raised:
        client.transact(lambda tx: tx.set(ref, value))
    assert raised.value.name == "/bad"
    assert ref.find() is stm.ABSENT


def test_lists_and_vectors_are_told_apart() -> None:
    assert stm.List([1]) != stm.Vector([1]) and stm.Vector([1]) != stm.List([1])
    assert stm.Vector([1]) == (1,) and len({stm.List([1]), stm.Vector([1])}) == 2


def test_an_instant_keeps_its_nanoseconds() -> None:
    at = stm.Instant.from_epoch(-1, 123456789)
    assert (at.nanosecond, at.epoch_second) == (123456789, -1)
    assert at != stm.Instant.from_epoch(-1, 123456788) and at > stm.Instant.from_epoch(-1, 123456788)
    assert (at + timedelta(seconds=1)).nanosecond == 123456789
    assert stm.Instant.of(datetime(1970, 1, 1, tzinfo=timezone.utc)) == datetime(1970, 1, 1, tzinfo=timezone.utc)


def test_values_survive_copy_and_pickle() -> None:
    made = stm.Map({stm.Keyword("k"): stm.List([stm.Instant.from_epoch(1, 1), stm.Tagged("t", uuid.UUID(int=1))])})
    for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert again == made and hash(again) == hash(made)
    assert copy.copy(stm.ABSENT) is stm.ABSENT and pickle.loads(pickle.dumps(stm.ABSENT)) is stm.ABSENT


@stm.record("test.User")
class User(NamedTuple):
    name: str
    start_date: int = 7


def test_a_record_keeps_and_writes_back_fields_it_does_not_know(client: stm.Client) -> None:
    ref = client.ref("/user")
    newer = stm.Map({stm.Keyword("name"): "Bob", stm.Keyword("start-date"): 1, stm.Keyword("age"): 40})
    client.transact(lambda tx: tx.set(ref, stm.Tagged("test.User", newer)))
    assert ref.get() == User("Bob", 1) and isinstance(ref.get(), User)
    client.transact(lambda tx: tx.alter(ref, lambda user: user._replace(name="Eve")))
    encoded = stm.codec.to_wire(ref.get(), "/user").tagged.value
    assert stm.codec.from_wire(encoded, "/user") == stm.Map({**newer, stm.Keyword("name"): "Eve"})


def test_two_fields_of_one_keyword_are_refused_at_registration() -> None:
    with pytest.raises(stm.BadValue, match="same keyword"):
        stm.record("test.Twice")(NamedTuple("Twice", [("a_b", int), ("a_b_", int)]))


def test_what_nests_too_deep_or_in_itself_is_a_bad_value_that_names_the_entry(client: stm.Client) -> None:
    deep: Any = [1]
    for _ in range(200):
        deep = [deep]
    own: list[Any] = []
    own.append(own)
    for value in (deep, own, {"a": {"b": own}}):
        with pytest.raises(stm.BadValue, match=r"^/deep: nests too many levels"):
            client.transact(lambda tx, value=value: tx.set(client.ref("/deep"), value))  # type: ignore[misc]


def test_a_set_of_what_python_cannot_tell_apart_is_kept(client: stm.Client) -> None:
    ref = client.ref("/s")
    made = stm.Set([1, 1.0, True, stm.Vector([1]), stm.Vector([1.0])])
    client.transact(lambda tx: tx.set(ref, made))
    assert ref.get() == made and len(ref.get()) == 5 and 1.0 in ref.get() and 2 not in ref.get()
    assert copy.deepcopy(made) == made and hash(made) == hash(stm.Set(reversed(list(made))))
