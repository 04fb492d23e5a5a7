"""`make run` as a person meets it: what it says, what it refuses, what it leaves, and what it brings back."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local import home as homes
from local.home import Home

ROOT = Path(__file__).parents[2]
KEY = "sb_the_tests_own_key"
BOOT_SECONDS = 600
END_SECONDS = 30
# One after another: each is a whole stack.
pytestmark = pytest.mark.xdist_group("run")

PARTS = ("dynoxide", "door", "podman", "cloud", "edge")


@dataclass
class Run:
    """One data folder and the port that it is served on, run as often as a test likes."""

    data: Path
    port: int
    key: str | None = KEY
    process: "subprocess.Popen[str] | None" = field(default=None, init=False)

    @property
    def home(self) -> Home:
        return homes.at(self.data)

    def begin(self, **more: str) -> "subprocess.Popen[str]":
        told = {"SANDBAR_DATA": str(self.data), "SANDBAR_PORT": str(self.port), "SANDBAR_WARM": "0", **more}
        told |= {"SANDBAR_API_KEY": self.key} if self.key else {}
        inherited = {name: value for name, value in os.environ.items() if name != "SANDBAR_API_KEY"}
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-B", "-m", "local"],
                cwd=ROOT,
                env={**inherited, **told},
                stdout=log,
                stderr=log,
                text=True,
            )

    @property
    def log(self) -> Path:
        return self.data.with_suffix(".log")

    def start(self, **more: str) -> str:
        """Start it and return what it had said once it was ready."""
        self.process = self.begin(**more)
        _await(lambda: "Sandbar is ready" in self.log.read_text() or self.process.poll() is not None, BOOT_SECONDS)
        said = self.log.read_text()
        assert "Sandbar is ready" in said, said
        return said

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        assert self.process
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(END_SECONDS)

    def refused(self, **more: str) -> str:
        """What it says as it ends by itself, which it does with an exit code that is not zero."""
        process = self.begin(**more)
        assert process.wait(60) != 0
        return self.log.read_text()

    def ask(self, method: str, path: str, body: Any = None, key: str = KEY) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        try:
            connection.request(method, f"/daytona{path}", json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, json.loads(content) if content else None
        finally:
            connection.close()

    def create(self) -> str:
        status, sandbox = self.ask("POST", "/sandbox", {})
        assert status == 200, sandbox
        return self.settled(sandbox["id"], "started")

    def settled(self, id: str, state: str) -> str:
        """Its id, once it is in that state."""
        _await(lambda: self.ask("GET", f"/sandbox/{id}")[1]["state"] in (state, "error"), 60)
        found = self.ask("GET", f"/sandbox/{id}")[1]
        assert found["state"] == state, found
        return id

    def execute(self, id: str, command: str) -> str:
        status, done = self.ask("POST", f"/toolbox/{id}/toolbox/process/execute", {"command": command})
        assert status == 200, done
        return str(done["result"]).strip()

    def processes(self) -> dict[int, str]:
        """All that belong to this data folder, sandboxes and their monitors among them."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                told = line + (folder / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if re.search(rf"{re.escape(str(self.data))}\b|/run/sandbar/{self.home.tag}\b", told):
                found[int(folder.name)] = line
        return found

    def sandboxes(self) -> list[int]:
        """The first process of each machine, which is its monitor's child."""
        monitors = [pid for pid, line in self.processes().items() if "conmon" in line]
        return [pid for monitor in monitors for pid in _children(monitor)]

    def mounts(self) -> list[str]:
        return [line for line in Path("/proc/mounts").read_text().splitlines() if str(self.data) in line]


@pytest.fixture(name="run")
def a_run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path / "data", _free_port())
    yield run
    _end(run)


@pytest.fixture(name="running", scope="module")
def a_run_that_is_only_looked_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run = Run(tmp_path_factory.mktemp("run") / "data", _free_port())
    run.start()
    yield run
    _end(run)


def test_it_ends_by_saying_where_it_is_and_how_to_try_it(running: Run) -> None:
    said = running.log.read_text().partition("Sandbar is ready")[2].splitlines()

    assert f"  http://127.0.0.1:{running.port}/daytona" in said
    assert any(
        f"DAYTONA_API_URL=http://127.0.0.1:{running.port}/daytona DAYTONA_API_KEY={KEY}" in line for line in said
    )


def test_it_listens_on_loopback_alone(running: Run) -> None:
    outside = [pid for pid in running.processes() if pid not in running.sandboxes()]

    listening = {address for pid in outside for address in _listening(pid)}

    assert listening
    assert {address for address in listening if not address.startswith("127.")} == set()


def test_only_the_administrator_s_key_opens_it(running: Run) -> None:
    assert running.ask("GET", "/sandbox")[0] == 200
    assert running.ask("GET", "/sandbox", key="sb_another_key")[0] == 401


def test_a_second_run_on_the_same_data_is_refused_in_one_line(running: Run) -> None:
    another = Run(running.data, _free_port())
    kept = running.log.read_text()

    said = another.refused()
    running.log.write_text(kept)

    assert len(said.splitlines()) == 1
    assert "is in use by process" in said
    assert running.ask("GET", "/sandbox")[0] == 200


def test_a_port_in_use_is_refused_in_one_line(run: Run) -> None:
    with socket.create_server(("127.0.0.1", run.port)):
        said = run.refused()

    assert said == f"sandbar: port {run.port} is in use; stop what listens there, or set SANDBAR_PORT to another\n"


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"SANDBAR_ENGINE": "vmware"}, "SANDBAR_ENGINE=vmware is unknown; use one of auto, docker, podman, process"),
        ({"SANDBAR_ENGINE": "docker", "DOCKER_HOST": "unix:///nowhere"}, "no Docker answers at unix:///nowhere"),
        ({"SANDBAR_PORT": "eighty"}, "SANDBAR_PORT=eighty is no port"),
        ({"SANDBAR_API_KEY": "short"}, "at least 8 printable characters"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(run: Run, setting: dict[str, str], complaint: str) -> None:
    run.key = None

    said = run.refused(**setting)

    assert complaint in said.splitlines()[-1]
    assert "Traceback" not in said


def test_a_key_is_made_where_none_is_given_and_shown_once(run: Run) -> None:
    run.key = None
    made = re.search(r"shown this once: (\S+)", run.start())
    assert made
    run.interrupt()

    again = run.start()

    assert made[1] not in again
    assert run.ask("GET", "/sandbox", key=made[1])[0] == 200
    assert all(made[1] not in path.read_text(errors="replace") for path in run.data.glob("*") if path.is_file())


def test_ctrl_c_leaves_nothing_and_loses_nothing(run: Run) -> None:
    run.start()
    lives, sleeps = run.create(), run.create()
    run.execute(lives, "echo kept > kept")
    run.execute(sleeps, "echo saved > saved")
    assert run.ask("POST", f"/sandbox/{sleeps}/stop")[0] == 200
    run.settled(sleeps, "stopped")

    assert run.interrupt() == 0

    assert run.processes() == {}
    assert run.mounts() == []
    assert not run.home.run.exists()
    run.start()
    run.settled(sleeps, "stopped")
    assert run.execute(run.settled(lives, "started"), "cat kept") == "kept"
    assert run.ask("POST", f"/sandbox/{sleeps}/start")[0] == 200
    assert run.execute(run.settled(sleeps, "started"), "cat saved") == "saved"


def test_a_part_that_is_killed_comes_back(run: Run) -> None:
    run.start()
    id = run.create()
    run.execute(id, "echo kept > kept")

    for part in PARTS:
        _kill(run, part)
        _await(lambda part=part: f"{part} ended and is started again" in run.log.read_text(), 30)

    _await(lambda: _answers(run, id), 60)
    assert run.execute(id, "cat kept") == "kept"
    assert run.execute(run.create(), "echo fresh") == "fresh"


def test_whatever_is_killed_nothing_is_lost(run: Run) -> None:
    run.start()
    id = run.create()
    run.execute(id, "echo kept > kept")
    victims = [*run.processes(), *run.sandboxes()]

    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    assert run.process
    run.process.wait()

    run.start()
    assert run.execute(run.settled(id, "started"), "cat kept") == "kept"
    run.ask("DELETE", f"/sandbox/{id}")
    _await(lambda: run.ask("GET", f"/sandbox/{id}")[0] == 404, 60)
    assert run.interrupt() == 0
    assert run.processes() == {}
    assert run.mounts() == []


def test_a_launcher_that_is_killed_takes_its_parts_with_it(run: Run) -> None:
    run.start()
    assert run.process

    run.process.kill()
    run.process.wait()

    _await(lambda: run.processes() == {}, 10)


def _kill(run: Run, part: str) -> None:
    patterns = {"dynoxide": "bin/dynoxide", "podman": "system service", "edge": "-m edge"}
    wanted = patterns.get(part, f"-m local.{part}")
    for pid in [pid for pid, line in run.processes().items() if wanted in line]:
        os.kill(pid, signal.SIGKILL)


def _answers(run: Run, id: str) -> bool:
    try:
        return run.ask("POST", f"/toolbox/{id}/toolbox/process/execute", {"command": "true"})[0] == 200
    except OSError:
        return False


def _listening(pid: int) -> set[str]:
    """The addresses that this process listens on for TCP."""
    sockets = set()
    for handle in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            sockets.add(os.readlink(handle))
        except OSError:
            continue
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                raw = bytes.fromhex(fields[1].partition(":")[0])
                words = [raw[at : at + 4][::-1] for at in range(0, len(raw), 4)]
                found.add(socket.inet_ntop(family, b"".join(words)))
    return found


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


def _await(done: Any, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(run: Run) -> None:
    if run.process and run.process.poll() is None:
        run.interrupt()
    elif run.process and run.processes():
        # Ended so that its machines live on: only another run knows how to end them.
        run.start()
        run.interrupt()
    shutil.rmtree(run.data, ignore_errors=True)
