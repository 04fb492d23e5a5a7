"""Commands that run to their end: `POST /exec`, and `run` for the agent's own use of programs."""

import asyncio
import errno
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent import shapes
from agent.children import Child
from agent.errors import Refusal, named
from agent.machine import Machine, default_shell
from agent.output import Captured
from agent.starting import Person
from agent.web import Reply, Request, answer

GRACE = 0.2
EXEC = {
    "command": (shapes.command, shapes.REQUIRED),
    "cwd": (shapes.word, None),
    "env": (shapes.variables, None),
    "timeout_seconds": (shapes.seconds, None),
    "user": (shapes.word, None),
    "stdin": (shapes.content, b""),
}


@dataclass(frozen=True)
class Outcome:
    """How a command ended. `exit_code` is None where the time was up."""

    exit_code: int | None
    captured: Captured
    duration_ms: int

    def document(self) -> dict[str, Any]:
        return {"exit_code": self.exit_code, **self.captured.document(), "duration_ms": self.duration_ms}


async def execute(machine: Machine, request: Request) -> Reply:
    asked = await request.json(EXEC)
    argv = asked.command if isinstance(asked.command, list) else [default_shell(), "-c", asked.command]
    person = machine.user(asked.user)
    work = run(
        machine, argv, cwd=machine.folder(asked.cwd), env=machine.environment(asked.env, person),
        person=person, stdin=asked.stdin, timeout=asked.timeout_seconds,
    )  # fmt: skip
    outcome = await request.while_there(work)
    return answer(finished(outcome, asked.timeout_seconds))


def finished(outcome: Outcome, timeout: float | None) -> dict[str, Any]:
    """The outcome as a document; refuses as `timeout`, with what was said until then, if the time was up."""
    if outcome.exit_code is None:
        raise Refusal(
            "timeout",
            f"The command did not end within {timeout:g} seconds and was killed.",
            **outcome.captured.document(),
        )
    return outcome.document()


async def run(
    machine: Machine,
    argv: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    person: Person | None = None,
    stdin: bytes = b"",
    timeout: float | None = None,
    pass_fds: Sequence[int] = (),
) -> Outcome:
    """Run a program to its end and keep what it says. Its group is killed at the timeout and when we are cancelled.

    What cannot be started ends with 127 or 126 as a shell would have it.
    """
    machine.awake()
    pipes = _Pipes()
    began = time.monotonic()
    try:
        child = _spawned(
            machine, argv, pipes, cwd=cwd, env=env, person=person or machine.person, stdin=stdin, pass_fds=pass_fds
        )
        code = child if isinstance(child, int) else await _ended(child, timeout, pipes)
    finally:
        pipes.close()
    return Outcome(code, pipes.captured, int((time.monotonic() - began) * 1000))


def _spawned(machine: Machine, argv: Sequence[str], pipes: "_Pipes", *, stdin: bytes, **how: Any) -> "Child | int":
    source = _source(stdin)
    try:
        return machine.children.spawn(argv, streams=(source, pipes.ends[1], pipes.ends[2]), **how)
    except (FileNotFoundError, PermissionError, NotADirectoryError) as problem:
        pipes.captured.add(2, f"{named(argv[0])}: {problem.strerror}\n".encode())
        return 127 if isinstance(problem, FileNotFoundError) else 126
    except OSError as problem:
        if problem.errno not in (errno.E2BIG, errno.ENOEXEC):  # the command's own fault
            raise
        raise Refusal("invalid", f"{named(argv[0])} cannot be started: {problem.strerror}.") from None
    finally:
        os.close(source)
        pipes.started()


def _source(stdin: bytes) -> int:
    """Where the command reads from. Memory rather than a pipe: nobody has to feed it, and it cannot block."""
    if not stdin:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    memory = os.memfd_create("stdin")
    with open(memory, "wb", closefd=False) as file:
        file.write(stdin)
    os.lseek(memory, 0, os.SEEK_SET)
    return memory


async def _ended(child: Child, timeout: float | None, pipes: "_Pipes") -> int | None:
    try:
        await asyncio.wait((child.exited,), timeout=timeout)
    except asyncio.CancelledError:
        child.signal_group(signal.SIGKILL)
        raise
    if not child.exited.done():
        child.signal_group(signal.SIGKILL)
        await asyncio.wait((child.exited,), timeout=1.0)
        pipes.drain()
        return None
    await pipes.silent(GRACE)
    return child.exited.result()


class _Pipes:
    """The command's two output pipes, read by the event loop as they fill."""

    def __init__(self) -> None:
        self.captured = Captured()
        self._loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        self.ends: dict[int, int] = {}
        self._sources: dict[int, int] = {}
        for stream in (1, 2):
            source, self.ends[stream] = os.pipe()
            os.set_blocking(source, False)
            self._sources[source] = stream
            self._loop.add_reader(source, self._readable, source)

    def started(self) -> None:
        """Close our copies of the command's ends."""
        for end in self.ends.values():
            os.close(end)

    def _readable(self, source: int) -> bool:
        """Take one chunk; whether there may be more at once."""
        try:
            chunk = os.read(source, 262144)
        except BlockingIOError:
            return False
        if chunk:
            self.captured.add(self._sources[source], chunk)
        else:
            self._close(source)
        return bool(chunk)

    def _close(self, source: int) -> None:
        del self._sources[source]
        self._loop.remove_reader(source)
        os.close(source)
        if not self._sources:
            self._done.set()

    def drain(self) -> None:
        """Take what is there, without waiting; bounded, since a background child may never stop writing."""
        for source in list(self._sources):
            for _ in range(64):
                if not self._readable(source):
                    break

    async def silent(self, grace: float) -> None:
        """Wait until both are closed by all who held them, or `grace` is over."""
        self.drain()
        if not self._done.is_set():
            try:
                await asyncio.wait_for(self._done.wait(), grace)
            except TimeoutError:
                self.drain()

    def close(self) -> None:
        for source in list(self._sources):
            self._close(source)
