"""What happens to sandboxes by themselves: each minute, to those whose deadline has passed and to no others."""

from contextlib import suppress

from chalicelib.core import lifecycle, movements, pools
from chalicelib.core.audit import POLICY
from chalicelib.core.deadlines import PATIENCE, due_event
from chalicelib.core.errors import Refused
from chalicelib.core.sandbox import Sandbox
from chalicelib.core.world import World

MOST_AT_ONCE = 100


def sweep(world: World) -> list[str]:
    """Do what is due and fill the pools; the ids of those that were due.

    One that a caller moves meanwhile is the caller's. One that fails in a way that nobody foresaw keeps nobody else waiting:
    what went wrong is raised at the end, all together.
    """
    world = world.acting(POLICY)
    seen: list[str] = []
    problems: list[Exception] = []
    for sandbox in world.sandboxes.due(world.clock.now(), MOST_AT_ONCE):
        seen.append(sandbox.id)
        try:
            _attend(world, sandbox)
        except Refused:
            continue
        except Exception as problem:
            problems.append(problem)
    pools.fill(world)
    if problems:
        raise ExceptionGroup(f"{len(problems)} of {len(seen)} sandboxes could not be attended to", problems)
    return seen


def resume(world: World) -> None:
    """After a restart that ended every workflow: what moves goes on now, not when the sweep's patience with it is up."""
    for sandbox in world.sandboxes.due(world.clock.now() + PATIENCE, MOST_AT_ONCE):
        if sandbox.moving:
            with suppress(Refused):
                movements.drive_on(world, sandbox)


def _attend(world: World, sandbox: Sandbox) -> None:
    if sandbox.moving:
        movements.drive_on(world, sandbox)
    elif event := due_event(sandbox, world.clock.now()):
        lifecycle.ask_if_unchanged(world, sandbox, event)
