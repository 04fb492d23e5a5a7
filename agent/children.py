"""The processes that the agent starts, and the reaping of all that are left to it.

One place waits for every child: the agent is the sandbox's subreaper, so that daemons whose parents died become its
children too, and no zombie stays. Only the event loop's thread may spawn.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agent.starting import LIBC, Person, seal, start

_SET_CHILD_SUBREAPER = 36


@dataclass
class Child:
    """A started process, leader of its own group. `exited` gives its exit code; 128 + number if a signal ended it."""

    pid: int
    exited: "asyncio.Future[int]"
    killed_by: int | None = None

    def signal_group(self, number: int) -> None:
        """Signal every process of its group, also where the leader is gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


@dataclass
class Children:
    _running: dict[int, Child] = field(default_factory=dict)

    def watch(self) -> None:
        """From now on reap. Must be called once, in the running loop, before the first `spawn`."""
        seal()
        LIBC.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        person: Person,
        streams: tuple[int, int, int],
        pass_fds: Sequence[int] = (),
    ) -> Child:
        """Start a program in a session of its own. Raises OSError where the system cannot.

        It inherits its three streams and what is in `pass_fds`, under the same numbers; everything else is closed.
        """
        child = Child(start(argv, cwd, env, person, (*streams, *pass_fds)), asyncio.get_running_loop().create_future())
        self._running[child.pid] = child
        _expose_to_oom_killer(child.pid)
        return child

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            if child := self._running.pop(pid, None):
                child.killed_by = -code if code < 0 else None
                if not child.exited.done():
                    child.exited.set_result(code if code >= 0 else 128 - code)

    async def end_all(self, grace: float) -> None:
        """SIGTERM to every process below the agent, SIGKILL after `grace` seconds to what is left."""
        for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 1.0)):
            for pid in descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
            gone = await _all_gone(patience)
            self._reap()
            if gone:
                return


async def _all_gone(patience: float) -> bool:
    deadline = asyncio.get_running_loop().time() + patience
    while descendants(os.getpid()):
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(0.02)
    return True


def _expose_to_oom_killer(pid: int) -> None:
    # The kernel is to take the sandbox's processes before it takes the agent.
    with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w") as file:
        file.write("500")


def shield_from_oom_killer() -> None:
    """Keep the agent when memory runs out, where the container allows it."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("-1000")


def descendants(pid: int) -> list[int]:
    """Every living process below `pid`, zombies left out."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def session_of(leader: int) -> list[int]:
    """Every living process of that leader's session."""
    living = ((pid, stat_fields(pid)) for pid, _ in _parents())
    return [pid for pid, fields in living if fields and int(fields[3]) == leader]


def _parents() -> Iterator[tuple[int, int]]:
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := stat_fields(int(name))) and fields[0] not in ("Z", "X"):
            yield int(name), int(fields[1])


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/pid/stat from the state on (so `[1]` is the parent, `[3]` the session); empty if gone."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []
