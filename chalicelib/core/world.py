"""The world outside the core: one protocol for each thing that it needs, gathered in a `World`.

`chalicelib/aws` keeps these promises with AWS, `tests/fakes.py` in memory; both run the same tests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from chalicelib.core.access import Key
from chalicelib.core.amounts import Amounts
from chalicelib.core.sandbox import Filter, Machine, Page, Sandbox

if TYPE_CHECKING:
    from chalicelib.core.audit import Actor, Entries
    from chalicelib.core.pools import Pool
    from chalicelib.core.quotas import Day, Organization


class Sandboxes(Protocol):
    """The sandboxes, by organization and id. Every write is guarded by the version that was read.

    A write that changes what a sandbox counts for (`quotas.charge`) changes its organization's count with it, both or
    neither; where there is no room for what may be refused (`quotas.refusable`) it raises `LimitReached`. One that changes
    what is noted of it (`audit.of_sandbox`) writes an entry of the audit log with it.
    """

    def by(self, actor: "Actor") -> "Sandboxes":
        """The same sandboxes, what is written to which is told as this actor's doing."""

    def add(self, sandbox: Sandbox) -> Sandbox:
        """Write a new one and take its name, and its ticket if it has one, all or none; `Conflict` where one is taken."""

    def claim(self, warm: Sandbox, sandbox: Sandbox) -> Sandbox:
        """Write a new one in the place of a warm machine, whose row and name go, all or nothing.

        `Stale` where the warm one was written since it was read, `Conflict` where the new one's name or ticket is taken.
        """

    def put(self, sandbox: Sandbox) -> Sandbox:
        """Write it if its version still holds, else raise `Stale`; return it with the next version."""

    def get(self, owner: str, id: str) -> Sandbox:
        """The sandbox as last written (a consistent read), else `NotFound`."""

    def named(self, owner: str, name: str) -> Sandbox:
        """The sandbox that has this name, else `NotFound`."""

    def ticketed(self, owner: str, key: str) -> str:
        """The id of the sandbox that was created on the ticket of this key (a hash) and not too long ago, else `NotFound`."""

    def owner_of(self, id: str) -> str:
        """The organization of a sandbox known by its id alone, else `NotFound`. May lag a second behind `add`."""

    def incarnated(self, incarnation: str) -> Sandbox:
        """The sandbox whose machine this start movement brought up, or is to, else `NotFound`. May lag a second."""

    def list(self, owner: str, where: Filter, *, after: str | None = None, limit: int = 100) -> Page:
        """At most `limit` that fit, newest first, from after the cursor; `Invalid` for a cursor that is not ours."""

    def count(self, owner: str, where: Filter) -> int:
        """How many fit."""

    def due(self, now: datetime, limit: int = 100) -> Sequence[Sandbox]:
        """Those whose deadline (`deadlines.deadline`) has passed, the longest overdue first. Cost grows with the answer."""

    def touch(self, sandbox: Sandbox, now: datetime) -> None:
        """Note activity and move the deadline along, without taking part in the guard; nothing if it is not started."""

    def bury(self, sandbox: Sandbox, until: datetime) -> None:
        """Take it out, free its name and keep it as a tombstone until then; `Stale` like `put`."""

    def tombstone(self, owner: str, id: str) -> Sandbox:
        """A sandbox that was buried, else `NotFound`."""


class Keys(Protocol):
    """API keys, by the hash of their text. Making and removing one writes an entry of the audit log with it."""

    def by(self, actor: "Actor") -> "Keys":
        """The same keys, what is done to which is told as this actor's doing."""

    def add(self, key: Key) -> Key:
        """Write a new key; `Conflict` where its user has one of this name or its hash is taken."""

    def get(self, hash: str) -> Key:
        """The key with this hash, else `NotFound`. May be remembered for ten seconds."""

    def list(self, owner: str) -> Sequence[Key]:
        """The organization's keys, oldest first."""

    def note_use(self, key: Key, now: datetime) -> None:
        """Remember that it was used; at most about once a minute."""

    def remove(self, key: Key) -> None:
        """Forget it; `NotFound` where it is already gone."""


class Organizations(Protocol):
    """What organizations may have and what they have. One that was never heard of has nothing and the default quota."""

    def by(self, actor: "Actor") -> "Organizations":
        """The same organizations, what is done to which is told as this actor's doing."""

    def get(self, owner: str) -> "Organization":
        """As last counted (a consistent read)."""

    def set_quota(self, organization: "Organization", quota: Amounts) -> "Organization":
        """Give it a quota of its own, if the one that was read still holds, else `Stale`."""

    def days(self, owner: str, first: date) -> "tuple[Organization, Sequence[Day]]":
        """The organization, and how its use changed on each day from this one that it changed on, in their order."""


class Audit(Protocol):
    """The audit log. Nobody writes to it but the stores, with what they tell of."""

    def page(
        self, owner: str, *, since: datetime | None, until: datetime | None, after: str | None, limit: int
    ) -> "Entries":
        """At most `limit` of the organization's entries of that time, newest first, from after the cursor."""


class Workflows(Protocol):
    """Step Functions: the movements of sandboxes."""

    def start(self, workflow: str, movement: str, sandbox: Sandbox, **more: Any) -> None:
        """Start this workflow once under the movement's name: again is harmless."""

    def running(self, workflow: str, movement: str) -> bool:
        """Whether that execution exists and has not ended."""

    def succeed(self, task_token: str, output: Mapping[str, Any]) -> bool:
        """Answer a waiting task; False where nobody waits for it any more."""

    def fail(self, task_token: str, reason: str, *, again: bool = False) -> bool:
        """Tell a waiting task that it failed, why, and whether to try again; False where nobody waits for it any more."""


class Machines(Protocol):
    """ECS: the tasks that sandboxes are."""

    def started_by(self, movement: str) -> Machine | None:
        """The live task that a start movement brought up, with its private address; None where there is none."""

    def stop(self, task: str, reason: str) -> None:
        """Stop a task; nothing where it is already gone."""

    def stop_all(self, movement: str, reason: str) -> None:
        """Stop every task that a start movement brought up, those without an address too."""


class Blobs(Protocol):
    """S3: checkpoints. Sandboxes reach it by URLs alone, each good for one object, one verb and a while."""

    def begin(self, key: str) -> str:
        """Begin an upload in parts; its id."""

    def part_urls(self, key: str, upload: str, first: int, count: int) -> Sequence[str]:
        """URLs to PUT the parts first, first + 1, ... to. Numbers run from 1 to 10,000."""

    def complete(self, key: str, upload: str, etags: Sequence[str]) -> int:
        """Make one object of the parts; its size in bytes. `Conflict` where a part is missing or another one was sent.

        Asking again is harmless, as long as the object is there.
        """

    def abandon(self, key: str, upload: str) -> None:
        """Give the upload up; nothing where it is gone."""

    def url(self, key: str, lifetime: timedelta) -> str:
        """A URL to GET the object from."""

    def remove(self, key: str) -> None:
        """Remove the object of this key and no other; of a key that ends in a slash, every object below it."""


class Agents(Protocol):
    """The agents in the sandboxes: small questions only; what streams goes through the edge."""

    def ask(self, address: str, token: str, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The agent's JSON answer. `Unavailable` where it cannot be reached, else the error that it gave."""


class Clock(Protocol):
    """Time, so that tests can turn it."""

    def now(self) -> datetime:
        """The time in UTC."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


@dataclass(frozen=True)
class Settings:
    """What the installation decided: see chalicelib/wiring.py for where each comes from."""

    secret: bytes  # at least 32 random bytes: every token is signed under it
    url: str  # the one address, without a slash at the end
    default_image: str = "default"
    pools: "tuple[Pool, ...]" = ()  # the machines that are kept warm


@dataclass(frozen=True)
class World:
    """All ports together; the first argument of whatever acts."""

    sandboxes: Sandboxes
    keys: Keys
    workflows: Workflows
    machines: Machines
    blobs: Blobs
    agents: Agents
    organizations: Organizations
    audit: Audit
    clock: Clock
    settings: Settings

    def acting(self, actor: "Actor") -> "World":
        """The same World, in which everything is done in this actor's name."""
        return replace(
            self,
            sandboxes=self.sandboxes.by(actor),
            keys=self.keys.by(actor),
            organizations=self.organizations.by(actor),
        )
