"""What every scenario is given: the SDK of this environment, as its asynchronous and as its synchronous client."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sdk import NEWEST, Awaited, daytona

KINDS = ("sync", "async")
collect_ignore = ["oldest_scenario.py" if NEWEST else "newest_scenario.py"]


@pytest_asyncio.fixture(params=KINDS, scope="session")
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """A client of the SDK. Both kinds are awaited, so that one scenario serves both."""
    if request.param == "sync":
        yield Awaited(daytona.Daytona())
        return
    async with daytona.AsyncDaytona() as client:
        yield client


@pytest_asyncio.fixture(scope="session")
async def sandbox(client: Any) -> AsyncIterator[Any]:
    """A started sandbox that the scenarios of one kind share; each works in a folder of its own."""
    sandbox = await client.create(
        daytona.CreateSandboxFromSnapshotParams(language="python", env_vars={"COLOUR": "teal"})
    )
    yield sandbox
    await client.delete(sandbox)


@pytest_asyncio.fixture
async def folder(sandbox: Any) -> str:
    """A new empty folder of the shared sandbox."""
    path = f"/tmp/{uuid.uuid4().hex}"
    await sandbox.fs.create_folder(path, "755")
    return path


@pytest_asyncio.fixture
async def session(sandbox: Any) -> AsyncIterator[str]:
    """A session of the shared sandbox."""
    id = uuid.uuid4().hex
    await sandbox.process.create_session(id)
    yield id
    await sandbox.process.delete_session(id)
