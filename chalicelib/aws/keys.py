"""API keys in DynamoDB. Calls: get 1, or none within ten seconds; list 2; note_use 1; add and remove 1 transaction."""

import copy
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Self

from chalicelib.aws.audit import DynamoAudit
from chalicelib.aws.errors import turning
from chalicelib.aws.plain import build, plain
from chalicelib.aws.tables import KeyRow, NameRow, Tables
from chalicelib.aws.transactions import Part, transact
from chalicelib.core.access import Key
from chalicelib.core.audit import Actor
from chalicelib.core.errors import Conflict, NotFound

REMEMBERED_SECONDS = 10.0
MOST_REMEMBERED = 10_000
NAMES = "key "  # begins what a key's name is in the table of names; no sandbox's name has a space


class DynamoKeys:
    """`Keys`, kept by DynamoDB."""

    def __init__(self, tables: Tables, audit: DynamoAudit) -> None:
        self._tables, self._audit = tables, audit
        self._rows = tables.keys
        self._remembered: dict[str, tuple[float, Key]] = {}

    def by(self, actor: Actor) -> Self:
        """The same, with the same memory."""
        other = copy.copy(self)
        other._audit = self._audit.by(actor)
        return other

    def add(self, key: Key) -> Key:
        """The key, its name and the audit log's row in one transaction."""
        named, exists = Conflict(f"{key.user} has a key named {key.name}"), Conflict("this key exists")
        row, name = self._row(key), self._name(key)
        parts = [
            Part("save", row, KeyRow.hash.does_not_exist(), failed=exists),
            Part("save", name, NameRow.name.does_not_exist(), failed=named),
            self._audit.of_key(key),
        ]
        transact(self._tables.connection, parts)
        return key

    def get(self, hash: str) -> Key:
        """One consistent read, or what was read within the last ten seconds. That there is none is not remembered."""
        until, key = self._remembered.get(hash, (0.0, None))
        if key is not None and time.monotonic() < until:
            return key
        self._remembered.pop(hash, None)
        with turning():
            try:
                row = self._rows.get(hash, consistent_read=True)
            except self._rows.DoesNotExist:
                raise NotFound("no such key") from None
        return self._remember(_key(row))

    def list(self, owner: str) -> Sequence[Key]:
        """By the names, whose rows lie together and are read consistently, as no index is."""
        with turning():
            names = self._tables.names.query(owner, NameRow.name.startswith(NAMES), consistent_read=True)
            hashes = [row.id for row in names]
            rows = list(self._rows.batch_get(hashes, consistent_read=True)) if hashes else []
        return sorted((_key(row) for row in rows), key=lambda key: (key.created_at, key.name))

    def note_use(self, key: Key, now: datetime) -> None:
        """One conditional update; nothing where the key was removed meanwhile."""
        gone = NotFound("no such key")
        try:
            with turning(ConditionalCheckFailedException=gone, TransactionConflictException=gone):
                self._rows(key.hash).update([KeyRow.used_at.set(plain(now))], condition=KeyRow.hash.exists())
        except NotFound:
            return
        self._remember(replace(key, used_at=now))

    def remove(self, key: Key) -> None:
        """The key, its name and the audit log's row in one transaction."""
        gone = NotFound(f"there is no key named {key.name}")
        self._remembered.pop(key.hash, None)
        row, name = self._rows(key.hash), self._name(key)
        parts = [
            Part("delete", row, KeyRow.hash.exists(), failed=gone),
            Part("delete", name),
            self._audit.of_key(key, gone=True),
        ]
        transact(self._tables.connection, parts)

    def _remember(self, key: Key) -> Key:
        if len(self._remembered) >= MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[key.hash] = (time.monotonic() + REMEMBERED_SECONDS, key)
        return key

    def _row(self, key: Key) -> KeyRow:
        said: dict[str, Any] = plain(key)
        return self._rows(hash=said.pop("hash"), used_at=said.pop("used_at"), body=json.dumps(said))

    def _name(self, key: Key) -> NameRow:
        return self._tables.names(owner=key.owner, name=NAMES + json.dumps([key.user, key.name]), id=key.hash)


def _key(row: KeyRow) -> Key:
    return build(Key, {**json.loads(row.body), "hash": row.hash, "used_at": row.used_at})
