"""What callers may do with sandboxes. Each of them is a guarded write and the start of a workflow; nothing waits here
but `wait`. What the machine and the workflow report back is in `movements`."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any

from chalicelib.core import limits, movements, pools
from chalicelib.core.errors import Conflict, Invalid, LimitReached, NotFound, Refused, Stale, TimedOut, Unavailable
from chalicelib.core.ids import is_id, new_id
from chalicelib.core.sandbox import Filter, Mount, Network, Page, Policy, Sandbox, Size
from chalicelib.core.states import BOOTING, MOVING, Event, State
from chalicelib.core.tickets import ticket
from chalicelib.core.world import World

TRIES = 5
SILENCE_IS_BORNE = timedelta(minutes=10)
LONGEST_PAUSE = 0.1  # between two looks; 25 seconds of them cost less than a thousandth of a cent
MOST_IN_A_PAGE = 200


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks of a new sandbox."""

    name: str | None = None
    image: str | None = None
    size: Size = Size()
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    policy: Policy = Policy()
    network: Network = Network()
    volumes: tuple[Mount, ...] = ()
    public: bool = False
    extras: Mapping[str, Any] = field(default_factory=dict)


def create(world: World, owner: str, wish: Wish, *, created_by: str = "", request_key: str | None = None) -> Sandbox:
    """A new sandbox: started where a warm machine was waiting, else on its way up.

    Under a request's key it is the sandbox of that request, however often it is asked for within a day.
    `Invalid` for what no machine can be, `Conflict` where the name is taken or the key was used for another wish,
    `LimitReached` where the organization has no room.
    """
    sandbox = _wished(world, owner, wish, created_by)
    if request_key is None:
        return _created(world, sandbox)
    # When it expires counts from the request, and so differs in each repetition.
    asked = asdict(replace(wish, policy=replace(wish.policy, expires_at=None)))
    sandbox = replace(sandbox, ticket=ticket(request_key, asked, sandbox.created_at))
    if earlier := _earlier(world, sandbox):
        return earlier
    try:
        return _created(world, sandbox)
    except (Conflict, LimitReached):
        if earlier := _earlier(world, sandbox):
            return earlier
        raise


def get(world: World, owner: str, id_or_name: str) -> Sandbox:
    """The owner's sandbox of this id or name, else `NotFound`. A name may look like an id: many are UUIDs."""
    if is_id(id_or_name):
        with suppress(NotFound):
            return world.sandboxes.get(owner, id_or_name)
    try:
        return world.sandboxes.named(owner, id_or_name)
    except NotFound:
        raise NotFound(f"sandbox {id_or_name[:80]} not found") from None


def list_page(world: World, owner: str, where: Filter, *, after: str | None = None, limit: int = 100) -> Page:
    """A page of the owner's sandboxes, newest first."""
    if not 1 <= limit <= MOST_IN_A_PAGE:
        raise Invalid(f"limit must be 1 to {MOST_IN_A_PAGE}, not {limit}")
    return world.sandboxes.list(owner, where, after=after, limit=limit)


def ask(world: World, owner: str, id_or_name: str, event: Event) -> Sandbox:
    """Ask for a movement: start, stop, archive, recover, delete. `Conflict` where the state does not allow it.

    A delete while it is being deleted is the same delete. Of two callers one wins, the other's `Conflict` names the state.
    """
    sandbox = get(world, owner, id_or_name)
    if event is Event.DELETE and sandbox.state is State.DELETING:
        return sandbox
    if event is Event.RECOVER and _rejoined(world, sandbox):
        return get(world, owner, id_or_name)
    return movements.set_off(world, rewrite(world, owner, sandbox.id, lambda s: movements.moved(world, s, event)))


def ask_if_unchanged(world: World, sandbox: Sandbox, event: Event) -> Sandbox:
    """The same for a sandbox as it was read: `Stale` where anybody, such as its user, has written to it since."""
    return movements.set_off(world, world.sandboxes.put(movements.moved(world, sandbox, event)))


def change(world: World, owner: str, id_or_name: str, **changes: Any) -> Sandbox:
    """Change what is not the state: labels, policy, network, public, extras. Tried again when another write came between."""
    if "labels" in changes:
        limits.check_labels(changes["labels"])
    return rewrite(world, owner, id_or_name, lambda sandbox: replace(sandbox, **changes))


def rewrite(world: World, owner: str, id_or_name: str, edit: Callable[[Sandbox], Sandbox]) -> Sandbox:
    """Read, edit, write; again from the start, a few times, where another write came between."""
    for _ in range(TRIES - 1):
        try:
            return world.sandboxes.put(edit(get(world, owner, id_or_name)))
        except Stale:
            continue
    return world.sandboxes.put(edit(get(world, owner, id_or_name)))


def wait(world: World, sandbox: Sandbox, *, at_most: timedelta) -> Sandbox:
    """The sandbox once no workflow moves it any more, or as it is when that time has passed since it began to move."""
    end = sandbox.changed_at + at_most
    pause = 0.02
    while sandbox.state in MOVING and world.clock.now() < end:
        world.clock.sleep(pause)
        pause = min(pause * 1.3, LONGEST_PAUSE)
        try:
            sandbox = world.sandboxes.get(sandbox.owner, sandbox.id)
        except NotFound:
            return replace(sandbox, state=State.DELETED)
    return sandbox


def usable(sandbox: Sandbox) -> Sandbox:
    """The sandbox, if its machine may be talked to now; else `Conflict` or `TimedOut` with the state in the sentence."""
    if sandbox.state is State.STARTED and sandbox.machine:
        return sandbox
    if sandbox.state in BOOTING:
        raise TimedOut(
            f"sandbox {sandbox.id} is still {sandbox.state}; ask again when it is started", state=sandbox.state
        )
    why = f" ({sandbox.reason})" if sandbox.reason else ""
    raise Conflict(f"sandbox {sandbox.id} is {sandbox.state}{why}; start it first", state=sandbox.state)


def _rejoined(world: World, sandbox: Sandbox) -> bool:
    """Whether a failed sandbox was brought back by finding its machine alive, as after a stop that could not save.

    A machine that is there and merely does not answer holds what was not saved: for a while it is not given up.
    """
    if sandbox.state is not State.FAILED or not sandbox.machine:
        return False
    try:
        movements.ask_agent(world, sandbox, "GET", "/info", {})
    except Refused as refused:
        fresh = world.clock.now() - sandbox.changed_at < SILENCE_IS_BORNE
        if fresh and refused.details.get("code") != "unauthorized" and world.machines.started_by(sandbox.incarnation):
            raise Unavailable("its machine runs and does not answer; ask again in a minute") from None
        world.machines.stop(sandbox.machine.task, "its sandbox is brought back from a checkpoint")
        return False
    movements.apply(world, sandbox, Event.ARRIVED, reason=None, upload=None, active_at=world.clock.now())
    return True


def _wished(world: World, owner: str, wish: Wish, created_by: str) -> Sandbox:
    """The sandbox that is wished for, as it is to be written first."""
    now = world.clock.now()
    id = new_id(now)
    movement = movements.name(id, 0)
    return Sandbox(
        id=id,
        owner=owner,
        name=limits.check_name(wish.name) if wish.name else id,
        image=_known_image(world, wish.image),
        state=State.CREATING,
        created_at=now,
        changed_at=now,
        active_at=now,
        size=limits.fitting(wish.size),
        env=limits.check_env(wish.env),
        labels=limits.check_labels(wish.labels),
        user=wish.user,
        policy=wish.policy,
        network=wish.network,
        volumes=wish.volumes,
        public=wish.public,
        created_by=created_by,
        movement=movement,
        incarnation=movement,
        extras=wish.extras,
    )


def _created(world: World, sandbox: Sandbox) -> Sandbox:
    return pools.claim(world, sandbox) or movements.set_off(world, world.sandboxes.add(sandbox))


def _earlier(world: World, sandbox: Sandbox) -> Sandbox | None:
    """The sandbox that was created on the same ticket; its start is set off again, in case that was lost."""
    mine = sandbox.ticket
    try:
        id = world.sandboxes.ticketed(sandbox.owner, mine.key if mine else "")
    except NotFound:
        return None
    try:
        earlier = world.sandboxes.get(sandbox.owner, id)
    except NotFound:
        raise Conflict("the sandbox that this request's key was used for is no more; take another key") from None
    if earlier.ticket is None or mine is None or earlier.ticket.asked != mine.asked:
        raise Conflict("this request's key was used before, to ask for something else; take another key")
    return movements.set_off(world, earlier) if earlier.state is State.CREATING else earlier


def _known_image(world: World, image: str | None) -> str:
    wanted = image or world.settings.default_image
    if wanted != world.settings.default_image:
        raise NotFound(f"image {wanted[:200]} not found; this installation has {world.settings.default_image}")
    return wanted
