"""That the audit log holds what was done, all of it and nothing else, by every keeper."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from chalicelib.core.audit import INSTALLATION, POLICY, Actor, Entries, Entry
from chalicelib.core.errors import Refused
from chalicelib.core.pools import WARM
from chalicelib.core.sandbox import Filter, Policy
from chalicelib.core.states import State
from tests.aws.conftest import Kept
from tests.examples import OWNER, STRANGER, key, sandbox
from tests.fakes import BEGINNING

ADA = Actor("user", "ada", "first", "192.0.2.7", "sdk/1")
HOUR = timedelta(hours=1)


def page(
    kept: Kept,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    after: str | None = None,
    limit: int = 100,
) -> Entries:
    return kept.audit.page(OWNER, since=since, until=until, after=after, limit=limit)


def told(kept: Kept) -> list[Entry]:
    return list(page(kept).items)


def test_a_sandboxs_life_is_told_with_what_changed_and_by_whom(kept: Kept) -> None:
    ours = kept.sandboxes.by(ADA)
    one = ours.add(sandbox(state=State.CREATING, name="mine"))
    for changes in (
        {"state": State.STARTED},
        {"policy": Policy(stop_after_idle=HOUR, archive_after_stopped=None)},
        {"booted": True, "movement": "m-2"},
    ):
        kept.clock.turn(HOUR)
        one = ours.put(replace(one, **changes))
    kept.clock.turn(HOUR)
    kept.sandboxes.by(POLICY).bury(replace(one, state=State.DELETED, reason="because"), BEGINNING)

    deleted, changed, moved, created = told(kept)

    assert (created.kind, created.before, created.after["state"]) == ("sandbox.created", {}, "creating")
    assert (moved.kind, moved.before, moved.after) == ("sandbox.moved", {"state": "creating"}, {"state": "started"})
    assert (changed.kind, changed.after["policy"]["stop_after_idle"]) == ("sandbox.changed", 3600)
    assert changed.before["policy"]["archive_after_stopped"] == timedelta(days=7).total_seconds()
    assert (deleted.kind, deleted.after) == ("sandbox.deleted", {"state": "deleted", "reason": "because"})
    assert {(e.subject, e.name, e.owner) for e in told(kept)} == {(one.id, "mine", OWNER)}
    assert [e.actor for e in (created, moved, changed, deleted)] == [ADA, ADA, ADA, POLICY]
    assert (created.at, deleted.at) == (BEGINNING, BEGINNING + 4 * HOUR)


def test_an_environment_is_told_nobody(kept: Kept) -> None:
    kept.sandboxes.add(sandbox(env={"SECRET": "hunter2"}))

    assert "hunter2" not in str(told(kept))


def test_what_was_refused_is_not_told(kept: Kept) -> None:
    one = kept.sandboxes.add(sandbox())
    kept.sandboxes.put(one)

    for act in (
        lambda: kept.sandboxes.add(sandbox(name=one.name)),
        lambda: kept.sandboxes.put(replace(one, state=State.STOPPING)),
        lambda: kept.sandboxes.bury(one, BEGINNING),
    ):
        with pytest.raises(Refused):
            act()

    assert [entry.kind for entry in told(kept)] == ["sandbox.created"]


def test_what_is_read_is_told_by_how_it_was_read(kept: Kept) -> None:
    id = kept.sandboxes.add(sandbox()).id
    read = (
        kept.sandboxes.get(OWNER, id),
        kept.sandboxes.list(OWNER, Filter()).items[0],
        kept.sandboxes.named(OWNER, id),
    )

    for one in read:
        assert one.was == one
        assert one.was is not None
        assert one.was.was is None


def test_a_touch_and_warm_machines_are_not_told(kept: Kept) -> None:
    one = kept.sandboxes.add(sandbox())
    kept.sandboxes.touch(one, BEGINNING)
    kept.sandboxes.put(replace(kept.sandboxes.add(sandbox(owner=WARM)), state=State.DELETING))

    assert len(told(kept)) == 1
    assert kept.audit.page(WARM, since=None, until=None, after=None, limit=9).items == ()


def test_keys_and_quotas_are_told(kept: Kept) -> None:
    mine = kept.keys.by(ADA).add(key())
    kept.clock.turn(HOUR)
    kept.keys.by(ADA).remove(mine)
    kept.clock.turn(HOUR)
    organization = kept.organizations.get(OWNER)
    kept.organizations.by(ADA).set_quota(organization, replace(organization.quota, cpu=4))

    quota, removed, made = told(kept)

    assert (made.kind, made.subject, made.before) == ("key.made", "first", {})
    assert made.after == {"user": "ada", "permissions": ["read:audit", "write:sandboxes"], "expires_at": None}
    assert (removed.kind, removed.before, removed.after) == ("key.removed", made.after, {})
    assert (quota.kind, quota.after["quota"]["cpu"], quota.actor) == ("quota.changed", 4, ADA)
    assert mine.hash not in str(told(kept))


def test_who_acts_for_nobody_is_the_installation(kept: Kept) -> None:
    kept.sandboxes.add(sandbox())

    assert told(kept)[0].actor == INSTALLATION


def test_pages_follow_each_other_newest_first_and_end(kept: Kept) -> None:
    for _ in range(5):
        kept.sandboxes.add(sandbox())
        kept.clock.turn(HOUR)
    whole = page(kept)

    first = page(kept, limit=2)
    second = page(kept, limit=2, after=first.cursor)
    third = page(kept, limit=2, after=second.cursor)

    assert whole.items == (*first.items, *second.items, *third.items)
    assert (len(whole.items), whole.cursor, third.cursor) == (5, None, None)
    assert [e.at for e in whole.items] == sorted((e.at for e in whole.items), reverse=True)


def test_a_page_shows_a_time_and_only_ones_own(kept: Kept) -> None:
    for owner in (OWNER, STRANGER, OWNER, OWNER):
        kept.sandboxes.add(sandbox(owner=owner))
        kept.clock.turn(HOUR)

    between = page(kept, since=BEGINNING + HOUR, until=BEGINNING + 3 * HOUR)

    assert [entry.at for entry in between.items] == [BEGINNING + 2 * HOUR]
    assert page(kept, since=BEGINNING + 9 * HOUR).items == ()
    assert page(kept, since=BEGINNING + 2 * HOUR, until=BEGINNING).items == ()
