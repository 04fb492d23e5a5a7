"""Terminals: a process on a PTY whose output many may watch, from where they left off, at the pace of the slowest."""

import asyncio
import os
import signal
import termios
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from agent.children import Child, session_of
from agent.errors import Refusal
from agent.files import moment
from agent.machine import Machine

REPLAY = 256 * 1024
STUCK_AFTER = 10.0
MOST_TERMINALS = 200

# Opening a terminal as the leader of a session makes it the controlling one: the shell does that, then steps aside.
_ADOPT = 'exec "$@" <"$0" >"$0" 2>&1'


@dataclass(eq=False)
class _Watcher:
    """Someone who reads the output: how far, and since when not a byte more."""

    position: int
    moved: float = field(default_factory=time.monotonic)


class Terminal:
    """A PTY and its process, started at once or, if `lazy`, when somebody attaches."""

    def __init__(
        self,
        machine: Machine,
        id: str,
        *,
        cwd: str,
        env: Mapping[str, str],
        size: tuple[int, int],
        command: Sequence[str],
    ) -> None:
        self.id, self._machine, self._cwd, self._env, self._size, self._command = id, machine, cwd, env, size, command
        self._created = time.time_ns()
        self._buffer, self._dropped = bytearray(), 0
        self._watchers: set[_Watcher] = set()
        self._waiting: set[asyncio.Future[None]] = set()
        self._writing = asyncio.Lock()
        self._paused = self.ended = False
        self._master = -1
        self.child: Child | None = None
        self.lazy = False

    def document(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "cwd": self._cwd,
            "env": dict(self._env),
            "cols": self._size[0],
            "rows": self._size[1],
            "created_at": moment(self._created),
            "active": self.child is not None and not self.ended,
            "lazy": self.lazy,
        }

    def start(self) -> None:
        """Start the process, once."""
        if self.child is not None:
            return
        self._machine.awake()
        self._master, slave = os.openpty()
        try:
            termios.tcsetwinsize(slave, (self._size[1], self._size[0]))
            self._machine.own(slave)
            argv = ["/bin/sh", "-c", _ADOPT, os.ttyname(slave), *self._command]
            env = self._machine.environment({"TERM": "xterm-256color", **self._env})
            self.child = self._machine.children.spawn(
                argv, cwd=self._cwd, env=env, person=self._machine.person, streams=(slave, slave, slave)
            )
        finally:
            os.close(slave)
        os.set_blocking(self._master, False)
        asyncio.get_running_loop().add_reader(self._master, self._readable)
        self._machine.errands.add(asyncio.create_task(self._end_with(self.child)))

    def _readable(self) -> bool:
        """Take what there is, in one go: the kernel hands out 4 KiB at most, and a frame for each would be slow."""
        chunks: list[bytes] = []
        try:
            while len(chunks) < 16:
                chunks.append(os.read(self._master, 65536))
        except BlockingIOError:
            pass
        except OSError:  # EIO: nobody holds the other end any more
            asyncio.get_running_loop().remove_reader(self._master)
        if chunks:
            self._buffer += b"".join(chunks)
            self._trim()
            self._wake()
        return bool(chunks)

    def _trim(self) -> None:
        """Forget what is older than the replay and seen by all; pause the process while somebody is far behind."""
        end = self._dropped + len(self._buffer)
        slowest = min((watcher.position for watcher in self._watchers), default=end)
        keep = min(slowest, end - REPLAY)
        if keep - self._dropped > REPLAY:
            del self._buffer[: keep - self._dropped]
            self._dropped = keep
        behind = end - slowest > REPLAY
        if behind != self._paused and self._master >= 0 and not self.ended:
            self._paused = behind
            loop = asyncio.get_running_loop()
            if behind:
                loop.remove_reader(self._master)
                loop.call_later(STUCK_AFTER, self._drop_stuck)
            else:
                loop.add_reader(self._master, self._readable)

    def _drop_stuck(self) -> None:
        """Whoever took nothing for long is no longer waited for, and misses what comes."""
        now = time.monotonic()
        self._watchers = {watcher for watcher in self._watchers if now - watcher.moved < STUCK_AFTER}
        self._trim()
        if self._paused:
            asyncio.get_running_loop().call_later(STUCK_AFTER, self._drop_stuck)

    async def output(self, offset: int | None) -> AsyncIterator[tuple[int, bytes]]:
        """Where a chunk begins, and the chunk: from the offset, or what is left of it, until the process has ended.

        The first item is an empty chunk that tells where it begins.
        """
        end = self._dropped + len(self._buffer)
        oldest = max(self._dropped, end - REPLAY)
        watcher = _Watcher(oldest if offset is None else min(max(offset, self._dropped), end))
        self._watchers.add(watcher)
        try:
            yield watcher.position, b""
            while True:
                end = self._dropped + len(self._buffer)
                watcher.position = max(watcher.position, self._dropped)
                if watcher.position < end:
                    begin = watcher.position
                    chunk = bytes(self._buffer[begin - self._dropped : begin - self._dropped + REPLAY])
                    yield begin, chunk
                    watcher.position, watcher.moved = begin + len(chunk), time.monotonic()
                    self._trim()
                elif self.ended:
                    return
                else:
                    await self._grown()
        finally:
            self._watchers.discard(watcher)
            self._trim()

    async def _grown(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def type(self, content: bytes) -> None:
        """Give the process input; waits while it takes none. Input for an ended one is dropped."""
        async with self._writing:
            while content and not self.ended and self._master >= 0:
                try:
                    content = content[os.write(self._master, content[:4096]) :]
                except BlockingIOError:
                    await asyncio.sleep(0.005)
                except OSError:
                    return

    def resize(self, cols: int, rows: int) -> None:
        """Refuses with `gone` once the process has ended."""
        self._refuse_ended()
        self._size = (cols, rows)
        if self._master >= 0:
            termios.tcsetwinsize(self._master, (rows, cols))

    def signal(self, number: int) -> None:
        """Signal what runs in the foreground; SIGKILL goes to everything on this terminal."""
        self._refuse_ended()
        if self.child is None:
            raise Refusal("conflict", f"Terminal {self.id[:100]!a} has not been started.")
        with suppress(ProcessLookupError, PermissionError):
            if number != signal.SIGKILL:
                os.killpg(os.tcgetpgrp(self._master), number)
                return
        for pid in session_of(self.child.pid):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def _refuse_ended(self) -> None:
        if self.ended:
            raise Refusal("gone", f"The process of terminal {self.id[:100]!a} has ended.")

    def exit(self) -> dict[str, Any]:
        """How it ended, for those who watch."""
        code = self.child.exited.result() if self.child is not None and self.child.exited.done() else 137
        number = self.child.killed_by if self.child is not None else signal.SIGKILL
        reason = f"killed by {signal.Signals(number).name}" if number else "exited"
        return {"type": "exited", "exit_code": code, "reason": reason}

    async def _end_with(self, child: Child) -> None:
        await child.exited
        await asyncio.sleep(0)  # what it wrote last is readable now
        while not self.ended and (self._paused or self._readable()):
            await asyncio.sleep(0.002 if self._paused else 0)
        self._finish()

    def _finish(self) -> None:
        if self.ended:
            return
        self.ended = True
        if self._master >= 0:
            asyncio.get_running_loop().remove_reader(self._master)
            os.close(self._master)
            self._master = -1
        self._wake()

    async def kill(self) -> None:
        """End the process and everything on the terminal."""
        if self.child is not None and not self.ended:
            self.signal(signal.SIGKILL)
            await asyncio.wait((self.child.exited,), timeout=1.0)
        self._finish()
