"""The world in memory: every port keeps its promises without AWS, in microseconds. `tests/playing.py` sets it in motion."""

import copy
import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Self

from chalicelib.aws.plain import build, plain
from chalicelib.core import audit, deadlines, quotas
from chalicelib.core.access import Key
from chalicelib.core.amounts import NOTHING, Amounts
from chalicelib.core.audit import Actor, Entries, Entry
from chalicelib.core.errors import Conflict, Invalid, NotFound, Stale, Unavailable
from chalicelib.core.ids import first_id, is_id
from chalicelib.core.quotas import Day, Organization
from chalicelib.core.sandbox import Filter, Machine, Page, Sandbox
from chalicelib.core.states import State

BEGINNING = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Clock:
    """Time that passes when it is told to, and by a step whenever somebody looks, so that ids come in order."""

    def __init__(self, step: timedelta = timedelta(0)) -> None:
        self._now, self._step = BEGINNING, step

    def now(self) -> datetime:
        self._now += self._step
        return self._now

    def sleep(self, seconds: float) -> None:
        self.turn(timedelta(seconds=seconds))

    def turn(self, span: timedelta) -> None:
        self._now += span


class Audit:
    """`Audit`, in a list."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._actor = clock, audit.INSTALLATION
        self.entries: list[Entry] = []

    def by(self, actor: Actor) -> Self:
        """The same log, in which entries are written as this actor's doing."""
        other = copy.copy(self)
        other._actor = actor
        return other

    def page(
        self, owner: str, *, since: datetime | None, until: datetime | None, after: str | None, limit: int
    ) -> Entries:
        found = [
            entry
            for entry in sorted(self.entries, key=lambda entry: entry.id, reverse=True)
            if entry.owner == owner
            and (since is None or entry.id >= first_id(since))
            and (until is None or entry.id < first_id(until))
            and (after is None or entry.id < after)
        ]
        return Entries(tuple(found[:limit]), found[limit - 1].id if len(found) > limit else None)

    def of_sandbox(self, sandbox: Sandbox, *, gone: bool = False) -> None:
        if entry := audit.of_sandbox(sandbox, self._actor, self._clock.now(), gone=gone):
            self._note(entry)

    def of_key(self, key: Key, *, gone: bool = False) -> None:
        self._note(audit.of_key(key, self._actor, self._clock.now(), gone=gone))

    def of_quota(self, before: Organization, after: Organization) -> None:
        self._note(audit.of_quota(before, after, self._actor, self._clock.now()))

    def _note(self, entry: Entry) -> None:
        self.entries.append(build(Entry, json.loads(json.dumps(plain(entry)))))


class Organizations:
    """`Organizations`, in dictionaries."""

    def __init__(self, clock: Clock, log: Audit | None = None, default: Amounts = quotas.DEFAULT) -> None:
        self._clock, self._default, self._lock = clock, default, threading.RLock()
        self._audit = log or Audit(clock)
        self._used: dict[str, Amounts] = {}
        self._own: dict[str, Amounts] = {}
        self._days: dict[tuple[str, date], Day] = {}

    def by(self, actor: Actor) -> Self:
        other = copy.copy(self)
        other._audit = self._audit.by(actor)
        return other

    def get(self, owner: str) -> Organization:
        quota = self._own.get(owner, self._default)
        return Organization(owner, quota, self._used.get(owner, NOTHING), own=owner in self._own)

    def set_quota(self, organization: Organization, quota: Amounts) -> Organization:
        with self._lock:
            now = self.get(organization.owner)
            if (now.quota, now.own) != (organization.quota, organization.own):
                raise Stale("the quota was changed meanwhile")
            self._own[organization.owner] = quota
            changed = replace(organization, quota=quota, own=True)
            self._audit.of_quota(organization, changed)
            return changed

    def days(self, owner: str, first: date) -> tuple[Organization, Sequence[Day]]:
        return self.get(owner), [self._days[key] for key in sorted(self._days) if key[0] == owner and key[1] >= first]

    def count(self, owner: str, change: Amounts, *, refusable: bool) -> None:
        """What the write of a sandbox changes; refused before it is written."""
        with self._lock:
            now, organization = self._clock.now(), self.get(owner)
            if refusable and (refused := quotas.refusal(organization, change)):
                raise refused
            day = self._days.get((owner, now.date()), Day(now.date()))
            moments = day.moments + change * quotas.second_of(now)
            self._used[owner] = organization.used + change
            self._days[owner, now.date()] = replace(day, changes=day.changes + change, moments=moments)


class Sandboxes:
    """`Sandboxes`, in dictionaries behind a lock."""

    def __init__(self, clock: Clock, organizations: Organizations | None = None, log: Audit | None = None) -> None:
        self._clock, self._lock = clock, threading.RLock()
        self._audit = log or Audit(clock)
        self._organizations = organizations or Organizations(clock)
        self._rows: dict[tuple[str, str], Sandbox] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._tickets: dict[tuple[str, str], tuple[str, datetime]] = {}
        self._buried: dict[tuple[str, str], tuple[Sandbox, datetime]] = {}

    def by(self, actor: Actor) -> Self:
        other = copy.copy(self)
        other._audit = self._audit.by(actor)
        return other

    def add(self, sandbox: Sandbox) -> Sandbox:
        with self._lock:
            self._must_be_free(sandbox)
            return self._enter(self._counted(sandbox))

    def claim(self, warm: Sandbox, sandbox: Sandbox) -> Sandbox:
        with self._lock:
            self._must_hold(warm)
            self._must_be_free(sandbox)
            counted = self._counted(sandbox)
            self._leave(warm)
            return self._enter(counted)

    def put(self, sandbox: Sandbox) -> Sandbox:
        with self._lock:
            self._must_hold(sandbox)
            return self._write(replace(self._counted(sandbox), version=sandbox.version + 1))

    def get(self, owner: str, id: str) -> Sandbox:
        try:
            return self._rows[owner, id]
        except KeyError:
            raise NotFound(f"sandbox {id[:80]} not found") from None

    def named(self, owner: str, name: str) -> Sandbox:
        return self.get(owner, self._names.get((owner, name), ""))

    def ticketed(self, owner: str, key: str) -> str:
        id, until = self._tickets.get((owner, key), ("", BEGINNING))
        if until <= self._clock.now():
            raise NotFound("no request was made under this key")
        return id

    def owner_of(self, id: str) -> str:
        return self._one(lambda s: s.id == id).owner

    def incarnated(self, incarnation: str) -> Sandbox:
        return self._one(lambda s: s.incarnation == incarnation != "")

    def list(self, owner: str, where: Filter, *, after: str | None = None, limit: int = 100) -> Page:
        if after is not None and not is_id(after):
            raise Invalid(f"not a cursor of ours: {after[:80]!r}")
        found = [s for s in self._fitting(owner, where) if after is None or s.id < after]
        items = tuple(sorted(found, key=lambda s: s.id, reverse=True)[: limit + 1])
        return Page(items[:limit], items[limit - 1].id if len(items) > limit else None)

    def count(self, owner: str, where: Filter) -> int:
        return len(self._fitting(owner, where))

    def due(self, now: datetime, limit: int = 100) -> Sequence[Sandbox]:
        waiting = [(when, s) for s in self._all() if (when := deadlines.deadline(s)) and when <= now]
        return [s for _, s in sorted(waiting, key=lambda pair: pair[0])[:limit]]

    def touch(self, sandbox: Sandbox, now: datetime) -> None:
        with self._lock:
            row = self._rows.get((sandbox.owner, sandbox.id))
            if row and row.state is State.STARTED and row.policy == sandbox.policy:
                self._write(replace(row, active_at=now, version=row.version + 1))

    def bury(self, sandbox: Sandbox, until: datetime) -> None:
        with self._lock:
            self._must_hold(sandbox)
            self._leave(sandbox)
            self._organizations.count(sandbox.owner, NOTHING - sandbox.charged, refusable=False)
            self._audit.of_sandbox(sandbox, gone=True)
            self._buried[sandbox.owner, sandbox.id] = (sandbox, until)

    def tombstone(self, owner: str, id: str) -> Sandbox:
        sandbox, until = self._buried.get((owner, id), (None, BEGINNING))
        if sandbox is None or until <= self._clock.now():
            raise NotFound(f"sandbox {id[:80]} not found")
        return sandbox

    def _one(self, fits: Callable[[Sandbox], bool]) -> Sandbox:
        found = next((s for s in self._all() if fits(s)), None)
        if found is None:
            raise NotFound("sandbox not found")
        return found

    def _all(self) -> Sequence[Sandbox]:
        with self._lock:
            return tuple(self._rows.values())

    def _fitting(self, owner: str, where: Filter) -> Sequence[Sandbox]:
        return [
            s
            for s in self._all()
            if s.owner == owner
            and where.labels.items() <= s.labels.items()
            and (not where.states or s.state in where.states)
            and s.name.startswith(where.name_prefix)
        ]

    def _counted(self, sandbox: Sandbox) -> Sandbox:
        charge = quotas.charge(sandbox)
        self._organizations.count(sandbox.owner, charge - sandbox.charged, refusable=quotas.refusable(sandbox))
        self._audit.of_sandbox(sandbox)
        return replace(sandbox, charged=charge)

    def _must_hold(self, sandbox: Sandbox) -> None:
        row = self._rows.get((sandbox.owner, sandbox.id))
        if row is None or row.version != sandbox.version:
            raise Stale(f"sandbox {sandbox.id} was changed meanwhile")

    def _must_be_free(self, sandbox: Sandbox) -> None:
        if (sandbox.owner, sandbox.id) in self._rows or (sandbox.owner, sandbox.name) in self._names:
            raise Conflict(f"the name {sandbox.name} is taken", name=sandbox.name)
        if sandbox.ticket:
            with suppress(NotFound):
                self.ticketed(sandbox.owner, sandbox.ticket.key)
                raise Conflict("this request's key was used before; take another key")

    def _enter(self, sandbox: Sandbox) -> Sandbox:
        if sandbox.ticket:
            self._tickets[sandbox.owner, sandbox.ticket.key] = (sandbox.id, sandbox.ticket.until)
        self._names[sandbox.owner, sandbox.name] = sandbox.id
        return self._write(replace(sandbox, version=sandbox.version + 1))

    def _leave(self, sandbox: Sandbox) -> None:
        del self._rows[sandbox.owner, sandbox.id], self._names[sandbox.owner, sandbox.name]

    def _write(self, sandbox: Sandbox) -> Sandbox:
        given = replace(sandbox, was=replace(sandbox, was=None))
        self._rows[sandbox.owner, sandbox.id] = given
        return given


class Keys:
    """`Keys`, in a dictionary."""

    def __init__(self, log: Audit | None = None) -> None:
        self._rows: dict[str, Key] = {}
        self._lock = threading.Lock()
        self._audit = log or Audit(Clock())

    def by(self, actor: Actor) -> Self:
        other = copy.copy(self)
        other._audit = self._audit.by(actor)
        return other

    def add(self, key: Key) -> Key:
        with self._lock:
            same = (k for k in self._rows.values() if (k.owner, k.user, k.name) == (key.owner, key.user, key.name))
            if key.hash in self._rows or any(same):
                raise Conflict(f"{key.user} has a key named {key.name}")
            self._rows[key.hash] = key
            self._audit.of_key(key)
            return key

    def get(self, hash: str) -> Key:
        try:
            return self._rows[hash]
        except KeyError:
            raise NotFound("no such key") from None

    def list(self, owner: str) -> Sequence[Key]:
        return sorted((k for k in self._rows.values() if k.owner == owner), key=lambda k: (k.created_at, k.name))

    def note_use(self, key: Key, now: datetime) -> None:
        if key.hash in self._rows:
            self._rows[key.hash] = replace(key, used_at=now)

    def remove(self, key: Key) -> None:
        if self._rows.pop(key.hash, None) is None:
            raise NotFound(f"there is no key named {key.name}")
        self._audit.of_key(key, gone=True)


@dataclass
class Execution:
    """One run of a workflow, and what its waiting task was told."""

    workflow: str
    movement: str
    sandbox: Sandbox
    more: Mapping[str, Any]
    status: str = "RUNNING"
    begun: bool = False
    tries: int = 0
    told: Mapping[str, Any] | None = None

    @property
    def ready(self) -> bool:
        """It has something to do."""
        return self.status == "RUNNING" and (not self.begun or self.told is not None)

    @property
    def token(self) -> str:
        """The token of the one task in it that waits."""
        return f"token {self.workflow} {self.movement}"


class Workflows:
    """`Workflows`, which do nothing until they are played."""

    def __init__(self) -> None:
        self.executions: dict[str, Execution] = {}

    def start(self, workflow: str, movement: str, sandbox: Sandbox, **more: Any) -> None:
        self.executions.setdefault(f"token {workflow} {movement}", Execution(workflow, movement, sandbox, more))

    def running(self, workflow: str, movement: str) -> bool:
        execution = self.executions.get(f"token {workflow} {movement}")
        return execution is not None and execution.status == "RUNNING"

    def succeed(self, task_token: str, output: Mapping[str, Any]) -> bool:
        return self._tell(task_token, {"output": output})

    def fail(self, task_token: str, reason: str, *, again: bool = False) -> bool:
        error = "Sandbar.TryAgain" if again else "Sandbar.Refused"
        return self._tell(task_token, {"Error": error, "Cause": reason})

    def _tell(self, task_token: str, told: Mapping[str, Any]) -> bool:
        execution = self.executions.get(task_token)
        if execution is None or execution.status != "RUNNING" or execution.told is not None:
            return False
        execution.told = told
        return True


@dataclass
class Task:
    """A machine: where it is, whose it is, and its disk as paths and contents."""

    machine: Machine
    movement: str
    running: bool = True
    token: str = ""
    disk: dict[str, bytes] = field(default_factory=dict)


class Machines:
    """`Machines`, each a name, an address and a disk."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def launch(self, movement: str) -> Task:
        """A new machine, as RunTask makes one."""
        number = len(self.tasks) + 1
        self.tasks.append(Task(Machine(f"task-{number}", f"10.0.{number // 250}.{number % 250}:2280"), movement))
        return self.tasks[-1]

    def started_by(self, movement: str) -> Machine | None:
        return next((t.machine for t in self.tasks if t.movement == movement and t.running), None)

    def stop(self, task: str, reason: str) -> None:
        for one in self.tasks:
            one.running = one.running and one.machine.task != task

    def stop_all(self, movement: str, reason: str) -> None:
        for one in self.tasks:
            one.running = one.running and one.movement != movement


class Blobs:
    """`Blobs`, in dictionaries; `send` and `fetch` are what a holder of a URL can do."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}

    def begin(self, key: str) -> str:
        upload = f"upload-{len(self.uploads) + 1}"
        self.uploads[upload] = {}
        return upload

    def part_urls(self, key: str, upload: str, first: int, count: int) -> Sequence[str]:
        return [f"memory://{key}?{upload}#{number}" for number in range(first, first + count)]

    def complete(self, key: str, upload: str, etags: Sequence[str]) -> int:
        parts = self.uploads.get(upload)
        if parts is None and key in self.objects:
            return len(self.objects[key])
        if (
            parts is None
            or not etags
            or [_etag(parts.get(n, b"missing")) for n in range(1, len(etags) + 1)] != list(etags)
        ):
            raise Conflict("a part of the upload is missing or is not the one that was sent")
        self.objects[key] = b"".join(parts[number] for number in range(1, len(etags) + 1))
        del self.uploads[upload]
        return len(self.objects[key])

    def abandon(self, key: str, upload: str) -> None:
        self.uploads.pop(upload, None)

    def url(self, key: str, lifetime: timedelta) -> str:
        return f"memory://{key}"

    def remove(self, key: str) -> None:
        below = [each for each in self.objects if key.endswith("/") and each.startswith(key)]
        for each in [key, *below]:
            self.objects.pop(each, None)

    def send(self, url: str, content: bytes) -> str:
        """PUT to a part's URL; its ETag."""
        place, _, number = url.partition("#")
        self.uploads[place.partition("?")[2]][int(number)] = content
        return _etag(content)

    def fetch(self, url: str) -> bytes:
        """GET an object's URL."""
        return self.objects[url.removeprefix("memory://")]


class Agents:
    """`Agents`, which answer as they were told to: by address, a function of method, path and body."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[str, str, str, Mapping[str, Any]], Mapping[str, Any]]] = {}

    def ask(self, address: str, token: str, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if address not in self.answers:
            raise Unavailable("the sandbox does not answer")
        return self.answers[address](token, method, path, body)


def refusing(problem: Exception) -> Callable[..., Any]:
    """An answer that is always this error."""

    def refuse(*_: Any) -> Any:
        raise problem

    return refuse


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'
