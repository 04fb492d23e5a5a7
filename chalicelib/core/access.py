"""Who is asking: API keys, what they permit, and whom they speak for."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from chalicelib.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated

if TYPE_CHECKING:
    from chalicelib.core.world import World

PERMISSIONS = frozenset(
    f"{verb}:{thing}"
    for verb, things in {
        "write": ("sandboxes", "images", "volumes", "registries"),
        "delete": ("sandboxes", "images", "volumes", "registries"),
        "read": ("audit", "volumes"),
        "manage": ("keys", "organization"),
    }.items()
    for thing in things
)
"""What a key may be allowed beyond reading what its organization has."""

USE_IS_NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as it is stored: never its text, only the hash of it and its last characters."""

    hash: str
    owner: str
    user: str
    name: str
    hint: str
    permissions: frozenset[str]
    created_at: datetime
    expires_at: datetime | None = None
    used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody we know, speaking for one organization."""

    owner: str
    user: str
    permissions: frozenset[str]
    key: str = ""  # the name of the key that was used

    def must(self, permission: str) -> None:
        """Raise `Forbidden` unless the caller has this permission."""
        if permission and permission not in self.permissions:
            raise Forbidden(f"this key lacks the permission {permission}; ask for a key that has it")


def digest(text: str) -> str:
    """The hash under which a key is stored. Keys are 256 random bits, so a fast hash is enough."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_key(
    world: "World",
    caller: Caller,
    name: str,
    *,
    permissions: Iterable[str],
    expires_at: datetime | None = None,
) -> tuple[Key, str]:
    """A new key for the caller and its text, which is nowhere kept. A key never permits more than its maker has."""
    wanted = frozenset(permissions)
    if unknown := wanted - PERMISSIONS:
        raise Invalid(f"unknown permissions: {', '.join(sorted(unknown))}")
    if beyond := wanted - caller.permissions:
        raise Forbidden(f"a key cannot be given what its maker lacks: {', '.join(sorted(beyond))}")
    if expires_at is not None and expires_at <= world.clock.now():
        raise Invalid(f"the key would expire in the past: {expires_at.isoformat()}")
    text = "sb_" + secrets.token_urlsafe(32)
    key = _key(world, text, owner=caller.owner, user=caller.user, name=name, permissions=wanted)
    return world.keys.add(replace(key, expires_at=expires_at)), text


def admit_admin(world: "World", text: str, *, owner: str, user: str) -> Key:
    """See to it that this text is a key with every permission; harmless to repeat."""
    if len(text) < 8 or not text.isprintable() or " " in text:
        raise Invalid("the administrator's key must have at least 8 printable characters and no space")
    try:
        return world.keys.get(digest(text))
    except NotFound:
        pass
    key = _key(world, text, owner=owner, user=user, name=f"admin-{digest(text)[:8]}", permissions=PERMISSIONS)
    try:
        return world.keys.add(key)
    except Conflict:
        return world.keys.get(digest(text))


def identify(world: "World", text: str | None) -> Caller:
    """Whoever holds this key, or `Unauthenticated`, with one sentence for every way of not being known."""
    refusal = Unauthenticated("the API key is missing, unknown or expired; send it as 'Authorization: Bearer <key>'")
    if not text:
        raise refusal
    try:
        key = world.keys.get(digest(text))
    except NotFound:
        raise refusal from None
    now = world.clock.now()
    if not hmac.compare_digest(key.hash, digest(text)) or (key.expires_at and key.expires_at <= now):
        raise refusal
    if key.used_at is None or now - key.used_at >= USE_IS_NOTED_EVERY:
        world.keys.note_use(key, now)
    return Caller(owner=key.owner, user=key.user, permissions=key.permissions, key=key.name)


def _key(world: "World", text: str, *, owner: str, user: str, name: str, permissions: frozenset[str]) -> Key:
    return Key(
        hash=digest(text),
        owner=owner,
        user=user,
        name=name,
        hint=text[-4:],
        permissions=permissions,
        created_at=world.clock.now(),
    )
