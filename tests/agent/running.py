"""A real agent as a process of its own, and a client that speaks to it."""

import http.client
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from websockets.sync.client import ClientConnection, connect

from tests.agent.control_plane import AGENT_TOKEN, BOOT_TOKEN, ControlPlane

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Agent:
    """Started at once; `hello` waits until it listens."""

    def __init__(self, control: ControlPlane, root: Path, **environment: str) -> None:
        self.control, self.root = control, root
        self.home = root / "home/daytona"
        given = {"SANDBAR_SANDBOX": "sb-1", "SANDBAR_CONTROL": control.url, "SANDBAR_BOOT": BOOT_TOKEN}
        given |= {"SANDBAR_TASK_TOKEN": "task-token", "SANDBAR_AGENT_PORT": "0", "SANDBAR_AGENT_HOST": "127.0.0.1"}
        env = {**os.environ, **given, "SANDBAR_ROOT": str(root), **environment}
        self.log = root.with_name(root.name + ".log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "agent"], cwd=REPOSITORY, env=env, stderr=log)
        self.port = 0
        self._clients: list[Client] = []

    def hello(self) -> dict[str, Any]:
        said = self.control.hellos.get(timeout=20)
        self.port = said["port"]
        return said

    def ended(self) -> tuple[int, str]:
        """The exit code and the log of an agent that ends by itself or was told to."""
        for client in self._clients:
            client.close()
        return self.process.wait(timeout=20), self.log.read_text()

    def stop(self) -> tuple[int, str]:
        self.process.terminate()
        return self.ended()

    def client(self, token: str | None = AGENT_TOKEN) -> "Client":
        self._clients.append(Client(self.port, token))
        return self._clients[-1]


class Client:
    """One kept connection to an agent."""

    def __init__(self, port: int, token: str | None) -> None:
        self.port = port
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(
        self, method: str, target: str, body: Any = None, /, headers: dict[str, str] | None = None, **query: Any
    ) -> Answer:
        """Send a request: a dict or list as JSON, bytes and files as they are, `query` encoded."""
        raw = json.dumps(body).encode() if isinstance(body, dict | list) else body
        pairs = [
            f"{name}={quote(value if isinstance(value, bytes) else str(value), safe='')}"
            for name, value in query.items()
        ]
        target += "?" + "&".join(pairs) if pairs else ""
        self.link.request(method, target, raw, {**self.headers, **(headers or {})})
        reply = self.link.getresponse()
        return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())

    def get(self, target: str, /, **query: Any) -> Answer:
        return self.ask("GET", target, **query)

    def post(self, target: str, body: Any = None, /, **query: Any) -> Answer:
        return self.ask("POST", target, body, **query)

    def delete(self, target: str, body: Any = None, /, **query: Any) -> Answer:
        return self.ask("DELETE", target, body, **query)

    def exec(self, command: str | list[str], **options: Any) -> Answer:
        return self.post("/exec", {"command": command, **options})

    def socket(self, path: str) -> ClientConnection:
        return connect(
            f"ws://127.0.0.1:{self.port}{path}",
            additional_headers=self.headers,
            compression=None,
            max_size=None,
            open_timeout=20,
        )

    def close(self) -> None:
        self.link.close()
