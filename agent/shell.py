"""A shell that lives on: one process that is handed one command after another and reports each one's exit code.

The shell reads its script from a FIFO. Each command is a file of its own that the shell sources, so that variables,
functions and options persist, while a syntax error, an open quote or an unfinished heredoc ends with that file.
`command .` keeps a POSIX shell alive through such errors. Redirections give each command its own streams, and a line
on a second FIFO reports its end; whoever keeps the output open can delay neither.
"""

import asyncio
import os
import shlex
import signal
import stat
from collections.abc import Mapping
from contextlib import suppress

from agent.children import Child, descendants, stat_fields
from agent.machine import Machine, default_shell

MARK = "SANDBAR_SESSION"


class Shell:
    """A running shell whose FIFOs are in `folder`. Give it one command at a time."""

    def __init__(self, machine: Machine, folder: str, *, cwd: str, env: Mapping[str, str]) -> None:
        self.folder, self._last_code = folder, 0
        self._reports: dict[str, asyncio.Future[int]] = {}
        self._unread = b""
        self._script, self._control = (self._fifo(machine, name) for name in ("script", "control"))
        bash = default_shell().endswith("bash")
        argv = [default_shell(), *(("--noprofile", "--norc") if bash else ()), f"{folder}/script"]
        self.mark = f"{MARK}={folder}"
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.child: Child = machine.children.spawn(
                argv, cwd=cwd, env={**machine.environment(env), MARK: folder}, person=machine.person,
                streams=(nothing, nothing, nothing),
            )  # fmt: skip
        finally:
            os.close(nothing)
        asyncio.get_running_loop().add_reader(self._control, self._report)

    def _fifo(self, machine: Machine, name: str) -> int:
        path = f"{self.folder}/{name}"
        os.mkfifo(path, 0o600)
        machine.own(path)
        # Both ends are ours as well: neither side ever waits for the other to open, nor sees an end too early.
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    async def run(self, name: str) -> int | None:
        """Source `folder/name/command` with the FIFOs beside it; its exit code, or None when the shell ended instead."""
        report = self._reports[name] = asyncio.get_running_loop().create_future()
        place = shlex.quote(f"{self.folder}/{name}")
        restored = f"(exit {self._last_code}) || " if self._last_code else ""
        line = f"{restored}command . {place}/command <{place}/stdin >{place}/stdout 2>{place}/stderr\n"
        os.write(self._script, f"{line}command printf '%s %s\\n' {name} \"$?\" >{self._control_path}\n".encode())
        while not report.done():
            await asyncio.wait((report, self.child.exited), timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            self._report()
            if self.child.exited.done() and not report.done():
                del self._reports[name]
                return None
            if not self._can_report():  # the command removed it, and would be waited for in vain
                self.child.signal_group(signal.SIGKILL)
        self._last_code = report.result()
        return self._last_code

    def _can_report(self) -> bool:
        with suppress(OSError):
            return stat.S_ISFIFO(os.stat(f"{self.folder}/control").st_mode)
        return False

    @property
    def _control_path(self) -> str:
        return shlex.quote(f"{self.folder}/control")

    def _report(self) -> None:
        with suppress(BlockingIOError):
            self._unread += os.read(self._control, 65536)
        *lines, self._unread = self._unread.split(b"\n")
        self._unread = self._unread[-1024:]
        for line in lines:
            name, _, code = line.decode("ascii", "replace").partition(" ")
            future = self._reports.pop(name, None) if code.isdigit() else None
            if future is not None and not future.done():
                future.set_result(int(code) & 255)

    def signal(self, number: int, *, since: float | None = None) -> bool:
        """Signal what runs below the shell and started after `since` (a boot-time clock); whether there was any.

        Without `since` the shell itself and everything that carries its mark is signalled too.
        """
        below = descendants(self.child.pid)
        if since is None:
            targets = {*below, self.child.pid, *self._marked()} if not self.child.exited.done() else {*self._marked()}
        else:
            targets = {pid for pid in below if _started(pid) >= since}
        for pid in targets:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        return bool(targets)

    def _marked(self) -> set[int]:
        """Daemons that left the family but kept the environment they were born with, or the shell's session."""
        return {pid for pid in descendants(os.getpid()) if self._is_marked(pid)}

    def _is_marked(self, pid: int) -> bool:
        fields = stat_fields(pid)
        if fields and int(fields[3]) == self.child.pid:
            return True
        with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            return self.mark.encode() in file.read().split(b"\0")
        return False

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._control)
        os.close(self._script)
        os.close(self._control)


def _started(pid: int) -> float:
    fields = stat_fields(pid)
    return int(fields[19]) / os.sysconf("SC_CLK_TCK") if fields else -1.0
