"""What counts, what is refused and how use becomes usage, on the world in memory."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import lifecycle, pools, quotas
from chalicelib.core.amounts import NOTHING, Amounts
from chalicelib.core.errors import Invalid, LimitReached
from chalicelib.core.lifecycle import Wish
from chalicelib.core.limits import fitting
from chalicelib.core.quotas import COUNTED, Day
from chalicelib.core.sandbox import Filter, Machine, Sandbox, Size
from chalicelib.core.states import BOOTING, Event, State
from chalicelib.core.world import Settings
from tests.examples import OWNER, sandbox
from tests.fakes import BEGINNING
from tests.playing import SECRET, House

ONE = Amounts(sandboxes=1, cpu=1, memory_mib=2048, disk_gib=3)
AT_REST = Amounts(sandboxes=1, disk_gib=3)
ONE_SIZE = Size(cpu=1, memory_mib=2048, disk_gib=3)
HOUR = timedelta(hours=1)


@pytest.fixture
def house() -> House:
    return House()


def started(house: House) -> Sandbox:
    made = lifecycle.create(house.world, OWNER, Wish())
    house.play()
    return lifecycle.get(house.world, OWNER, made.id)


def asked(house: House, one: Sandbox, event: Event) -> Sandbox:
    lifecycle.ask(house.world, OWNER, one.id, event)
    house.play()
    return lifecycle.get(house.world, OWNER, one.id)


def used(house: House) -> Amounts:
    return house.organizations.get(OWNER).used


def test_every_state_says_what_counts_in_it() -> None:
    assert set(COUNTED) == set(State)


def test_a_machine_on_its_way_up_counts_like_one_that_is_there() -> None:
    assert all(COUNTED[state] == COUNTED[State.STARTED] for state in BOOTING)


def test_a_failed_sandbox_counts_as_a_machine_only_while_it_has_one() -> None:
    failed = sandbox(state=State.FAILED, size=ONE_SIZE)

    assert quotas.charge(failed) == AT_REST
    assert quotas.charge(replace(failed, machine=Machine("task", "address"))) == ONE


def test_a_whole_life_is_counted_and_ends_at_nothing(house: House) -> None:
    one = started(house)
    seen = [used(house)]
    for event in (Event.STOP, Event.ARCHIVE, Event.START):
        one = asked(house, one, event)
        seen.append(used(house))
    lifecycle.ask(house.world, OWNER, one.id, Event.DELETE)
    seen.append(used(house))
    house.play()

    assert seen == [ONE, AT_REST, NOTHING, ONE, ONE]
    assert used(house) == NOTHING


def test_a_create_beyond_the_quota_starts_nothing(house: House) -> None:
    quotas.change(house.world, OWNER, {"sandboxes": 1})
    lifecycle.create(house.world, OWNER, Wish())

    with pytest.raises(LimitReached) as refused:
        lifecycle.create(house.world, OWNER, Wish())

    assert (refused.value.details["kind"], refused.value.details["allowed"]) == ("sandboxes", 1)
    assert len(house.workflows.executions) == 1


def test_a_stopped_sandbox_waits_until_there_is_room_to_start_it(house: House) -> None:
    quotas.change(house.world, OWNER, {"cpu": 1})
    first = asked(house, started(house), Event.STOP)
    second = started(house)

    with pytest.raises(LimitReached):
        lifecycle.ask(house.world, OWNER, first.id, Event.START)
    asked(house, second, Event.STOP)

    assert asked(house, first, Event.START).state is State.STARTED


def test_who_has_no_room_left_uses_no_warm_machine_up() -> None:
    pool = pools.Pool("default", fitting(Size()), 1)
    house = House(Settings(secret=SECRET, url="http://127.0.0.1:8080", pools=(pool,)))
    pools.fill(house.world)
    house.play()
    quotas.change(house.world, OWNER, {"sandboxes": 0})

    with pytest.raises(LimitReached):
        lifecycle.create(house.world, OWNER, Wish())

    (warm,) = house.sandboxes.list(pools.WARM, Filter()).items
    assert warm.state is State.STARTED


def test_a_quota_is_changed_kind_by_kind(house: House) -> None:
    quotas.change(house.world, OWNER, {"cpu": 4.5})
    changed = quotas.change(house.world, OWNER, {"disk_gib": 7})

    assert changed.quota == replace(quotas.DEFAULT, cpu=4.5, disk_gib=7)
    assert house.organizations.get(OWNER) == changed


@pytest.mark.parametrize("changes", [{"gpu": 1}, {"cpu": -1}, {"cpu": float("nan")}])
def test_a_quota_that_cannot_be_is_refused(house: House, changes: dict[str, float]) -> None:
    with pytest.raises(Invalid):
        quotas.change(house.world, OWNER, changes)


def test_usage_is_told_day_by_day_with_what_still_runs(house: House) -> None:
    started(house)
    house.clock.turn(36 * HOUR)

    told = quotas.usage(house.world, OWNER, BEGINNING.date() - timedelta(days=1))

    assert [(usage.date, usage.seconds) for usage in told] == [
        (date(2026, 11, 21), NOTHING),
        (date(2026, 11, 22), ONE * 12 * 3600),
        (date(2026, 11, 23), ONE * 24 * 3600),
        (date(2026, 11, 24), NOTHING),
    ]


@pytest.mark.parametrize("first", [date(2026, 11, 23), date(2025, 11, 20)])
def test_usage_is_told_of_no_other_days_than_there_are(house: House, first: date) -> None:
    with pytest.raises(Invalid, match="usage"):
        quotas.usage(house.world, OWNER, first)


SPANS = st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 400_000)), max_size=8)


@given(SPANS)
def test_usage_is_the_time_that_each_sandbox_was_there(spans: list[tuple[int, int]]) -> None:
    beginning, end = datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 24, 12, tzinfo=UTC)
    days: dict[date, Day] = {}
    total, used = 0, NOTHING
    for start, length in spans:
        stop = beginning + timedelta(seconds=start + length)
        total += int((min(stop, end) - min(beginning + timedelta(seconds=start), end)).total_seconds())
        for moment, sign in ((beginning + timedelta(seconds=start), 1), (stop, -1)):
            if moment <= end:
                used += ONE * sign
                day = days.get(moment.date(), Day(moment.date()))
                moments = day.moments + ONE * sign * quotas.second_of(moment)
                days[moment.date()] = replace(day, changes=day.changes + ONE * sign, moments=moments)

    told = quotas.used_by_day(used, list(days.values()), beginning.date(), end)

    assert sum(usage.seconds.cpu for usage in told) == total
    assert all(usage.seconds.sandboxes >= 0 for usage in told)
