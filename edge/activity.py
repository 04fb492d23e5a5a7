"""Notes that sandboxes are in use, in the background and at most once a minute each."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from chalicelib.core.sandbox import Sandbox
from chalicelib.core.world import World

EVERY = 60.0

log = logging.getLogger(__name__)


class Activity:
    """Which sandboxes are in use. A call that takes long keeps its sandbox active all the while."""

    def __init__(self, world: World, threads: Executor, *, every: float = EVERY) -> None:
        self._world, self._threads, self._every = world, threads, every
        self._noted: dict[str, float] = {}
        self._busy: Counter[str] = Counter()
        self._sandboxes: dict[str, Sandbox] = {}

    def seen(self, sandbox: Sandbox) -> None:
        """It was used just now."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._noted.get(sandbox.id, -self._every) >= self._every:
            self._noted[sandbox.id] = loop.time()
            loop.run_in_executor(self._threads, self._touch, sandbox)

    @contextmanager
    def during(self, sandbox: Sandbox) -> Iterator[None]:
        """It is used until this ends."""
        self.seen(sandbox)
        self._busy[sandbox.id] += 1
        self._sandboxes[sandbox.id] = sandbox
        try:
            yield
        finally:
            self._busy[sandbox.id] -= 1
            if not self._busy[sandbox.id]:
                del self._busy[sandbox.id], self._sandboxes[sandbox.id]
            self.seen(sandbox)

    async def watch(self) -> None:
        """Note again and again what is in use, and forget what is not."""
        while True:
            await asyncio.sleep(self._every)
            for sandbox in list(self._sandboxes.values()):
                self.seen(sandbox)
            old = asyncio.get_running_loop().time() - 2 * self._every
            self._noted = {id: at for id, at in self._noted.items() if at > old}

    def _touch(self, sandbox: Sandbox) -> None:
        try:
            self._world.sandboxes.touch(sandbox, self._world.clock.now())
        except Exception:  # nobody waits for this; the next call notes it again
            log.exception("activity was not noted", extra={"sandbox": sandbox.id})
