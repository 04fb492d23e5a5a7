"""Daytona's words for ours: states, wishes and permissions."""

from collections.abc import Iterable, Mapping

from chalicelib.core.errors import Invalid
from chalicelib.core.states import State
from chalicelib.dialects.daytona.clients import OPEN_ENUMS, Release

STATES: Mapping[State, str] = {
    State.CREATING: "creating",
    State.STARTING: "starting",
    State.STARTED: "started",
    State.STOPPING: "stopping",
    State.STOPPED: "stopped",
    State.ARCHIVING: "archiving",
    State.ARCHIVED: "archived",
    State.RESTORING: "restoring",
    State.DELETING: "destroying",
    State.DELETED: "destroyed",
    State.FAILED: "error",
}
"""Words of the oldest generation only: it refuses to read any other."""

NEVER_OURS = (
    *("build_failed", "pending_build", "building_snapshot", "pulling_snapshot", "unknown"),
    *("resizing", "snapshotting", "forking", "pausing", "paused", "resuming"),
)
"""States that clients may ask for in a list and that no sandbox here is ever in."""

DESIRED: Mapping[State, str] = {
    State.CREATING: "started",
    State.STARTING: "started",
    State.STARTED: "started",
    State.STOPPING: "stopped",
    State.STOPPED: "stopped",
    State.ARCHIVING: "archived",
    State.ARCHIVED: "archived",
    State.RESTORING: "started",
    State.DELETING: "destroyed",
    State.DELETED: "destroyed",
}
"""Where each state leads. A failed sandbox leads nowhere by itself."""

PERMISSIONS: Mapping[str, str] = {
    "write:registries": "write:registries",
    "delete:registries": "delete:registries",
    "write:snapshots": "write:images",
    "delete:snapshots": "delete:images",
    "write:sandboxes": "write:sandboxes",
    "delete:sandboxes": "delete:sandboxes",
    "read:volumes": "read:volumes",
    "write:volumes": "write:volumes",
    "delete:volumes": "delete:volumes",
    "read:audit_logs": "read:audit",
    "manage:api_keys": "manage:keys",
}
"""Daytona's permissions and the core's. What only ours have, such as `manage:organization`, Daytona cannot name."""

NEWER_PERMISSIONS = frozenset({"manage:api_keys"})


def permissions_told(ours: Iterable[str], release: Release) -> list[str]:
    """The permissions of a key in Daytona's words, as far as this generation knows them."""
    have = frozenset(ours)
    known = (word for word in PERMISSIONS if release >= OPEN_ENUMS or word not in NEWER_PERMISSIONS)
    return [word for word in known if PERMISSIONS[word] in have]


def states_meant(words: Iterable[str]) -> frozenset[State]:
    """Our states for Daytona's words; `Invalid` for one that is no state, naming those that are."""
    ours = {word: state for state, word in STATES.items()}
    wanted = list(words)
    if unknown := [word for word in wanted if word not in ours and word not in NEVER_OURS]:
        raise Invalid(f"states: {unknown[0][:80]!r} is none; known are: {', '.join((*ours, *NEVER_OURS))}")
    return frozenset(ours[word] for word in wanted if word in ours)
