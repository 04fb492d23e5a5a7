"""A new sandbox: every field that a client of any generation may send, and what becomes of it."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from chalicelib.core import lifecycle
from chalicelib.core.errors import Invalid
from chalicelib.core.lifecycle import Wish
from chalicelib.core.sandbox import Policy, Sandbox, Size
from chalicelib.core.world import World
from chalicelib.dialect import Body, Call, boolean, one_of, text, texts
from chalicelib.dialects.daytona.fields import (
    archive_minutes,
    cpus,
    delete_minutes,
    disk_gib,
    idle_minutes,
    lifetime_minutes,
    memory_gib,
    not_offered,
    word,
)
from chalicelib.dialects.daytona.shapes import NAME

HOLD = timedelta(seconds=20)
"""How long a request waits for a movement: less than API Gateway's 29, with room for a busy start. Every SDK polls on."""

USER = "daytona"
LOGIN = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


def login(value: Any) -> str:
    """The name of a user, as Linux takes them."""
    if not LOGIN.fullmatch(text(value)):
        raise ValueError("must be the name of a Linux user: at most 32 lower-case letters, digits, '_' or '-'")
    return text(value)


NEW_WORKSPACE: Body = {
    "image": ("snapshot", word),
    "user": ("user", login),
    "env": ("env", texts),
    "labels": ("labels", texts),
    "public": ("public", boolean),
    "class": ("class", one_of("small", "medium", "large")),  # given back; the size says what the machine has
    "target": ("target", word),  # given back; a deployment has one region
    "cpu": ("cpu", cpus),
    "gpu": ("", not_offered("no machine here has a GPU", but=(0,))),
    "memory": ("memory", memory_gib),
    "disk": ("disk", disk_gib),
    "autoStopInterval": ("stop_after_idle", idle_minutes),
    "autoArchiveInterval": ("archive_after_stopped", archive_minutes),
    "volumes": ("", not_offered("volumes are not offered yet", but=([],))),
    "buildInfo": ("", not_offered("building an image is not offered yet; leave it out for the default snapshot")),
}

NEW: Body = {
    **{wire: fate for wire, fate in NEW_WORKSPACE.items() if wire != "image"},
    "name": ("name", word),
    "snapshot": ("snapshot", word),
    "autoDeleteInterval": ("delete_after_stopped", delete_minutes),
    "ttlMinutes": ("lifetime", lifetime_minutes),
    "autoPauseInterval": ("", not_offered("no machine here can be paused; use autoStopInterval", but=(0,))),
    "networkBlockAll": ("", not_offered("blocking the network is not offered yet", but=(False,))),
    "networkAllowList": ("", not_offered("an allow list for the network is not offered yet", but=("",))),
    "domainAllowList": ("", not_offered("an allow list for the network is not offered yet", but=("",))),
    "outboundProxyUrl": ("", not_offered("an outbound proxy is not offered; set HTTPS_PROXY in env", but=("",))),
    "otelEndpointOverride": ("", not_offered("sending telemetry elsewhere is not offered", but=("",))),
    "kvm": ("", not_offered("no machine here has KVM", but=(False,))),
    "gpuType": ("", not_offered("no machine here has a GPU", but=([],))),
    "spot": ("", not_offered("spot machines are not offered", but=(False,))),
    "queueTimeout": None,  # nothing queues here: a machine starts at once or the sandbox fails with the reason
    "linkedSandbox": ("", not_offered("placing a sandbox beside another is not offered", but=("",))),
    "secrets": ("", not_offered("secrets are not offered yet; put them into env", but=([],))),
}


def create(world: World, call: Call) -> Sandbox:
    """A new sandbox, started if its machine came up while the request could wait.

    `X-Request-ID` does not make it a repetition: where a proxy sets it, one may cover several creates.
    """
    body = call.body
    wish = Wish(
        name=body.get("name"),
        image=_image(world, body.get("snapshot")),
        size=_size(body),
        env=body.get("env", {}),
        labels=body.get("labels", {}),
        user=body.get("user", USER),
        policy=_policy(world, body),
        public=body.get("public", False),
        extras={NAME: {name: body[name] for name in ("class", "target") if name in body}},
    )
    key = call.request.headers.get("idempotency-key")
    sandbox = lifecycle.create(world, call.owner, wish, created_by=call.caller.user, request_key=key)
    return lifecycle.wait(world, sandbox, at_most=HOLD)


def _image(world: World, snapshot: str | None) -> str:
    default = world.settings.default_image
    if snapshot not in (None, default):
        raise Invalid(f"Snapshot {snapshot} not found; this installation has {default}")
    return default


def _size(body: Mapping[str, Any]) -> Size:
    size = Size()
    return Size(
        cpu=body.get("cpu", size.cpu),
        memory_mib=body["memory"] * 1024 if "memory" in body else size.memory_mib,
        disk_gib=body.get("disk", size.disk_gib),
    )


def _policy(world: World, body: Mapping[str, Any]) -> Policy:
    spans = {name: body[name] for name in SPANS if name in body}
    expires_at = world.clock.now() + body["lifetime"] if body.get("lifetime") else None
    return replace(Policy(), **spans, expires_at=expires_at)


SPANS = ("stop_after_idle", "archive_after_stopped", "delete_after_stopped")
