"""What the workflows ask of us between their own calls to ECS: one Lambda function, a task by its name."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from chalicelib.core import checkpoints, movements
from chalicelib.core.audit import WORKFLOW
from chalicelib.core.errors import Refused, Unavailable
from chalicelib.core.world import World

LONGEST_CAUSE = 500

REASONS: dict[tuple[str, str], str] = {
    ("start", "States.Timeout"): "its machine did not report within five minutes",
    ("stop", "States.Timeout"): "its disk was not saved within the time given; its machine still runs",
    ("start", "Sandbar.NoCapacity"): "AWS has no machine of this size to give just now; try again later",
}
"""The sentence for what went wrong in which workflow, where AWS's own words would not tell a person."""


def perform(world: World, event: Mapping[str, Any]) -> dict[str, Any]:
    """Do the task that a workflow's event names."""
    TASKS[event["task"]](world.acting(WORKFLOW), event)
    return {}


def save(world: World, event: Mapping[str, Any]) -> None:
    """Have the disk saved. The workflow waits for the token, so whatever goes wrong here is told through it."""
    token = event["task_token"]
    try:
        checkpoints.save(world, event["owner"], event["id"], event["movement"], token)
    except Refused as refused:
        # An agent that does not answer may be on its way back, as after a restart.
        again = isinstance(refused, Unavailable)
        world.workflows.fail(token, f"the disk could not be saved: {refused.message}", again=again)
    except Exception:
        world.workflows.fail(token, "the disk could not be saved: an error of ours; the log has it")
        raise


def expect(world: World, event: Mapping[str, Any]) -> None:
    """A machine is on its way up; its hello answers the token."""
    movements.expect(world, event["owner"], event["id"], event["movement"], event["task_token"])


def settle(world: World, event: Mapping[str, Any]) -> None:
    """The workflow is at its end."""
    movements.settle(world, event["owner"], event["id"], event["movement"])


def give_up(world: World, event: Mapping[str, Any]) -> None:
    """The workflow failed; its error is in the event."""
    reason = readable(event["workflow"], event["error"])
    movements.give_up(world, event["owner"], event["id"], event["movement"], reason)


TASKS: dict[str, Callable[[World, Mapping[str, Any]], None]] = {
    "expect": expect,
    "save": save,
    "settle": settle,
    "give_up": give_up,
}


def readable(workflow: str, error: Mapping[str, Any]) -> str:
    """What went wrong, for a person: Step Functions tells a name and a cause, which may be a Lambda function's JSON."""
    name, cause = str(error.get("Error", "")), str(error.get("Cause", "")).strip()
    if name in ("Sandbar.Refused", "Sandbar.TryAgain"):
        return cause
    if (workflow, name) in REASONS:
        return REASONS[workflow, name]
    with suppress(ValueError, TypeError, KeyError):
        cause = json.loads(cause)["errorMessage"]
    return f"{name}: {cause[:LONGEST_CAUSE]}" if cause else name or "the workflow failed without saying why"
