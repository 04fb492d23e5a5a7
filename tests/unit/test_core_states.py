"""The table of states, row by row."""

import pytest

from chalicelib.core.errors import Conflict
from chalicelib.core.states import ASKED, BOOTING, MOVING, TABLE, WORKFLOW, Event, State, after

PAIRS = [(state, event) for state in State for event in Event]


def test_every_state_has_a_row() -> None:
    assert set(TABLE) == set(State)


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_an_event_leads_where_the_table_says_or_is_refused(state: State, event: Event) -> None:
    if event in TABLE[state]:
        assert after(state, event) is TABLE[state][event]
        return

    with pytest.raises(Conflict, match=f"cannot {event} a sandbox that is {state}") as refused:
        after(state, event)
    assert refused.value.details == {"state": state}


def test_a_refusal_names_what_is_allowed() -> None:
    with pytest.raises(Conflict, match="it allows archive, delete, start"):
        after(State.STOPPED, Event.STOP)
    with pytest.raises(Conflict, match="it allows nothing"):
        after(State.DELETED, Event.START)


def test_every_moving_state_has_a_workflow_and_no_other() -> None:
    assert set(WORKFLOW) == set(MOVING)


def test_whatever_moves_can_fail_and_be_deleted() -> None:
    for state in MOVING - {State.DELETING}:
        assert {Event.FAIL, Event.DELETE} <= set(TABLE[state])


def test_what_rests_is_left_by_asking_or_by_losing_its_machine() -> None:
    for state in set(State) - MOVING:
        assert set(TABLE[state]) <= ASKED | {Event.LOST, Event.ARRIVED}


def test_every_state_can_be_reached_and_left_for_good() -> None:
    reached, ends = {State.CREATING}, {State.DELETED}
    for _ in State:
        reached |= {after for state in reached for after in TABLE[state].values()}
        ends |= {state for state in State if ends & set(TABLE[state].values())}

    assert reached == ends == set(State)


def test_a_machine_that_comes_back_changes_the_state_of_nothing_that_had_it() -> None:
    assert {state for state in State if TABLE[state].get(Event.ARRIVED) is state} == {State.STARTED, State.STOPPING}


def test_a_boot_ends_in_started_or_failed() -> None:
    for state in BOOTING:
        assert (TABLE[state][Event.ARRIVED], TABLE[state][Event.FAIL]) == (State.STARTED, State.FAILED)
