"""Creates that are repeated, on the world in memory."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from chalicelib.core import lifecycle, pools
from chalicelib.core.errors import Conflict, Invalid, Unavailable
from chalicelib.core.lifecycle import Wish
from chalicelib.core.limits import fitting
from chalicelib.core.pools import Pool
from chalicelib.core.sandbox import Filter, Policy, Sandbox, Size
from chalicelib.core.states import Event, State
from chalicelib.core.world import Settings, Workflows, World
from tests.examples import OWNER, STRANGER
from tests.playing import SECRET, House

POOL = Pool("default", fitting(Size()), 2)


@pytest.fixture
def house() -> House:
    return House()


def create(world: World, wish: Wish | None = None, key: str = "key", owner: str = OWNER) -> Sandbox:
    return lifecycle.create(world, owner, wish or Wish(), request_key=key)


def count(house: House) -> int:
    return house.sandboxes.count(OWNER, Filter())


def test_a_repeated_create_is_the_same_sandbox_as_it_is_by_then(house: House) -> None:
    first = create(house.world, Wish(name="mine"))
    house.play()

    again = create(house.world, Wish(name="mine"))

    assert (again.id, again.state) == (first.id, State.STARTED)
    assert (count(house), len(house.workflows.executions)) == (1, 1)


def test_other_keys_and_other_organizations_and_no_key_create_others(house: House) -> None:
    made = {create(house.world).id, create(house.world, key="other").id, create(house.world, owner=STRANGER).id}
    made |= {lifecycle.create(house.world, OWNER, Wish()).id for _ in range(2)}

    assert len(made) == 5


def test_the_same_key_for_another_wish_is_refused(house: House) -> None:
    create(house.world)

    with pytest.raises(Conflict, match="something else"):
        create(house.world, Wish(public=True))

    assert count(house) == 1


def test_a_wish_with_a_time_to_live_can_be_repeated(house: House) -> None:
    def expiring() -> Wish:
        return Wish(policy=Policy(expires_at=house.clock.now() + timedelta(hours=1)))

    first = create(house.world, expiring())
    house.clock.turn(timedelta(seconds=5))

    assert create(house.world, expiring()).id == first.id


def test_a_key_is_good_for_a_new_sandbox_after_a_day(house: House) -> None:
    first = create(house.world)
    house.clock.turn(timedelta(hours=25))

    assert create(house.world).id != first.id


def test_a_sandbox_that_is_gone_is_not_created_again(house: House) -> None:
    gone = create(house.world)
    lifecycle.ask(house.world, OWNER, gone.id, Event.DELETE)
    house.play()

    with pytest.raises(Conflict, match="no more"):
        create(house.world)


def test_a_repetition_sets_off_a_start_that_was_lost(house: House) -> None:
    class Failing:
        def __getattr__(self, _: str) -> Any:
            raise Unavailable("busy")

    with pytest.raises(Unavailable):
        create(replace(house.world, workflows=cast(Workflows, Failing())))

    again = create(house.world)

    assert house.workflows.running("start", again.movement)
    assert count(house) == 1


def test_a_repeated_create_uses_one_warm_machine() -> None:
    house = House(Settings(secret=SECRET, url="http://127.0.0.1:8080", pools=(POOL,)))
    pools.fill(house.world)
    house.play()

    first = create(house.world)
    again = create(house.world)

    assert first.state is State.STARTED
    assert again == first
    ready = house.sandboxes.list(pools.WARM, Filter(states=frozenset({State.STARTED}))).items
    assert len(ready) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb"])
def test_a_key_that_is_none_is_refused(house: House, key: str) -> None:
    with pytest.raises(Invalid, match="key"):
        create(house.world, key=key)

    assert count(house) == 0
