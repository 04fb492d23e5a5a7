"""HTTP to a port inside: requests and replies as streams, connections kept for the next request."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress

import httptools

from agent.errors import Refusal
from agent.machine import Machine
from agent.ports import dial, port_in
from agent.web import Gone, Reply, Request

PREFIX_WORDS = 3  # "", "proxy", the port
AUTHORIZATION = b"sandbar-authorization"

_HIGH = 256 * 1024
_KEEP = 16
_REPEATABLE = ("GET", "HEAD", "OPTIONS")
_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
    )
)

Headers = list[tuple[bytes, bytes]]


def forwarded(headers: Iterable[tuple[bytes, bytes]], *, upgrade: bool = False) -> Headers:
    """The headers that the port gets: our token stays here, what the caller wants there as Authorization takes its place."""
    kept = []
    for name, value in headers:
        if name == AUTHORIZATION:
            kept.append((b"authorization", value))
        elif name in (b"connection", b"upgrade"):
            kept += [(name, value)] if upgrade else []
        elif name != b"authorization" and name not in _HOP:
            kept.append((name, value))
    return kept


class Link(asyncio.Protocol):
    """A connection to a port, for one exchange at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.reusable = False
        self._begin("GET")

    def _begin(self, method: str) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._method = method
        self.status, self.headers = 0, []  # type: ignore[var-annotated]
        self._chunks: list[bytes] = []
        self._waiting_size = 0
        self._complete = self._lost = False
        self._head_done, self._moved = asyncio.Event(), asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost, self.reusable = True, False
        # Without a length the reply ends with the connection.
        if self.status >= 200 and not self._complete and exc is None and not self._framed():
            self._complete = True
        self._head_done.set()
        self._moved.set()
        self._writable.set()

    def _framed(self) -> bool:
        return any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.abort()
        if self._waiting_size > _HIGH and self._transport is not None:
            self._transport.pause_reading()

    def on_message_begin(self) -> None:
        self.status, self.headers = 0, []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:
            return
        self.reusable = bool(self._parser.should_keep_alive()) and self._method != "HEAD"
        if self._method == "HEAD":  # the parser would wait for the body that the length promises
            self._complete = True
        self._head_done.set()

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._waiting_size += len(body)
        self._moved.set()

    def on_message_complete(self) -> None:
        if self.status >= 200:
            self._complete = True
            self._moved.set()

    async def ask(self, method: str, target: bytes, headers: Headers, request: Request) -> None:
        """Send the request and wait for the head of its reply. Raises ConnectionError if there is none."""
        self._begin(method)
        chunked = _has_body(request) and not any(name == b"content-length" for name, _ in headers)
        lines = [method.encode() + b" " + target + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in headers]
        lines += [b"transfer-encoding: chunked"] if chunked else []
        self._write(b"\r\n".join(lines) + b"\r\n\r\n")
        if _has_body(request):
            # The reply may come before the request is complete; both go on.
            sending = asyncio.ensure_future(self._send(request, chunked=chunked))
            await asyncio.wait(
                (sending, asyncio.ensure_future(self._head_done.wait())), return_when=asyncio.FIRST_COMPLETED
            )
            if sending.done() and sending.exception() is not None:
                self.abort()
                raise Gone
        await self._head_done.wait()
        if not self.status:
            raise ConnectionError

    async def _send(self, request: Request, *, chunked: bool) -> None:
        async for chunk in request.stream():
            self._write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
            await self._writable.wait()
        if chunked:
            self._write(b"0\r\n\r\n")

    def _write(self, chunk: bytes) -> None:
        if self._transport is not None and not self._lost:
            self._transport.write(chunk)

    async def body(self) -> AsyncGenerator[bytes, None]:
        """What is left of the reply. Raises ConnectionError where it breaks off."""
        while True:
            while self._chunks:
                chunks, self._chunks, self._waiting_size = self._chunks, [], 0
                if self._transport is not None and not self._lost:
                    self._transport.resume_reading()
                yield b"".join(chunks)
            if self._complete:
                return
            if self._lost:
                raise ConnectionError("The port closed the connection within its reply.")
            self._moved.clear()
            await self._moved.wait()

    def abort(self) -> None:
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()


def _has_body(request: Request) -> bool:
    headers = request.headers
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


_idle: dict[int, list[Link]] = {}


async def proxy(machine: Machine, request: Request) -> Reply:
    """The port's reply to the request without its prefix."""
    port, method = port_in(request), request.scope["method"]
    target = b"/" + b"".join(request.scope["raw_path"].split(b"/", PREFIX_WORDS)[PREFIX_WORDS:])
    if query := request.scope["query_string"]:
        target += b"?" + query
    link = await _answered(port, method, target, request)
    headers = tuple((name, value) for name, value in link.headers if name not in _HOP)
    return Reply(link.status, _relayed(link, port), headers)


async def _answered(port: int, method: str, target: bytes, request: Request) -> Link:
    headers = forwarded(request.scope["headers"])
    repeatable = method in _REPEATABLE and not _has_body(request)
    if repeatable and (link := _kept(port)) is not None:
        with suppress(ConnectionError):
            await request.while_there(link.ask(method, target, headers, request))
            return link
    _, link = await dial(port, Link)
    try:
        await request.while_there(link.ask(method, target, headers, request))
    except ConnectionError:
        raise Refusal("unreachable", f"Port {port} closed the connection without a reply.") from None
    except Gone:
        link.abort()
        raise
    return link


def _kept(port: int) -> Link | None:
    idle = _idle.get(port, [])
    while idle:
        link = idle.pop()
        if link.reusable:
            return link
    return None


async def _relayed(link: Link, port: int) -> AsyncGenerator[bytes, None]:
    whole = False
    try:
        async for chunk in link.body():
            yield chunk
        whole = True
    finally:
        idle = _idle.setdefault(port, [])
        if whole and link.reusable and len(idle) < _KEEP:
            idle.append(link)
        else:
            link.abort()
