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

ASKED = "UserInitiated"  # the code of a stop that somebody asked for

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
    """Why a task ended, for a person: ECS's words, and what they mean where we know."""
    said = [str(detail.get("stopCode", "")), str(detail.get("stoppedReason", ""))]
    said += [str(container.get("reason", "")) for container in detail.get("containers", [])]
    codes = [str(c["exitCode"]) for c in detail.get("containers", []) if c.get("exitCode") is not None]
    known = next((words for sign, words in WORDS.items() if any(sign in text for text in said)), "its machine ended")
    told = next((text for text in (*said[2:], said[1]) if text), "")
    return known + (f" with exit code {codes[0]}" if codes and not told else "") + (f" ({told[:200]})" if told else "")
