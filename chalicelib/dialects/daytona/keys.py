"""API keys: each user sees and removes their own; whoever manages keys removes anybody's."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from chalicelib.core import access
from chalicelib.core.access import Key
from chalicelib.core.errors import NotFound
from chalicelib.core.world import World
from chalicelib.dialect import Body, Call, Needed, Null, Route, Shape, each, list_of, one_of, text
from chalicelib.dialects.daytona.clients import release
from chalicelib.dialects.daytona.fields import word
from chalicelib.dialects.daytona.shapes import moment
from chalicelib.dialects.daytona.words import PERMISSIONS, permissions_told


def time(value: Any) -> datetime:
    """A time of ISO 8601 that says its zone."""
    try:
        told = datetime.fromisoformat(text(value))
    except ValueError:
        told = None
    if told is None or told.tzinfo is None:
        raise ValueError("must be a time with its zone, such as 2030-01-31T12:00:00Z")
    return told


NEW: Body = {
    "name": Needed("name", word),
    "permissions": Needed("permissions", list_of(one_of(*PERMISSIONS))),
    "expiresAt": ("expires_at", time),
}

KEY: Shape = {
    "name": "name",
    "value": lambda key, _: "*" * 20 + key.hint,
    "createdAt": lambda key, _: moment(key.created_at),
    "permissions": lambda key, call: permissions_told(key.permissions, release(call.request)),
    "lastUsedAt": Null(lambda key, _: moment(key.used_at)),
    "expiresAt": Null(lambda key, _: moment(key.expires_at)),
    "userId": "user",
    "organizationId": "owner",
}

MADE: Shape = {
    "name": "key.name",
    "value": "text",
    "createdAt": lambda made, _: moment(made["key"].created_at),
    "permissions": lambda made, call: permissions_told(made["key"].permissions, release(call.request)),
    "expiresAt": Null(lambda made, _: moment(made["key"].expires_at)),
}


def make(world: World, call: Call) -> Mapping[str, Any]:
    """A new key for the caller; this reply is the only one that shows its text."""
    ours = [PERMISSIONS[word] for word in call.body["permissions"]]
    expires_at = call.body.get("expires_at")
    key, text = access.make_key(world, call.caller, call.body["name"], permissions=ours, expires_at=expires_at)
    return {"key": key, "text": text}


def current(world: World, call: Call) -> Key:
    """The key that this call was made with."""
    return _named(world, call, call.caller.user, call.caller.key)


def remove(world: World, call: Call) -> None:
    """Remove a key of the caller or, where the path names one, of another user."""
    world.keys.remove(_named(world, call, call.params.get("user", call.caller.user), call.params["name"]))


def _own(world: World, call: Call) -> list[Key]:
    return [key for key in world.keys.list(call.owner) if key.user == call.caller.user]


def _named(world: World, call: Call, user: str, name: str) -> Key:
    for key in world.keys.list(call.owner):
        if (key.user, key.name) == (user, name):
            return key
    raise NotFound(f"API key {name[:80]} not found")


ROUTES = (
    Route("POST", "/api-keys", make, MADE, NEW, status=201, needs="manage:keys"),
    Route("GET", "/api-keys", _own, each(KEY)),
    Route("GET", "/api-keys/current", current, KEY),
    Route(
        "GET", "/api-keys/{name}", lambda world, call: _named(world, call, call.caller.user, call.params["name"]), KEY
    ),
    Route("DELETE", "/api-keys/{name}", remove, status=204, needs="manage:keys"),
    Route("DELETE", "/api-keys/{user}/{name}", remove, status=204, needs="manage:keys"),
)
