"""What organizations may have and have, in DynamoDB, and how the writes of their sandboxes count.

Calls: get and days 1; set_quota 1 transaction. Counting takes none of its own: it is two rows of a sandbox's transaction.
"""

import copy
import functools
import json
import operator
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import date
from typing import Any, Self

from pynamodb.expressions.condition import Condition

from chalicelib.aws.audit import DynamoAudit
from chalicelib.aws.errors import turning
from chalicelib.aws.tables import OrganizationRow, Tables
from chalicelib.aws.transactions import Part, transact
from chalicelib.core import quotas
from chalicelib.core.amounts import KINDS, NOTHING, Amounts
from chalicelib.core.audit import Actor
from chalicelib.core.errors import Stale
from chalicelib.core.quotas import Day, Organization

NOW = "now"
DAY = "day "
MOST_REMEMBERED = 10_000


class DynamoOrganizations:
    """`Organizations`, kept by DynamoDB."""

    def __init__(self, tables: Tables, audit: DynamoAudit, *, default: Amounts = quotas.DEFAULT) -> None:
        self._tables, self._audit, self._default = tables, audit, default
        # The quotas of their own that were last seen. The condition holds them to what the row says; a wrong one is read anew.
        self._own: dict[str, Amounts] = {}

    def by(self, actor: Actor) -> Self:
        """The same, with the same memory."""
        other = copy.copy(self)
        other._audit = self._audit.by(actor)
        return other

    def get(self, owner: str) -> Organization:
        """One consistent read."""
        with turning():
            try:
                return self._organization(self._tables.organizations.get(owner, NOW, consistent_read=True))
            except self._tables.organizations.DoesNotExist:
                return Organization(owner, self._default)

    def set_quota(self, organization: Organization, quota: Amounts) -> Organization:
        """The row and the audit log's in one transaction."""
        changed = replace(organization, quota=quota, own=True)
        known = organization.quota if organization.own else None
        row, stale = self._row(organization.owner), Stale("the quota was changed meanwhile")
        action = OrganizationRow.quota.set(_json(quota))
        part = Part("update", row, _holds(known), [action], failed=stale)
        transact(self._tables.connection, [part, self._audit.of_quota(organization, changed)])
        return changed

    def days(self, owner: str, first: date) -> tuple[Organization, Sequence[Day]]:
        """One query: the days and the present lie beside each other, in this order."""
        with turning():
            between = OrganizationRow.part.between(_part(first), NOW)
            rows = list(self._tables.organizations.query(owner, between, consistent_read=True))
        present = [self._organization(row) for row in rows if row.part == NOW]
        return next(iter(present), Organization(owner, self._default)), [_day(row) for row in rows if row.part != NOW]

    def counting(self, owner: str, change: Amounts, *, refusable: bool) -> list[Part]:
        """The rows that a sandbox's transaction has besides where what it counts for changes so."""
        now = self._audit.now()
        if change == NOTHING:
            return []
        return [
            Part(
                "update",
                self._row(owner),
                (lambda: self._room(owner, change)) if refusable else None,
                _added(change),
                failed=lambda: quotas.refusal(self.get(owner), change),
            ),
            Part(
                "update",
                self._row(owner, _part(now.date())),
                actions=[*_added(change), *_added(change * quotas.second_of(now), "_moments")],
            ),
        ]

    def _room(self, owner: str, change: Amounts) -> Condition | None:
        own = self._own.get(owner)
        quota = own or self._default
        room = [
            _at_most(kind, allowed - asked)
            for kind, asked, allowed in zip(KINDS, change.told(), quota.told(), strict=True)
            if asked > 0
        ]
        return functools.reduce(operator.and_, room, _holds(own)) if room else None

    def _organization(self, row: OrganizationRow) -> Organization:
        own = Amounts(**json.loads(row.quota)) if row.quota else None
        if len(self._own) >= MOST_REMEMBERED:
            self._own.clear()
        self._own.pop(row.owner, None)
        if own:
            self._own[row.owner] = own
        return Organization(row.owner, own or self._default, _amounts(row), own is not None)

    def _row(self, owner: str, part: str = NOW) -> OrganizationRow:
        return self._tables.organizations(owner=owner, part=part)


def _holds(own: Amounts | None) -> Condition:
    quota = OrganizationRow.quota
    return quota.does_not_exist() if own is None else quota == _json(own)


def _at_most(kind: str, most: float) -> Condition:
    column = getattr(OrganizationRow, kind)
    enough: Condition = column <= most
    return enough if most < 0 else column.does_not_exist() | enough


def _added(change: Amounts, suffix: str = "") -> list[Any]:
    return [getattr(OrganizationRow, kind + suffix).add(value) for kind, value in asdict(change).items() if value]


def _day(row: OrganizationRow) -> Day:
    return Day(date.fromisoformat(row.part.removeprefix(DAY)), _amounts(row), _amounts(row, "_moments"))


def _amounts(row: OrganizationRow, suffix: str = "") -> Amounts:
    return Amounts(**{kind: getattr(row, kind + suffix) or 0 for kind in KINDS})


def _part(day: date) -> str:
    return DAY + day.isoformat()


def _json(amounts: Amounts) -> str:
    return json.dumps(asdict(amounts), sort_keys=True)
