"""That a request under a key creates one sandbox, by every keeper."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from chalicelib.core import lifecycle
from chalicelib.core.errors import Conflict, NotFound
from chalicelib.core.lifecycle import Wish
from chalicelib.core.pools import WARM
from chalicelib.core.sandbox import Filter
from chalicelib.core.tickets import REMEMBERED, Ticket
from tests.aws.conftest import Kept
from tests.examples import OWNER, STRANGER, sandbox
from tests.fakes import BEGINNING
from tests.playing import House

TICKET = Ticket("key", "asked", BEGINNING + REMEMBERED)


def test_a_ticket_tells_the_sandbox_that_was_created_on_it(kept: Kept) -> None:
    one = kept.sandboxes.add(sandbox(ticket=TICKET))

    assert kept.sandboxes.ticketed(OWNER, "key") == one.id
    assert kept.sandboxes.get(OWNER, one.id).ticket == TICKET
    for owner, key in ((STRANGER, "key"), (OWNER, "other"), (OWNER, "")):
        with pytest.raises(NotFound):
            kept.sandboxes.ticketed(owner, key)


def test_a_ticket_is_taken_once_and_no_name(kept: Kept) -> None:
    kept.sandboxes.add(sandbox(ticket=TICKET))

    with pytest.raises(Conflict, match="key"):
        kept.sandboxes.add(sandbox(ticket=TICKET))

    assert kept.sandboxes.count(OWNER, Filter()) == 1
    assert kept.organizations.get(OWNER).used.sandboxes == 1
    kept.sandboxes.add(sandbox(name="key"))


def test_a_ticket_is_taken_by_a_claim_too(kept: Kept) -> None:
    warm = [kept.sandboxes.add(sandbox(owner=WARM)) for _ in range(2)]
    kept.sandboxes.claim(warm[0], sandbox(ticket=TICKET))

    with pytest.raises(Conflict, match="key"):
        kept.sandboxes.claim(warm[1], sandbox(ticket=TICKET))

    assert kept.sandboxes.get(WARM, warm[1].id) == warm[1]


def test_a_ticket_is_forgotten_after_its_time(kept: Kept) -> None:
    kept.sandboxes.add(sandbox(ticket=TICKET))
    kept.clock.turn(REMEMBERED + timedelta(seconds=1))

    with pytest.raises(NotFound):
        kept.sandboxes.ticketed(OWNER, "key")
    later = kept.sandboxes.add(sandbox(ticket=replace(TICKET, until=kept.clock.now() + REMEMBERED)))

    assert kept.sandboxes.ticketed(OWNER, "key") == later.id


def test_of_twelve_who_create_at_once_under_one_key_all_get_the_same_sandbox(raced: Kept) -> None:
    world = replace(House().world, sandboxes=raced.sandboxes, organizations=raced.organizations)

    made = _at_once(lambda _: lifecycle.create(world, OWNER, Wish(name="mine"), request_key="key").id)

    assert len(set(made)) == 1
    assert raced.sandboxes.count(OWNER, Filter()) == 1
    assert raced.organizations.get(OWNER).used.sandboxes == 1


def test_of_twelve_who_create_at_once_under_one_key_with_room_for_one_all_get_it(raced: Kept) -> None:
    world = replace(House().world, sandboxes=raced.sandboxes, organizations=raced.organizations)
    organization = raced.organizations.get(OWNER)
    raced.organizations.set_quota(organization, replace(organization.quota, sandboxes=1))

    made = _at_once(lambda _: lifecycle.create(world, OWNER, Wish(), request_key="key").id)

    assert len(set(made)) == 1


def _at_once(act: Callable[[int], str], times: int = 12) -> list[str]:
    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(act, range(times)))
