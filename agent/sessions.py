"""Sessions: commands that share one shell, run one after another, each with input and output of its own."""

import asyncio
import itertools
import os
import re
import select
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from agent.errors import Refusal
from agent.machine import Machine, default_shell
from agent.processes import run
from agent.shell import Shell
from agent.spool import STDERR, STDOUT, Spool

MOST_SESSIONS = 500
MOST_COMMANDS = 1000
NOT_STARTED = 126
SYNTAX_ERROR = 2

_SUBSTITUTION = re.compile(r"[$<>]\(")
_numbers = itertools.count(1)


@dataclass
class Command:
    """One command of a session. `exit_code` is None until it has ended."""

    id: str
    text: str
    name: str
    folder: str
    spool: Spool
    interactive: bool
    started_at_ms: int = 0
    ended_at_ms: int | None = None
    exit_code: int | None = None
    began: float = 0.0
    timed_out: bool = False
    stdin: int | None = None
    sources: dict[int, int] = field(default_factory=dict)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def document(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "command": self.text,
            "exit_code": self.exit_code,
            "started_at_ms": self.started_at_ms,
            "ended_at_ms": self.ended_at_ms,
        }


class Session:
    """A shell and its commands. Made in the running loop; ended by `end`."""

    def __init__(self, machine: Machine, id: str, *, cwd: str, env: Mapping[str, str]) -> None:
        self.id, self._machine = id, machine
        number = next(_numbers)
        self._folder, self._spools = (place(machine, part, str(number)) for part in ("sessions", "spools"))
        machine.own(self._folder)
        self.commands: dict[str, Command] = {}
        self._shell = Shell(machine, self._folder, cwd=cwd, env=env)
        self._queue: asyncio.Queue[Command] = asyncio.Queue()
        self._worker = asyncio.create_task(self._work())
        self._dying: set[asyncio.Task[None]] = set()

    def document(self) -> dict[str, Any]:
        listed = ("id", "command", "exit_code")
        commands = [{key: command.document()[key] for key in listed} for command in self.commands.values()]
        return {"id": self.id, "commands": commands}

    def command(self, id: str) -> Command:
        """That command; refuses one that is not there."""
        if id not in self.commands:
            raise Refusal("not_found", f"Session {self.id[:100]!a} has no command {id[:100]!a}.")
        return self.commands[id]

    def add(self, text: str, *, id: str, interactive: bool, timeout: float | None) -> Command:
        """Queue a command. Refuses with `gone` where the shell has ended, with `conflict` where the id is taken."""
        if self._shell.child.exited.done():
            code = self._shell.child.exited.result()
            raise Refusal("gone", f"The shell of session {self.id[:100]!a} has ended with code {code}; create another.")
        if id in self.commands:
            raise Refusal("conflict", f"Session {self.id[:100]!a} already has a command {id[:100]!a}.")
        self._forget_oldest()
        name = f"c{next(_numbers)}"
        command = Command(id, text, name, f"{self._folder}/{name}", Spool(f"{self._spools}/{name}"), interactive)
        command.started_at_ms = int(time.time() * 1000)
        self.commands[id] = command
        self._queue.put_nowait(command)
        if timeout is not None:
            asyncio.get_running_loop().call_later(timeout, self._expire, command)
        return command

    def _expire(self, command: Command) -> None:
        if not command.done.is_set():
            command.timed_out = True
            self._dying.add(asyncio.create_task(self.kill(command, signal.SIGKILL)))

    def _forget_oldest(self) -> None:
        """Room for one more: finished commands are forgotten, oldest first."""
        finished = [command for command in self.commands.values() if command.done.is_set()]
        for command in finished[: max(0, len(self.commands) + 1 - MOST_COMMANDS)]:
            self._release(self.commands.pop(command.id))
        if len(self.commands) >= MOST_COMMANDS:
            raise Refusal(
                "busy", f"Session {self.id[:100]!a} has {MOST_COMMANDS} commands waiting; let some end first."
            )

    async def _work(self) -> None:
        while True:
            command = await self._queue.get()
            try:
                code = await self._run(command)
            except OSError as problem:
                command.spool.append(STDERR, f"{problem.strerror}: the command could not be started.\n".encode())
                code = NOT_STARTED
            self._finish(command, code)

    async def _run(self, command: Command) -> int:
        if command.timed_out or self._shell.child.exited.done():
            command.spool.append(
                STDERR, b"The command was not started: its time was up, or the session's shell had ended.\n"
            )
            return NOT_STARTED
        self._prepare(command)
        if complaint := await self._complaint(command):
            command.spool.append(STDERR, complaint)
            return SYNTAX_ERROR
        command.began = time.clock_gettime(time.CLOCK_BOOTTIME) - 1 / os.sysconf("SC_CLK_TCK")
        command.started_at_ms = int(time.time() * 1000)
        code = await self._shell.run(command.name)
        for source in list(command.sources):
            self._drain(command, source)
        return self._shell.child.exited.result() if code is None else code

    async def _complaint(self, command: Command) -> bytes:
        """What is wrong with the command's syntax. Only asked where bash would not survive it: within `$(`.

        A non-interactive bash exits over such an error, although it only reports one outside.
        """
        shell = default_shell()
        if not _SUBSTITUTION.search(command.text) or not shell.endswith("bash"):
            return b""
        argv = [shell, "-n", "-O", "extglob", f"{command.folder}/command"]
        checked = await run(self._machine, argv, cwd="/", env=self._machine.environment(), timeout=10.0)
        return checked.captured.stderr.bytes() if checked.exit_code else b""

    def _prepare(self, command: Command) -> None:
        os.mkdir(command.folder, 0o700)
        with open(f"{command.folder}/command", "wb") as file:
            file.write(os.fsencode(command.text) + b"\n")
        for name, stream in (("stdout", STDOUT), ("stderr", STDERR)):
            os.mkfifo(f"{command.folder}/{name}", 0o600)
            source = os.open(f"{command.folder}/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            command.sources[source] = stream
            asyncio.get_running_loop().add_reader(source, self._readable, command, source)
        if command.interactive:
            os.mkfifo(f"{command.folder}/stdin", 0o600)
            command.stdin = _writing_end(f"{command.folder}/stdin")
        else:
            os.symlink(os.devnull, f"{command.folder}/stdin")
        for name in ("", "/command", "/stdin", "/stdout", "/stderr"):
            self._machine.own(command.folder + name)

    def _readable(self, command: Command, source: int) -> bool:
        """Take one chunk; whether there may be more at once."""
        try:
            chunk = os.read(source, 262144)
        except BlockingIOError:
            return False
        if chunk:
            command.spool.append(command.sources[source], chunk)
        else:
            self._close(command, source)
        return bool(chunk)

    def _drain(self, command: Command, source: int) -> None:
        # Bounded: a background child may write for ever. What the command itself wrote is in the pipe already.
        for _ in range(64):
            if source not in command.sources or not self._readable(command, source):
                return

    def _close(self, command: Command, source: int) -> None:
        del command.sources[source]
        asyncio.get_running_loop().remove_reader(source)
        os.close(source)

    def _finish(self, command: Command, code: int) -> None:
        command.exit_code, command.ended_at_ms = code, int(time.time() * 1000)
        self.close_input(command)
        shutil.rmtree(command.folder, ignore_errors=True)
        command.spool.finish()
        command.done.set()

    def close_input(self, command: Command) -> None:
        """What the command reads comes to its end."""
        if command.stdin is not None:
            os.close(command.stdin)
            command.stdin = None

    async def feed(self, command: Command, content: bytes, *, end: bool) -> None:
        """Write to the command's standard input, and `end` it; waits while the command does not read."""
        while content or end:
            if command.done.is_set() or (command.stdin is None and (command.began or not command.interactive)):
                raise Refusal("conflict", f"Command {command.id[:100]!a} takes no input: it has ended, or has none.")
            if command.stdin is None or not _is_read(command.stdin):
                await asyncio.sleep(0.002)  # the command waits for another, or the shell has not opened it yet
            elif content:
                content = content[_written(command.stdin, content[:65536]) :]
                await asyncio.sleep(0.002 if content else 0)
            else:
                self.close_input(command)
                return

    async def kill(self, command: Command, number: int) -> None:
        """Signal everything the command runs. A SIGKILL that ends nothing (a loop of the shell itself) ends the shell."""
        if not command.began:
            command.timed_out = True
            return
        for _ in range(20):
            self._shell.signal(number, since=command.began)
            if number != signal.SIGKILL:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(command.done.wait(), 0.02)
                return
        self._shell.child.signal_group(signal.SIGKILL)

    async def end(self) -> None:
        """Kill everything that the session started, and forget its output."""
        for _ in range(5):
            if not self._shell.signal(signal.SIGKILL):
                break
            await asyncio.sleep(0.01)
        await asyncio.wait((self._shell.child.exited,), timeout=1.0)
        await asyncio.sleep(0)
        self._worker.cancel()
        for command in self.commands.values():
            if not command.done.is_set():
                self._finish(command, 128 + signal.SIGKILL)
            self._release(command)
        self._shell.close()
        for folder in (self._folder, self._spools):
            shutil.rmtree(folder, ignore_errors=True)

    def _release(self, command: Command) -> None:
        for source in list(command.sources):
            self._close(command, source)
        command.spool.remove()


def _writing_end(path: str) -> int:
    """The end of a FIFO that nobody reads yet. It must not count as a reader, for we ask whether there is one."""
    both = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(both)


def _is_read(file: int) -> bool:
    """Whether somebody has the reading end open. Closing ours before that would lose what was written."""
    poll = select.poll()
    poll.register(file, 0)
    return not poll.poll(0)


def _written(file: int, content: bytes) -> int:
    """How many bytes it took; none where it is full, or its reader just left."""
    with suppress(BlockingIOError, BrokenPipeError):
        return os.write(file, content)
    return 0


def place(machine: Machine, *parts: str) -> str:
    """A folder of our own below /run/sandbar, made if missing; others may pass through but not look."""
    path = machine.root.rstrip("/") + "/run/sandbar"
    os.makedirs(path, mode=0o711, exist_ok=True)
    for part in parts:
        path = f"{path}/{part}"
        with suppress(FileExistsError):
            os.mkdir(path, 0o711)
    return path


def forget(machine: Machine) -> None:
    """Remove what an earlier run of the agent left of its sessions."""
    for part in ("sessions", "spools"):
        shutil.rmtree(place(machine, part), ignore_errors=True)
