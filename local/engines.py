"""Which engine runs the sandboxes here: the one asked for, else Docker, else Podman, else plain processes."""

import contextlib
import http.client
import json
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import podman
from local.errors import SetupError
from local.home import Home
from local.image_stores import PodmanStore
from local.images import default_cache

KINDS = ("auto", "docker", "podman", "process")
DOCKER_SOCKET = "unix:///var/run/docker.sock"
ASK_SECONDS = 5


@dataclass(frozen=True)
class EngineChoice:
    """Which engine, where it listens, where the storage lies that holds its images, and what spoke against a better."""

    kind: str
    url: str = ""
    image_stores: tuple[Path, ...] = ()
    obstacle: str = ""


def choose(home: Home, wanted: str) -> EngineChoice:
    """The engine for that word of `SANDBAR_ENGINE`; `SetupError` where it is not to be had."""
    if wanted not in KINDS:
        raise SetupError(f"SANDBAR_ENGINE={wanted} is unknown; use one of {', '.join(KINDS)}")
    asked = ("docker", "podman", "process") if wanted == "auto" else (wanted,)
    before = ""
    for kind in asked:
        obstacle = OBSTACLES[kind]()
        if not obstacle:
            return _choice(home, kind, before)
        before = obstacle
    raise SetupError(f"SANDBAR_ENGINE={wanted} cannot be used: {before}")


def _choice(home: Home, kind: str, obstacle: str) -> EngineChoice:
    urls = {"docker": _docker_url(), "podman": podman.url(home), "process": ""}
    stores = (PodmanStore(default_cache()).folder,) if kind == "podman" else ()
    return EngineChoice(kind, urls[kind], stores, obstacle)


def _docker_obstacle() -> str:
    url = _docker_url()
    if not url.startswith("unix://"):
        return f"DOCKER_HOST={url} is another machine; unset it, or use SANDBAR_ENGINE=podman"
    info = _ask(url.removeprefix("unix://"), "/info")
    if info is None:
        return f"no Docker answers at {url}; start it, or use SANDBAR_ENGINE=podman"
    if "Podman" in json.dumps(info.get("Name", "")) or "rootless" in json.dumps(info.get("SecurityOptions", "")):
        return (
            "this Docker runs without root, and its containers' addresses cannot be reached; use SANDBAR_ENGINE=podman"
        )
    if "Desktop" in info.get("OperatingSystem", ""):
        return "Docker Desktop keeps its containers in a virtual machine; use SANDBAR_ENGINE=podman"
    return ""


def _podman_obstacle() -> str:
    if os.geteuid() != 0:
        return "Podman gives its containers addresses that can be reached for root alone; use sudo make run, or Docker"
    lacking = podman.missing()
    return (
        f"{' and '.join(lacking)} is missing; install it with: apt-get install {' '.join(lacking)}" if lacking else ""
    )


def _no_obstacle() -> str:
    return ""


OBSTACLES: Mapping[str, Callable[[], str]] = {
    "docker": _docker_obstacle,
    "podman": _podman_obstacle,
    "process": _no_obstacle,
}
"""Why an engine cannot be used here and what to do about it; nothing where it can."""


def _docker_url() -> str:
    return os.environ.get("DOCKER_HOST") or DOCKER_SOCKET


def _ask(path: str, call: str) -> Mapping[str, Any] | None:
    """What Docker's API answers on that socket; None where nobody does."""
    connection = http.client.HTTPConnection("docker", timeout=ASK_SECONDS)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(ASK_SECONDS)
    with contextlib.closing(connection):
        try:
            connection.sock.connect(path)
            connection.request("GET", call)
            answer = connection.getresponse()
            return dict(json.loads(answer.read())) if answer.status == 200 else None
        except (OSError, ValueError):
            return None
