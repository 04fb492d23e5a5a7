"""Which engine is chosen, and what is said where the one that was asked for is not to be had."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local import engines, podman, steps
from local import home as homes
from local.errors import SetupError
from local.home import Home

Answering = Callable[[dict[str, object]], None]


@pytest.fixture(name="home")
def a_home(tmp_path: Path) -> Home:
    return homes.at(tmp_path / "data")


@pytest.fixture(name="docker")
def a_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    """Says what Docker it is, once it is told; until then nobody answers."""
    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    with socket.socket(socket.AF_UNIX) as listener:

        def answer(info: dict[str, object]) -> None:
            listener.bind(str(path))
            listener.listen()
            threading.Thread(target=_serve_once, args=(listener, info), daemon=True).start()

        yield answer


def test_docker_is_first(home: Home, docker: Answering) -> None:
    docker({"OperatingSystem": "Debian", "SecurityOptions": []})

    choice = engines.choose(home, "auto")

    assert (choice.kind, choice.url) == ("docker", os.environ["DOCKER_HOST"])


@pytest.mark.parametrize(
    ("info", "complaint"),
    [
        ({"OperatingSystem": "Docker Desktop"}, "virtual machine"),
        ({"SecurityOptions": ["name=rootless"]}, "runs without root"),
    ],
)
def test_a_docker_whose_containers_cannot_be_reached_is_no_docker(
    home: Home, docker: Answering, info: dict[str, object], complaint: str
) -> None:
    docker(info)

    with pytest.raises(SetupError, match=complaint):
        engines.choose(home, "docker")


def test_podman_is_second(home: Home, docker: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podman, "missing", list)

    assert engines.choose(home, "auto").kind == "podman"


def test_where_neither_is_to_be_had_it_is_processes_and_said_why(
    home: Home, docker: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(podman, "missing", lambda: ["podman"])

    choice = engines.choose(home, "auto")

    assert choice.kind == "process"
    assert "podman is missing; install it with: apt-get install podman" in steps.no_containers(choice)


def test_podman_without_root_is_refused_with_what_to_do(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(SetupError, match="use sudo make run, or Docker"):
        engines.choose(home, "podman")


def test_another_machine_s_docker_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")

    with pytest.raises(SetupError, match="is another machine"):
        engines.choose(home, "docker")


def test_an_engine_that_nobody_knows_is_refused_with_those_there_are(home: Home) -> None:
    with pytest.raises(SetupError, match="use one of auto, docker, podman, process"):
        engines.choose(home, "vmware")


def _serve_once(listener: socket.socket, info: dict[str, object]) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        body = json.dumps(info).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
