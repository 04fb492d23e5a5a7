"""The door: the one way from a sandbox to the control plane, a Unix socket, and the object store behind it.

`python -m local.door`. On the socket, `/agent/...` goes to the control plane's API, and everything else is an object to be
fetched or stored through a presigned URL. The Lambdas and the edge reach the same store on loopback.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from nanio.app import build_app
from nanio.auth.credentials import StaticCredentialResolver
from nanio.config import Settings
from starlette.types import ASGIApp, Receive, Scope, Send
from yarl import URL

from local import home as homes
from local import stage
from local.home import Home

AGENT = "/agent/"
# What belongs to one connection, not to the message (RFC 9110, 7.6.1), and what the next hop says for itself.
HOP = {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"host"}
BODY_LIMIT = 10 * 1024 * 1024
TIMEOUT = aiohttp.ClientTimeout(total=35, connect=5)


class Door:
    """The application on the socket."""

    def __init__(self, home: Home, objects: ASGIApp) -> None:
        self._home = home
        self._objects = objects
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._objects(scope, receive, send)
        if scope["path"].startswith(AGENT):
            return await self._pass_on(scope, receive, send)
        return await self._objects(scope, receive, send)

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask the control plane, and answer 503 while it is not there: the agent tries again."""
        body = await _body(receive)
        if body is None:
            return await _answer(send, 413, b'{"error":"too_large","message":"At most 10 MiB may be sent here."}')
        api = stage.url(self._home)
        if not api:
            return await _answer(send, 503, b'{"error":"starting","message":"The control plane is starting."}')
        headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"] if name not in HOP
        ]
        self._session = self._session or aiohttp.ClientSession(timeout=TIMEOUT, auto_decompress=False)
        url = URL(api + _target(scope), encoded=True)
        try:
            async with self._session.request(
                scope["method"], url, data=body, headers=headers, allow_redirects=False
            ) as found:
                return await _answer(send, found.status, await found.read(), found.content_type)
        except (aiohttp.ClientError, TimeoutError):
            return await _answer(send, 503, b'{"error":"starting","message":"The control plane does not answer."}')


def object_store(home: Home, keys: Mapping[str, str]) -> ASGIApp:
    """The store of this home, to whoever signs with one of these keys."""
    resolver = StaticCredentialResolver(dict(keys))
    store: ASGIApp = build_app(Settings(data_dir=home.objects, access_log=False, credentials=resolver))
    return store


def main() -> None:
    """Serve until SIGTERM."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    home = homes.at(Path(os.environ["SANDBAR_DATA"]))
    sweep(home)
    asyncio.run(_serve(home, int(os.environ["SANDBAR_OBJECTS_PORT"])))


def sweep(home: Home) -> None:
    """Remove what a write left that never ended: such a file would refuse every later write of its object."""
    for pattern in ("**/.tmp.*", "**/*.json.tmp"):
        for left in home.objects.glob(pattern):
            left.unlink(missing_ok=True)


async def _serve(home: Home, port: int) -> None:
    objects = object_store(home, {os.environ["AWS_ACCESS_KEY_ID"]: os.environ["AWS_SECRET_ACCESS_KEY"]})
    door = Door(home, objects)
    home.control_socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(home.control_socket))
    home.control_socket.chmod(0o600)
    servers = [
        _Server(uvicorn.Config(door, lifespan="off", **QUIET)),
        _Server(uvicorn.Config(objects, host="127.0.0.1", port=port, lifespan="off", **QUIET)),
    ]

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await asyncio.gather(servers[0].serve([listener]), servers[1].serve())
    finally:
        await door.close()
        home.control_socket.unlink(missing_ok=True)


QUIET: dict[str, Any] = {
    "log_config": None,
    "access_log": False,
    "timeout_graceful_shutdown": 1,
    "timeout_keep_alive": 75,
}


class _Server(uvicorn.Server):
    """Two servers in one loop: neither may take the signals for itself."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


async def _body(receive: Receive) -> bytes | None:
    """The whole body, or None where it is too large."""
    body = bytearray()
    async for chunk in _chunks(receive):
        body += chunk
        if len(body) > BODY_LIMIT:
            return None
    return bytes(body)


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        more = message["type"] == "http.request" and message.get("more_body", False)
        yield message.get("body", b"")


async def _answer(send: Send, status: int, body: bytes, content_type: str = "application/json") -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _target(scope: Scope) -> str:
    query = scope["query_string"]
    path: bytes = scope["raw_path"] + (b"?" + query if query else b"")
    return path.decode("latin-1")


if __name__ == "__main__":
    main()
