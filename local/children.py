"""The processes that make up the stack: started in order, watched, started again when they die, ended in reverse."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LOG_BYTES = 5 * 1024 * 1024
READY_SECONDS = 30.0
STOP_SECONDS = 8.0
# Has the kernel end a program with the thread that started it, even if that has no time to react.
LIFELINE = ("setpriv", "--pdeathsig", "KILL", "--")


class NotReady(Exception):
    """A part of the stack did not come up; the text says which, and the end of its log."""


@dataclass
class Child:
    """One process, and how to tell that it serves."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    ready: Callable[[], bool]
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it; `await_ready` says when it serves."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".old"))
        with self.log.open("ab") as log:
            # A group of its own: Ctrl-C goes to us alone, and we end the others in the right order.
            self.process = subprocess.Popen(
                [*LIFELINE, *self.command],
                env=dict(self.environment),
                # Podman's monitors leave a file named "oom" wherever they were started.
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def await_ready(self, seconds: float = READY_SECONDS) -> None:
        """Return once it serves; raise `NotReady` when it ended or did not come up in time."""
        until = time.monotonic() + seconds
        while not self.ready():
            if not self.alive():
                raise NotReady(f"{self.name} ended as it started: {self.last_words()}")
            if time.monotonic() > until:
                raise NotReady(f"{self.name} did not come up within {seconds:.0f} seconds: {self.last_words()}")
            time.sleep(0.02)

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def ask_to_end(self) -> None:
        if self.process and self.alive():
            self.process.send_signal(signal.SIGTERM)

    def end(self, seconds: float = STOP_SECONDS) -> None:
        """Have it gone, kindly at first."""
        self.ask_to_end()
        if self.process:
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._kill()

    def last_words(self) -> str:
        """The last line of its log that says something."""
        with contextlib.suppress(OSError):
            lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
            return lines[-1] if lines else f"see {self.log}"
        return f"see {self.log}"

    def _kill(self) -> None:
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def listens(port: int) -> Callable[[], bool]:
    """Whether something accepts connections on that loopback port."""

    def check() -> bool:
        with socket.socket() as probe:
            probe.settimeout(0.5)
            return probe.connect_ex(("127.0.0.1", port)) == 0

    return check


def listens_at(path: Path) -> Callable[[], bool]:
    """Whether something accepts connections on that Unix socket."""

    def check() -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(0.5)
            return probe.connect_ex(str(path)) == 0

    return check


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on now."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
