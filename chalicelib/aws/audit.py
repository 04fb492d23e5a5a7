"""The audit log in DynamoDB. A page is 1 call; an entry is none of its own, but a row of the transaction that it tells of."""

import copy
import json
from datetime import datetime, timedelta
from typing import Self

from chalicelib.aws.errors import turning
from chalicelib.aws.plain import build, plain
from chalicelib.aws.tables import EventRow, Tables
from chalicelib.aws.transactions import Part
from chalicelib.core import audit
from chalicelib.core.access import Key
from chalicelib.core.audit import INSTALLATION, Actor, Entries, Entry
from chalicelib.core.ids import first_id, id_before
from chalicelib.core.quotas import Organization
from chalicelib.core.sandbox import Sandbox
from chalicelib.core.world import Clock

KEPT = timedelta(days=90)
FIRST, LAST = "0", "g"  # below and above every identifier


class DynamoAudit:
    """`Audit`, kept by DynamoDB."""

    def __init__(self, tables: Tables, clock: Clock, *, kept: timedelta = KEPT) -> None:
        self._tables, self._clock, self._kept = tables, clock, kept
        self._actor = INSTALLATION

    def by(self, actor: Actor) -> Self:
        """The same log, in which entries are written as this actor's doing."""
        other = copy.copy(self)
        other._actor = actor
        return other

    def page(
        self, owner: str, *, since: datetime | None, until: datetime | None, after: str | None, limit: int
    ) -> Entries:
        """Newest first is backwards by id. One more than the page holds is read, to know whether another page follows."""
        first = first_id(since) if since else FIRST
        last = min(id_before(first_id(until)) if until else LAST, id_before(after) if after else LAST)
        if first > last:
            return Entries(())
        with turning():
            rows = list(
                self._tables.events.query(
                    owner,
                    EventRow.id.between(first, last),
                    consistent_read=True,
                    scan_index_forward=False,
                    limit=limit + 1,
                    page_size=limit + 1,
                )
            )
        items = tuple(build(Entry, json.loads(row.body)) for row in rows[:limit])
        return Entries(items, items[-1].id if len(rows) > limit else None)

    def now(self) -> datetime:
        """The time of what is told now."""
        return self._clock.now()

    def of_sandbox(self, sandbox: Sandbox, *, gone: bool = False) -> list[Part]:
        """The row that a transaction has besides in which a sandbox is written or buried; none where nothing is told."""
        entry = audit.of_sandbox(sandbox, self._actor, self.now(), gone=gone)
        return [self._part(entry)] if entry else []

    def of_key(self, key: Key, *, gone: bool = False) -> Part:
        """The row that a transaction has besides in which a key is made or removed."""
        return self._part(audit.of_key(key, self._actor, self.now(), gone=gone))

    def of_quota(self, before: Organization, after: Organization) -> Part:
        """The row that a transaction has besides in which a quota is changed."""
        return self._part(audit.of_quota(before, after, self._actor, self.now()))

    def _part(self, entry: Entry) -> Part:
        body = json.dumps(plain(entry), separators=(",", ":"), ensure_ascii=False)
        expires = int((entry.at + self._kept).timestamp())
        row = self._tables.events(owner=entry.owner, id=entry.id, body=body, expires=expires)
        return Part("save", row)
