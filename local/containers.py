"""Sandboxes as containers, over the API that Docker and Podman share."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound
from requests.exceptions import RequestException

from local import cgroups, networks, podman
from local.engine import OWNER_LABEL, EngineRefused, Machine, Order
from local.exits import Exits
from local.home import Home

# Beyond Docker's own default: nothing in a sandbox makes device files or writes the kernel's audit log, while sudo and apt
# need all the others. Raw packets above all: who may send them answers ARP in a neighbour's name, and the host would show
# it that neighbour's token. Everybody may ping without them.
DROPPED_CAPABILITIES = ["MKNOD", "AUDIT_WRITE", "NET_RAW"]
SYSCTLS = {"net.ipv4.ping_group_range": "0 2147483647"}
PIDS_LIMIT = 4096
DOOR = "/run/sandbar/door"
# A container's end is known before the engine has written it down.
SETTLE_SECONDS = 5.0
CALL_SECONDS = 60
LAST_LINES = 5
KILLED = 137
SAID_TO_RUN = ("running", "stopping")
API_VERSION = "1.40"


class ContainerEngine:
    """Machines are containers on a bridge of our own, where they reach the world but not each other."""

    def __init__(self, home: Home, *, kind: str, url: str) -> None:
        self.kind = kind
        self._home = home
        self._api = docker.APIClient(base_url=url, timeout=CALL_SECONDS, version=API_VERSION)
        networks.ensure(self._api, kind, home.tag)
        self._seen: dict[str, Machine] = {}
        self._lock = threading.Lock()
        self._exits = Exits()
        self._tell: Callable[[Machine], object] = id

    def start(self, order: Order) -> Machine:
        with _refusals():
            id: str = self._api.create_container_from_config(self._config(order), name=order.name)["Id"]
        try:
            return self._started(id)
        except EngineRefused:
            self.remove(id)
            raise

    def get(self, id: str) -> Machine | None:
        return self._seen.get(id)

    def all(self) -> list[Machine]:
        with _refusals():
            listed = self._api.containers(all=True, filters={"label": f"{OWNER_LABEL}={self._home.tag}"})
        return [machine for entry in listed if (machine := self._look(entry["Id"]))]

    def stop(self, id: str, seconds: float) -> None:
        with contextlib.suppress(NotFound), _refusals():
            self._api.stop(id, timeout=max(1, round(seconds)))
            self._inspect(id)

    def resume(self, id: str) -> Machine:
        return self._started(id)

    def remove(self, id: str) -> None:
        with self._lock:
            self._seen.pop(id, None)
        with contextlib.suppress(NotFound), _refusals():
            self._api.remove_container(id, v=True, force=True)

    def last_words(self, id: str) -> str:
        with contextlib.suppress(APIError, RequestException):
            written: bytes = self._api.logs(id, tail=LAST_LINES)
            return written.decode(errors="replace").strip()
        return ""

    def on_exit(self, tell: Callable[[Machine], None]) -> None:
        self._tell = tell

    def close(self) -> None:
        self._exits.close()
        self._api.close()

    def _config(self, order: Order) -> dict[str, Any]:
        host = self._api.create_host_config(
            binds={str(self._home.door): {"bind": DOOR, "mode": "ro"}},
            cap_drop=DROPPED_CAPABILITIES,
            init=order.init,
            mem_limit=f"{order.memory_mib}m",
            memswap_limit=f"{order.memory_mib}m",
            network_mode=networks.name(self._home.tag),
            nano_cpus=round(order.cpus * 1e9),
            pids_limit=PIDS_LIMIT,
            sysctls=SYSCTLS,
        )
        return {
            "Image": order.image,
            "Hostname": order.hostname,
            "Env": [f"{name}={value}" for name, value in order.environment.items()],
            "Labels": {**order.labels, OWNER_LABEL: self._home.tag},
            "HostConfig": host,
            **({"Entrypoint": list(order.entry_point)} if order.entry_point else {}),
            **({"Cmd": list(order.command)} if order.command else {}),
        }

    def _started(self, id: str) -> Machine:
        with _refusals():
            self._api.start(id)
        networks.keep_apart(self._home.tag)
        machine = self._look(id)
        if machine is None:
            raise EngineRefused(f"container {id[:12]} vanished while it started")
        return machine

    def _look(self, id: str) -> Machine | None:
        try:
            found = self._inspect(id)
        except NotFound:
            return None
        machine = _machine(found)
        with self._lock:
            known = self._seen.get(id)
            self._seen[id] = machine
        if machine.running and not (known and known.running):
            self._watch(id, found["State"]["Pid"])
        return machine

    def _inspect(self, id: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._api.inspect_container(id)
        state = found["State"]
        if (
            self.kind == "podman"
            and state["Status"] in SAID_TO_RUN
            and podman.note_lost_exit(self._home, id, state["Pid"])
        ):
            found = self._api.inspect_container(id)
        return found

    def _watch(self, id: str, pid: int) -> None:
        memory = cgroups.memory_of(pid)

        def ended() -> None:
            # At once: the engine takes the cgroup away as soon as it has noticed.
            self._ended(id, starved=cgroups.killed_for_memory(memory))

        if _is_ours(id, pid) and self._exits.watch(pid, ended):
            return
        threading.Thread(target=self._wait, args=(id,), name=f"wait-{id[:12]}", daemon=True).start()

    def _wait(self, id: str) -> None:
        """For an engine whose processes are not on this machine's process table: its own, slower, wait."""
        while True:
            try:
                self._api.wait(id, timeout=None)
            except NotFound:
                return None
            except (APIError, RequestException):
                time.sleep(1)
                continue
            return self._ended(id)

    def _ended(self, id: str, *, starved: bool = False) -> None:
        before = self._seen.get(id)
        if before is None:
            return
        machine = self._settled(id) or replace(before, running=False, exit_code=KILLED)
        if starved and machine.exit_code == KILLED:
            machine = replace(machine, out_of_memory=True)
        with self._lock:
            if id not in self._seen:
                return
            self._seen[id] = machine
        self._tell(machine)

    def _settled(self, id: str) -> Machine | None:
        until = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(APIError, RequestException):
                if not (machine := _machine(self._inspect(id))).running:
                    return machine
            time.sleep(0.05)
        return None


def _machine(found: Mapping[str, Any]) -> Machine:
    state = found["State"]
    running = state["Status"] == "running"
    networks = found["NetworkSettings"].get("Networks") or {}
    addresses = [network["IPAddress"] for network in networks.values() if network.get("IPAddress")]
    return Machine(
        id=found["Id"],
        labels=found["Config"].get("Labels") or {},
        running=running,
        address=addresses[0] if addresses else None,
        exit_code=None if running else state["ExitCode"],
        out_of_memory=bool(state.get("OOMKilled")),
    )


def _is_ours(id: str, pid: int) -> bool:
    """Whether that pid is this container's on this machine's own process table (not so behind a virtual machine)."""
    try:
        return id in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What the engine refuses, in its own words; that there is no such container is for the caller."""
    try:
        yield
    except NotFound:
        raise
    except (APIError, RequestException) as refusal:
        raise EngineRefused(str(getattr(refusal, "explanation", None) or refusal)) from refusal
