"""What happens to sandboxes by themselves: each minute, to those whose deadline has passed and to no others."""

from chalicelib.core import lifecycle, movements, pools
from chalicelib.core.audit import POLICY
from chalicelib.core.deadlines import due_event
from chalicelib.core.errors import Refused
from chalicelib.core.sandbox import Sandbox
from chalicelib.core.world import World

MOST_AT_ONCE = 100


def sweep(world: World) -> list[str]:
    """Do what is due and fill the pools; the ids of those that were due.

    One that a caller moves meanwhile is the caller's, and one that cannot be attended to now keeps nobody else waiting.
    """
    world, seen = world.acting(POLICY), []
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
    elif event := due_event(sandbox, world.clock.now()):
        lifecycle.ask_if_unchanged(world, sandbox, event)
