"""How many calls each operation costs: what a request takes and what AWS charges for."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.aws.clients import Clients
from chalicelib.aws.tables import Tables
from chalicelib.core.sandbox import Filter, Policy, Sandbox
from chalicelib.core.states import State
from chalicelib.core.tickets import Ticket
from chalicelib.core.world import Sandboxes
from tests.aws.conftest import keeper
from tests.examples import OWNER, key, sandbox
from tests.fakes import BEGINNING

LATER = BEGINNING + timedelta(days=1)
TICKET = Ticket("key", "asked", BEGINNING + timedelta(days=1))
NOBODY_ELSES = Filter(labels={"team": "blue"}, states=frozenset({State.STARTED}))


@pytest.fixture
def calls(clients: Clients) -> Iterator[list[str]]:
    """The names of the calls that DynamoDB gets from here on."""
    heard: list[str] = []

    def hear(model: Any, **_: Any) -> None:
        heard.append(model.name)

    events = clients["dynamodb"].meta.events
    events.register("before-call.dynamodb", hear)
    yield heard
    events.unregister("before-call.dynamodb", hear)


SANDBOX_CALLS: dict[str, tuple[Callable[[Sandboxes, Sandbox], object], list[str]]] = {
    "add": (lambda store, _: store.add(sandbox()), ["TransactWriteItems"]),
    "add, on a ticket": (lambda store, _: store.add(sandbox(ticket=TICKET)), ["TransactWriteItems"]),
    "ticketed": (lambda store, _: store.ticketed(OWNER, "old"), ["GetItem"]),
    "claim": (lambda store, one: store.claim(one, sandbox()), ["TransactWriteItems"]),
    "put": (lambda store, one: store.put(one), ["PutItem"]),
    "put, told of": (lambda store, one: store.put(replace(one, public=True)), ["TransactWriteItems"]),
    "put, counting": (lambda store, one: store.put(replace(one, state=State.STOPPED)), ["TransactWriteItems"]),
    "get": (lambda store, one: store.get(OWNER, one.id), ["GetItem"]),
    "named": (lambda store, one: store.named(OWNER, one.name), ["GetItem", "GetItem"]),
    "owner_of": (lambda store, one: store.owner_of(one.id), ["Query"]),
    "incarnated": (lambda store, _: store.incarnated("m-1"), ["Query", "GetItem"]),
    "list": (lambda store, _: store.list(OWNER, Filter(), limit=5), ["Query"]),
    "list, filtered": (lambda store, _: store.list(OWNER, NOBODY_ELSES, limit=5), ["Query"]),
    "count": (lambda store, _: store.count(OWNER, NOBODY_ELSES), ["Query"]),
    "due, some": (lambda store, _: store.due(LATER), ["Query", "BatchGetItem"]),
    "due, none": (lambda store, _: store.due(BEGINNING), ["Query"]),
    "touch": (lambda store, one: store.touch(one, LATER), ["UpdateItem"]),
    "bury": (lambda store, one: store.bury(one, LATER), ["TransactWriteItems"]),
}


@pytest.mark.parametrize("operation", SANDBOX_CALLS)
def test_an_operation_on_sandboxes_costs_no_more_calls(tables: Tables, calls: list[str], operation: str) -> None:
    act, wanted = SANDBOX_CALLS[operation]
    store = keeper(tables).sandboxes
    for _ in range(10):
        store.add(sandbox(policy=Policy(stop_after_idle=timedelta(hours=1))))
    one = store.add(sandbox(incarnation="m-1", name="one", ticket=replace(TICKET, key="old")))
    calls.clear()

    act(store, one)

    assert calls == wanted


def test_keys_cost_one_call_and_none_for_ten_seconds(tables: Tables, calls: list[str]) -> None:
    store = keeper(tables).keys
    mine = store.add(key())
    store.get(mine.hash)
    store.get(mine.hash)
    store.note_use(mine, LATER)
    store.get(mine.hash)
    store.list(OWNER)
    store.remove(mine)

    assert calls == ["TransactWriteItems", "GetItem", "UpdateItem", "Query", "BatchGetItem", "TransactWriteItems"]


def test_a_page_costs_the_same_however_many_there_are(tables: Tables, calls: list[str]) -> None:
    store = keeper(tables).sandboxes
    for _ in range(150):
        store.add(sandbox())
    calls.clear()

    page = store.list(OWNER, Filter(), limit=20)

    assert (len(page.items), calls) == (20, ["Query"])


def test_what_waits_for_nothing_is_in_no_index(tables: Tables) -> None:
    store = keeper(tables).sandboxes
    timeless = store.add(sandbox(policy=Policy(None, None)))
    timed = store.put(replace(timeless, policy=Policy(stop_after_idle=timedelta(0))))
    index = tables.sandboxes.by_deadline
    assert [row.id for row in index.query("yes")] == [timed.id]

    store.put(replace(timed, policy=Policy(None, None)))

    assert list(index.query("yes")) == []
