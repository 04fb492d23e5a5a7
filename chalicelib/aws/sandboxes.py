"""The sandboxes in DynamoDB.

Calls: get, put, touch, owner_of and a page of a list 1 each; named, incarnated and due 2; add, claim, bury and a put that
is counted or told of 1 transaction.
"""

import functools
import json
import operator
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pynamodb.expressions.condition import Condition

from chalicelib.aws.audit import DynamoAudit
from chalicelib.aws.errors import turning
from chalicelib.aws.organizations import DynamoOrganizations
from chalicelib.aws.plain import build, plain
from chalicelib.aws.tables import NameRow, SandboxRow, Tables, TombstoneRow
from chalicelib.aws.transactions import Part, transact
from chalicelib.core import deadlines, quotas
from chalicelib.core.amounts import NOTHING, Amounts
from chalicelib.core.audit import Actor
from chalicelib.core.errors import Conflict, Invalid, NotFound, Stale
from chalicelib.core.ids import is_id
from chalicelib.core.sandbox import Filter, Page, Sandbox
from chalicelib.core.states import State
from chalicelib.core.tickets import Ticket

WAITS = "yes"  # the one value of the attribute: all that wait lie together, in the order of their deadlines
COLUMNS = ("owner", "id", "name", "state", "version", "labels", "active_at")  # equal to what `plain` says of them
TICKETS = "request "  # begins what a request's key is in the table of names; no sandbox's name has a space
FILTERED_AT_ONCE = 1000


class DynamoSandboxes:
    """`Sandboxes`, kept by DynamoDB."""

    def __init__(self, tables: Tables, organizations: DynamoOrganizations, audit: DynamoAudit) -> None:
        self._tables, self._organizations, self._audit = tables, organizations, audit
        self._rows = tables.sandboxes

    def by(self, actor: Actor) -> "DynamoSandboxes":
        """The same tables, other entries."""
        return DynamoSandboxes(self._tables, self._organizations, self._audit.by(actor))

    def add(self, sandbox: Sandbox) -> Sandbox:
        """Both rows in one transaction: a name without a sandbox, or one without a name, cannot be."""
        return self._transacted(sandbox, self._enter, self._told(sandbox, quotas.charge(sandbox)))

    def claim(self, warm: Sandbox, sandbox: Sandbox) -> Sandbox:
        """The warm machine's two rows go and the sandbox's two come in one transaction."""
        told = self._told(sandbox, quotas.charge(sandbox))
        return self._transacted(sandbox, lambda saved: [*self._leave(warm), *self._enter(saved)], told)

    def put(self, sandbox: Sandbox) -> Sandbox:
        """One conditional write, as a transaction where it is counted or told of."""
        if told := self._told(sandbox, quotas.charge(sandbox)):
            return self._transacted(sandbox, self._over, told)
        saved, stale = replace(sandbox, version=sandbox.version + 1), _stale(sandbox)
        with turning(ConditionalCheckFailedException=stale, TransactionConflictException=stale):
            self._row(saved).save(condition=SandboxRow.version == sandbox.version)
        return _given(saved)

    def get(self, owner: str, id: str) -> Sandbox:
        """One consistent read."""
        with turning():
            try:
                return _sandbox(self._rows.get(owner, id, consistent_read=True))
            except self._rows.DoesNotExist:
                raise NotFound(f"sandbox {id[:80]} not found") from None

    def named(self, owner: str, name: str) -> Sandbox:
        """The name's row says the id. One that is buried between the two reads is not found."""
        with turning():
            try:
                row = self._tables.names.get(owner, name, consistent_read=True)
            except self._tables.names.DoesNotExist:
                raise NotFound(f"sandbox {name[:80]} not found") from None
        return self.get(owner, row.id)

    def ticketed(self, owner: str, key: str) -> str:
        """One consistent read. DynamoDB takes days to remove what has expired, so that is looked at here."""
        with turning():
            try:
                row = self._tables.names.get(owner, TICKETS + key, consistent_read=True)
            except self._tables.names.DoesNotExist:
                row = None
        if row is None or (row.expires or 0) <= self._audit.now().timestamp():
            raise NotFound("no request was made under this key")
        return row.id

    def owner_of(self, id: str) -> str:
        """From the index, which holds the keys alone."""
        with turning():
            rows = list(self._rows.by_id.query(id, limit=1))
        if not rows:
            raise NotFound(f"sandbox {id[:80]} not found")
        return str(rows[0].owner)

    def incarnated(self, incarnation: str) -> Sandbox:
        """The index says which, a consistent read whether it still is."""
        with turning():
            rows = list(self._rows.by_incarnation.query(incarnation, limit=1)) if incarnation else []
        sandbox = self.get(rows[0].owner, rows[0].id) if rows else None
        if sandbox is None or sandbox.incarnation != incarnation:
            raise NotFound(f"no sandbox is the machine of {incarnation[:80]}")
        return sandbox

    def list(self, owner: str, where: Filter, *, after: str | None = None, limit: int = 100) -> Page:
        """Newest first is backwards by id. One more than the page holds is read, to know whether another page follows."""
        if after is not None and not is_id(after):
            raise Invalid(f"not a cursor of ours: {after[:80]!r}")
        fits = _fits(where)
        with turning():
            rows = list(
                self._rows.query(
                    owner,
                    None if after is None else SandboxRow.id < after,
                    fits,
                    consistent_read=True,
                    scan_index_forward=False,
                    limit=limit + 1,
                    page_size=limit + 1 if fits is None else FILTERED_AT_ONCE,
                )
            )
        items = tuple(_sandbox(row) for row in rows[:limit])
        return Page(items, items[-1].id if len(rows) > limit else None)

    def count(self, owner: str, where: Filter) -> int:
        """A query that returns no rows; a call for each MB of them."""
        with turning():
            return self._rows.count(owner, filter_condition=_fits(where), consistent_read=True)

    def due(self, now: datetime, limit: int = 100) -> Sequence[Sandbox]:
        """The index says which, a consistent read what they are by now."""
        with turning():
            waiting = self._rows.by_deadline.query(WAITS, SandboxRow.deadline <= _milliseconds(now), limit=limit)
            keys = [(row.owner, row.id) for row in waiting]
            rows = {(row.owner, row.id): row for row in self._rows.batch_get(keys, consistent_read=True)}
        found = (_sandbox(rows[key]) for key in keys if key in rows)
        return [sandbox for sandbox in found if (deadline := deadlines.deadline(sandbox)) and deadline <= now]

    def touch(self, sandbox: Sandbox, now: datetime) -> None:
        """One conditional update. The deadline follows from the policy, so the policy must be the one that was read."""
        touched = replace(sandbox, active_at=now)
        unchanged = (SandboxRow.state == State.STARTED.value) & (SandboxRow.policy == _json(sandbox.policy))
        row = self._rows(owner=sandbox.owner, id=sandbox.id)
        actions = [SandboxRow.active_at.set(plain(now)), SandboxRow.version.add(1), *_alarm(touched)]
        try:
            with turning(ConditionalCheckFailedException=_stale(sandbox), TransactionConflictException=_stale(sandbox)):
                row.update(actions=actions, condition=unchanged)
        except Stale:
            return

    def bury(self, sandbox: Sandbox, until: datetime) -> None:
        """Its two rows go and the tombstone comes in one transaction."""
        grave = Part("save", self._tombstone(sandbox, until))
        transact(self._tables.connection, [*self._leave(sandbox), grave, *self._told(sandbox, NOTHING, gone=True)])

    def tombstone(self, owner: str, id: str) -> Sandbox:
        """DynamoDB takes days to remove what has expired, so that is looked at here."""
        with turning():
            try:
                row = self._tables.tombstones.get(owner, id)
            except self._tables.tombstones.DoesNotExist:
                row = None
        if row is None or row.expires <= time.time():
            raise NotFound(f"sandbox {id[:80]} not found")
        return build(Sandbox, json.loads(row.body))

    def _transacted(self, sandbox: Sandbox, own: Callable[[Sandbox], Sequence[Part]], told: Sequence[Part]) -> Sandbox:
        """The sandbox as it was written, its own rows and what is told of them in one transaction."""
        saved = replace(sandbox, version=sandbox.version + 1, charged=quotas.charge(sandbox))
        transact(self._tables.connection, [*own(saved), *told])
        return _given(saved)

    def _told(self, sandbox: Sandbox, charge: Amounts, *, gone: bool = False) -> Sequence[Part]:
        """The rows of its organization and of the audit log, where its write changes them."""
        change, refusable = charge - sandbox.charged, quotas.refusable(sandbox)
        counting = self._organizations.counting(sandbox.owner, change, refusable=refusable)
        return [*counting, *self._audit.of_sandbox(sandbox, gone=gone)]

    def _over(self, sandbox: Sandbox) -> Sequence[Part]:
        row, stale, same = self._row(sandbox), _stale(sandbox), SandboxRow.version == sandbox.version - 1
        return [Part("save", row, same, failed=stale, contended=stale)]

    def _enter(self, sandbox: Sandbox) -> Sequence[Part]:
        row, name = self._row(sandbox), self._name(sandbox)
        return [
            Part("save", row, SandboxRow.id.does_not_exist(), failed=_exists(sandbox)),
            Part("save", name, NameRow.name.does_not_exist(), failed=_taken(sandbox)),
            *(self._ticket(sandbox, sandbox.ticket) if sandbox.ticket else ()),
        ]

    def _ticket(self, sandbox: Sandbox, ticket: Ticket) -> Sequence[Part]:
        row = self._tables.names(owner=sandbox.owner, name=TICKETS + ticket.key, id=sandbox.id)
        row.expires = int(ticket.until.timestamp())
        free = NameRow.name.does_not_exist() | (NameRow.expires <= int(self._audit.now().timestamp()))
        used = Conflict("this request's key was used before; take another key")
        return [Part("save", row, free, failed=used)]

    def _leave(self, sandbox: Sandbox) -> Sequence[Part]:
        row, name, stale = self._rows(owner=sandbox.owner, id=sandbox.id), self._name(sandbox), _stale(sandbox)
        same = SandboxRow.version == sandbox.version
        return [
            Part("delete", row, same, failed=stale, contended=stale),
            Part("delete", name, NameRow.id == sandbox.id, failed=stale, contended=stale),
        ]

    def _row(self, sandbox: Sandbox) -> SandboxRow:
        said = plain(sandbox)
        columns: dict[str, Any] = {name: said.pop(name) for name in COLUMNS}
        columns["policy"] = _json(said.pop("policy"))
        columns["incarnation"] = sandbox.incarnation or None
        if deadline := deadlines.deadline(sandbox):
            columns |= {"waits": WAITS, "deadline": _milliseconds(deadline)}
        return self._rows(**columns, body=_json(said))

    def _name(self, sandbox: Sandbox) -> NameRow:
        return self._tables.names(owner=sandbox.owner, name=sandbox.name, id=sandbox.id)

    def _tombstone(self, sandbox: Sandbox, until: datetime) -> TombstoneRow:
        return self._tables.tombstones(
            owner=sandbox.owner, id=sandbox.id, body=_json(sandbox), expires=int(until.timestamp())
        )


def _sandbox(row: SandboxRow) -> Sandbox:
    columns = {name: getattr(row, name) for name in COLUMNS}
    columns["labels"] = row.labels.attribute_values
    return _given(build(Sandbox, {**json.loads(row.body), **columns, "policy": json.loads(row.policy)}))


def _given(sandbox: Sandbox) -> Sandbox:
    """A sandbox that remembers how it is now, so that its next write can tell what it changes."""
    return replace(sandbox, was=replace(sandbox, was=None))


def _fits(where: Filter) -> Condition | None:
    conditions = [SandboxRow.labels[key] == value for key, value in where.labels.items()]
    if where.states:
        conditions.append(SandboxRow.state.is_in(*sorted(where.states)))
    if where.name_prefix:
        conditions.append(SandboxRow.name.startswith(where.name_prefix))
    return functools.reduce(operator.and_, conditions) if conditions else None


def _alarm(sandbox: Sandbox) -> list[Any]:
    deadline = deadlines.deadline(sandbox)
    if deadline is None:
        return [SandboxRow.waits.remove(), SandboxRow.deadline.remove()]
    return [SandboxRow.waits.set(WAITS), SandboxRow.deadline.set(_milliseconds(deadline))]


def _taken(sandbox: Sandbox) -> Conflict:
    return Conflict(f"the name {sandbox.name} is taken", name=sandbox.name)


def _exists(sandbox: Sandbox) -> Conflict:
    return Conflict(f"sandbox {sandbox.id} exists")


def _stale(sandbox: Sandbox) -> Stale:
    return Stale(f"sandbox {sandbox.id} was changed meanwhile")


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)


def _json(value: Any) -> str:
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
