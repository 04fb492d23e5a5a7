"""The lifecycle as one table: a state, an event, the next state. Everything else about states is derived from it."""

from enum import StrEnum

from chalicelib.core.errors import Conflict


class State(StrEnum):
    """Where a sandbox is. The words are ours; each dialect has its own for them."""

    CREATING = "creating"
    STARTING = "starting"
    STARTED = "started"
    STOPPING = "stopping"
    STOPPED = "stopped"
    ARCHIVING = "archiving"
    ARCHIVED = "archived"
    RESTORING = "restoring"
    DELETING = "deleting"
    DELETED = "deleted"
    FAILED = "failed"


class Event(StrEnum):
    """What may happen to a sandbox: asked for by a caller, or reported by its machine or workflow."""

    START = "start"
    STOP = "stop"
    ARCHIVE = "archive"
    RECOVER = "recover"
    DELETE = "delete"
    ARRIVED = "arrived"  # the agent of its machine said hello
    DONE = "done"  # the workflow that moved it came to its end
    FAIL = "fail"  # the workflow gave up
    LOST = "lost"  # its machine died by itself


TABLE: dict[State, dict[Event, State]] = {
    State.CREATING: {Event.ARRIVED: State.STARTED, Event.FAIL: State.FAILED, Event.DELETE: State.DELETING},
    State.STARTING: {Event.ARRIVED: State.STARTED, Event.FAIL: State.FAILED, Event.DELETE: State.DELETING},
    State.RESTORING: {Event.ARRIVED: State.STARTED, Event.FAIL: State.FAILED, Event.DELETE: State.DELETING},
    State.STARTED: {
        Event.STOP: State.STOPPING,
        Event.DELETE: State.DELETING,
        Event.LOST: State.FAILED,
        Event.ARRIVED: State.STARTED,  # the same machine came back, perhaps at another address
    },
    State.STOPPING: {
        Event.DONE: State.STOPPED,
        Event.FAIL: State.FAILED,
        Event.DELETE: State.DELETING,
        Event.ARRIVED: State.STOPPING,  # the machine came back with a disk that is still to be saved
    },
    State.STOPPED: {Event.START: State.STARTING, Event.ARCHIVE: State.ARCHIVING, Event.DELETE: State.DELETING},
    # An archive that fails has lost nothing: the sandbox is as stopped as it was.
    State.ARCHIVING: {Event.DONE: State.ARCHIVED, Event.FAIL: State.STOPPED, Event.DELETE: State.DELETING},
    State.ARCHIVED: {Event.START: State.RESTORING, Event.DELETE: State.DELETING},
    # A stop that could not save leaves its machine alive: recovering finds it so, and nothing was lost.
    State.FAILED: {Event.RECOVER: State.STARTING, Event.ARRIVED: State.STARTED, Event.DELETE: State.DELETING},
    # A delete is never given up: the sweep starts it again until it is done.
    State.DELETING: {Event.DONE: State.DELETED, Event.FAIL: State.DELETING},
    State.DELETED: {},
}

ASKED = frozenset({Event.START, Event.STOP, Event.ARCHIVE, Event.RECOVER, Event.DELETE})
"""Events that a caller asks for; the others are reported."""

MOVING = frozenset(state for state, row in TABLE.items() if Event.FAIL in row)
"""States that a workflow is working to leave."""

BOOTING = frozenset(state for state in MOVING if TABLE[state].get(Event.ARRIVED) is State.STARTED)
"""States in which a machine is on its way up."""

WORKFLOW: dict[State, str] = {
    **dict.fromkeys(BOOTING, "start"),
    State.STOPPING: "stop",
    State.ARCHIVING: "archive",
    State.DELETING: "delete",
}
"""The workflow that works in each moving state."""


def after(state: State, event: Event) -> State:
    """The state that follows, or `Conflict` naming the state and what it does allow."""
    row = TABLE[state]
    if event not in row:
        allowed = ", ".join(sorted(e for e in row if e in ASKED)) or "nothing"
        raise Conflict(f"cannot {event} a sandbox that is {state}: it allows {allowed}", state=state)
    return row[event]


def diagram() -> str:
    """The table as a Mermaid state diagram, for docs/ARCHITECTURE.md."""
    rows = [f"    {s} --> {n}: {e}" for s, row in TABLE.items() for e, n in row.items()]
    return "\n".join(["stateDiagram-v2", "    [*] --> creating: create", *rows, "    deleted --> [*]"])
