"""Who is asking and which machine they mean, from the World, remembered for about a second."""

from concurrent.futures import Executor
from dataclasses import dataclass

from chalicelib import gateway
from chalicelib.core import access, lifecycle, movements
from chalicelib.core.access import Caller
from chalicelib.core.sandbox import Sandbox
from chalicelib.core.world import World
from chalicelib.dialect import Request, Route, bearer
from edge.remembered import Remembered

SECONDS = 1.0


@dataclass(frozen=True)
class Reached:
    """A sandbox that may be talked to: where its agent listens and what the agent wants to be shown."""

    sandbox: Sandbox
    url: str
    token: str


class Known:
    """What the edge knows of callers and sandboxes. Refusals are never remembered: a sandbox that starts is usable at once."""

    def __init__(self, world: World, threads: Executor) -> None:
        self._world = world
        self._callers: Remembered[tuple[str, bool, str], Caller] = Remembered(threads, seconds=SECONDS)
        self._machines: Remembered[tuple[str, str], Reached] = Remembered(threads, seconds=SECONDS)

    async def caller(self, route: Route, request: Request) -> Caller:
        """Whoever asks, if this route is for them. The key itself is not kept in memory, only its hash."""
        key = (access.digest(bearer(request) or ""), route.open, route.needs)
        return await self._callers.get(key, lambda: gateway.caller_of(self._world, route, request))

    async def machine(self, owner: str, name: str, *, fresh: bool = False) -> Reached:
        """The machine of the owner's sandbox of this id or name; `Conflict` and the like where it has none just now."""
        if fresh:
            self._machines.forget((owner, name))
        return await self._machines.get((owner, name), lambda: self._reached(owner, name))

    def forget(self, name: str) -> None:
        """Something was asked of the sandbox of this id or name: what is known of it may be wrong from now on."""
        known = self._machines.known()
        self._machines.forget(*(key for key, it in known.items() if name in (it.sandbox.id, it.sandbox.name)))

    def _reached(self, owner: str, name: str) -> Reached:
        sandbox = lifecycle.usable(lifecycle.get(self._world, owner, name))
        address = movements.machine_of(sandbox).address
        return Reached(sandbox, f"http://{address}", movements.agent_token(self._world, sandbox))
