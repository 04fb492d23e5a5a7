"""What machines and workflows report, early, late, twice and by the wrong ones, on the world in memory."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib import tasks
from chalicelib.core import checkpoints, deadlines, lifecycle, movements, tokens
from chalicelib.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated, Unavailable
from chalicelib.core.lifecycle import Wish
from chalicelib.core.sandbox import Filter, Sandbox
from chalicelib.core.states import Event, State
from tests.examples import OWNER
from tests.fakes import refusing
from tests.playing import House

MINUTE = timedelta(minutes=1)


@pytest.fixture
def house() -> House:
    return House()


def now(house: House, one: Sandbox) -> Sandbox:
    return lifecycle.get(house.world, OWNER, one.id)


def started(house: House, **wishes: Any) -> Sandbox:
    made = lifecycle.create(house.world, OWNER, Wish(**wishes))
    house.play()
    return now(house, made)


def asked(house: House, one: Sandbox, event: Event) -> Sandbox:
    lifecycle.ask(house.world, OWNER, one.id, event)
    house.play()
    return now(house, one)


# ---------------------------------------------------------------- boot and hello


def test_a_machine_is_told_who_it_is(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish(env={"A": "b"}, user="daytona"))

    answer = movements.boot(house.world, movements.boot_token(house.world, made))

    assert answer["agent_token"] == movements.agent_token(house.world, made)
    assert (answer["env"], answer["user"], answer["restore"]) == ({"A": "b"}, "daytona", None)


def test_a_boot_token_is_good_once(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())
    token = movements.boot_token(house.world, made)
    movements.boot(house.world, token)

    with pytest.raises(Conflict, match="used before"):
        movements.boot(house.world, token)


def test_a_boot_token_is_good_though_labels_change_meanwhile(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())
    token = movements.boot_token(house.world, made)
    lifecycle.change(house.world, OWNER, made.id, labels={"a": "b"})

    movements.boot(house.world, token)

    assert now(house, made).booted


def test_a_boot_token_is_good_for_ten_minutes(house: House) -> None:
    token = movements.boot_token(house.world, lifecycle.create(house.world, OWNER, Wish()))
    house.clock.turn(11 * MINUTE)

    with pytest.raises(Unauthenticated):
        movements.boot(house.world, token)


def test_a_machine_that_nobody_waits_for_any_more_is_sent_away(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())
    token = movements.boot_token(house.world, made)
    lifecycle.ask(house.world, OWNER, made.id, Event.DELETE)

    with pytest.raises(Conflict, match="is deleting and needs no machine"):
        movements.boot(house.world, token)


def test_the_machine_of_a_deleted_sandbox_is_nobodys(house: House) -> None:
    made = started(house)
    asked_for = lifecycle.ask(house.world, OWNER, made.id, Event.DELETE)
    house.play()

    for kind in (movements.boot_token, movements.agent_token):
        with pytest.raises(Unauthenticated, match="no more"):
            movements.boot(house.world, kind(house.world, asked_for))


def test_an_older_machine_is_not_the_sandbox(house: House) -> None:
    made = started(house)
    older = movements.agent_token(house.world, made)
    newer = asked(house, asked(house, made, Event.STOP), Event.START)

    with pytest.raises(Forbidden, match="another machine"):
        movements.arrive(house.world, older)

    assert now(house, made) == newer


@pytest.mark.parametrize("token", ["", ".", "agent", "agent.e30.x", "agent.é.x", "x" * 5000, "boot.e30.AAAA"])
def test_a_forged_token_is_nobodys(house: House, token: str) -> None:
    started(house)

    for call in (movements.boot, movements.arrive):
        with pytest.raises(Unauthenticated):
            call(house.world, token)


def test_a_token_of_one_kind_is_worthless_as_another(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())

    with pytest.raises(Unauthenticated):
        movements.arrive(house.world, movements.boot_token(house.world, made))
    with pytest.raises(Unauthenticated):
        tokens.read(b"another secret", "agent", movements.agent_token(house.world, made), now=house.clock.now())


def test_a_restarted_machine_says_hello_again_and_restores_nothing(house: House) -> None:
    made = started(house)
    token = movements.agent_token(house.world, made)

    assert movements.boot(house.world, token)["restore"] is None
    movements.arrive(house.world, token)

    assert now(house, made).state is State.STARTED


def test_a_machine_that_comes_back_while_its_sandbox_stops_has_its_disk_saved(house: House) -> None:
    made, token = _saving(house)
    waiting = made.waiter
    house.machines.stop_all(made.incarnation, "the whole machine is restarted")
    back = house.machines.launch(made.incarnation)

    assert movements.boot(house.world, token)["restore"] is None
    movements.arrive(house.world, token)

    again = now(house, made)
    assert (again.state, again.machine, again.waiter) == (State.STOPPING, back.machine, waiting)
    assert house.workflows.running("stop", made.movement)


def test_a_machine_that_comes_back_with_an_unsaved_disk_is_its_sandbox_again(house: House) -> None:
    made = started(house)
    house.agents_cannot_save = "no space left on device"
    failed = asked(house, made, Event.STOP)
    token = movements.agent_token(house.world, failed)

    movements.boot(house.world, token)
    movements.arrive(house.world, token)

    assert now(house, made).state is State.STARTED


def test_a_machine_that_comes_back_to_be_deleted_is_sent_away(house: House) -> None:
    made = started(house)
    lifecycle.ask(house.world, OWNER, made.id, Event.DELETE)

    with pytest.raises(Conflict):
        movements.arrive(house.world, movements.agent_token(house.world, made))


def test_a_hello_from_a_task_that_ecs_does_not_show_is_asked_again(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())

    with pytest.raises(Unavailable, match="does not show"):
        movements.arrive(house.world, movements.agent_token(house.world, made))

    assert now(house, made).state is State.CREATING


def test_a_machine_that_cannot_restore_fails_its_sandbox_and_goes(house: House) -> None:
    house.agents_cannot_restore = "the checkpoint is damaged"

    made = started(house)

    assert (made.state, made.reason, made.machine) == (State.FAILED, "the checkpoint is damaged", None)
    assert not any(task.running for task in house.machines.tasks)


# ---------------------------------------------------------------- starts that fail


def test_a_start_that_ecs_refuses_fails_in_words(house: House) -> None:
    house.ecs_refuses = True

    made = started(house)

    assert made.state is State.FAILED
    assert made.reason == "ECS.ClientException: no such task definition"


def test_a_machine_that_stays_mute_is_stopped_when_the_time_is_up(house: House) -> None:
    house.agents_are_mute = True
    made = started(house)
    assert made.state is State.CREATING

    house.time_out(made)

    assert now(house, made).reason == "its machine did not report within five minutes"
    assert not any(task.running for task in house.machines.tasks)


def test_a_machine_that_dies_on_its_way_up_fails_its_sandbox_at_once(house: House) -> None:
    house.agents_are_mute = True
    made = started(house)

    house.die(house.machines.tasks[0], "its image cannot be fetched")

    assert (now(house, made).state, now(house, made).reason) == (State.FAILED, "its image cannot be fetched")


def test_a_start_that_was_tried_twice_fails_with_the_last_of_its_machines(house: House) -> None:
    house.agents_are_mute = True
    made = started(house)
    second = house.machines.launch(made.movement)

    house.die(house.machines.tasks[0])
    assert now(house, made).state is State.CREATING

    house.die(second)
    assert now(house, made).state is State.FAILED


def test_a_start_that_times_out_after_all_went_well_stops_nothing(house: House) -> None:
    made = started(house)
    late = {"task": "give_up", "workflow": "start", "owner": OWNER, "id": made.id, "movement": made.movement}

    tasks.perform(house.world, {**late, "error": {"Error": "States.Timeout", "Cause": ""}})

    assert now(house, made) == made
    assert house.task_of(made).running


def test_a_machine_that_arrives_after_the_start_was_given_up_is_taken(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())
    task = house.machines.launch(made.movement)
    movements.boot(house.world, movements.boot_token(house.world, made))
    house.world.sandboxes.put(replace(now(house, made), state=State.FAILED, reason="late"))

    movements.arrive(house.world, movements.agent_token(house.world, made))

    assert (now(house, made).state, now(house, made).machine) == (State.STARTED, task.machine)


def test_an_agent_may_be_quicker_than_the_workflow_that_waits_for_it(house: House) -> None:
    house.agents_are_quick = True

    made = started(house)

    assert made.state is State.STARTED
    assert not house.workflows.running("start", made.movement)


def test_a_machine_that_fails_before_the_workflow_waits_for_it_is_stopped(house: House) -> None:
    house.agents_are_quick, house.agents_cannot_restore = True, "the checkpoint is damaged"

    made = started(house)

    assert made.reason == "the checkpoint is damaged"
    assert not any(task.running for task in house.machines.tasks)


def test_a_workflow_does_not_wait_for_what_was_deleted(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())
    house.agents_are_mute = True
    lifecycle.ask(house.world, OWNER, made.id, Event.DELETE)
    house.play()

    assert not house.workflows.running("start", made.movement)


def test_a_start_that_fails_by_itself_ends_its_workflow(house: House) -> None:
    house.agents_are_mute = True
    made = started(house)
    assert house.workflows.running("start", made.movement)

    house.die(house.machines.tasks[0])
    house.play()

    assert not house.workflows.running("start", made.movement)


def test_a_failed_sandbox_can_be_recovered(house: House) -> None:
    house.ecs_refuses = True
    made = started(house)
    house.ecs_refuses = False

    assert asked(house, made, Event.RECOVER).state is State.STARTED


# ---------------------------------------------------------------- stop, save, start


def test_a_stopped_sandbox_starts_with_its_disk(house: House) -> None:
    made = started(house)
    house.task_of(made).disk["/home/a"] = b"kept"

    stopped = asked(house, made, Event.STOP)

    assert (stopped.state, stopped.machine, stopped.upload) == (State.STOPPED, None, None)
    assert stopped.checkpoint is not None
    assert not any(task.running for task in house.machines.tasks)
    assert house.task_of(asked(house, stopped, Event.START)).disk == {"/home/a": b"kept"}


def test_an_archived_sandbox_is_restored_with_its_disk(house: House) -> None:
    made = started(house)
    house.task_of(made).disk["/home/a"] = b"kept"

    archived = asked(house, asked(house, made, Event.STOP), Event.ARCHIVE)

    assert archived.state is State.ARCHIVED
    assert house.task_of(asked(house, archived, Event.START)).disk == {"/home/a": b"kept"}


def test_only_the_newest_checkpoint_is_kept(house: House) -> None:
    made = started(house)

    twice = asked(house, asked(house, asked(house, made, Event.STOP), Event.START), Event.STOP)

    assert twice.checkpoint is not None
    assert list(house.blobs.objects) == [twice.checkpoint.key]


def test_the_newest_checkpoint_is_kept_where_its_name_begins_with_the_older_ones(house: House) -> None:
    stopped = asked(house, started(house), Event.STOP)
    back = asked(house, stopped, Event.START)
    for _ in range(10 * int(stopped.movement.rpartition("-")[2]) - 1 - back.version):
        lifecycle.change(house.world, OWNER, back.id, public=True)

    twice = asked(house, back, Event.STOP)

    assert stopped.checkpoint is not None
    assert twice.checkpoint is not None
    assert twice.checkpoint.key.startswith(stopped.checkpoint.key)
    assert list(house.blobs.objects) == [twice.checkpoint.key]


def test_a_disk_that_cannot_be_saved_fails_the_stop_and_keeps_the_machine(house: House) -> None:
    made = started(house)
    house.agents_cannot_save = "no space left on device"

    failed = asked(house, made, Event.STOP)

    assert failed.state is State.FAILED
    assert failed.reason == "the disk could not be saved: no space left on device"
    assert failed.upload is None
    assert house.task_of(failed).running


def test_recovering_after_a_stop_that_failed_finds_the_machine_as_it_was(house: House) -> None:
    made = started(house)
    house.task_of(made).disk["/home/a"] = b"unsaved"
    house.agents_cannot_save = "no space left on device"
    failed = asked(house, made, Event.STOP)

    back = asked(house, failed, Event.RECOVER)

    assert (back.state, back.machine, back.reason) == (State.STARTED, made.machine, None)
    assert house.task_of(back).disk == {"/home/a": b"unsaved"}


def test_recovering_with_a_machine_that_no_longer_answers_starts_from_the_checkpoint(house: House) -> None:
    made = asked(house, asked(house, started(house), Event.STOP), Event.START)
    house.agents_cannot_save = "no space left on device"
    failed = asked(house, made, Event.STOP)
    del house.agents.answers[house.task_of(failed).machine.address]

    with pytest.raises(Unavailable, match="runs and does not answer"):
        lifecycle.ask(house.world, OWNER, failed.id, Event.RECOVER)
    house.clock.turn(lifecycle.SILENCE_IS_BORNE)
    back = asked(house, failed, Event.RECOVER)

    assert back.state is State.STARTED
    assert [task.running for task in house.machines.tasks] == [False, False, True]


def test_an_agent_that_refuses_to_save_fails_the_stop(house: House) -> None:
    made = started(house)
    house.agents.answers[house.task_of(made).machine.address] = refusing(Conflict("another checkpoint is being saved"))

    failed = asked(house, made, Event.STOP)

    assert failed.reason == "the disk could not be saved: another checkpoint is being saved"


def test_an_agent_that_is_on_its_way_back_is_asked_again(house: House) -> None:
    made = started(house)
    address = house.task_of(made).machine.address
    agent, silences = house.agents.answers[address], iter(range(3))

    def slow(*said: Any) -> Any:
        if next(silences, None) is not None:
            raise Unavailable("the sandbox does not answer")
        return agent(*said)

    house.agents.answers[address] = slow

    assert asked(house, made, Event.STOP).state is State.STOPPED
    assert house.blobs.uploads == {}


def test_an_agent_that_stays_silent_fails_the_stop(house: House) -> None:
    made = started(house)
    del house.agents.answers[house.task_of(made).machine.address]

    failed = asked(house, made, Event.STOP)

    assert (failed.state, failed.reason) == (State.FAILED, "the disk could not be saved: the sandbox does not answer")


def test_a_disk_of_which_a_part_is_missing_is_not_saved(house: House) -> None:
    made, token = _saving(house)

    _say_saved(house, token, made.movement, ['"x"'], size=3)
    house.play()

    assert now(house, made).state is State.FAILED
    assert "a part of the upload is missing" in (now(house, made).reason or "")


def test_a_disk_of_another_length_than_was_said_is_not_saved(house: House) -> None:
    made, token = _saving(house)
    etag = _send(house, made, b"abc")

    _say_saved(house, token, made.movement, [etag], size=4)
    house.play()

    assert now(house, made).reason == "the disk could not be saved: 3 of 4 bytes arrived"
    assert not house.blobs.objects


def test_to_say_twice_that_the_disk_is_saved_is_harmless(house: House) -> None:
    made, token = _saving(house)
    etag = _send(house, made, b"abc")

    for _ in range(2):
        _say_saved(house, token, made.movement, [etag], size=3)
    house.play()

    assert now(house, made).state is State.STOPPED


def test_a_checkpoint_that_is_not_being_saved_is_refused(house: House) -> None:
    _, token = _saving(house)

    with pytest.raises(Conflict, match="not saving the checkpoint other"):
        _say_saved(house, token, "other", [], size=0)


def test_more_parts_are_given_while_a_disk_is_being_saved(house: House) -> None:
    _, token = _saving(house)

    assert len(checkpoints.more_parts(house.world, token, first=5, count=64)) == 64
    for first, count in ((0, 1), (1, 0), (1, 65), (10_000, 2)):
        with pytest.raises(Invalid):
            checkpoints.more_parts(house.world, token, first=first, count=count)


def test_no_parts_are_given_where_no_disk_is_being_saved(house: House) -> None:
    made = started(house)

    with pytest.raises(Conflict, match="saving no checkpoint"):
        checkpoints.more_parts(house.world, movements.agent_token(house.world, made), first=1, count=1)


def test_a_machine_that_dies_while_its_disk_is_saved_fails_the_stop_at_once(house: House) -> None:
    made, _ = _saving(house)

    house.die(house.task_of(made))

    assert (now(house, made).state, now(house, made).machine) == (State.FAILED, None)


def test_a_machine_that_ends_once_its_disk_is_saved_was_to_end(house: House) -> None:
    made, token = _saving(house)
    etag = _send(house, made, b"abc")
    _say_saved(house, token, made.movement, [etag], size=3)

    house.die(house.task_of(made))
    house.play()

    assert now(house, made).state is State.STOPPED


def test_an_error_of_ours_while_saving_is_told_to_the_workflow_and_to_the_log(house: House) -> None:
    made = started(house)
    house.agents.answers[house.task_of(made).machine.address] = refusing(ZeroDivisionError())
    stopping = lifecycle.ask(house.world, OWNER, made.id, Event.STOP)

    with pytest.raises(ZeroDivisionError):
        house.play()

    told = house.workflows.executions[f"token stop {stopping.movement}"].told
    assert told == {
        "Error": "Sandbar.Refused",
        "Cause": "the disk could not be saved: an error of ours; the log has it",
    }


def _saving(house: House) -> tuple[Sandbox, str]:
    """A sandbox whose agent has been asked to save, and that agent's token."""
    made = started(house)
    house.agents.answers[house.task_of(made).machine.address] = lambda *_: {}
    lifecycle.ask(house.world, OWNER, made.id, Event.STOP)
    house.play()
    return now(house, made), movements.agent_token(house.world, made)


def _say_saved(house: House, token: str, checkpoint: str, etags: list[str], *, size: int) -> None:
    checkpoints.saved(house.world, token, checkpoint=checkpoint, etags=etags, size=size, sha256="0" * 64)


def _send(house: House, one: Sandbox, disk: bytes) -> str:
    """The agent sends its disk in one part; its ETag."""
    assert one.upload is not None
    return house.blobs.send(house.blobs.part_urls(one.upload.key, one.upload.id, 1, 1)[0], disk)


# ---------------------------------------------------------------- delete, loss, late reports


def test_a_deleted_sandbox_leaves_a_tombstone_and_nothing_else(house: House) -> None:
    made = started(house, name="mine")
    again = asked(house, asked(house, made, Event.STOP), Event.START)

    lifecycle.ask(house.world, OWNER, made.id, Event.DELETE)
    house.play()

    assert lifecycle.list_page(house.world, OWNER, Filter()).items == ()
    assert house.sandboxes.tombstone(OWNER, again.id).state is State.DELETED
    assert not house.blobs.objects
    assert not any(task.running for task in house.machines.tasks)
    with pytest.raises(NotFound):
        lifecycle.get(house.world, OWNER, "mine")


def test_deleting_twice_is_deleting(house: House) -> None:
    made = started(house)
    first = lifecycle.ask(house.world, OWNER, made.id, Event.DELETE)

    assert lifecycle.ask(house.world, OWNER, made.id, Event.DELETE) == first


def test_a_sandbox_deleted_while_it_starts_leaves_no_machine(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())
    lifecycle.ask(house.world, OWNER, made.id, Event.DELETE)

    house.play()

    assert not any(task.running for task in house.machines.tasks)
    with pytest.raises(NotFound):
        now(house, made)


def test_a_machine_that_says_hello_to_a_sandbox_that_is_being_deleted_is_sent_away(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())
    house.machines.launch(made.movement)
    movements.boot(house.world, movements.boot_token(house.world, made))
    lifecycle.ask(house.world, OWNER, made.id, Event.DELETE)

    with pytest.raises(Conflict):
        movements.arrive(house.world, movements.agent_token(house.world, made))

    assert now(house, made).state is State.DELETING


def test_a_sandbox_whose_machine_dies_has_failed_and_says_why(house: House) -> None:
    made = started(house)

    house.die(house.task_of(made))

    lost = now(house, made)
    assert (lost.state, lost.reason, lost.machine) == (State.FAILED, "it ran out of memory", None)


def test_the_end_of_another_machine_is_passed_over(house: House) -> None:
    older = house.machines.tasks
    made = asked(house, asked(house, started(house), Event.STOP), Event.START)

    house.die(older[0])
    movements.lost(house.world, "task-9", "no-such-movement", "any")
    movements.lost(house.world, "task-9", made.incarnation, "a second try of the same start")

    assert now(house, made) == made


@pytest.mark.parametrize("report", ["settle", "give_up"])
def test_a_late_report_is_passed_over(house: House, report: str) -> None:
    made = started(house)
    stopping = lifecycle.ask(house.world, OWNER, made.id, Event.STOP)
    deleting = lifecycle.ask(house.world, OWNER, made.id, Event.DELETE)
    late = {"workflow": "stop", "owner": OWNER, "id": made.id, "movement": stopping.movement, "error": {"Error": "x"}}

    tasks.perform(house.world, {"task": report, **late})

    assert now(house, made) == deleting


@pytest.mark.parametrize("report", ["settle", "give_up"])
def test_a_report_about_what_is_gone_is_passed_over(house: House, report: str) -> None:
    nobody = {"workflow": "stop", "owner": OWNER, "id": "nobody", "movement": "nobody-1", "error": {"Error": "x"}}

    assert tasks.perform(house.world, {"task": report, **nobody}) == {}


def test_a_save_that_comes_late_asks_nobody(house: House) -> None:
    made = started(house)
    event = {"task": "save", "task_token": "t", "owner": OWNER, "id": made.id, "movement": made.movement}

    tasks.perform(house.world, event)

    assert now(house, made) == made


# ---------------------------------------------------------------- movements that take long


def test_a_movement_whose_workflow_is_lost_is_started_again_under_another_name(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())
    house.workflows.executions.clear()

    movements.drive_on(house.world, made)
    house.play()

    again = now(house, made)
    assert again.state is State.STARTED
    assert again.movement == again.incarnation != made.movement


def test_a_start_that_begins_anew_stops_what_the_first_brought_up(house: House) -> None:
    house.agents_are_mute = True
    made = started(house)
    house.workflows.executions.clear()

    movements.drive_on(house.world, now(house, made))

    assert not any(task.running for task in house.machines.tasks)


def test_a_movement_whose_workflow_runs_is_looked_at_later(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())
    house.clock.turn(3 * MINUTE)

    movements.drive_on(house.world, made)

    assert now(house, made).movement == made.movement
    assert deadlines.deadline(now(house, made)) == house.clock.now() + deadlines.PATIENCE


def test_what_does_not_move_is_not_driven(house: House) -> None:
    made = started(house)

    movements.drive_on(house.world, made)

    assert now(house, made) == made


def test_a_stop_whose_workflow_is_lost_after_the_disk_was_saved_ends_stopped(house: House) -> None:
    made, token = _saving(house)
    etag = _send(house, made, b"abc")
    house.workflows.executions.clear()
    _say_saved(house, token, made.movement, [etag], size=3)
    house.machines.stop(house.task_of(made).machine.task, "the workflow had come so far")
    del house.agents.answers[house.task_of(made).machine.address]

    movements.drive_on(house.world, now(house, made))
    house.play()

    assert now(house, made).state is State.STOPPED


def test_a_stop_whose_workflow_is_lost_while_the_disk_is_sent_waits_for_the_same_disk(house: House) -> None:
    made, token = _saving(house)
    house.agents.answers[house.task_of(made).machine.address] = lambda *_: {"state": "saving"}
    house.workflows.executions.clear()
    movements.drive_on(house.world, made)
    house.play()
    etag = _send(house, made, b"abc")

    _say_saved(house, token, made.movement, [etag], size=3)
    house.play()

    assert now(house, made).state is State.STOPPED


def test_a_stop_whose_workflow_is_lost_before_the_agent_was_asked_asks_it(house: House) -> None:
    made = started(house)
    stopping = lifecycle.ask(house.world, OWNER, made.id, Event.STOP)
    house.workflows.executions.clear()

    movements.drive_on(house.world, stopping)
    house.play()

    assert now(house, made).state is State.STOPPED
