"""The calls about the machine itself: health, size, environment, and being claimed."""

import os
import time
from dataclasses import replace
from typing import Any

from agent import VERSION, identity, shapes
from agent.boot import person_for
from agent.errors import Refusal
from agent.machine import Machine
from agent.web import Reply, Request, answer

CLAIM: dict[str, tuple[shapes.Read, Any]] = {
    "sandbox": (shapes.identifier, shapes.REQUIRED),
    "agent_token": (shapes.word, shapes.REQUIRED),
    "env": (shapes.variables, {}),
    "user": (shapes.word, None),
}


async def health(machine: Machine, request: Request) -> Reply:
    return answer({"status": "ok", "version": VERSION, "uptime_seconds": round(time.monotonic() - machine.started, 3)})


async def show(machine: Machine, request: Request) -> Reply:
    return answer(describe(machine))


async def environment(machine: Machine, request: Request) -> Reply:
    return answer(machine.environment())


async def change_environment(machine: Machine, request: Request) -> Reply:
    asked = await request.json({"set": (shapes.variables, {}), "unset": (shapes.list_of(shapes.word), [])})
    machine.change(asked.set, asked.unset)
    return answer(machine.environment())


async def claim(machine: Machine, request: Request) -> Reply:
    """A machine that was nobody's becomes this sandbox, once. From then on only the new token is good."""
    asked = await request.json(CLAIM)
    if machine.claimed:
        raise Refusal("conflict", f"This machine is sandbox {machine.settings.sandbox} and can be no other.")
    machine.person = person_for(machine.settings, asked.user, None)
    machine.work_dir = machine.made_folder(machine.person.home)
    machine.settings = replace(machine.settings, sandbox=asked.sandbox)
    machine.variables, machine.token, machine.claimed = asked.env, asked.agent_token, True
    identity.keep(machine.root, identity.Identity(asked.sandbox, asked.agent_token, machine.born_ns))
    return answer({})


def describe(machine: Machine) -> dict[str, Any]:
    """The answer of `GET /info`."""
    disk = os.statvfs(machine.root)
    memory = _memory()
    return {
        "user": machine.person.name,
        "uid": machine.person.uid,
        "home": machine.person.home,
        "work_dir": machine.work_dir,
        "cpu_count": _processors(),
        "memory_total_bytes": memory[0],
        "memory_available_bytes": memory[1],
        "disk_total_bytes": disk.f_blocks * disk.f_frsize,
        "disk_free_bytes": disk.f_bavail * disk.f_frsize,
        "load": list(os.getloadavg()),
        "processes": sum(name.isdigit() for name in os.listdir("/proc")),
    }


def _memory() -> tuple[int, int]:
    """Total and available bytes: the control group's where it limits, else the machine's."""
    with open("/proc/meminfo") as lines:
        values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    total, available = values["MemTotal"], values.get("MemAvailable", values["MemFree"])
    limit = _number("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
    used = _number("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")
    if limit is not None and limit < total:
        return limit, max(0, min(available, limit - (used or 0)))
    return total, available


def _processors() -> float:
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        return os.cpu_count() or 1 if quota == "max" else round(int(quota) / int(period), 2)
    except (OSError, ValueError):
        return len(os.sched_getaffinity(0))


def _number(*paths: str) -> int | None:
    for path in paths:
        try:
            with open(path) as file:
                return int(file.read())
        except (OSError, ValueError):
            continue
    return None
