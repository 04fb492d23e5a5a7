"""That what an organization has is counted exactly, and never more of it than its quota, by every keeper."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from io import BytesIO
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from chalicelib.aws.clients import Clients
from chalicelib.core import quotas
from chalicelib.core.amounts import NOTHING, Amounts
from chalicelib.core.errors import LimitReached, Refused, Stale, Unavailable
from chalicelib.core.pools import WARM
from chalicelib.core.quotas import Day
from chalicelib.core.sandbox import Filter, Size
from chalicelib.core.states import State
from tests.aws.conftest import Kept, created, keeper
from tests.examples import OWNER, STRANGER, sandbox
from tests.fakes import BEGINNING

HALF = Size(cpu=0.5, memory_mib=1024, disk_gib=3)
ONE_HALF = Amounts(sandboxes=1, cpu=0.5, memory_mib=1024, disk_gib=3)
TODAY = BEGINNING.date()


def allow(kept: Kept, **changes: Any) -> None:
    organization = kept.organizations.get(OWNER)
    kept.organizations.set_quota(organization, replace(organization.quota, **changes))


def used(kept: Kept) -> Amounts:
    return kept.organizations.get(OWNER).used


def test_an_organization_that_was_never_heard_of_has_nothing_and_the_default_quota(kept: Kept) -> None:
    organization = kept.organizations.get(OWNER)

    assert (organization.used, organization.quota, organization.own) == (NOTHING, quotas.DEFAULT, False)


def test_a_sandbox_counts_from_its_first_write_to_its_last(kept: Kept) -> None:
    counted = []
    one = kept.sandboxes.add(sandbox(state=State.CREATING, size=HALF))
    counted.append(used(kept))
    for state in (State.STARTED, State.STOPPED, State.STARTING, State.STARTED, State.DELETING):
        one = kept.sandboxes.put(replace(one, state=state))
        counted.append(used(kept))
    kept.sandboxes.bury(one, BEGINNING)
    counted.append(used(kept))

    stopped = replace(ONE_HALF, cpu=0, memory_mib=0)
    assert counted == [ONE_HALF, ONE_HALF, stopped, ONE_HALF, ONE_HALF, ONE_HALF, NOTHING]


def test_a_write_that_loses_counts_nothing(kept: Kept) -> None:
    one = kept.sandboxes.add(sandbox(size=HALF))
    kept.sandboxes.put(one)

    with pytest.raises(Stale):
        kept.sandboxes.put(replace(one, state=State.STOPPED))
    with pytest.raises(Stale):
        kept.sandboxes.bury(one, BEGINNING)
    with pytest.raises(Refused):
        kept.sandboxes.add(sandbox(name=one.name))

    assert used(kept) == ONE_HALF


@pytest.mark.parametrize(
    ("quota", "sentence"),
    [
        ({"sandboxes": 1}, "1 more sandboxes asked for, 1 of 1 in use; archive or delete some"),
        ({"cpu": 0.75}, "0.5 more cpu asked for, 0.5 of 0.75 in use; stop sandboxes that run"),
        ({"memory_mib": 2047}, "1024 more MiB of memory asked for, 1024 of 2047 in use; stop"),
        ({"disk_gib": 5}, "3 more GiB of disk asked for, 3 of 5 in use; archive"),
        ({"disk_gib": 2}, "3 more GiB of disk asked for, 3 of 2 in use; ask for at most 2"),
    ],
)
def test_what_is_beyond_the_quota_is_refused_with_the_numbers(
    kept: Kept, quota: dict[str, float], sentence: str
) -> None:
    kept.sandboxes.add(sandbox(size=HALF))
    allow(kept, **quota)
    late = sandbox(size=HALF)

    with pytest.raises(LimitReached, match=sentence):
        kept.sandboxes.add(late)

    assert used(kept) == ONE_HALF
    assert kept.sandboxes.count(OWNER, Filter()) == 1


def test_one_organizations_use_is_not_anothers(kept: Kept) -> None:
    allow(kept, sandboxes=1)
    kept.sandboxes.add(sandbox())

    kept.sandboxes.add(sandbox(owner=STRANGER))
    kept.sandboxes.add(sandbox(owner=STRANGER))

    assert kept.organizations.get(STRANGER).used.sandboxes == 2


def test_starting_again_takes_room_and_stopping_gives_it(kept: Kept) -> None:
    allow(kept, cpu=0.5)
    first = kept.sandboxes.add(sandbox(size=HALF))
    second = kept.sandboxes.add(sandbox(size=HALF, state=State.STOPPED))

    with pytest.raises(LimitReached):
        kept.sandboxes.put(replace(second, state=State.STARTING))
    kept.sandboxes.put(replace(first, state=State.STOPPED))
    kept.sandboxes.put(replace(second, state=State.STARTING))

    assert used(kept).cpu == 0.5


def test_what_is_a_fact_is_counted_and_not_refused(kept: Kept) -> None:
    one = kept.sandboxes.add(sandbox(size=HALF, state=State.FAILED))
    allow(kept, sandboxes=0, cpu=0, memory_mib=0, disk_gib=0)

    kept.sandboxes.put(replace(one, state=State.STARTED))

    assert used(kept) == ONE_HALF


def test_a_quota_that_was_raised_or_lowered_counts_at_once(kept: Kept) -> None:
    allow(kept, sandboxes=1)
    kept.sandboxes.add(sandbox())
    allow(kept, sandboxes=2)
    kept.sandboxes.add(sandbox())
    allow(kept, sandboxes=1)

    with pytest.raises(LimitReached, match="2 of 1"):
        kept.sandboxes.add(sandbox())


def test_of_two_who_set_a_quota_one_wins(kept: Kept) -> None:
    read = kept.organizations.get(OWNER)
    kept.organizations.set_quota(read, replace(read.quota, cpu=1))

    with pytest.raises(Stale):
        kept.organizations.set_quota(read, replace(read.quota, cpu=2))

    assert kept.organizations.get(OWNER).quota == replace(quotas.DEFAULT, cpu=1)


def test_warm_machines_count_for_nobody_until_they_are_claimed(kept: Kept) -> None:
    warm = kept.sandboxes.add(sandbox(owner=WARM, size=HALF))
    assert kept.organizations.get(WARM).used == NOTHING

    kept.sandboxes.claim(warm, sandbox(size=HALF))

    assert used(kept) == ONE_HALF


def test_a_claim_beyond_the_quota_is_refused_and_leaves_the_machine(kept: Kept) -> None:
    warm = kept.sandboxes.add(sandbox(owner=WARM))
    allow(kept, sandboxes=0)

    with pytest.raises(LimitReached):
        kept.sandboxes.claim(warm, sandbox())

    assert kept.sandboxes.get(WARM, warm.id) == warm


def test_the_changes_of_a_day_are_summed_with_their_moments(kept: Kept) -> None:
    one = kept.sandboxes.add(sandbox(size=HALF))
    kept.clock.turn(timedelta(hours=1))
    kept.sandboxes.put(replace(one, state=State.STOPPED))
    kept.clock.turn(timedelta(days=1))
    kept.sandboxes.add(sandbox(size=HALF))

    organization, days = kept.organizations.days(OWNER, TODAY)

    noon = 12 * 3600
    stopped = replace(ONE_HALF, cpu=0, memory_mib=0)
    assert organization.used == stopped + ONE_HALF
    assert days == [
        Day(TODAY, stopped, ONE_HALF * noon - (ONE_HALF - stopped) * (noon + 3600)),
        Day(TODAY + timedelta(days=1), ONE_HALF, ONE_HALF * (noon + 3600)),
    ]
    assert kept.organizations.days(OWNER, TODAY + timedelta(days=1))[1] == days[1:]
    assert kept.organizations.days(STRANGER, date(2026, 1, 1))[1] == []


def test_of_fifty_who_create_at_once_as_many_get_one_as_there_is_room_for(raced: Kept) -> None:
    allow(raced, sandboxes=20, cpu=7.5)

    outcomes = _at_once(50, lambda _: raced.sandboxes.add(sandbox(size=HALF, state=State.CREATING)))

    assert outcomes.count("done") == 15
    assert outcomes.count("LimitReached") == 35
    assert used(raced) == ONE_HALF * 15
    assert raced.sandboxes.count(OWNER, Filter()) == 15


def test_many_who_come_and_go_at_once_are_counted_exactly(raced: Kept) -> None:
    allow(raced, cpu=5)

    def live(number: int) -> None:
        one = raced.sandboxes.add(sandbox(size=HALF, state=State.CREATING))
        one = raced.sandboxes.put(replace(one, state=State.STARTED))
        one = raced.sandboxes.put(replace(one, state=State.STOPPED))
        if number % 2:
            raced.sandboxes.bury(one, BEGINNING)

    outcomes = _at_once(40, live)

    stopped = replace(ONE_HALF, cpu=0, memory_mib=0)
    assert set(outcomes) <= {"done", "LimitReached"}
    left = raced.sandboxes.list(OWNER, Filter()).items
    assert {s.state for s in left} <= {State.STOPPED}
    assert used(raced) == stopped * len(left)


# ---------------------------------------------------------------- where others write to the organization's row


class Interfering:
    """Cancels the first transactions for reasons that only AWS itself gives."""

    def __init__(self, codes: list[str], times: int) -> None:
        reasons = [{"Code": code} for code in codes]
        self._body = json.dumps({"__type": "x#TransactionCanceledException", "CancellationReasons": reasons}).encode()
        self._times, self.tried = times, 0

    def __call__(self, request: Any, **_: Any) -> AWSResponse | None:
        self.tried += 1
        return AWSResponse(request.url, 400, {}, _Raw(self._body)) if self.tried <= self._times else None


class _Raw(BytesIO):
    def stream(self) -> Iterator[bytes]:
        yield self.read()


@pytest.mark.parametrize(
    ("codes", "times", "outcome"),
    [
        (["None", "None", "None", "TransactionConflict", "None"], 3, None),
        (["None", "None", "None", "None", "ThrottlingError"], 2, None),
        (["None", "None", "None", "TransactionConflict", "None"], 99, Unavailable),
    ],
)
def test_a_conflict_at_the_organizations_row_is_tried_again_and_not_for_ever(
    dynoxide_clients: Clients, template: dict[str, Any], codes: list[str], times: int, outcome: type[Refused] | None
) -> None:
    store = keeper(created(dynoxide_clients, template)).sandboxes
    events, interfering = dynoxide_clients["dynamodb"].meta.events, Interfering(codes, times)
    events.register("before-send.dynamodb.TransactWriteItems", interfering)
    try:
        if outcome is None:
            store.add(sandbox())
        else:
            with pytest.raises(outcome):
                store.add(sandbox())
    finally:
        events.unregister("before-send.dynamodb.TransactWriteItems", interfering)

    assert interfering.tried == min(times + 1, 14)


def _at_once(times: int, act: Callable[[int], object]) -> list[str]:
    def tried(number: int) -> str:
        try:
            act(number)
        except Refused as refused:
            return type(refused).__name__
        return "done"

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(tried, range(times)))
