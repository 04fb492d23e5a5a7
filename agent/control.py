"""Speaking to the control plane and to the store of checkpoints: HTTP over TLS, TCP or a Unix socket. Blocking."""

import http.client
import json
import logging
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 30.0
PATIENCE = 120.0

log = logging.getLogger(__name__)

# What a lost or confused connection looks like; all of it is worth another try.
LOST = (OSError, http.client.HTTPException)


class Unreachable(Exception):
    """The other side did not answer, or only with 5xx, for as long as we are willing to try."""


@dataclass(frozen=True)
class Control:
    """The control plane at `base`, which may be `unix:/path`. `patience` bounds the retries, in seconds."""

    base: str
    patience: float = PATIENCE

    def post(self, path: str, token: str, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and answer of a POST. Retries lost connections, 429 and 5xx; then raises `Unreachable`."""
        deadline, pause, problem = time.monotonic() + self.patience, 0.1, ""
        while True:
            try:
                status, answer = self._once(path, token, document)
                if status < 500 and status != 429:
                    return status, answer
                problem = f"status {status}"
            except LOST as error:
                problem = str(error) or type(error).__name__
            if time.monotonic() + pause > deadline:
                raise Unreachable(f"{self.base}{path}: {problem}")
            log.warning("control plane does not answer: %s", problem)
            time.sleep(pause)
            pause = min(pause * 2, 10.0)

    def _once(self, path: str, token: str, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        link, prefix = connection(self.base)
        try:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            link.request("POST", prefix.rstrip("/") + path, json.dumps(document).encode(), headers)
            reply = link.getresponse()
            raw = reply.read(16 * 1024 * 1024)
        finally:
            link.close()
        try:
            answer = json.loads(raw) if raw.strip() else {}
        except ValueError:
            answer = {}
        return reply.status, answer if isinstance(answer, dict) else {}


def connection(url: str, *, control: str = "") -> tuple[http.client.HTTPConnection, str]:
    """An unopened connection to the URL's host, and the path with query to ask there.

    A machine whose control plane is a Unix socket has no other way out: whatever is asked goes through that socket, under
    the name of the URL's own host, which presigned addresses are signed with.
    """
    if url.startswith("unix:"):
        return _Local(url.removeprefix("unix:")), ""
    parts = urlsplit(url)
    if control.startswith("unix:") and parts.scheme == "http":
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return _Local(control.removeprefix("unix:"), parts.netloc), target
    if parts.hostname is None or parts.scheme not in ("http", "https"):
        raise ValueError(f"{url[:100]!a} is not an http, https or unix address")
    target = (parts.path or "") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT), target
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT, context=_trust()), target


def _trust() -> ssl.SSLContext:
    """The image's certificate authorities, or those that SSL_CERT_FILE names, and the ones that we bring."""
    context = ssl.create_default_context()
    import certifi  # only https needs it

    context.load_verify_locations(certifi.where())
    return context


class _Local(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, host: str = "localhost") -> None:
        super().__init__(host, timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)
