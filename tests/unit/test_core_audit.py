"""In whose name things are done, on the world in memory."""

from datetime import timedelta

import pytest

from chalicelib import gateway, tasks
from chalicelib.core import access, audit, lifecycle
from chalicelib.core.audit import Entry
from chalicelib.core.errors import Invalid
from chalicelib.core.lifecycle import Wish
from chalicelib.core.sandbox import Policy
from chalicelib.core.states import Event
from chalicelib.core.sweep import sweep
from chalicelib.dialect import Request
from tests.examples import OWNER
from tests.playing import House


@pytest.fixture
def house() -> House:
    return House()


def told(house: House) -> list[Entry]:
    return sorted(house.audit.entries, key=lambda entry: entry.id)


def test_a_caller_is_named_with_key_address_and_program(house: House) -> None:
    access.admit_admin(house.world, "a-key-of-adas", owner=OWNER, user="ada")
    headers = {"authorization": "Bearer a-key-of-adas", "user-agent": "sdk/" + "x" * 500}
    request = Request(
        "POST", "/api-keys", headers=headers, body=b'{"name": "k", "permissions": []}', source="192.0.2.7"
    )

    assert gateway.answer(house.world, "daytona", request).status == 201

    made = house.audit.entries[-1]
    assert (made.kind, made.actor.kind, made.actor.user, made.actor.source) == ("key.made", "user", "ada", "192.0.2.7")
    assert made.actor.key.startswith("admin-")
    assert len(made.actor.agent) == 200


def test_each_part_of_the_house_acts_in_its_own_name(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish(policy=Policy(stop_after_idle=timedelta(minutes=1))))
    house.play()
    house.clock.turn(timedelta(hours=1))
    sweep(house.world)
    house.play()
    lifecycle.ask(house.world, OWNER, made.id, Event.DELETE)
    house.play()

    by_state = {entry.after.get("state"): entry.actor.kind for entry in told(house)}

    assert by_state["stopping"] == "policy"
    assert by_state["stopped"] == by_state["deleted"] == "workflow"
    assert by_state["creating"] == by_state["deleting"] == "installation"


def test_a_workflow_that_fails_is_told_with_its_reason(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())
    event = {"task": "give_up", "workflow": "start", "error": {"Error": "Sandbar.Refused", "Cause": "no room"}}

    tasks.perform(house.world, {**event, "owner": OWNER, "id": made.id, "movement": made.movement})

    assert house.audit.entries[-1].after == {"state": "failed", "reason": "no room"}


@pytest.mark.parametrize("limit", [0, 201])
def test_a_page_has_a_sane_size(house: House, limit: int) -> None:
    with pytest.raises(Invalid, match="limit"):
        audit.page(house.world, OWNER, limit=limit)


def test_a_cursor_that_is_not_ours_is_refused(house: House) -> None:
    with pytest.raises(Invalid, match="cursor"):
        audit.page(house.world, OWNER, after="nonsense")
