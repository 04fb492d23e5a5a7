"""The house that every test of the edge stands in."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.edge.house import House, house


@pytest_asyncio.fixture(name="house")
async def a_house() -> AsyncIterator[House]:
    """The edge, its World, an agent and an API Gateway."""
    async with house() as standing:
        yield standing
