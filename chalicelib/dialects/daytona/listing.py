"""The three lists of sandboxes that Daytona has had: all in an array, by page number, and by cursor."""

import math
from collections.abc import Mapping
from typing import Any

from chalicelib.core import lifecycle
from chalicelib.core.errors import LimitReached
from chalicelib.core.sandbox import Filter, Page, Sandbox
from chalicelib.core.world import World
from chalicelib.dialect import Body, Call, Only, Route, Shape, each, from_text, render, text, whole
from chalicelib.dialects.daytona.clients import CURSOR_LISTS, release
from chalicelib.dialects.daytona.fields import flag, labels_json, many, not_offered, word
from chalicelib.dialects.daytona.shapes import CURSOR_PAGE, SANDBOX
from chalicelib.dialects.daytona.words import states_meant

MOST_IN_AN_ARRAY = 2_000  # about 3 MB; Lambda answers with at most 6
FARTHEST = 10_000  # sandboxes that a page number may pass over
STEP = lifecycle.MOST_IN_A_PAGE

LATER = frozenset(
    {
        *("id", "snapshots", "regions", "regionIds", "sandboxClasses", "isPublic", "isRecoverable"),
        *("minCpu", "maxCpu", "minMemoryGiB", "maxMemoryGiB", "minDiskGiB", "maxDiskGiB", "minGpu", "maxGpu"),
        *("createdAtAfter", "createdAtBefore", "lastEventAfter", "lastEventBefore"),
        *("autoDestroyAtAfter", "autoDestroyAtBefore"),
    }
)

FILTERS: Body = {
    "labels": ("labels", labels_json),
    "name": ("name", word),
    "states": ("states", many(word)),
    "limit": ("limit", from_text(whole(1, STEP))),
    "includeErroredDeleted": ("", flag),  # set aside: no delete is given up, so none is both failed and to be deleted
    "includeWarm": ("", flag),  # set aside: warm machines are nobody's until claimed
    "sort": Only("createdAt"),
    "order": Only("desc"),
    **dict.fromkeys(LATER, ("", not_offered("a list is filtered by labels, states and name; not by this field yet"))),
}
ARRAY_OR_CURSOR: Body = {**FILTERS, "verbose": ("", flag), "cursor": ("cursor", text)}
NUMBERED: Body = {**FILTERS, "page": ("page", from_text(whole(1, FARTHEST)))}

NUMBERED_PAGE: Shape = {
    "items": lambda page, call: each(SANDBOX)(page["items"], call),
    "total": "total",
    "page": "page",
    "totalPages": "total_pages",
}


def listed(world: World, call: Call) -> Page | list[Sandbox]:
    """A page for the newer clients and for whoever speaks of pages; for the older ones the whole list."""
    if release(call.request) < CURSOR_LISTS and not {"cursor", "limit"} & set(call.query):
        return everything(world, call)
    limit = call.query.get("limit", 100)
    return lifecycle.list_page(world, call.owner, _wanted(call), after=call.query.get("cursor"), limit=limit)


def told(value: Page | list[Sandbox], call: Call) -> Any:
    """Either list in its shape."""
    return render(CURSOR_PAGE, value, call) if isinstance(value, Page) else each(SANDBOX)(value, call)


def numbered(world: World, call: Call) -> Mapping[str, Any]:
    """A page by its number. The store knows cursors only, so page n costs the reading of all pages before it."""
    page, limit = call.query.get("page", 1), call.query.get("limit", 100)
    if page * limit > FARTHEST:
        raise LimitReached(f"page {page} lies beyond the first {FARTHEST} sandboxes; list them by cursor or by labels")
    where = _wanted(call)
    total = world.sandboxes.count(call.owner, where)
    items = _between(world, call.owner, where, (page - 1) * limit, page * limit) if total else []
    return {"items": items, "total": total, "page": page, "total_pages": math.ceil(total / limit)}


def everything(world: World, call: Call) -> list[Sandbox]:
    """All that fit, if they fit in one reply."""
    items = _between(world, call.owner, _wanted(call), 0, MOST_IN_AN_ARRAY + 1)
    if len(items) > MOST_IN_AN_ARRAY:
        raise LimitReached(f"more than {MOST_IN_AN_ARRAY} sandboxes do not fit in one reply; use /sandbox/paginated")
    return items


def _between(world: World, owner: str, where: Filter, first: int, end: int) -> list[Sandbox]:
    items: list[Sandbox] = []
    cursor = None
    while len(items) < end:
        page = lifecycle.list_page(world, owner, where, after=cursor, limit=min(STEP, end - len(items)))
        items += page.items
        cursor = page.cursor
        if cursor is None:
            break
    return items[first:end]


def _wanted(call: Call) -> Filter:
    states = states_meant(call.query.get("states", ()))
    return Filter(labels=call.query.get("labels", {}), states=states, name_prefix=call.query.get("name", ""))


ROUTES = (
    Route("GET", "/sandbox", listed, told, query=ARRAY_OR_CURSOR),
    Route("GET", "/sandbox/paginated", numbered, NUMBERED_PAGE, query=NUMBERED),
)
