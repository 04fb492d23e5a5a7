"""Keys, tokens, ids and limits."""

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import access, limits, tokens
from chalicelib.core.access import PERMISSIONS, Caller
from chalicelib.core.errors import Conflict, Forbidden, Invalid, Unauthenticated
from chalicelib.core.ids import is_id, new_id
from chalicelib.core.sandbox import Size
from tests.examples import CALLER, OWNER
from tests.fakes import BEGINNING
from tests.playing import SECRET, House

HOUR = timedelta(hours=1)


@pytest.fixture
def house() -> House:
    return House()


# ---------------------------------------------------------------- keys


def test_a_key_identifies_its_holder(house: House) -> None:
    made, text = access.make_key(house.world, CALLER, "ci", permissions=["write:sandboxes"])

    caller = access.identify(house.world, text)

    assert caller == Caller(OWNER, "ada", frozenset({"write:sandboxes"}), key="ci")
    assert text not in repr(made)
    assert made.hint == text[-4:]


@pytest.mark.parametrize("text", [None, "", "sb_wrong", "é", "x" * 10_000])
def test_an_unknown_key_identifies_nobody(house: House, text: str | None) -> None:
    with pytest.raises(Unauthenticated, match="missing, unknown or expired"):
        access.identify(house.world, text)


def test_a_key_is_good_until_it_expires(house: House) -> None:
    _, text = access.make_key(house.world, CALLER, "ci", permissions=[], expires_at=BEGINNING + HOUR)
    access.identify(house.world, text)
    house.clock.turn(HOUR)

    with pytest.raises(Unauthenticated):
        access.identify(house.world, text)


def test_the_use_of_a_key_is_noted_once_a_minute(house: House) -> None:
    made, text = access.make_key(house.world, CALLER, "ci", permissions=[])
    noted = []
    for _ in range(4):
        access.identify(house.world, text)
        noted.append(house.keys.get(made.hash).used_at)
        house.clock.turn(timedelta(seconds=30))

    assert noted == [BEGINNING, BEGINNING, BEGINNING + timedelta(minutes=1), BEGINNING + timedelta(minutes=1)]


def test_a_key_permits_no_more_than_its_maker_has(house: House) -> None:
    poor = replace(CALLER, permissions=frozenset({"write:sandboxes"}))

    with pytest.raises(Forbidden, match="delete:sandboxes"):
        access.make_key(house.world, poor, "ci", permissions=["write:sandboxes", "delete:sandboxes"])
    with pytest.raises(Invalid, match="fly:planes"):
        access.make_key(house.world, poor, "ci", permissions=["fly:planes"])


def test_a_key_that_is_born_expired_is_refused(house: House) -> None:
    with pytest.raises(Invalid, match="past"):
        access.make_key(house.world, CALLER, "ci", permissions=[], expires_at=BEGINNING)


def test_a_key_name_is_taken_once(house: House) -> None:
    access.make_key(house.world, CALLER, "ci", permissions=[])

    with pytest.raises(Conflict):
        access.make_key(house.world, CALLER, "ci", permissions=[])


def test_the_administrators_key_is_admitted_as_often_as_asked(house: House) -> None:
    first = access.admit_admin(house.world, "a-long-password", owner=OWNER, user="root")

    assert access.admit_admin(house.world, "a-long-password", owner=OWNER, user="root") == first
    assert access.identify(house.world, "a-long-password").permissions == PERMISSIONS
    access.admit_admin(house.world, "another-password", owner=OWNER, user="root")
    assert len(house.keys.list(OWNER)) == 2


@pytest.mark.parametrize("text", ["", "short", "with space", "line\nbreak"])
def test_a_weak_administrators_key_is_refused(house: House, text: str) -> None:
    with pytest.raises(Invalid):
        access.admit_admin(house.world, text, owner=OWNER, user="root")


def test_a_caller_must_have_the_permission() -> None:
    CALLER.must("write:sandboxes")
    CALLER.must("")

    with pytest.raises(Forbidden, match="write:sandboxes"):
        replace(CALLER, permissions=frozenset()).must("write:sandboxes")


# ---------------------------------------------------------------- tokens


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20) | st.integers(), max_size=5))
def test_what_was_signed_is_read(claims: dict[str, str | int]) -> None:
    claims.pop("until", None)

    assert tokens.read(SECRET, "agent", tokens.sign(SECRET, "agent", claims), now=BEGINNING) == claims


@given(st.data())
def test_a_token_that_was_touched_is_worthless(data: st.DataObject) -> None:
    token = tokens.sign(SECRET, "agent", {"id": "1"}, until=BEGINNING + HOUR)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda c: c != token[place]))

    with pytest.raises(Unauthenticated):
        tokens.read(SECRET, "agent", token[:place] + other + token[place + 1 :], now=BEGINNING)


def test_a_token_ends_when_it_says() -> None:
    token = tokens.sign(SECRET, "boot", {}, until=BEGINNING + HOUR)
    tokens.read(SECRET, "boot", token, now=BEGINNING)

    with pytest.raises(Unauthenticated):
        tokens.read(SECRET, "boot", token, now=BEGINNING + HOUR)


@given(st.text(max_size=200))
def test_no_text_is_more_than_a_forged_token(text: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.read(SECRET, "agent", text, now=BEGINNING)


# ---------------------------------------------------------------- ids


def test_ids_are_uuids_in_order_of_creation() -> None:
    ids = [new_id(BEGINNING + timedelta(milliseconds=n)) for n in range(100)]

    assert ids == sorted(ids)
    assert len(set(ids)) == 100
    assert {(uuid.UUID(id).version, uuid.UUID(id).variant) for id in ids} == {(7, uuid.RFC_4122)}
    assert all(is_id(id) for id in ids)


@pytest.mark.parametrize("text", ["", "name", "0" * 36, "-" * 36, "G" * 36, "01A20320-A200-786C-8DD3-14A741874565"])
def test_what_is_no_id_is_known_by_its_form(text: str) -> None:
    assert not is_id(text)


# ---------------------------------------------------------------- sizes


@given(
    st.builds(
        Size,
        cpu=st.floats(0.01, 16),
        memory_mib=st.integers(1, 120 * 1024),
        disk_gib=st.integers(1, 200),
    )
)
def test_a_machine_is_never_smaller_than_what_was_asked_for(wanted: Size) -> None:
    given_size = limits.fitting(wanted)

    assert given_size.memory_mib in limits.FARGATE[given_size.cpu]
    assert given_size.cpu >= wanted.cpu
    assert given_size.memory_mib >= wanted.memory_mib
    assert limits.fitting(given_size) == given_size


def test_no_machine_is_larger_than_fargates() -> None:
    for size in (Size(cpu=17), Size(memory_mib=121 * 1024), Size(disk_gib=201), Size(cpu=float("inf"))):
        with pytest.raises(Invalid):
            limits.fitting(size)
