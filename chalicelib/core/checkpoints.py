"""Checkpoints: how the disk of a sandbox gets to S3, in parts that its agent sends and we count."""

from collections.abc import Sequence
from dataclasses import replace

from chalicelib.core.errors import Conflict, Invalid
from chalicelib.core.movements import ask_agent, persist, speaker
from chalicelib.core.sandbox import Checkpoint, Sandbox
from chalicelib.core.states import State
from chalicelib.core.world import World

PART_BYTES = 16 * 1024 * 1024
FIRST_PARTS = 4
MOST_PARTS_AT_ONCE = 64
MOST_PARTS = 10_000


def save(world: World, owner: str, id: str, movement: str, task_token: str) -> None:
    """A workflow wants the disk saved: ask the agent, which answers the workflow through `saved`."""
    sandbox = world.sandboxes.get(owner, id)
    if sandbox.movement != movement or sandbox.state is not State.STOPPING or not sandbox.machine:
        raise Conflict(f"sandbox {id} is {sandbox.state} and has no disk to save", state=sandbox.state)
    key = _key(sandbox, movement)
    upload = world.blobs.begin(key)
    sandbox = persist(world, sandbox, lambda s: replace(s, upload=f"{key} {upload}"))
    ask_agent(
        world,
        sandbox,
        "POST",
        "/checkpoints",
        {
            "id": movement,
            "quiesce": True,
            "part_bytes": PART_BYTES,
            "part_urls": list(world.blobs.part_urls(key, upload, 1, FIRST_PARTS)),
            "task_token": task_token,
        },
    )


def more_parts(world: World, token: str, *, first: int, count: int) -> Sequence[str]:
    """Where the next parts of the checkpoint that is being saved go."""
    sandbox = speaker(world, "agent", token)
    if not sandbox.upload:
        raise Conflict(f"sandbox {sandbox.id} is saving no checkpoint", state=sandbox.state)
    if not (first >= 1 and 1 <= count <= MOST_PARTS_AT_ONCE and first + count <= MOST_PARTS + 1):
        raise Invalid(f"parts {first} to {first + count - 1}: at most {MOST_PARTS_AT_ONCE} at once, none above 10,000")
    key, _, upload = sandbox.upload.partition(" ")
    return world.blobs.part_urls(key, upload, first, count)


def saved(
    world: World,
    token: str,
    *,
    checkpoint: str,
    task_token: str,
    etags: Sequence[str],
    size: int,
    sha256: str,
    error: str | None = None,
) -> None:
    """The agent has sent its disk: verify that all of it arrived, remember it, and let the workflow go on.

    To say it twice is harmless: the first answer may have been lost.
    """
    sandbox = speaker(world, "agent", token)
    wanted, older = _key(sandbox, checkpoint), sandbox.checkpoint
    if older and (older.key, older.sha256) == (wanted, sha256):
        world.workflows.succeed(task_token, {"checkpoint": wanted})
        return
    key, _, upload = (sandbox.upload or "").partition(" ")
    if key != wanted:
        raise Conflict(f"sandbox {sandbox.id} is not saving the checkpoint {checkpoint[:80]}", state=sandbox.state)
    if problem := error or _incomplete(world, key, upload, etags, size):
        world.blobs.abandon(key, upload)
        persist(world, sandbox, lambda s: replace(s, upload=None))
        world.workflows.fail(task_token, f"the disk could not be saved: {problem}")
        return
    new = Checkpoint(key=key, size=size, sha256=sha256, saved_at=world.clock.now())
    persist(world, sandbox, lambda s: replace(s, checkpoint=new, upload=None))
    if older:
        world.blobs.remove(older.key)
    world.workflows.succeed(task_token, {"checkpoint": key})


def _key(sandbox: Sandbox, checkpoint: str) -> str:
    return f"checkpoints/{sandbox.owner}/{sandbox.id}/{checkpoint}"


def _incomplete(world: World, key: str, upload: str, etags: Sequence[str], size: int) -> str | None:
    """What is missing of an upload, which is one object from here on if nothing is."""
    try:
        arrived = world.blobs.complete(key, upload, etags)
    except Conflict as refused:
        return refused.message
    if arrived == size:
        return None
    world.blobs.remove(key)
    return f"{arrived} of {size} bytes arrived"
