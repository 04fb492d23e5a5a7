"""What Daytona's clients are shown of a sandbox. Every generation gets all fields; the older ones pass over the newer."""

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from chalicelib.core.sandbox import Checkpoint, Mount, Network, Policy, Size
from chalicelib.core.states import State
from chalicelib.dialect import Call, Null, Shape, each
from chalicelib.dialects.daytona.fields import minutes_told
from chalicelib.dialects.daytona.words import DESIRED, STATES

NAME = "daytona"  # under which this dialect keeps its extras
REGION = "local"
VERSION = "0.226.1"
"""The newest release of Daytona whose clients are known to work here."""


def moment(time: datetime | None) -> str | None:
    """A time as JavaScript writes it."""
    return None if time is None else time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def extra(name: str, default: str | None = None) -> Any:
    """What a client gave with its sandbox and wants back, of no use to the core."""
    return lambda sandbox, _: sandbox.extras.get(NAME, {}).get(name, default)


def toolbox_url(call: Call) -> str:
    """Where the newer clients find every sandbox's toolbox, below its id."""
    return f"{call.url}/toolbox"


def _size(size: Size, what: str) -> int:
    """Newer clients refuse to read a fraction, so parts are told as the next whole number."""
    told = {"cpu": size.cpu, "memory": size.memory_mib / 1024, "disk": size.disk_gib}[what]
    return math.ceil(told)


def _policy(policy: Policy, what: str) -> int:
    return {
        "stop": minutes_told(policy.stop_after_idle, never=0),
        "archive": minutes_told(policy.archive_after_stopped, never=0),
        "delete": minutes_told(policy.delete_after_stopped, never=-1),
    }[what]


def _network(network: Network) -> str | None:
    return ",".join(network.allow) or None


def _mounts(mounts: Iterable[Mount]) -> list[dict[str, str]]:
    return [{"volumeId": mount.volume, "mountPath": mount.path} for mount in mounts]


def _saved(checkpoint: Checkpoint | None) -> str | None:
    return moment(checkpoint.saved_at) if checkpoint else None


LISTED: Shape = {
    "id": "id",
    "organizationId": "owner",
    "name": "name",
    "target": extra("target", REGION),
    "state": lambda sandbox, _: STATES[sandbox.state],
    "desiredState": lambda sandbox, _: DESIRED.get(sandbox.state),
    "snapshot": "image",
    "user": lambda sandbox, _: sandbox.user or "root",
    "errorReason": lambda sandbox, _: sandbox.reason if sandbox.state is State.FAILED else None,
    "recoverable": "recoverable",
    "public": "public",
    "networkBlockAll": "network.block_all",
    "networkAllowList": lambda sandbox, _: _network(sandbox.network),
    "cpu": lambda sandbox, _: _size(sandbox.size, "cpu"),
    "gpu": 0,
    "memory": lambda sandbox, _: _size(sandbox.size, "memory"),
    "disk": lambda sandbox, _: _size(sandbox.size, "disk"),
    "labels": lambda sandbox, _: dict(sandbox.labels),
    "backupState": lambda sandbox, _: "Completed" if sandbox.checkpoint else "None",
    "autoStopInterval": lambda sandbox, _: _policy(sandbox.policy, "stop"),
    "autoArchiveInterval": lambda sandbox, _: _policy(sandbox.policy, "archive"),
    "autoDeleteInterval": lambda sandbox, _: _policy(sandbox.policy, "delete"),
    "autoDestroyAt": lambda sandbox, _: moment(sandbox.policy.expires_at),
    "createdAt": lambda sandbox, _: moment(sandbox.created_at),
    "updatedAt": lambda sandbox, _: moment(sandbox.changed_at),
    "lastActivityAt": lambda sandbox, _: moment(sandbox.active_at),
    "toolboxProxyUrl": lambda _, call: toolbox_url(call),
}
"""A sandbox in a list of the newer clients: without what only its own page shows."""

SANDBOX: Shape = {
    **LISTED,
    "env": lambda sandbox, _: dict(sandbox.env),
    "kvm": False,
    "volumes": lambda sandbox, _: _mounts(sandbox.volumes),
    "backupCreatedAt": lambda sandbox, _: _saved(sandbox.checkpoint),
    "class": extra("class"),
    "sandboxClass": lambda _sandbox, _call: "container",
}

WORKSPACE: Shape = {
    **SANDBOX,
    "image": "image",
    "snapshotState": lambda sandbox, _: "Completed" if sandbox.checkpoint else "None",
    "snapshotCreatedAt": lambda sandbox, _: _saved(sandbox.checkpoint),
}
"""The same under its name of before June 2025."""

CURSOR_PAGE: Shape = {
    "items": lambda page, call: each(LISTED)(page.items, call),
    "nextCursor": Null("cursor"),
}
