"""A control plane and a store of checkpoints for one agent: HTTP over TCP, TLS or a Unix socket, as the protocol has it."""

import hashlib
import http.server
import json
import socketserver
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

BOOT_TOKEN = "boot-token"
AGENT_TOKEN = "agent-token"


@dataclass
class Plan:
    """What the control plane is to answer, and what can go wrong with it."""

    env: dict[str, str] = field(default_factory=lambda: {"GREETING": "hello"})
    work_dir: str | None = None
    restore: dict[str, Any] | None = None
    boot_statuses: list[int] = field(default_factory=list)
    put_statuses: list[int] = field(default_factory=list)
    wrong_etags: int = 0
    break_downloads_at: list[int] = field(default_factory=list)


class ControlPlane:
    """Serves until closed. What the agent said is in `boots`, `hellos` and `saved`; what it stored in `store`."""

    def __init__(
        self, plan: Plan | None = None, *, socket: Path | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.plan = plan or Plan()
        self.boots: list[dict[str, Any]] = []
        self.tokens: list[str] = []
        self.hellos: Queue[dict[str, Any]] = Queue()
        self.saved: Queue[dict[str, Any]] = Queue()
        self.store: dict[str, bytes] = {}
        server: Any = _LocalServer(str(socket), _Call) if socket else _Server(("127.0.0.1", 0), _Call)
        self._server = server
        self._server.control = self
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "https" if tls else "http"
        self.url = f"unix:{socket}" if socket else f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        # Behind a Unix socket the store has a name of its own, and no other way leads to it.
        self.store_url = "http://store.internal:9000/store" if socket else f"{self.url}/store"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> "ControlPlane":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def part_urls(self, checkpoint: str, first: int, count: int) -> list[str]:
        return [f"{self.store_url}/{checkpoint}/{number}" for number in range(first, first + count)]

    def checkpoint(self, saved: dict[str, Any]) -> dict[str, Any]:
        """The stored parts as one object, and how an agent is told to restore it."""
        parts = [self.store[f"{saved['checkpoint']}/{part['number']}"] for part in saved["parts"]]
        self.store[f"{saved['checkpoint']}/whole"] = whole = b"".join(parts)
        url = f"{self.store_url}/{saved['checkpoint']}/whole"
        return {"url": url, "size": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that the test broke is no news."""


class _LocalServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class _Call(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "agent"

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""

    @property
    def _control(self) -> ControlPlane:
        return self.server.control  # type: ignore[attr-defined, no-any-return]

    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        token = self.headers["Authorization"].removeprefix("Bearer ")
        if token not in ((BOOT_TOKEN, AGENT_TOKEN) if self.path == "/agent/boot" else (AGENT_TOKEN,)):
            return self._answer(401, {"error": "unauthorized", "message": "Wrong token."})
        return self._answer(*getattr(self, "_" + self.path.removeprefix("/agent/"))(said))

    def _boot(self, said: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        control, plan = self._control, self._control.plan
        control.boots.append(said)
        control.tokens.append(self.headers["Authorization"].removeprefix("Bearer "))
        if plan.boot_statuses and (status := plan.boot_statuses.pop(0)) != 200:
            return status, {"error": "refused", "message": f"Status {status}."}
        answer: dict[str, Any] = {"env": plan.env, "work_dir": plan.work_dir, "restore": plan.restore, "volumes": []}
        return 200, {**answer, "agent_token": AGENT_TOKEN, "user": None, "home": "/home/daytona"}

    def _hello(self, said: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self._control.hellos.put(said)
        return 200, {}

    def _parts(self, said: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return 200, {"part_urls": self._control.part_urls(said["checkpoint"], said["from"], said["count"])}

    def _saved(self, said: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self._control.saved.put(said)
        return 200, {}

    def do_PUT(self) -> None:
        plan = self._control.plan
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if plan.put_statuses and (status := plan.put_statuses.pop(0)) != 200:
            return self._answer(status, {})
        self._control.store[self.path.removeprefix("/store/")] = body
        etag = hashlib.md5(body).hexdigest()
        if plan.wrong_etags:
            plan.wrong_etags -= 1
            etag = hashlib.md5(body + b"x").hexdigest()
        return self._answer(200, {}, {"ETag": f'"{etag}"'})

    def do_GET(self) -> None:
        whole = self._control.store[self.path.removeprefix("/store/")]
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(whole) - begin))
        self.end_headers()
        breaks = self._control.plan.break_downloads_at
        end = breaks.pop(0) if breaks else len(whole)
        with suppress(OSError):
            self.wfile.write(whole[begin:end])
        self.close_connection = True

    def _answer(self, status: int, document: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
