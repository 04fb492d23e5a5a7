"""The SDK under test: which generation it is, and its synchronous client in the guise of the asynchronous one."""

import asyncio
import importlib.metadata
import inspect
from typing import Any

import daytona

__all__ = ["GENERATION", "NEWEST", "Awaited", "DaytonaError", "daytona", "eventually", "listed"]

GENERATION = tuple(int(part) for part in importlib.metadata.version("daytona").split(".")[:2])
NEWEST = GENERATION >= (0, 180)
DaytonaError = daytona.DaytonaError


class Awaited:
    """A synchronous object of the SDK whose methods may be awaited. What they return is wrapped likewise."""

    def __init__(self, it: Any) -> None:
        self._it = it

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._it, name)
        if not callable(value):
            return _wrapped(value)
        if inspect.iscoroutinefunction(value):
            return value

        async def method(*args: Any, **kwargs: Any) -> Any:
            plain = [arg._it if isinstance(arg, Awaited) else arg for arg in args]
            return _wrapped(await asyncio.to_thread(value, *plain, **kwargs))

        return method


def _wrapped(value: Any) -> Any:
    if isinstance(value, list):
        return [_wrapped(item) for item in value]
    return Awaited(value) if type(value).__module__.startswith("daytona._sync") else value


async def listed(client: Any, labels: dict[str, str]) -> list[Any]:
    """The sandboxes that have these labels, however this generation lists them."""
    if not NEWEST:
        return list((await client.list(labels)).items)
    query = daytona.ListSandboxesQuery(labels=labels)
    if isinstance(client, Awaited):
        return await asyncio.to_thread(lambda: list(client._it.list(query)))
    return [sandbox async for sandbox in client.list(query)]


async def eventually(truth: Any, *, seconds: float = 60) -> None:
    """Wait until something that may take a while is true."""
    async with asyncio.timeout(seconds):
        while not await truth():
            await asyncio.sleep(0.2)
