"""The audit log: who did what to which thing, when, from where, and how the thing was before and is since.

The store writes an entry in the transaction of the change that it tells of, so there is no change without its entry and no
entry of what did not happen. Who did it is whom the World acts for (`World.acting`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from chalicelib.core.access import Caller, Key
from chalicelib.core.errors import Invalid
from chalicelib.core.ids import is_id, new_id
from chalicelib.core.quotas import NOBODYS, Organization
from chalicelib.core.sandbox import Sandbox

if TYPE_CHECKING:
    from chalicelib.core.world import World

MOST_IN_A_PAGE = 200
LONGEST_AGENT = 200


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something: a user with a key, from an address, through a program; or a part of the installation."""

    kind: str
    user: str = ""
    key: str = ""
    source: str = ""
    agent: str = ""


INSTALLATION = Actor("installation")
POLICY = Actor("policy")
WORKFLOW = Actor("workflow")


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that was done. `before` and `after` hold what of the thing differs, as JSON."""

    id: str  # in the order of time
    owner: str
    at: datetime
    kind: str
    subject: str
    name: str
    actor: Actor
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entries:
    """Some entries, newest first, and the cursor of the next page; None where there is none."""

    items: tuple[Entry, ...]
    cursor: str | None = None


NOTED = ("state", "reason", "image", "size", "labels", "policy", "network", "volumes", "public")
"""What of a sandbox is told in its entries. Its environment is not: it may hold secrets."""

KEY_NOTED = ("user", "permissions", "expires_at")


def user(caller: Caller, *, source: str, agent: str) -> Actor:
    """The actor that a caller is."""
    return Actor("user", caller.user, caller.key, source, agent[:LONGEST_AGENT])


def machine(source: str = "") -> Actor:
    """The actor that the machine of a sandbox is."""
    return Actor("machine", source=source)


def of_sandbox(sandbox: Sandbox, actor: Actor, now: datetime, *, gone: bool = False) -> Entry | None:
    """What a write of a sandbox is told as, by how it was when it was read; None where nothing that is noted changed."""
    if sandbox.owner.startswith(NOBODYS):
        return None
    was, new = sandbox.was, sandbox.version == 0
    after = {name: getattr(sandbox, name) for name in NOTED}
    before = {} if was is None else {name: getattr(was, name) for name in NOTED}
    changed = [name for name in NOTED if new or (was is not None and before[name] != after[name])]
    if not changed and not gone:
        return None
    kind = "created" if new else "deleted" if gone else "moved" if "state" in changed else "changed"
    return Entry(
        id=new_id(now),
        owner=sandbox.owner,
        at=now,
        kind=f"sandbox.{kind}",
        subject=sandbox.id,
        name=sandbox.name,
        actor=actor,
        before={name: before[name] for name in changed if name in before},
        after={name: after[name] for name in changed},
    )


def of_key(key: Key, actor: Actor, now: datetime, *, gone: bool = False) -> Entry:
    """What the making or removing of a key is told as."""
    told = {name: getattr(key, name) for name in KEY_NOTED}
    kind, before, after = ("key.removed", told, {}) if gone else ("key.made", {}, told)
    return Entry(new_id(now), key.owner, now, kind, key.name, key.name, actor, before, after)


def of_quota(before: Organization, after: Organization, actor: Actor, now: datetime) -> Entry:
    """What a new quota is told as."""
    told = {"quota": before.quota}, {"quota": after.quota}
    return Entry(new_id(now), after.owner, now, "quota.changed", after.owner, after.owner, actor, *told)


def page(
    world: "World",
    owner: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    after: str | None = None,
    limit: int = 100,
) -> Entries:
    """A page of an organization's entries, newest first."""
    if not 1 <= limit <= MOST_IN_A_PAGE:
        raise Invalid(f"limit must be 1 to {MOST_IN_A_PAGE}, not {limit}")
    if after is not None and not is_id(after):
        raise Invalid(f"not a cursor of ours: {after[:80]!r}")
    return world.audit.page(owner, since=since, until=until, after=after, limit=limit)
