"""The tables: how sandboxes, their names, their tombstones, the keys, the organizations and the audit log lie in DynamoDB."""

from dataclasses import dataclass
from typing import Any, TypeVar, cast

from pynamodb.attributes import MapAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.connection import Connection
from pynamodb.indexes import GlobalSecondaryIndex, KeysOnlyProjection
from pynamodb.models import Model

from chalicelib.aws.clients import Clients

M = TypeVar("M", bound=Model)


class ById(GlobalSecondaryIndex[Any]):  # type: ignore[no-untyped-call]
    """Whose sandbox is this id?"""

    class Meta:
        index_name = "by-id"
        projection = KeysOnlyProjection()

    id = UnicodeAttribute(hash_key=True)


class ByIncarnation(GlobalSecondaryIndex[Any]):  # type: ignore[no-untyped-call]
    """Whose machine did this start movement bring up?"""

    class Meta:
        index_name = "by-incarnation"
        projection = KeysOnlyProjection()

    incarnation = UnicodeAttribute(hash_key=True)


class ByDeadline(GlobalSecondaryIndex[Any]):  # type: ignore[no-untyped-call]
    """What is due? Sparse: a sandbox without a deadline has neither of the two, and is not in it."""

    class Meta:
        index_name = "by-deadline"
        projection = KeysOnlyProjection()

    waits = UnicodeAttribute(hash_key=True)
    deadline = NumberAttribute(range_key=True)


class SandboxRow(Model):
    """A sandbox. What is searched for or written by itself has an attribute; the rest is JSON in `body`."""

    owner = UnicodeAttribute(hash_key=True)
    id = UnicodeAttribute(range_key=True)
    name = UnicodeAttribute()
    state = UnicodeAttribute()
    version = NumberAttribute()
    labels: MapAttribute[str, Any] = MapAttribute()  # type: ignore[no-untyped-call]
    active_at = UnicodeAttribute()
    policy = UnicodeAttribute()  # JSON with its keys in order, so that equal policies are equal texts
    incarnation = UnicodeAttribute(null=True)
    waits = UnicodeAttribute(null=True)
    deadline = NumberAttribute(null=True)  # milliseconds since 1970
    body = UnicodeAttribute()

    by_id = ById()
    by_incarnation = ByIncarnation()
    by_deadline = ByDeadline()


class NameRow(Model):
    """A name that is taken, of a sandbox, a key or a request, and what has it."""

    owner = UnicodeAttribute(hash_key=True)
    name = UnicodeAttribute(range_key=True)
    id = UnicodeAttribute()
    expires = NumberAttribute(null=True)  # of a request's: seconds since 1970, the table's time to live


class KeyRow(Model):
    """An API key, by the hash of its text."""

    hash = UnicodeAttribute(hash_key=True)
    body = UnicodeAttribute()
    used_at = UnicodeAttribute(null=True)


class TombstoneRow(Model):
    """A sandbox that was deleted, until DynamoDB takes it away."""

    owner = UnicodeAttribute(hash_key=True)
    id = UnicodeAttribute(range_key=True)
    body = UnicodeAttribute()
    expires = NumberAttribute()  # seconds since 1970: the table's time to live


class EventRow(Model):
    """An entry of the audit log, until DynamoDB takes it away."""

    owner = UnicodeAttribute(hash_key=True)
    id = UnicodeAttribute(range_key=True)
    body = UnicodeAttribute()
    expires = NumberAttribute()  # seconds since 1970: the table's time to live


class OrganizationRow(Model):
    """What an organization has, whose part is `now`, and how that changed on a day, whose part is `day 2026-11-22`."""

    owner = UnicodeAttribute(hash_key=True)
    part = UnicodeAttribute(range_key=True)
    quota = UnicodeAttribute(null=True)  # its own, as JSON with its keys in order
    sandboxes = NumberAttribute(null=True)
    cpu = NumberAttribute(null=True)
    memory_mib = NumberAttribute(null=True)
    disk_gib = NumberAttribute(null=True)
    # Of a day alone: each change times the second that it came at.
    sandboxes_moments = NumberAttribute(null=True)
    cpu_moments = NumberAttribute(null=True)
    memory_mib_moments = NumberAttribute(null=True)
    disk_gib_moments = NumberAttribute(null=True)


@dataclass(frozen=True)
class Tables:
    """The tables of one installation."""

    sandboxes: type[SandboxRow]
    names: type[NameRow]
    keys: type[KeyRow]
    tombstones: type[TombstoneRow]
    organizations: type[OrganizationRow]
    events: type[EventRow]
    connection: Connection  # for transactions


def open_tables(prefix: str, clients: Clients) -> Tables:
    """The tables whose names begin so, all spoken to through one client: PynamoDB would make one for each."""
    client = clients["dynamodb"]
    connection = Connection()
    connection._client = client
    return Tables(
        sandboxes=_opened(SandboxRow, prefix + "sandboxes", client),
        names=_opened(NameRow, prefix + "names", client),
        keys=_opened(KeyRow, prefix + "keys", client),
        tombstones=_opened(TombstoneRow, prefix + "tombstones", client),
        organizations=_opened(OrganizationRow, prefix + "organizations", client),
        events=_opened(EventRow, prefix + "events", client),
        connection=connection,
    )


def _opened(model: type[M], table: str, client: Any) -> type[M]:
    meta = type("Meta", (), {"table_name": table})
    opened = cast(type[M], type(model.__name__, (model,), {"Meta": meta}))
    opened._get_connection().connection._client = client
    return opened
