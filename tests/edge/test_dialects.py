"""The tables of all dialects, as far as the edge has to carry what they say."""

import pytest

from chalicelib import gateway
from chalicelib.dialect import SLOT, Needed, Pick, Relay, Route, Socket

ROWS = [(name, route) for name in gateway.DIALECTS for route in gateway.dialect_named(name).routes if route.on_edge]

PLAIN = [row for row in ROWS if not isinstance(row[1].act, Pick)]


def _named(row: tuple[str, Route]) -> str:
    return f"{row[0]} {row[1].method} {row[1].path}"


@pytest.mark.parametrize(("name", "route"), ROWS, ids=map(_named, ROWS))
def test_a_row_of_the_edge_says_which_sandbox_it_is_for_and_wants_a_key(name: str, route: Route) -> None:
    assert "sandbox" in SLOT.findall(route.path)
    assert not route.open


@pytest.mark.parametrize(("name", "route"), PLAIN, ids=map(_named, PLAIN))
def test_what_a_row_asks_of_the_agent_can_be_filled_in(name: str, route: Route) -> None:
    assert isinstance(route.act, Relay | Socket)
    needed = {
        fate.name for table in (route.query, route.body or {}) for fate in table.values() if isinstance(fate, Needed)
    }

    assert set(SLOT.findall(route.act.path)) <= set(SLOT.findall(route.path)) | needed


@pytest.mark.parametrize(("name", "route"), ROWS, ids=map(_named, ROWS))
def test_a_body_that_streams_is_not_read_before(name: str, route: Route) -> None:
    assert not (isinstance(route.act, Relay) and route.act.send == "stream" and route.body is not None)
