"""Checkpoints: how the disk of a sandbox gets to S3, in parts that its agent sends and we count."""

from collections.abc import Sequence
from dataclasses import replace

from chalicelib.core.errors import Conflict, Invalid, Refused
from chalicelib.core.movements import ask_agent, persist, speaker
from chalicelib.core.sandbox import Checkpoint, Sandbox, Upload
from chalicelib.core.states import State
from chalicelib.core.world import World

PART_BYTES = 16 * 1024 * 1024
FIRST_PARTS = 4
MOST_PARTS_AT_ONCE = 64
MOST_PARTS = 10_000


def save(world: World, owner: str, id: str, movement: str, task_token: str) -> None:
    """A workflow wants the disk saved: ask the agent, which answers the workflow through `saved`.

    Where an earlier workflow of the same stop was lost, what it began goes on, and only who waits for it is another.
    """
    sandbox = world.sandboxes.get(owner, id)
    if sandbox.movement != movement or sandbox.state is not State.STOPPING or not sandbox.machine:
        raise Conflict(f"sandbox {id} is {sandbox.state} and has no disk to save", state=sandbox.state)
    if sandbox.upload and (sandbox.upload.arrived or _under_way(world, sandbox, sandbox.upload)):
        _wait_on(world, sandbox, task_token)
    else:
        _begin(world, sandbox, task_token)


def more_parts(world: World, token: str, *, first: int, count: int) -> Sequence[str]:
    """Where the next parts of the checkpoint that is being saved go."""
    sandbox = speaker(world, "agent", token)
    if not sandbox.upload or sandbox.upload.arrived:
        raise Conflict(f"sandbox {sandbox.id} is saving no checkpoint", state=sandbox.state)
    if not (first >= 1 and 1 <= count <= MOST_PARTS_AT_ONCE and first + count <= MOST_PARTS + 1):
        raise Invalid(f"parts {first} to {first + count - 1}: at most {MOST_PARTS_AT_ONCE} at once, none above 10,000")
    return world.blobs.part_urls(sandbox.upload.key, sandbox.upload.id, first, count)


def saved(
    world: World,
    token: str,
    *,
    checkpoint: str,
    etags: Sequence[str],
    size: int,
    sha256: str,
    error: str | None = None,
) -> None:
    """The agent has sent its disk: verify that all of it arrived, remember it, and let the workflow go on.

    To say it twice is harmless: the first answer may have been lost.
    """
    sandbox = speaker(world, "agent", token)
    upload = sandbox.upload
    if not upload or upload.key != _key(sandbox, checkpoint):
        raise Conflict(f"sandbox {sandbox.id} is not saving the checkpoint {checkpoint[:80]}", state=sandbox.state)
    if problem := not upload.arrived and (error or _incomplete(world, upload, etags, size)):
        world.blobs.abandon(upload.key, upload.id)
        sandbox = persist(world, sandbox, lambda s: replace(s, upload=None))
        world.workflows.fail(sandbox.waiter, f"the disk could not be saved: {problem}")
        return
    if not upload.arrived:
        sandbox = _kept(world, sandbox, upload, Checkpoint(upload.key, size, sha256, saved_at=world.clock.now()))
    world.workflows.succeed(sandbox.waiter, {"checkpoint": upload.key})


def _kept(world: World, sandbox: Sandbox, upload: Upload, checkpoint: Checkpoint) -> Sandbox:
    older = sandbox.checkpoint
    arrived = replace(upload, arrived=True)
    sandbox = persist(world, sandbox, lambda s: replace(s, checkpoint=checkpoint, upload=arrived))
    if older:
        world.blobs.remove(older.key)
    return sandbox


def _begin(world: World, sandbox: Sandbox, task_token: str) -> None:
    if sandbox.upload:
        world.blobs.abandon(sandbox.upload.key, sandbox.upload.id)
    key = _key(sandbox, sandbox.movement)
    upload = Upload(key=key, id=world.blobs.begin(key))
    sandbox = persist(world, sandbox, lambda s: replace(s, upload=upload, waiter=task_token))
    ask_agent(
        world,
        sandbox,
        "POST",
        "/checkpoints",
        {
            "id": sandbox.movement,
            "quiesce": True,
            "part_bytes": PART_BYTES,
            "part_urls": list(world.blobs.part_urls(key, upload.id, 1, FIRST_PARTS)),
        },
    )


def _under_way(world: World, sandbox: Sandbox, upload: Upload) -> bool:
    """Whether the agent is still sending what it was asked for before."""
    path = f"/checkpoints/{upload.key.rpartition('/')[2]}"
    try:
        return ask_agent(world, sandbox, "GET", path, {}).get("state") == "saving"
    except Refused:
        return False


def _wait_on(world: World, sandbox: Sandbox, task_token: str) -> None:
    sandbox = persist(world, sandbox, lambda s: replace(s, waiter=task_token))
    if sandbox.upload is None:
        raise Conflict("it could not be saved the first time")
    if sandbox.upload.arrived:
        world.workflows.succeed(task_token, {"checkpoint": sandbox.upload.key})


def _key(sandbox: Sandbox, checkpoint: str) -> str:
    return f"checkpoints/{sandbox.owner}/{sandbox.id}/{checkpoint}"


def _incomplete(world: World, upload: Upload, etags: Sequence[str], size: int) -> str | None:
    """What is missing of an upload, which is one object from here on if nothing is."""
    try:
        arrived = world.blobs.complete(upload.key, upload.id, etags)
    except Conflict as refused:
        return refused.message
    if arrived == size:
        return None
    world.blobs.remove(upload.key)
    return f"{arrived} of {size} bytes arrived"
