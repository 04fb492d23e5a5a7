"""What happens to sandboxes by themselves: each minute, to those whose deadline has passed and to no others."""

from chalicelib.core import lifecycle, movements, pools
from chalicelib.core.errors import Refused
from chalicelib.core.sandbox import Sandbox
from chalicelib.core.states import Event, State
from chalicelib.core.world import World

MOST_AT_ONCE = 100


def sweep(world: World) -> list[str]:
    """Do what is due and fill the pools; the ids of those that were due.

    One that a caller moves meanwhile is the caller's, and one that cannot be attended to now keeps nobody else waiting.
    """
    seen = []
    for sandbox in world.sandboxes.due(world.clock.now(), MOST_AT_ONCE):
        seen.append(sandbox.id)
        try:
            _attend(world, sandbox)
        except Refused:
            continue
    pools.fill(world)
    return seen


def _attend(world: World, sandbox: Sandbox) -> None:
    if sandbox.moving:
        movements.drive_on(world, sandbox)
    elif event := _due_event(world, sandbox):
        lifecycle.ask_if_unchanged(world, sandbox, event)


def _due_event(world: World, sandbox: Sandbox) -> Event | None:
    """What its policy asks for now; deleting goes before archiving."""
    now, policy = world.clock.now(), sandbox.policy
    if policy.expires_at and policy.expires_at <= now:
        return Event.DELETE
    if sandbox.state is State.STARTED:
        idle = policy.stop_after_idle
        return Event.STOP if idle is not None and sandbox.active_at + idle <= now else None
    for span, event in ((policy.delete_after_stopped, Event.DELETE), (policy.archive_after_stopped, Event.ARCHIVE)):
        if (
            span is not None
            and sandbox.changed_at + span <= now
            and not (event is Event.ARCHIVE and sandbox.state is State.ARCHIVED)
        ):
            return event
    return None
