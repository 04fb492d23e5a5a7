"""What EventBridge tells us: that a task has ended."""

from collections.abc import Mapping
from typing import Any

from chalicelib.core import audit, movements
from chalicelib.core.world import World

TASK_STOPPED: dict[str, Any] = {
    "source": ["aws.ecs"],
    "detail-type": ["ECS Task State Change"],
    "detail": {"lastStatus": ["STOPPED"]},
}
"""The events that we want. The template narrows them to our cluster, whose name is not known here."""


WORDS = {
    "OutOfMemoryError": "it ran out of memory",
    "CannotPullContainerError": "its image cannot be fetched",
    "SpotInterruption": "AWS took its machine back",
    "ResourceInitializationError": "AWS could not prepare its machine",
}
"""What the beginnings of ECS's reasons mean to a person."""


def task_stopped(world: World, detail: Mapping[str, Any]) -> None:
    """A task has ended: its sandbox may have lost its machine. Tasks that no movement of ours started are not ours."""
    if movement := str(detail.get("startedBy", "")):
        movements.lost(world.acting(audit.machine()), detail["taskArn"], movement, reason(detail))


def reason(detail: Mapping[str, Any]) -> str:
    """Why a task ended, for a person: what ECS's words mean, where we know, and those words; its exit code where not."""
    containers = detail.get("containers", [])
    said = [str(container["reason"]) for container in containers if container.get("reason")]
    said += [str(detail[name]) for name in ("stoppedReason", "stopCode") if detail.get(name)]
    known = next((meaning for sign, meaning in WORDS.items() if any(sign in words for words in said)), None)
    codes = [container["exitCode"] for container in containers if container.get("exitCode") is not None]
    unknown = f"its machine ended with exit code {codes[0]}" if codes else "its machine ended"
    return (known or unknown) + (f" ({said[0][:200]})" if said else "")
