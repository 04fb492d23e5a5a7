"""What may be changed of a sandbox without moving it: labels, intervals, who may look in."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from chalicelib.core import lifecycle
from chalicelib.core.sandbox import Sandbox
from chalicelib.core.world import World
from chalicelib.dialect import Body, Call, Needed, Parser, Route, Shape, texts
from chalicelib.dialects.daytona.fields import (
    archive_minutes,
    delete_minutes,
    flag,
    idle_minutes,
    lifetime_minutes,
    slot,
)
from chalicelib.dialects.daytona.shapes import SANDBOX

LABELS_IN: Body = {"labels": Needed("labels", texts)}
LABELS: Shape = {"labels": lambda sandbox, _: dict(sandbox.labels)}


def label(world: World, call: Call) -> Sandbox:
    """Replaces all labels by these."""
    return lifecycle.change(world, call.owner, call.params["sandbox"], labels=call.body["labels"])


def publish(world: World, call: Call) -> Sandbox:
    """Opens the previews of a sandbox to everybody, or closes them."""
    return lifecycle.change(world, call.owner, call.params["sandbox"], public=slot(call, "public", flag))


def interval(name: str, parser: Parser) -> Callable[[World, Call], Sandbox]:
    """Sets one span of the policy from the path."""

    def act(world: World, call: Call) -> Sandbox:
        return _with_policy(world, call, **{name: slot(call, "interval", parser)})

    return act


def expire(world: World, call: Call) -> Sandbox:
    """Sets how long the sandbox has from now on, whatever it does; 0 is for ever."""
    lifetime = slot(call, "interval", lifetime_minutes)
    return _with_policy(world, call, expires_at=world.clock.now() + lifetime if lifetime else None)


def refresh(world: World, call: Call) -> None:
    """Notes that somebody still wants the sandbox."""
    world.sandboxes.touch(lifecycle.get(world, call.owner, call.params["sandbox"]), world.clock.now())


def _with_policy(world: World, call: Call, **changes: Any) -> Sandbox:
    def edit(sandbox: Sandbox) -> Sandbox:
        return replace(sandbox, policy=replace(sandbox.policy, **changes))

    return lifecycle.rewrite(world, call.owner, call.params["sandbox"], edit)


def _change(method: str, path: str, act: Callable[[World, Call], Any]) -> Route:
    return Route(method, f"/sandbox/{{sandbox}}/{path}", act, SANDBOX, needs="write:sandboxes")


ROUTES = (
    Route("PUT", "/sandbox/{sandbox}/labels", label, LABELS, LABELS_IN, needs="write:sandboxes"),
    Route("POST", "/sandbox/{sandbox}/last-activity", refresh, status=201, needs="write:sandboxes"),
    _change("POST", "public/{public}", publish),
    _change("POST", "autostop/{interval}", interval("stop_after_idle", idle_minutes)),
    _change("POST", "autoarchive/{interval}", interval("archive_after_stopped", archive_minutes)),
    _change("POST", "autodelete/{interval}", interval("delete_after_stopped", delete_minutes)),
    _change("POST", "ttl/{interval}", expire),
)
