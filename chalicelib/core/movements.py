"""How a sandbox moves: what its machine and its workflow report, and what the sweep does where they fall silent.

A movement is one workflow execution, named after the sandbox and the version that began it. Whatever is reported carries
that name, and a report of any movement but the present one is passed over: it is late, and the row knows better.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from chalicelib.core import tokens
from chalicelib.core.errors import Conflict, Forbidden, NotFound, Refused, Stale, Unauthenticated, Unavailable
from chalicelib.core.sandbox import Checkpoint, Machine, Sandbox
from chalicelib.core.states import BOOTING, MOVING, WORKFLOW, Event, State, after
from chalicelib.core.world import World

BOOT_TOKEN_LIVES = timedelta(minutes=10)
CHECKPOINT_URL_LIVES = timedelta(hours=1)
TOMBSTONE_LIVES = timedelta(days=7)

ARRIVAL_TRIES = 20
TRIES = 5


def name(id: str, version: int) -> str:
    """The movement that begins by writing over this version."""
    return f"{id}-{version + 1}"


def moved(world: World, sandbox: Sandbox, event: Event) -> Sandbox:
    """The sandbox as an event that somebody asks for will leave it, to be written and then set off; or `Conflict`."""
    state, movement = after(sandbox.state, event), name(sandbox.id, sandbox.version)
    changes: dict[str, Any] = {"state": state, "movement": movement, "changed_at": world.clock.now()}
    changes |= {"reason": None, "upload": None, "waiter": ""}
    if state in BOOTING:
        changes |= {"incarnation": movement, "booted": False, "machine": None}
    return replace(sandbox, **changes)


def set_off(world: World, sandbox: Sandbox) -> Sandbox:
    """Start the workflow of its present movement; again is harmless.

    After the write, never before: a workflow that finds no sandbox would give up on it. Where the start itself fails the
    row says that it moves, and the sweep sets it off again.
    """
    workflow = WORKFLOW[sandbox.state]
    more: dict[str, Any] = {"task": sandbox.machine.task if sandbox.machine else None}
    if sandbox.state in BOOTING:
        more = {"boot": boot_token(world, sandbox)}
    world.workflows.start(workflow, sandbox.movement, sandbox, **more)
    return sandbox


def boot_token(world: World, sandbox: Sandbox) -> str:
    """What a machine shows at its first call: good for one incarnation, once, for ten minutes."""
    return tokens.sign(world.settings.secret, "boot", _claims(sandbox), until=world.clock.now() + BOOT_TOKEN_LIVES)


def agent_token(world: World, sandbox: Sandbox) -> str:
    """What its agent shows us and we show its agent, as long as this incarnation lives."""
    return tokens.sign(world.settings.secret, "agent", _claims(sandbox))


def boot(world: World, token: str) -> Mapping[str, Any]:
    """Answer a machine's first call: who it is, what to restore, the environment it gives to processes.

    A machine that was restarted with its disk shows its agent token instead, and has nothing to restore.
    """
    again = token.startswith("agent.")
    sandbox = speaker(world, "agent" if again else "boot", token)
    if sandbox.state not in BOOTING and not (again and sandbox.state is State.STARTED):
        raise Conflict(f"sandbox {sandbox.id} is {sandbox.state} and needs no machine", state=sandbox.state)
    if not again:
        sandbox = persist(world, sandbox, _booted)
    return {
        "agent_token": agent_token(world, sandbox),
        "env": dict(sandbox.env),
        "user": sandbox.user,
        "home": None,
        "work_dir": None,
        "restore": None if again else _restore(world, sandbox.checkpoint),
        "volumes": [],
    }


def expect(world: World, owner: str, id: str, movement: str, task_token: str) -> None:
    """The workflow has a machine on its way up and waits for its hello, unless that was said or is of no use any more."""
    try:
        sandbox = world.sandboxes.get(owner, id)
        if sandbox.state in BOOTING and sandbox.movement == movement:
            sandbox = persist(world, sandbox, lambda s: replace(s, waiter=task_token))
    except NotFound:
        # Claimed by another, or deleted; a delete looks after its machines itself.
        world.workflows.succeed(task_token, {})
        return
    except Conflict as refused:
        world.workflows.fail(task_token, refused.message)
        return
    if sandbox.incarnation == movement and sandbox.machine:
        world.workflows.succeed(task_token, {})
    elif sandbox.state not in BOOTING or sandbox.movement != movement:
        world.workflows.fail(task_token, sandbox.reason or f"sandbox {id} is {sandbox.state} by now")


def arrive(world: World, token: str, *, error: str | None = None) -> Sandbox:
    """The agent listens: its sandbox is started. Or it could not: the sandbox has failed, and the sentence says why."""
    sandbox = speaker(world, "agent", token)
    if error:
        return _failed(world, sandbox, error)
    machine = _located(world, sandbox)
    sandbox = _write(world, sandbox, Event.ARRIVED, machine=machine, active_at=world.clock.now(), reason=None)
    if sandbox.waiter:
        world.workflows.succeed(sandbox.waiter, {"task": machine.task})
    return sandbox


def settle(world: World, owner: str, id: str, movement: str) -> None:
    """The workflow came to its end: what was moving is where it was to go."""
    try:
        sandbox = world.sandboxes.get(owner, id)
    except NotFound:
        return
    if sandbox.movement != movement or sandbox.state not in MOVING or sandbox.state in BOOTING:
        return
    if sandbox.state is State.DELETING:
        world.blobs.remove(f"checkpoints/{owner}/{id}/")
        world.sandboxes.bury(_after(world, sandbox, Event.DONE, machine=None), world.clock.now() + TOMBSTONE_LIVES)
        return
    _write(world, sandbox, Event.DONE, machine=None, upload=None)


def give_up(world: World, owner: str, id: str, movement: str, reason: str) -> None:
    """The workflow failed: the row says so, in words for a person, and what can be saved stays where it is.

    Machines that this movement brought up and that nobody has are stopped: nobody else knows of them.
    """
    with suppress(NotFound):
        sandbox = world.sandboxes.get(owner, id)
        if sandbox.movement == movement and sandbox.state in MOVING:
            _write(world, sandbox, Event.FAIL, reason=reason)
    if not _somebodys(world, movement):
        world.machines.stop_all(movement, reason)


def lost(world: World, task: str, movement: str, reason: str) -> None:
    """A task ended by itself: the sandbox that had it, or awaited it, has failed and says why.

    A start may have been tried twice: it fails with the last of its machines.
    """
    try:
        sandbox = world.sandboxes.incarnated(movement)
    except NotFound:
        return
    if sandbox.state in BOOTING and not world.machines.started_by(movement):
        _failed(world, sandbox, reason)
    if sandbox.machine is None or sandbox.machine.task != task:
        return
    if sandbox.state is State.STARTED:
        _write(world, sandbox, Event.LOST, reason=reason, machine=None)
    elif sandbox.state is State.STOPPING and not (sandbox.upload and sandbox.upload.arrived):
        _failed(world, sandbox, reason, machine=None, upload=None)
    elif sandbox.state is State.FAILED:
        persist(world, sandbox, lambda s: replace(s, machine=None))


def rejoin(world: World, sandbox: Sandbox) -> bool:
    """Whether a failed sandbox was brought back by finding its machine alive, as after a stop that could not save."""
    if sandbox.state is not State.FAILED or not sandbox.machine:
        return False
    try:
        ask_agent(world, sandbox, "GET", "/info", {})
    except Refused:
        world.machines.stop(sandbox.machine.task, "its sandbox is brought back from a checkpoint")
        return False
    _write(world, sandbox, Event.ARRIVED, reason=None, upload=None, active_at=world.clock.now())
    return True


def drive_on(world: World, sandbox: Sandbox) -> None:
    """See after a movement that takes long: start its workflow again if that is lost, else wait on."""
    if sandbox.state not in MOVING:
        return
    if not world.workflows.running(WORKFLOW[sandbox.state], sandbox.movement):
        _again(world, sandbox)
    else:
        persist(world, sandbox, lambda s: replace(s, changed_at=world.clock.now()))


def ask_agent(world: World, sandbox: Sandbox, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Its agent's answer to a small question; the agent's refusal, or `Unavailable` where it cannot be reached."""
    return world.agents.ask(machine_of(sandbox).address, agent_token(world, sandbox), method, path, body)


def machine_of(sandbox: Sandbox) -> Machine:
    """Its machine, or `Unavailable` where it has none just now."""
    if sandbox.machine is None:
        raise Unavailable(f"sandbox {sandbox.id} has no machine just now", state=sandbox.state)
    return sandbox.machine


def speaker(world: World, kind: str, token: str) -> Sandbox:
    """The sandbox whose machine shows this token, if that machine is still its machine."""
    claims = tokens.read(world.settings.secret, kind, token, now=world.clock.now())
    try:
        sandbox = world.sandboxes.get(claims["owner"], claims["id"])
    except NotFound:
        raise Unauthenticated("this sandbox is no more") from None
    if sandbox.incarnation != claims["incarnation"]:
        raise Forbidden("another machine is this sandbox now")
    return sandbox


def persist(world: World, sandbox: Sandbox, edit: Callable[[Sandbox], Sandbox]) -> Sandbox:
    """Write it edited, read anew and edited again where another write (labels, activity) came between; `Conflict` where
    that other write was a movement."""
    movement, incarnation = sandbox.movement, sandbox.incarnation
    for _ in range(TRIES):
        try:
            return world.sandboxes.put(edit(sandbox))
        except Stale:
            pass
        sandbox = world.sandboxes.get(sandbox.owner, sandbox.id)
        if (sandbox.movement, sandbox.incarnation) != (movement, incarnation):
            raise Conflict(f"sandbox {sandbox.id} has moved on: it is {sandbox.state}", state=sandbox.state)
    raise Conflict(f"sandbox {sandbox.id} is written to by too many at once")


def _again(world: World, sandbox: Sandbox) -> None:
    """A new execution for the same movement: under a new name, because a name is good for one execution."""
    movement = name(sandbox.id, sandbox.version)
    changes: dict[str, Any] = {"movement": movement, "changed_at": world.clock.now(), "waiter": ""}
    if sandbox.state in BOOTING:
        changes |= {"incarnation": movement, "booted": False}
    again = world.sandboxes.put(replace(sandbox, **changes))
    # After the write: had its agent said hello meanwhile, the machine would be the sandbox's by now.
    if sandbox.state in BOOTING:
        world.machines.stop_all(sandbox.incarnation, "its sandbox is started anew")
    set_off(world, again)


def _somebodys(world: World, incarnation: str) -> bool:
    """Whether the machine of this start movement is some sandbox's: the one it was meant for, or who claimed it."""
    try:
        return world.sandboxes.incarnated(incarnation).machine is not None
    except NotFound:
        return False


def _claims(sandbox: Sandbox) -> dict[str, str]:
    return {"owner": sandbox.owner, "id": sandbox.id, "incarnation": sandbox.incarnation}


def _located(world: World, sandbox: Sandbox) -> Machine:
    """Where its task runs. ECS is asked, not the agent: a sandbox must not choose which task is stopped in its name."""
    for _ in range(ARRIVAL_TRIES):
        if machine := world.machines.started_by(sandbox.incarnation):
            return machine
        world.clock.sleep(0.1)
    raise Unavailable(f"ECS does not show the task of sandbox {sandbox.id} yet")


def _booted(sandbox: Sandbox) -> Sandbox:
    if sandbox.booted:
        raise Conflict("this boot token was used before")
    return replace(sandbox, booted=True)


def _restore(world: World, checkpoint: Checkpoint | None) -> Mapping[str, Any] | None:
    if checkpoint is None:
        return None
    url = world.blobs.url(checkpoint.key, CHECKPOINT_URL_LIVES)
    return {"url": url, "size": checkpoint.size, "sha256": checkpoint.sha256}


def _after(world: World, sandbox: Sandbox, event: Event, **changes: Any) -> Sandbox:
    return replace(sandbox, state=after(sandbox.state, event), changed_at=world.clock.now(), **changes)


def _failed(world: World, sandbox: Sandbox, reason: str, **changes: Any) -> Sandbox:
    """The row first: a workflow that ends gives up what still moves, in words of its own."""
    sandbox = _write(world, sandbox, Event.FAIL, reason=reason, **changes)
    if sandbox.waiter:
        world.workflows.fail(sandbox.waiter, reason)
    return sandbox


def _write(world: World, sandbox: Sandbox, event: Event, **changes: Any) -> Sandbox:
    """Apply a reported event, read anew where another write (labels, activity) came between."""
    return persist(world, sandbox, lambda s: _after(world, s, event, **changes))
