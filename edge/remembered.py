"""Answers of blocking calls, made in threads and remembered for a moment."""

import asyncio
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """The same question by many at once is asked once; an answer is good for some seconds, a failure for nobody later."""

    def __init__(self, threads: Executor, *, seconds: float, most: int = 10_000) -> None:
        self._threads, self._seconds, self._most = threads, seconds, most
        self._answers: dict[Key, tuple[float, asyncio.Future[Value]]] = {}

    async def get(self, key: Key, ask: Callable[[], Value]) -> Value:
        """The remembered answer, or a new one."""
        until, answer = self._answers.get(key, (0.0, None))
        if answer is None or until < time.monotonic() or (answer.done() and (answer.cancelled() or answer.exception())):
            answer = self._asked(key, ask)
        # One caller that goes away must not take the answer from the others.
        return answer.result() if answer.done() else await asyncio.shield(answer)

    def forget(self, *keys: Key) -> None:
        """Ask anew for these next time."""
        for key in keys:
            self._answers.pop(key, None)

    def known(self) -> dict[Key, Value]:
        """All that is remembered."""
        return {
            key: answer.result()
            for key, (_, answer) in self._answers.items()
            if answer.done() and not answer.cancelled() and not answer.exception()
        }

    def _asked(self, key: Key, ask: Callable[[], Value]) -> "asyncio.Future[Value]":
        if len(self._answers) >= self._most:
            self._answers.clear()
        answer = asyncio.get_running_loop().run_in_executor(self._threads, ask)
        answer.add_done_callback(_noticed)
        self._answers[key] = (time.monotonic() + self._seconds, answer)
        return answer


def _noticed(answer: "asyncio.Future[Value]") -> None:
    """Whoever asked may have gone away; asyncio complains of an exception that nobody looks at."""
    if not answer.cancelled():
        answer.exception()
