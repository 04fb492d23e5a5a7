"""What happens to sandboxes by themselves when their time has come."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from chalicelib.core import deadlines, lifecycle
from chalicelib.core.audit import Actor
from chalicelib.core.errors import NotFound, Unavailable
from chalicelib.core.lifecycle import Wish
from chalicelib.core.sandbox import Policy, Sandbox
from chalicelib.core.states import MOVING, WORKFLOW, State
from chalicelib.core.sweep import resume, sweep
from tests.examples import OWNER, sandbox
from tests.fakes import BEGINNING
from tests.playing import House

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NEVER = Policy(stop_after_idle=None, archive_after_stopped=None)


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize(
    ("state", "policy", "due"),
    [
        (State.STARTED, NEVER, None),
        (State.STARTED, replace(NEVER, stop_after_idle=HOUR), BEGINNING + 2 * MINUTE + HOUR),
        (State.STARTED, replace(NEVER, archive_after_stopped=HOUR, delete_after_stopped=HOUR), None),
        (State.STARTED, replace(NEVER, stop_after_idle=HOUR, expires_at=BEGINNING), BEGINNING),
        (State.STOPPED, replace(NEVER, stop_after_idle=HOUR), None),
        (State.STOPPED, replace(NEVER, archive_after_stopped=DAY), BEGINNING + MINUTE + DAY),
        (
            State.STOPPED,
            replace(NEVER, archive_after_stopped=DAY, delete_after_stopped=HOUR),
            BEGINNING + MINUTE + HOUR,
        ),
        (State.ARCHIVED, replace(NEVER, archive_after_stopped=DAY), None),
        (State.ARCHIVED, replace(NEVER, delete_after_stopped=timedelta(0)), BEGINNING + MINUTE),
        (State.FAILED, Policy(MINUTE, MINUTE, MINUTE), None),
        (State.FAILED, replace(NEVER, expires_at=BEGINNING + DAY), BEGINNING + DAY),
        (State.DELETED, replace(NEVER, expires_at=BEGINNING), None),
        *((state, replace(NEVER, expires_at=BEGINNING), BEGINNING + 3 * MINUTE) for state in sorted(MOVING)),
    ],
)
def test_a_deadline_follows_from_state_policy_and_activity(state: State, policy: Policy, due: datetime | None) -> None:
    one = sandbox(state=state, policy=policy, changed_at=BEGINNING + MINUTE, active_at=BEGINNING + 2 * MINUTE)

    assert deadlines.deadline(one) == due


def settled(house: House, one: Sandbox) -> State:
    sweep(house.world)
    house.play()
    try:
        return house.sandboxes.get(OWNER, one.id).state
    except NotFound:
        return house.sandboxes.tombstone(OWNER, one.id).state


def test_an_idle_sandbox_is_stopped_archived_and_deleted_in_its_time(house: House) -> None:
    policy = Policy(stop_after_idle=HOUR, archive_after_stopped=DAY, delete_after_stopped=3 * DAY)
    made = lifecycle.create(house.world, OWNER, Wish(policy=policy))
    house.play()

    seen = []
    for span in (HOUR - MINUTE, MINUTE, DAY - MINUTE, MINUTE, 3 * DAY - MINUTE, MINUTE):
        house.clock.turn(span)
        seen.append(settled(house, made))

    assert seen == [State.STARTED, State.STOPPED, State.STOPPED, State.ARCHIVED, State.ARCHIVED, State.DELETED]


def test_a_sandbox_whose_stop_means_its_end_is_deleted_by_the_next_sweep(house: House) -> None:
    policy = Policy(stop_after_idle=HOUR, delete_after_stopped=timedelta(0))
    made = lifecycle.create(house.world, OWNER, Wish(policy=policy))
    house.play()
    house.clock.turn(HOUR)

    assert [settled(house, made), settled(house, made)] == [State.STOPPED, State.DELETED]


def test_an_expired_sandbox_is_deleted_whatever_it_is_doing(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish(policy=replace(NEVER, expires_at=BEGINNING + HOUR)))
    house.play()
    house.clock.turn(HOUR)

    assert settled(house, made) is State.DELETED


def test_a_sandbox_in_use_is_left_alone(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish(policy=Policy(stop_after_idle=HOUR)))
    house.play()
    house.clock.turn(HOUR)
    house.sandboxes.touch(house.sandboxes.get(OWNER, made.id), house.clock.now())

    assert sweep(house.world) == []


def test_a_sandbox_that_is_used_while_the_sweep_looks_at_it_is_left_alone(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish(policy=Policy(stop_after_idle=HOUR)))
    house.play()
    house.clock.turn(HOUR)

    class Late:
        """Gives out what is due, and then somebody uses it."""

        def __getattr__(self, name: str) -> Any:
            return getattr(house.sandboxes, name)

        def by(self, actor: Actor) -> "Late":
            return self

        def due(self, now: datetime, limit: int = 100) -> Sequence[Sandbox]:
            found = house.sandboxes.due(now, limit)
            for one in found:
                house.sandboxes.touch(one, now)
            return found

    assert sweep(replace(house.world, sandboxes=Late())) == [made.id]
    assert house.sandboxes.get(OWNER, made.id).state is State.STARTED


@pytest.mark.parametrize("state", sorted(MOVING))
def test_what_moves_too_long_without_a_workflow_gets_one(house: House, state: State) -> None:
    made = house.sandboxes.add(sandbox(state=state))
    house.clock.turn(3 * MINUTE)

    assert sweep(house.world) == [made.id]

    assert [(e.workflow, e.movement) for e in house.workflows.executions.values()] == [
        (WORKFLOW[state], f"{made.id}-2")
    ]


def test_what_moves_with_a_workflow_is_looked_at_again_later_and_not_at_once(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())
    house.clock.turn(3 * MINUTE)

    assert [sweep(house.world), sweep(house.world)] == [[made.id], []]
    assert len(house.workflows.executions) == 1


def test_after_a_restart_what_moves_goes_on_at_once(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())
    idle = house.sandboxes.add(sandbox(policy=Policy(stop_after_idle=MINUTE)))
    house.workflows.executions.clear()

    resume(house.world)
    house.play()

    assert house.sandboxes.get(OWNER, made.id).state is State.STARTED
    assert house.sandboxes.get(OWNER, idle.id) == idle


def test_a_restart_starts_nothing_twice(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())

    resume(house.world)
    house.play()

    assert house.sandboxes.get(OWNER, made.id).incarnation == made.incarnation


def test_one_that_cannot_be_attended_to_keeps_nobody_waiting(house: House) -> None:
    first = house.sandboxes.add(sandbox(state=State.CREATING))
    house.clock.turn(MINUTE)
    second = lifecycle.create(house.world, OWNER, Wish(policy=replace(NEVER, expires_at=BEGINNING)))
    house.play()
    house.clock.turn(3 * MINUTE)

    class Busy:
        def __getattr__(self, name: str) -> Any:
            return getattr(house.workflows, name)

        def running(self, *_: Any) -> bool:
            raise Unavailable("busy")

    assert sweep(replace(house.world, workflows=Busy())) == [second.id, first.id]
    assert house.sandboxes.get(OWNER, second.id).state is State.DELETING


def test_a_sweep_does_a_bounded_number_at_once(house: House) -> None:
    for _ in range(130):
        house.sandboxes.add(sandbox(policy=Policy(stop_after_idle=MINUTE)))
    house.clock.turn(HOUR)

    assert [len(sweep(house.world)), len(sweep(house.world)), len(sweep(house.world))] == [100, 30, 0]
