"""Warm machines: booted, never used by anybody, waiting to become a sandbox within the request that asks for one.

A warm machine is a sandbox of nobody's: the same row, the same workflow, the same agent, under an owner that no organization
can have. To claim one is one call to its agent and one guarded transaction: its row goes, the caller's comes.
"""

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from chalicelib.core import movements, quotas
from chalicelib.core.errors import Conflict, NotFound, Refused, Stale
from chalicelib.core.ids import new_id
from chalicelib.core.sandbox import Filter, Network, Policy, Sandbox, Size
from chalicelib.core.states import BOOTING, Event, State
from chalicelib.core.world import World

WARM = "~warm"
LABEL = "pool"
MOST_READ = 100
TAKEN = (
    "unauthorized",
    "conflict",
)  # what an agent answers that has taken another name: its new owner is about to write


@dataclass(frozen=True, slots=True)
class Pool:
    """How many machines of an image and a size are kept warm."""

    image: str
    size: Size
    count: int

    @property
    def name(self) -> str:
        """What marks its machines."""
        return name_of(self.image, self.size)


def name_of(image: str, size: Size) -> str:
    """The pool that a sandbox of this image and size could come from."""
    return f"{image} {size.cpu:g} {size.memory_mib} {size.disk_gib}"


def claim(world: World, wanted: Sandbox) -> Sandbox | None:
    """Make a new, unwritten sandbox of a warm machine and warm up the next; None where none fits or none is left.

    `Conflict` where its name is taken. What is claimed has never served anyone: its row was nobody's till now.
    """
    pool = next((p for p in world.settings.pools if p.name == name_of(wanted.image, wanted.size)), None)
    if pool is None or wanted.volumes or wanted.network != Network():
        return None
    _want_name(world, wanted)
    # Before a machine takes its name, which is for good. The write decides; this keeps a full organization from using them up.
    quotas.check(world, wanted)
    for warm in _shuffled(_machines(world, pool)):
        mine = replace(
            wanted,
            state=State.STARTED,
            movement=warm.movement,
            incarnation=warm.incarnation,
            booted=True,
            machine=warm.machine,
        )
        if _taken(world, warm, mine) and (written := _written(world, warm, mine)):
            _warm_one(world, pool)
            return written
    return None


def fill(world: World) -> None:
    """Bring every pool to its number: start what is missing, delete what is too many or of no pool any more."""
    spare = {machine.id: machine for machine in _all(world)}
    for pool in world.settings.pools:
        machines = [m for m in spare.values() if _serves(world, pool, m)]
        for machine in machines[: pool.count]:
            del spare[machine.id]
        for _ in range(pool.count - len(machines)):
            _warm_one(world, pool)
    for machine in spare.values():
        _discard(world, machine)


def _want_name(world: World, wanted: Sandbox) -> None:
    """`Conflict` where the name is taken, before a machine is spent on it."""
    if wanted.name == wanted.id:
        return
    with suppress(NotFound):
        world.sandboxes.named(wanted.owner, wanted.name)
        raise Conflict(f"the name {wanted.name} is taken", name=wanted.name)


def _machines(world: World, pool: Pool) -> Sequence[Sandbox]:
    ready = Filter(labels={LABEL: pool.name}, states=frozenset({State.STARTED}))
    return world.sandboxes.list(WARM, ready, limit=MOST_READ).items


def _all(world: World) -> Sequence[Sandbox]:
    return world.sandboxes.list(WARM, Filter(), limit=MOST_READ).items


def _warm_one(world: World, pool: Pool) -> None:
    now = world.clock.now()
    id = new_id(now)
    movement = movements.name(id, 0)
    machine = Sandbox(
        id=id,
        owner=WARM,
        name=id,
        image=pool.image,
        state=State.CREATING,
        created_at=now,
        changed_at=now,
        active_at=now,
        size=pool.size,
        labels={LABEL: pool.name},
        policy=Policy(stop_after_idle=None, archive_after_stopped=None),
        movement=movement,
        incarnation=movement,
    )
    movements.set_off(world, world.sandboxes.add(machine))


def _taken(world: World, warm: Sandbox, mine: Sandbox) -> bool:
    """Whether the machine took its new name. The agent takes one only, so of two callers one has it.

    The agent first, then the row: who dies in between leaves a machine that knows nobody, which `fill` discards, and not a
    sandbox that is said to be started and answers to no one.
    """
    news = {
        "sandbox": mine.id,
        "agent_token": movements.agent_token(world, mine),
        "env": dict(mine.env),
        "user": mine.user,
    }
    try:
        movements.ask_agent(world, warm, "POST", "/claim", news)
    except Refused as refused:
        if refused.details.get("code") not in TAKEN:
            _discard(world, warm)
        return False
    return True


def _written(world: World, warm: Sandbox, mine: Sandbox) -> Sandbox | None:
    try:
        return world.sandboxes.claim(warm, mine)
    except Stale:
        return None
    except Refused:
        _discard(world, warm)
        raise


def _knows_us(world: World, machine: Sandbox) -> bool:
    """Whether its agent still takes the token of a machine that is nobody's."""
    if machine.state is not State.STARTED:
        return True
    try:
        movements.ask_agent(world, machine, "GET", "/info", {})
    except Refused:
        return False
    return True


def _serves(world: World, pool: Pool, machine: Sandbox) -> bool:
    ours = machine.labels.get(LABEL) == pool.name and machine.state in BOOTING | {State.STARTED}
    return ours and _knows_us(world, machine)


def _discard(world: World, machine: Sandbox) -> None:
    """Delete a machine, unless somebody else is at it."""
    if machine.state is State.DELETING:
        return
    with suppress(Stale):
        movements.set_off(world, world.sandboxes.put(movements.moved(world, machine, Event.DELETE)))


def _shuffled(machines: Sequence[Sandbox]) -> Sequence[Sandbox]:
    """In any order, so that claims made at once seldom want the same machine."""
    return random.sample(machines, len(machines))
