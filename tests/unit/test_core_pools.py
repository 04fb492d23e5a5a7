"""Warm machines: claimed within the request, once, and kept at their number, on the world in memory."""

from dataclasses import replace

import pytest

from chalicelib.core import lifecycle, pools
from chalicelib.core.agent_errors import from_agent
from chalicelib.core.errors import Conflict, Unavailable
from chalicelib.core.lifecycle import Wish
from chalicelib.core.pools import WARM, Pool
from chalicelib.core.sandbox import Filter, Mount, Network, Sandbox, Size
from chalicelib.core.states import Event, State
from chalicelib.core.sweep import sweep
from chalicelib.core.world import Settings
from tests.examples import OWNER
from tests.fakes import refusing
from tests.playing import SECRET, House

SMALL, LARGE = Size(cpu=1, memory_mib=2048, disk_gib=3), Size(cpu=2, memory_mib=4096, disk_gib=3)


def installed(count: int) -> House:
    """A house with so many small machines waiting."""
    house = House(Settings(secret=SECRET, url="http://127.0.0.1:8080", pools=(Pool("default", SMALL, count),)))
    sweep(house.world)
    house.play()
    return house


def warm(house: House) -> list[Sandbox]:
    return list(house.sandboxes.list(WARM, Filter()).items)


def test_machines_wait_before_anybody_asks() -> None:
    assert [one.state for one in warm(installed(2))] == [State.STARTED] * 2


def test_a_sandbox_is_a_waiting_machine_within_the_request() -> None:
    house = installed(1)
    (waiting,) = warm(house)

    made = lifecycle.create(house.world, OWNER, Wish(name="mine", size=SMALL, env={"A": "b"}))

    assert (made.state, made.machine, made.incarnation) == (State.STARTED, waiting.machine, waiting.incarnation)
    assert lifecycle.get(house.world, OWNER, "mine") == made
    assert waiting not in warm(house)


def test_for_each_that_is_claimed_another_is_warmed() -> None:
    house = installed(1)

    lifecycle.create(house.world, OWNER, Wish(size=SMALL))
    house.play()

    assert [one.state for one in warm(house)] == [State.STARTED]


def test_a_claimed_machine_lives_as_any_other() -> None:
    house = installed(1)
    made = lifecycle.create(house.world, OWNER, Wish(size=SMALL))
    house.task_of(made).disk["/home/a"] = b"kept"
    for event in (Event.STOP, Event.START):
        lifecycle.ask(house.world, OWNER, made.id, event)
        house.play()

    assert house.task_of(lifecycle.get(house.world, OWNER, made.id)).disk == {"/home/a": b"kept"}


def test_a_claimed_machine_that_dies_fails_its_sandbox() -> None:
    house = installed(1)
    made = lifecycle.create(house.world, OWNER, Wish(size=SMALL))

    house.die(house.task_of(made))

    assert lifecycle.get(house.world, OWNER, made.id).state is State.FAILED


@pytest.mark.parametrize(
    "wish",
    [
        Wish(size=LARGE),
        Wish(size=SMALL, volumes=(Mount("v", "/v"),)),
        Wish(size=SMALL, network=Network(block_all=True)),
    ],
)
def test_what_no_waiting_machine_fits_is_started_cold(wish: Wish) -> None:
    house = installed(1)

    assert lifecycle.create(house.world, OWNER, wish).state is State.CREATING
    assert len(warm(house)) == 1


def test_when_none_is_left_a_machine_is_started_cold() -> None:
    house = installed(1)
    lifecycle.create(house.world, OWNER, Wish(size=SMALL))

    assert lifecycle.create(house.world, OWNER, Wish(size=SMALL)).state is State.CREATING


def test_a_taken_name_costs_no_machine() -> None:
    house = installed(1)
    lifecycle.create(house.world, OWNER, Wish(name="mine", size=LARGE))

    with pytest.raises(Conflict, match="mine"):
        lifecycle.create(house.world, OWNER, Wish(name="mine", size=SMALL))

    assert [one.state for one in warm(house)] == [State.STARTED]


def test_a_machine_that_does_not_answer_is_passed_over_and_discarded() -> None:
    house = installed(2)
    mute = warm(house)[0]
    assert mute.machine is not None
    house.agents.answers[mute.machine.address] = refusing(Unavailable("silent"))

    made = [lifecycle.create(house.world, OWNER, Wish(size=SMALL)) for _ in range(2)]

    assert mute.machine not in [one.machine for one in made]
    assert house.sandboxes.get(WARM, mute.id).state is State.DELETING


def test_a_machine_that_another_took_first_is_left_to_it() -> None:
    house = installed(1)
    (waiting,) = warm(house)
    assert waiting.machine is not None
    taken = from_agent({"error": "unauthorized", "message": "who are you?"}, 401)
    house.agents.answers[waiting.machine.address] = refusing(taken)

    assert lifecycle.create(house.world, OWNER, Wish(size=SMALL)).state is State.CREATING
    assert house.sandboxes.get(WARM, waiting.id) == waiting


def test_a_machine_that_was_taken_and_forgotten_is_replaced() -> None:
    house = installed(1)
    (waiting,) = warm(house)
    house.task_of(waiting).token = "another's"

    pools.fill(house.world)
    house.play()

    (other,) = warm(house)
    assert (other.id != waiting.id, other.state) == (True, State.STARTED)
    assert [task.running for task in house.machines.tasks] == [False, True]


def test_a_pool_that_is_made_smaller_lets_machines_go() -> None:
    house = installed(3)
    smaller = Settings(secret=SECRET, url="", pools=(Pool("default", SMALL, 1),))

    pools.fill(replace(house.world, settings=smaller))
    house.play()

    assert len(warm(house)) == 1
    assert sum(task.running for task in house.machines.tasks) == 1


def test_machines_that_cannot_be_had_are_asked_for_until_they_can() -> None:
    house = House(Settings(secret=SECRET, url="", pools=(Pool("default", SMALL, 1),)))
    house.ecs_refuses = True
    for _ in range(3):
        sweep(house.world)
        house.play()
    house.ecs_refuses = False

    sweep(house.world)
    house.play()

    assert [one.state for one in warm(house)] == [State.STARTED]
