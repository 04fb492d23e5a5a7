"""What an organization may have at once, what each of its sandboxes counts for, and what it used on which day.

The store counts: each write of a sandbox that changes what it counts for changes its organization's row in the same
transaction, so the count is exact however many write at once. Who asks for more than the quota is refused. What has already
happened (a machine that came back, a quota that was lowered) is counted and never refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from chalicelib.core.amounts import KINDS, NOTHING, Amounts
from chalicelib.core.errors import Invalid, LimitReached
from chalicelib.core.sandbox import Sandbox
from chalicelib.core.states import BOOTING, State

if TYPE_CHECKING:
    from chalicelib.core.world import World

NOBODYS = "~"  # begins the names of owners that are no organization, such as that of the warm machines
CODE = "quota"  # marks a refusal in its details
LONGEST_USAGE = 366  # days

DEFAULT = Amounts(sandboxes=10_000, cpu=10_000, memory_mib=20 * 1024 * 1024, disk_gib=100_000)

WHOLE: frozenset[str] = frozenset(KINDS)
DISK = frozenset({"sandboxes", "disk_gib"})

COUNTED: Mapping[State, frozenset[str] | None] = {
    State.CREATING: WHOLE,
    State.STARTING: WHOLE,
    State.RESTORING: WHOLE,
    State.STARTED: WHOLE,
    State.STOPPING: WHOLE,
    State.STOPPED: DISK,
    State.ARCHIVING: DISK,
    State.ARCHIVED: frozenset(),
    State.FAILED: DISK,
    State.DELETING: None,  # what it counted for before: its machine lives until it is gone
    State.DELETED: frozenset(),
}
"""What of a sandbox counts in each state: cpu and memory while it has or is getting a machine."""

WORDS: Mapping[str, tuple[str, str]] = {
    "sandboxes": ("sandboxes", "archive or delete some"),
    "cpu": ("cpu", "stop sandboxes that run"),
    "memory_mib": ("MiB of memory", "stop sandboxes that run"),
    "disk_gib": ("GiB of disk", "archive or delete some sandboxes"),
}
"""Each kind as a sentence names it, and what would make room."""


@dataclass(frozen=True, slots=True)
class Organization:
    """What an organization may have at once and what it has now."""

    owner: str
    quota: Amounts
    used: Amounts = NOTHING
    own: bool = False  # the quota is its own, not the installation's default


@dataclass(frozen=True, slots=True)
class Day:
    """How the use changed on a day (UTC): the sum of the changes, and the sum of each by the second of the day it came at.

    The two say what was used on that day and before it, without a sandbox being looked at: see `used_by_day`.
    """

    date: date
    changes: Amounts = NOTHING
    moments: Amounts = NOTHING


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used on a day, in seconds of each: of a sandbox, of a CPU, of a MiB of memory, of a GiB of disk."""

    date: date
    seconds: Amounts


def charge(sandbox: Sandbox) -> Amounts:
    """What a sandbox counts for as it is."""
    counted = COUNTED[sandbox.state]
    if sandbox.owner.startswith(NOBODYS):
        return NOTHING
    if counted is None:
        return sandbox.charged
    if sandbox.state is State.FAILED and sandbox.machine:
        counted = WHOLE  # a machine that could not save its disk lives on
    size = sandbox.size
    whole = {"sandboxes": 1, "cpu": size.cpu, "memory_mib": size.memory_mib, "disk_gib": size.disk_gib}
    return Amounts(**{kind: amount for kind, amount in whole.items() if kind in counted})  # type: ignore[arg-type]


def refusable(sandbox: Sandbox) -> bool:
    """Whether what it counts for is still a wish, which may be refused, and not a fact."""
    return sandbox.version == 0 or sandbox.state in BOOTING


def refusal(organization: Organization, more: Amounts) -> LimitReached | None:
    """Why so much more is refused, with the numbers; None where there is room."""
    rows = zip(KINDS, more.told(), organization.used.told(), organization.quota.told(), strict=True)
    for kind, asked, used, allowed in rows:
        if asked > 0 and used + asked > allowed:
            thing, remedy = WORDS[kind]
            helps = f"ask for at most {max(allowed, 0):g}" if asked > allowed else remedy
            return LimitReached(
                f"the organization's quota is used up: {asked:g} more {thing} asked for, {used:g} of {allowed:g} in use; "
                f"{helps}, or have the quota raised",
                code=CODE,
                kind=kind,
                asked=asked,
                used=used,
                allowed=allowed,
            )
    return None


def check(world: "World", sandbox: Sandbox) -> None:
    """Refuse a new sandbox that has no room now, before anything is done for it. The write that follows is what decides."""
    if refused := refusal(world.organizations.get(sandbox.owner), charge(sandbox)):
        raise refused


def change(world: "World", owner: str, changes: Mapping[str, float]) -> Organization:
    """Give an organization a quota of its own: these kinds anew, the others as they are. It may be below what is in use."""
    organization = world.organizations.get(owner)
    if unknown := changes.keys() - set(KINDS):
        raise Invalid(f"no such quota: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    if negative := [kind for kind, value in changes.items() if not value >= 0]:
        raise Invalid(f"a quota is 0 or more: {', '.join(negative)}")
    told = dict(zip(KINDS, organization.quota.told(), strict=True)) | dict(changes)
    return world.organizations.set_quota(organization, Amounts(**told))  # type: ignore[arg-type]


def usage(world: "World", owner: str, first: date) -> Sequence[Usage]:
    """What an organization used on each day from this one till now, the sandboxes that run now included."""
    now = world.clock.now()
    days = (now.date() - first).days + 1
    if not 1 <= days <= LONGEST_USAGE:
        raise Invalid(f"usage is told from a day of the last {LONGEST_USAGE} till now, not from {first.isoformat()}")
    organization, changed = world.organizations.days(owner, first)
    return used_by_day(organization.used, changed, first, now)


def used_by_day(used: Amounts, changed: Sequence[Day], first: date, now: datetime) -> Sequence[Usage]:
    """Backwards from what is in use now: what began in the night before a day is what its evening had less its changes."""
    by_date, told = {day.date: day for day in changed}, []
    for back in range((now.date() - first).days + 1):
        today = now.date() - timedelta(days=back)
        day = by_date.get(today, Day(today))
        length = second_of(now) if back == 0 else 24 * 3600
        before = used - day.changes
        # Each change lasted from its moment to the end of the day.
        told.append(Usage(today, before * length + day.changes * length - day.moments))
        used = before
    return told[::-1]


def second_of(now: datetime) -> int:
    """How many seconds of its day (UTC) have passed."""
    return int((now - datetime.combine(now.date(), time(), UTC)).total_seconds())
