"""The HTTP protocol of a connection: uvicorn's, and the requests that become a stream of bytes instead of a reply."""

import asyncio
import hmac
import logging
import re
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from agent.errors import Refusal
from agent.machine import Machine
from agent.proxy import forwarded
from agent.tunnel import Tunnel, refused
from agent.web import Caller, Gone, Span

FORWARD = b"sandbar-tcp"
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: sandbar-tcp\r\n\r\n"

_TUNNEL = re.compile(rb"/(proxy|forward)/([0-9]{1,5})(?:([/?].*))?\Z", re.DOTALL)


def factory(machine: Machine, application: Any) -> Callable[[], asyncio.Protocol]:
    """Makes a protocol for each accepted connection."""
    # fmt: off
    config = Config(
        application, http=HttpToolsProtocol, ws=_websocket, lifespan="off", log_config=None,  # type: ignore[arg-type]
        interface="asgi3", access_log=False, proxy_headers=False, timeout_keep_alive=75, ws_per_message_deflate=False,
        ws_max_size=16 * 1024 * 1024,
    )
    # fmt: on
    config.load()
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    state = ServerState()
    return lambda: _Protocol(machine, config, state)


def warm() -> None:
    """Import what the first WebSocket needs, once everything else is up: nobody should wait for it then."""
    import uvicorn.protocols.websockets.websockets_sansio_impl  # noqa: F401


def _websocket(**given: Any) -> asyncio.Protocol:
    """WebSockets are imported when the first caller asks for one."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(**given)


class _Protocol(HttpToolsProtocol):
    """Upgrades under /proxy and /forward leave HTTP here and become tunnels, whatever it is that they upgrade to."""

    def __init__(self, machine: Machine, config: Config, state: ServerState) -> None:
        self._caller = Caller(self._send_file)
        super().__init__(config, state, {"caller": self._caller})
        self._machine = machine

    def connection_lost(self, exc: Exception | None) -> None:
        self._caller.leave()
        super().connection_lost(exc)

    async def _send_file(self, span: Span) -> None:
        """Send the span as part of the reply that has begun. Raises `Gone` if the caller leaves meanwhile."""
        cycle = self.cycle
        try:
            sent = await self.loop.sendfile(self.transport, span.file, span.begin, span.size)
        except (ConnectionError, RuntimeError):  # asyncio's word for a transport that is closing
            raise Gone from None
        cycle.expected_content_length -= sent

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._should_upgrade():
                return
            if match := _TUNNEL.match(self.url):
                self._tunnel(match, data[upgrade.args[0] :])
            else:
                self.handle_websocket_upgrade()
        except httptools.HttpParserError:
            self.send_400_response("This is not HTTP.")

    def _should_upgrade(self) -> bool:
        return bool(_TUNNEL.match(self.url)) or super()._should_upgrade()

    def _tunnel(self, match: "re.Match[bytes]", early: bytes) -> None:
        self.connections.discard(self)
        try:
            tunnel = self._agreed(match)
        except Refusal as refusal:
            self.transport.write(refused(refusal))
            self.transport.close()
            return
        task = tunnel.begin(early)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _agreed(self, match: "re.Match[bytes]") -> Tunnel:
        given = dict(self.headers).get(b"authorization", b"")
        if not hmac.compare_digest(given, b"Bearer " + self._machine.token.encode()):
            raise Refusal("unauthorized", "The Authorization header must carry this sandbox's agent token.")
        port = int(match[2])
        if not 1 <= port <= 65535:
            raise Refusal("invalid", "port must be a whole number from 1 to 65535.")
        if match[1] == b"proxy":
            return Tunnel(self.transport, port, self._head(match[3] or b"/"))
        if self._get_upgrade() != FORWARD:
            raise Refusal("invalid", f"/forward takes Upgrade: {FORWARD.decode()} and nothing else.")
        return Tunnel(self.transport, port, b"", AGREED)

    def _head(self, target: bytes) -> bytes:
        """The request as the port is to see it."""
        lines = [self.parser.get_method() + b" " + (target if target[:1] == b"/" else b"/" + target) + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in forwarded(self.headers, upgrade=True)]
        return b"\r\n".join(lines) + b"\r\n\r\n"
