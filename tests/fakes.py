"""The world in memory: every port keeps its promises without AWS, in microseconds. `tests/playing.py` sets it in motion."""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.core import deadlines
from chalicelib.core.access import Key
from chalicelib.core.errors import Conflict, Invalid, NotFound, Stale, Unavailable
from chalicelib.core.ids import is_id
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


class Sandboxes:
    """`Sandboxes`, in dictionaries behind a lock."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._lock = clock, threading.RLock()
        self._rows: dict[tuple[str, str], Sandbox] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._buried: dict[tuple[str, str], tuple[Sandbox, datetime]] = {}

    def add(self, sandbox: Sandbox) -> Sandbox:
        with self._lock:
            self._must_be_free(sandbox)
            return self._enter(sandbox)

    def claim(self, warm: Sandbox, sandbox: Sandbox) -> Sandbox:
        with self._lock:
            self._must_hold(warm)
            self._must_be_free(sandbox)
            self._leave(warm)
            return self._enter(sandbox)

    def put(self, sandbox: Sandbox) -> Sandbox:
        with self._lock:
            self._must_hold(sandbox)
            return self._write(replace(sandbox, version=sandbox.version + 1))

    def get(self, owner: str, id: str) -> Sandbox:
        try:
            return self._rows[owner, id]
        except KeyError:
            raise NotFound(f"sandbox {id[:80]} not found") from None

    def named(self, owner: str, name: str) -> Sandbox:
        return self.get(owner, self._names.get((owner, name), ""))

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

    def _must_hold(self, sandbox: Sandbox) -> None:
        row = self._rows.get((sandbox.owner, sandbox.id))
        if row is None or row.version != sandbox.version:
            raise Stale(f"sandbox {sandbox.id} was changed meanwhile")

    def _must_be_free(self, sandbox: Sandbox) -> None:
        if (sandbox.owner, sandbox.id) in self._rows or (sandbox.owner, sandbox.name) in self._names:
            raise Conflict(f"the name {sandbox.name} is taken", name=sandbox.name)

    def _enter(self, sandbox: Sandbox) -> Sandbox:
        self._names[sandbox.owner, sandbox.name] = sandbox.id
        return self._write(replace(sandbox, version=sandbox.version + 1))

    def _leave(self, sandbox: Sandbox) -> None:
        del self._rows[sandbox.owner, sandbox.id], self._names[sandbox.owner, sandbox.name]

    def _write(self, sandbox: Sandbox) -> Sandbox:
        self._rows[sandbox.owner, sandbox.id] = sandbox
        return sandbox


class Keys:
    """`Keys`, in a dictionary."""

    def __init__(self) -> None:
        self._rows: dict[str, Key] = {}
        self._lock = threading.Lock()

    def add(self, key: Key) -> Key:
        with self._lock:
            same = (k for k in self._rows.values() if (k.owner, k.user, k.name) == (key.owner, key.user, key.name))
            if key.hash in self._rows or any(same):
                raise Conflict(f"{key.user} has a key named {key.name}")
            self._rows[key.hash] = key
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
