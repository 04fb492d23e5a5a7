"""Listening: the server and the client that the edge is made of, with their limits, from start to end."""

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import aiohttp
from aiohttp import web

from chalicelib import gateway
from chalicelib.core.world import World
from chalicelib.dialect import Dialect
from edge.activity import Activity
from edge.known import Known
from edge.server import Edge
from edge.settings import Settings

IDLE_SECONDS = 620.0
"""How long a connection may say nothing between two requests: longer than load balancers and clients keep theirs, for who
sends a request while we hang up does not know whether it was heard."""

KEPT_SECONDS = 30.0
"""How long a connection to an agent is kept unused: less than the agent keeps it, so that no request meets its end."""

LINGERING_SECONDS = 3.0
"""How long what is left of a refused body is read and dropped, so that its sender gets to read the refusal."""

LONGEST_TARGET = 16 * 1024
LONGEST_HEADER = 16 * 1024
MOST_HEADERS = 100

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)


class Connection(web.RequestHandler):
    """A client's connection. aiohttp 3.14 leaves who reads a body waiting for ever where its chunks are broken: told here."""

    __slots__ = ("head_seconds",)

    head_seconds: float

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take it in, for a while."""
        super().connection_made(transport)
        self._loop.call_later(self.head_seconds, self._must_have_spoken)

    def data_received(self, data: bytes) -> None:
        """Take bytes in; if they break the body that is being read, its reader hears of it."""
        before = len(self._messages)
        super().data_received(data)
        broken = [message for message, _ in list(self._messages)[before:] if hasattr(message, "exc")]
        if broken and self._current_request is not None and not self._current_request.content.is_eof():
            self._current_request.content.set_exception(web.RequestPayloadError("it is not well-formed"))

    def _must_have_spoken(self) -> None:
        if not self._request_count and self.transport is not None:
            self.transport.close()


class Server(web.Server):
    """aiohttp's server with a bound on its connections. One too many is cut, so that the others go on."""

    def __init__(self, handler: Handler, *, most: int, head_seconds: float, **limits: Any) -> None:
        super().__init__(handler, handler_cancellation=True, **limits)  # who goes away takes what it asked for along
        self._most, self._head_seconds, self._limits = most, head_seconds, limits

    def __call__(self) -> web.RequestHandler:
        """A protocol for a new connection."""
        made = Connection(self, loop=asyncio.get_running_loop(), **self._limits)
        made.head_seconds = self._head_seconds
        return made

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take the connection in, or cut it."""
        super().connection_made(handler, transport)
        if len(self.connections) > self._most:
            log.warning("too many connections", extra={"most": self._most})
            transport.abort()


@asynccontextmanager
async def listening(
    world: World, settings: Settings, *, dialect_named: Callable[[str], Dialect] = gateway.dialect_named
) -> AsyncIterator[int]:
    """The edge, serving until this ends; the port that it listens on."""
    loop = asyncio.get_running_loop()
    threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="world")
    activity = Activity(world, threads)
    watch = loop.create_task(activity.watch())
    async with _client(settings) as session:
        edge = Edge(
            world,
            settings,
            session=session,
            known=Known(world, threads),
            activity=activity,
            dialect_named=dialect_named,
        )
        runner = web.ServerRunner(_server(edge, settings), shutdown_timeout=settings.grace_seconds)
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.host, settings.port, backlog=1024, reuse_address=True).start()
            yield runner.addresses[0][1]
        finally:
            watch.cancel()
            await edge.close()
            await runner.cleanup()
            threads.shutdown(wait=False, cancel_futures=True)


async def serve(world: World, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in progress if it does not take long."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with listening(world, settings) as port:
        log.info("listening", extra={"host": settings.host, "port": port, "api": settings.api})
        await stop.wait()
        log.info("ending")


def _server(edge: Edge, settings: Settings) -> Server:
    # What aiohttp itself has to say is of broken requests, which any client can send as often as it likes.
    quiet = logging.getLogger("edge.http")
    quiet.setLevel(logging.CRITICAL)
    return Server(
        edge.handle,
        most=settings.most_connections,
        head_seconds=settings.head_seconds,
        logger=quiet,
        access_log=None,
        keepalive_timeout=IDLE_SECONDS,
        lingering_time=LINGERING_SECONDS,
        auto_decompress=False,  # bytes pass as they come
        max_line_size=LONGEST_TARGET,
        max_field_size=LONGEST_HEADER,
        max_headers=MOST_HEADERS,
    )


def _client(settings: Settings) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_SECONDS, socket_factory=_socket),
        timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=settings.connect_seconds, sock_read=None),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
        trust_env=False,
        max_line_size=LONGEST_TARGET,
        max_field_size=LONGEST_HEADER,
    )


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket that notices within a minute when the machine at its other end has vanished without a word."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    for option, value in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3)):
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return made
