"""What callers ask of sandboxes, on the world in memory."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.core import lifecycle
from chalicelib.core.errors import Conflict, Invalid, NotFound, Stale, TimedOut, Unavailable
from chalicelib.core.ids import new_id
from chalicelib.core.lifecycle import Wish
from chalicelib.core.sandbox import Filter, Sandbox, Size
from chalicelib.core.states import ASKED, MOVING, TABLE, Event, State, after
from chalicelib.core.sweep import sweep
from tests.examples import OWNER, STRANGER, sandbox
from tests.fakes import BEGINNING
from tests.playing import House

MINUTE = timedelta(minutes=1)


@pytest.fixture
def house() -> House:
    return House()


def started(house: House, **wishes: Any) -> Sandbox:
    made = lifecycle.create(house.world, OWNER, Wish(**wishes))
    house.play()
    return lifecycle.get(house.world, OWNER, made.id)


def test_a_new_sandbox_is_creating_and_its_workflow_runs(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish(name="mine", env={"A": "b"}), created_by="ada")

    assert (made.state, made.name, made.created_by, made.version) == (State.CREATING, "mine", "ada", 1)
    assert made.movement == made.incarnation == f"{made.id}-1"
    assert house.workflows.running("start", made.movement)


def test_a_new_sandbox_is_started_once_its_machine_says_hello(house: House) -> None:
    made = started(house)

    assert made.state is State.STARTED
    assert made.machine == house.machines.tasks[0].machine


def test_a_nameless_sandbox_is_named_by_its_id(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())

    assert made.name == made.id
    assert lifecycle.get(house.world, OWNER, made.id) == made


def test_a_sandbox_gets_the_machine_that_exists_and_is_large_enough(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish(size=Size(cpu=0.3, memory_mib=3000, disk_gib=5)))

    assert made.size == Size(cpu=0.5, memory_mib=3072, disk_gib=5)


@pytest.mark.parametrize(
    ("wish", "refusal"),
    [
        (Wish(name="-x"), Invalid),
        (Wish(name="a/b"), Invalid),
        (Wish(name="x" * 64), Invalid),
        (Wish(image="other"), NotFound),
        (Wish(size=Size(cpu=0)), Invalid),
        (Wish(size=Size(cpu=-1)), Invalid),
        (Wish(size=Size(cpu=float("nan"))), Invalid),
        (Wish(size=Size(cpu=1e9)), Invalid),
        (Wish(size=Size(memory_mib=0)), Invalid),
        (Wish(size=Size(disk_gib=0)), Invalid),
        (Wish(size=Size(disk_gib=201)), Invalid),
        (Wish(env={"SANDBAR_BOOT": "x"}), Invalid),
        (Wish(env={"A=B": "x"}), Invalid),
        (Wish(env={"A": "x\0"}), Invalid),
        (Wish(env={"A": "x" * 40_000}), Invalid),
        (Wish(labels={str(n): "" for n in range(65)}), Invalid),
        (Wish(labels={"": "x"}), Invalid),
        (Wish(labels={"a": "x" * 257}), Invalid),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    house: House, wish: Wish, refusal: type[Exception] | None
) -> None:
    if refusal is None:
        lifecycle.create(house.world, OWNER, wish)
        return

    with pytest.raises(refusal):
        lifecycle.create(house.world, OWNER, wish)

    assert lifecycle.list_page(house.world, OWNER, Filter()).items == ()
    assert not house.workflows.executions


def test_a_taken_name_is_refused_and_starts_nothing(house: House) -> None:
    lifecycle.create(house.world, OWNER, Wish(name="mine"))

    with pytest.raises(Conflict, match="mine"):
        lifecycle.create(house.world, OWNER, Wish(name="mine"))

    assert len(house.workflows.executions) == 1


def test_where_the_workflow_cannot_be_started_the_sweep_starts_it(house: House) -> None:
    class Failing:
        def __getattr__(self, _: str) -> Any:
            raise Unavailable("busy")

    with pytest.raises(Unavailable):
        lifecycle.create(replace(house.world, workflows=Failing()), OWNER, Wish(name="mine"))
    house.clock.turn(5 * MINUTE)
    sweep(house.world)
    house.play()

    assert lifecycle.get(house.world, OWNER, "mine").state is State.STARTED


def test_a_sandbox_whose_name_looks_like_an_id_is_found_by_it(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish(name="123e4567-e89b-42d3-a456-426614174000"))

    assert lifecycle.get(house.world, OWNER, made.name) == made


def test_a_sandbox_is_found_by_id_and_by_name_and_only_by_its_owner(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish(name="mine"))

    assert lifecycle.get(house.world, OWNER, made.id) == lifecycle.get(house.world, OWNER, "mine") == made
    for owner, word in (
        (STRANGER, made.id),
        (STRANGER, "mine"),
        (OWNER, "yours"),
        (OWNER, new_id(BEGINNING)),
        (OWNER, ""),
    ):
        with pytest.raises(NotFound, match="not found"):
            lifecycle.get(house.world, owner, word)


@pytest.mark.parametrize("limit", [0, -1, 201])
def test_a_page_has_a_sane_size(house: House, limit: int) -> None:
    with pytest.raises(Invalid, match="limit"):
        lifecycle.list_page(house.world, OWNER, Filter(), limit=limit)


@pytest.mark.parametrize("state", [state for state in State if state is not State.DELETED])
@pytest.mark.parametrize("event", sorted(ASKED))
def test_asking_does_what_the_table_says(house: House, state: State, event: Event) -> None:
    made = house.sandboxes.add(sandbox(state=state, changed_at=BEGINNING - MINUTE, reason="before"))
    if (state, event) == (State.DELETING, Event.DELETE):
        assert lifecycle.ask(house.world, OWNER, made.id, event) == made
        return
    if event not in TABLE[state]:
        with pytest.raises(Conflict, match=f"cannot {event}"):
            lifecycle.ask(house.world, OWNER, made.id, event)
        assert house.sandboxes.get(OWNER, made.id) == made
        return

    asked = lifecycle.ask(house.world, OWNER, made.id, event)

    assert (asked.state, asked.movement, asked.version) == (after(state, event), f"{made.id}-2", 2)
    assert (asked.changed_at, asked.reason) == (BEGINNING, None)
    assert [e.movement for e in house.workflows.executions.values()] == [asked.movement]


def test_of_two_who_stop_at_once_one_wins_and_the_other_is_told_the_state(house: House) -> None:
    made = started(house)
    first = lifecycle.ask(house.world, OWNER, made.id, Event.STOP)

    with pytest.raises(Conflict, match="that is stopping") as refused:
        lifecycle.ask(house.world, OWNER, made.id, Event.STOP)

    assert refused.value.details["state"] is State.STOPPING
    assert house.sandboxes.get(OWNER, made.id) == first


def test_a_movement_that_was_asked_for_of_an_older_sandbox_is_stale(house: House) -> None:
    read = started(house)
    house.sandboxes.touch(read, house.clock.now())

    with pytest.raises(Stale):
        lifecycle.ask_if_unchanged(house.world, read, Event.STOP)


def test_a_change_is_tried_again_where_another_write_came_between(house: House) -> None:
    made = started(house)
    edits = iter(range(10))

    def edit(one: Sandbox) -> Sandbox:
        if next(edits) < 3:
            house.sandboxes.touch(one, house.clock.now())
        return replace(one, public=True)

    assert lifecycle.rewrite(house.world, OWNER, made.id, edit).public


def test_a_change_is_not_tried_for_ever(house: House) -> None:
    made = started(house)

    def edit(one: Sandbox) -> Sandbox:
        house.sandboxes.touch(one, house.clock.now())
        return replace(one, public=True)

    with pytest.raises(Stale):
        lifecycle.rewrite(house.world, OWNER, made.id, edit)


def test_labels_can_be_changed_while_it_moves_and_the_movement_goes_on(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())

    lifecycle.change(house.world, OWNER, made.id, labels={"team": "blue"})
    house.play()

    now = lifecycle.get(house.world, OWNER, made.id)
    assert (now.state, now.labels) == (State.STARTED, {"team": "blue"})


def test_labels_that_are_too_many_are_refused(house: House) -> None:
    made = started(house)

    with pytest.raises(Invalid):
        lifecycle.change(house.world, OWNER, made.id, labels={str(n): "" for n in range(65)})


class Waiting:
    """A clock that lets something happen while somebody waits."""

    def __init__(self, house: House, then: Callable[[], object]) -> None:
        self._clock, self._then = house.clock, then
        self.now = house.clock.now

    def sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)
        self._then()


def test_waiting_ends_when_nothing_moves_any_more(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())
    world = replace(house.world, clock=Waiting(house, house.play))

    assert lifecycle.wait(world, made, at_most=MINUTE).state is State.STARTED
    assert house.clock.now() < BEGINNING + MINUTE


def test_waiting_ends_when_the_time_is_up(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())

    assert lifecycle.wait(house.world, made, at_most=MINUTE).state is State.CREATING
    assert BEGINNING + MINUTE <= house.clock.now() < BEGINNING + 2 * MINUTE


def test_waiting_for_a_delete_ends_when_it_is_gone(house: House) -> None:
    made = started(house)
    deleting = lifecycle.ask(house.world, OWNER, made.id, Event.DELETE)

    waited = lifecycle.wait(replace(house.world, clock=Waiting(house, house.play)), deleting, at_most=MINUTE)

    assert waited.state is State.DELETED


def test_only_a_started_sandbox_may_be_used(house: House) -> None:
    made = started(house)

    assert lifecycle.usable(made) == made
    with pytest.raises(TimedOut, match="still creating"):
        lifecycle.usable(replace(made, state=State.CREATING))
    with pytest.raises(Conflict, match=r"is failed \(it ran out of memory\); start it first"):
        lifecycle.usable(replace(made, state=State.FAILED, reason="it ran out of memory"))


def test_moving_and_recoverable_are_told_by_the_sandbox_itself() -> None:
    assert {state for state in State if sandbox(state=state).moving} == set(MOVING)
    assert not sandbox(state=State.FAILED).recoverable
    assert not sandbox(state=State.STOPPED).recoverable
