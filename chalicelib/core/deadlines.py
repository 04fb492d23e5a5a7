"""When something happens to a sandbox by itself, and what."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from chalicelib.core.sandbox import Sandbox
from chalicelib.core.states import MOVING, Event, State

PATIENCE = timedelta(minutes=2)  # a movement that takes longer is looked after by the sweep


def deadline(sandbox: Sandbox) -> datetime | None:
    """When the sweep has to look at it; None is never."""
    if sandbox.state in MOVING:
        return sandbox.changed_at + PATIENCE
    return min((when for when, _ in _plans(sandbox)), default=None)


def due_event(sandbox: Sandbox, now: datetime) -> Event | None:
    """What its policy asks for by now, if it does not move; deleting goes before all else."""
    due = [event for when, event in _plans(sandbox) if when <= now]
    return Event.DELETE if Event.DELETE in due else next(iter(due), None)


def _plans(sandbox: Sandbox) -> Sequence[tuple[datetime, Event]]:
    policy, rested = sandbox.policy, sandbox.changed_at
    by_state: dict[State, Sequence[tuple[datetime, timedelta | None, Event]]] = {
        State.STARTED: [(sandbox.active_at, policy.stop_after_idle, Event.STOP)],
        State.STOPPED: [
            (rested, policy.delete_after_stopped, Event.DELETE),
            (rested, policy.archive_after_stopped, Event.ARCHIVE),
        ],
        State.ARCHIVED: [(rested, policy.delete_after_stopped, Event.DELETE)],
    }
    plans = [(since + span, event) for since, span, event in by_state.get(sandbox.state, ()) if span is not None]
    if policy.expires_at and sandbox.state is not State.DELETED:
        plans.append((policy.expires_at, Event.DELETE))
    return plans
