"""Sandboxes: made, found, moved, deleted. A request that moves one waits for it as long as it may."""

from collections.abc import Callable
from datetime import timedelta

from chalicelib.core import lifecycle
from chalicelib.core.errors import NotFound
from chalicelib.core.ids import is_id
from chalicelib.core.sandbox import Sandbox
from chalicelib.core.states import Event
from chalicelib.core.world import World
from chalicelib.dialect import Body, Call, Route
from chalicelib.dialects.daytona.creating import HOLD, NEW, create
from chalicelib.dialects.daytona.fields import flag
from chalicelib.dialects.daytona.shapes import SANDBOX

AFTERLIFE = timedelta(seconds=3)
"""How long a deleted sandbox still answers: the older SDKs read it once more after deleting it, and take a 404 ill."""

FORCE: Body = {"force": ("", flag)}  # set aside: a stop always ends what does not end itself, a delete always deletes
VERBOSE: Body = {"verbose": ("", flag)}  # set aside: everything is always told


def found(world: World, call: Call) -> Sandbox:
    """The caller's sandbox of this id or name; one that was deleted a moment ago too, as destroyed."""
    wanted = call.params["sandbox"]
    try:
        return lifecycle.get(world, call.owner, wanted)
    except NotFound:
        if is_id(wanted) and (dead := _lately_deleted(world, call.owner, wanted)):
            return dead
        raise


def asked(event: Event) -> Callable[[World, Call], Sandbox]:
    """Asks for a movement and waits for its end as long as the request may."""

    def act(world: World, call: Call) -> Sandbox:
        moving = lifecycle.ask(world, call.owner, call.params["sandbox"], event)
        return lifecycle.wait(world, moving, at_most=HOLD)

    return act


def delete(world: World, call: Call) -> Sandbox:
    """Asks for the end of a sandbox, and waits for nothing."""
    return lifecycle.ask(world, call.owner, call.params["sandbox"], Event.DELETE)


def _lately_deleted(world: World, owner: str, id: str) -> Sandbox | None:
    try:
        dead = world.sandboxes.tombstone(owner, id)
    except NotFound:
        return None
    return dead if world.clock.now() - dead.changed_at < AFTERLIFE else None


ROUTES = (
    Route("POST", "/sandbox", create, SANDBOX, NEW, needs="write:sandboxes"),
    Route("GET", "/sandbox/{sandbox}", found, SANDBOX, query=VERBOSE),
    Route("DELETE", "/sandbox/{sandbox}", delete, SANDBOX, query=FORCE, needs="delete:sandboxes"),
    Route("POST", "/sandbox/{sandbox}/start", asked(Event.START), SANDBOX, needs="write:sandboxes"),
    Route("POST", "/sandbox/{sandbox}/stop", asked(Event.STOP), SANDBOX, query=FORCE, needs="write:sandboxes"),
    Route("POST", "/sandbox/{sandbox}/recover", asked(Event.RECOVER), SANDBOX, needs="write:sandboxes"),
)
