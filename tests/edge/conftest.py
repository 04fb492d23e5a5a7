"""The house that every test of the edge stands in."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest_asyncio
import uvloop

from tests.edge.house import House, house


@pytest_asyncio.fixture(name="house")
async def a_house() -> AsyncIterator[House]:
    """The edge, its World, an agent and an API Gateway."""
    async with house() as standing:
        yield standing


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the edge runs on."""
    return {"uvloop": uvloop.new_event_loop}
