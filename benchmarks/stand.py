"""The installation that is measured: the one that SANDBAR_URL and SANDBAR_API_KEY name, or one of our own."""

import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
READY_WITHIN = 300.0


@dataclass(frozen=True)
class Stand:
    """Where it is and the key to it."""

    url: str
    key: str

    def client(self) -> "Client":
        """A new connection to it."""
        return Client(self)

    @contextmanager
    def sandbox(self, **wish: Any) -> Iterator[str]:
        """A sandbox that is started, until this ends; its id."""
        client = self.client()
        id = client.ask("POST", "/sandbox", wish)["id"]
        try:
            client.await_state(id, "started")
            yield id
        finally:
            self.client().ask("DELETE", f"/sandbox/{id}")  # the other connection has been idle all the while


class Client:
    """One kept connection that speaks Daytona's API, as bare as a client can be."""

    def __init__(self, stand: Stand) -> None:
        self.host = stand.url.removeprefix("http://")
        self.headers = {"Authorization": f"Bearer {stand.key}", "Content-Type": "application/json"}
        self._link = http.client.HTTPConnection(self.host, timeout=300)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of the answer; RuntimeError with what it says where it is a refusal."""
        raw = self.raw(method, path, None if body is None else json.dumps(body).encode())
        return json.loads(raw) if raw.strip() else None

    def raw(self, method: str, path: str, body: Any = None, **headers: str) -> bytes:
        """The bytes of the answer."""
        self._link.request(method, "/daytona" + path, body, {**self.headers, **headers})
        reply = self._link.getresponse()
        return _fine(reply)

    def post(self, path: str, parts: list[bytes | Path], size: int, kind: str) -> None:
        """Send a body made of bytes and of files, those by sendfile."""
        self._link.putrequest("POST", "/daytona" + path)
        for name, value in {**self.headers, "Content-Type": kind, "Content-Length": str(size)}.items():
            self._link.putheader(name, value)
        self._link.endheaders()
        with self._link.sock.makefile("wb", buffering=65536) as wire:
            for part in parts:
                if isinstance(part, bytes):
                    wire.write(part)
                elif part.stat().st_size < 65536:
                    wire.write(part.read_bytes())
                else:
                    wire.flush()
                    with part.open("rb") as file:
                        self._link.sock.sendfile(file)
        _fine(self._link.getresponse())

    def drop(self, method: str, path: str, body: bytes | None = None) -> int:
        """Ask, and drop what is answered; how many bytes that were."""
        self._link.request(method, "/daytona" + path, body, self.headers)
        reply, buffer, size = self._link.getresponse(), bytearray(1024 * 1024), 0
        while count := reply.readinto(buffer):
            size += count
        _fine(reply)
        return size

    def exec(self, id: str, command: str) -> str:
        """What a command of the sandbox writes."""
        done = self.ask("POST", f"/toolbox/{id}/toolbox/process/execute", {"command": command})
        if done["exitCode"]:
            raise RuntimeError(f"{command[:80]}: {done}")
        return str(done["result"])

    def await_state(self, id: str, state: str) -> None:
        """Wait until it is in this state; RuntimeError where it fails instead."""
        while (now := self.ask("GET", f"/sandbox/{id}"))["state"] != state:
            if now["state"] in ("error", "build_failed"):
                raise RuntimeError(f"sandbox {id} failed: {now.get('errorReason')}")
            time.sleep(0.01)


def _fine(reply: http.client.HTTPResponse) -> bytes:
    raw = reply.read()
    if reply.status >= 300:
        raise RuntimeError(f"{reply.status}: {raw[:500]!r}")
    return raw


@contextmanager
def standing() -> Iterator[Stand]:
    """The installation to be measured; one of our own ends with this."""
    if url := os.environ.get("SANDBAR_URL"):
        yield Stand(url.rstrip("/"), os.environ["SANDBAR_API_KEY"])
        return
    folder, key, port = Path(tempfile.mkdtemp(prefix="sandbar-bench-")), secrets.token_hex(16), free_port()
    told = {**os.environ, "SANDBAR_DATA": str(folder), "SANDBAR_PORT": str(port), "SANDBAR_API_KEY": key}
    process = subprocess.Popen([sys.executable, "-m", "local"], cwd=ROOT, env=told, stdout=sys.stderr)
    try:
        stand = Stand(f"http://127.0.0.1:{port}", key)
        _await(stand, process)
        yield stand
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def _await(stand: Stand, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + READY_WITHIN
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the installation ended with {process.returncode}")
        try:
            stand.client().ask("GET", "/sandbox")
            return
        except (OSError, RuntimeError):
            time.sleep(0.2)
    raise RuntimeError(f"the installation was not ready within {READY_WITHIN:g} s")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
