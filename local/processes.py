"""Sandboxes as plain processes, where no container can be started: a folder and a loopback address each, nothing more.

What one can do, its user can do: there is no limit of memory or processor, and no wall. This is said when it is chosen.
"""

import contextlib
import hashlib
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from local.children import LIFELINE
from local.engine import EngineRefused, Machine, Order
from local.home import CODE, Home

# Every address of 127.0.0.0/8 is this machine's own. One a sandbox, so that all agents listen on the port they expect.
ADDRESSES = ipaddress.IPv4Network("127.77.0.0/16")
AGENT_PORT = 2280
RECORD = "machine.json"
ROOT = "root"
LOG = "agent.log"
LAST_LINES = 5
START_SECONDS = 20.0


class ProcessEngine:
    """Machines are agents that we started, each told that a folder is its root."""

    kind = "process"

    def __init__(self, home: Home) -> None:
        self._home = home
        self._seen: dict[str, Machine] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._tell: Callable[[Machine], object] = id
        self._starter = _Starter()

    def start(self, order: Order) -> Machine:
        folder = self._folder(order.name)
        (folder / ROOT).mkdir(parents=True, mode=0o700)
        (folder / RECORD).write_text(json.dumps(asdict(replace(order, labels=dict(order.labels)))))
        try:
            return self._launch(order.name)
        except EngineRefused:
            self.remove(order.name)
            raise

    def get(self, id: str) -> Machine | None:
        return self._seen.get(id)

    def all(self) -> list[Machine]:
        found = [record.parent.name for record in self._home.machines.glob(f"*/{RECORD}")]
        return [self._seen.get(id) or Machine(id, self._order(id)["labels"], running=False) for id in found]

    def stop(self, id: str, seconds: float) -> None:
        process = self._processes.get(id)
        if process is None:
            return
        _signal(process, signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()

    def resume(self, id: str) -> Machine:
        return self._launch(id)

    def remove(self, id: str) -> None:
        with self._lock:
            self._seen.pop(id, None)
        self.stop(id, seconds=0.1)
        self._processes.pop(id, None)
        shutil.rmtree(self._folder(id), ignore_errors=True)

    def last_words(self, id: str) -> str:
        with contextlib.suppress(OSError):
            return "\n".join((self._folder(id) / LOG).read_text(errors="replace").splitlines()[-LAST_LINES:])
        return ""

    def on_exit(self, tell: Callable[[Machine], None]) -> None:
        self._tell = tell

    def close(self) -> None:
        """End all, whose end is nobody's concern any more: they are started again with the stack."""
        with self._lock:
            self._seen.clear()
        for process in self._processes.values():
            _signal(process, signal.SIGTERM)
        for id in self._processes:
            self.stop(id, seconds=2.0)

    def _launch(self, id: str) -> Machine:
        order, folder = self._order(id), self._folder(id)
        address = self._free_address(id)
        environment = {
            **_harmless(os.environ),
            **order["environment"],
            "SANDBAR_ROOT": str(folder / ROOT),
            "SANDBAR_AGENT_HOST": address,
        }
        process = self._starter.start(environment, folder / LOG)
        machine = Machine(id, order["labels"], running=True, address=address)
        with self._lock:
            self._processes[id] = process
            self._seen[id] = machine
        threading.Thread(target=self._wait, args=(id, process), name=f"wait-{id[:12]}", daemon=True).start()
        return machine

    def _wait(self, id: str, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        with self._lock:
            if id not in self._seen or self._processes.get(id) is not process:
                return
            machine = replace(self._seen[id], running=False, exit_code=code if code >= 0 else 128 - code)
            self._seen[id] = machine
        self._tell(machine)

    def _free_address(self, id: str) -> str:
        """An address where nobody listens, beginning at one of the machine's own."""
        first = int(hashlib.sha256(id.encode()).hexdigest(), 16)
        for step in range(ADDRESSES.num_addresses):
            address = str(ADDRESSES[(first + step) % (ADDRESSES.num_addresses - 2) + 1])
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind((address, AGENT_PORT))
                return address
        raise EngineRefused("no loopback address is free")

    def _order(self, id: str) -> Mapping[str, Mapping[str, str]]:
        record: Mapping[str, Mapping[str, str]] = json.loads((self._folder(id) / RECORD).read_text())
        return record

    def _folder(self, id: str) -> Path:
        return self._home.machines / id


class _Starter:
    """Starts agents from one thread that lives as long as we do: the kernel ends a child when the very thread that
    started it ends."""

    def __init__(self) -> None:
        self._wanted: list[Callable[[], None]] = []
        self._wake = threading.Condition()
        threading.Thread(target=self._loop, name="agents", daemon=True).start()

    def start(self, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        started: list[subprocess.Popen[bytes]] = []
        done = threading.Event()

        def start() -> None:
            try:
                started.append(_agent(environment, log))
            finally:
                done.set()

        with self._wake:
            self._wanted.append(start)
            self._wake.notify()
        done.wait(START_SECONDS)
        if not started:
            raise EngineRefused(f"the agent could not be started; see {log}")
        return started[0]

    def _loop(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._wanted)
                start = self._wanted.pop(0)
            with contextlib.suppress(OSError):
                start()


def _agent(environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            [*LIFELINE, *_enclosed(), sys.executable, "-m", "agent"],
            cwd=CODE,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To the agent and to whatever holds its namespace, which passes no signal on."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _enclosed() -> list[str]:
    """A process namespace ends with its first process, and so takes with it whatever a sandbox had started."""
    if os.geteuid() == 0 and shutil.which("unshare"):
        return ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
    return []


def _harmless(environment: Mapping[str, str]) -> dict[str, str]:
    """Our own environment without what a sandbox must not see: keys, and where the control plane's parts listen."""
    return {name: value for name, value in environment.items() if not name.startswith(("AWS_", "SANDBAR_"))}
