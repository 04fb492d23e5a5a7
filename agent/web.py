"""A small web framework: requests, replies and the routing of one table, as an ASGI application."""

import asyncio
import contextlib
import hmac
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, BinaryIO, TypeVar
from urllib.parse import parse_qsl, unquote

from agent.errors import Refusal, from_system
from agent.machine import Machine
from agent.shapes import Read, parse

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Row = TypeVar("Row")
Result = TypeVar("Result")

ANY_LENGTH = -1
JSON_LIMIT = 16 * 1024 * 1024

log = logging.getLogger(__name__)


class Gone(Exception):
    """The caller went away before the request was complete."""


@dataclass(frozen=True)
class Span:
    """Part of an open file, which the kernel puts on the wire without our reading it."""

    file: BinaryIO
    begin: int
    size: int


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes | AsyncGenerator[bytes, None] | Span = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


def answer(document: Any, status: int = 200) -> Reply:
    """A JSON reply."""
    body = json.dumps(document, separators=(",", ":")).encode()
    return Reply(status, body, ((b"content-type", b"application/json"),))


NOTHING = Reply(204)


class Request:
    """One HTTP request or WebSocket handshake, with the words of its path by name."""

    def __init__(self, scope: Scope, receive: Receive, words: Mapping[str, str]) -> None:
        self.scope, self.receive, self.words = scope, receive, words
        self.headers: dict[bytes, bytes] = dict(scope["headers"])

    def query(self, fields: Mapping[str, tuple[Read, Any]]) -> SimpleNamespace:
        """The query's fields; undecodable bytes of a path survive as surrogates."""
        pairs = parse_qsl(
            self.scope["query_string"].decode("latin-1"), keep_blank_values=True, errors="surrogateescape"
        )
        return parse({name: value for name, value in pairs if value}, fields)

    async def json(self, fields: Mapping[str, tuple[Read, Any]]) -> SimpleNamespace:
        """The fields of the JSON body, which may be empty where every field is optional."""
        raw = await self._whole()
        try:
            document = json.loads(raw) if raw.strip() else {}
        except (ValueError, RecursionError):
            raise Refusal("invalid", "The body is not valid JSON.") from None
        return parse(document, fields)

    async def _whole(self) -> bytes:
        if int(self.headers.get(b"content-length", b"0")) > JSON_LIMIT:
            raise Refusal("too_large", f"A JSON body may have at most {JSON_LIMIT} bytes.")
        chunks = bytearray()
        async for chunk in self.stream():
            chunks += chunk
            if len(chunks) > JSON_LIMIT:
                raise Refusal("too_large", f"A JSON body may have at most {JSON_LIMIT} bytes.")
        return bytes(chunks)

    async def stream(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises `Gone` if the caller leaves before its end."""
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Gone
            if message.get("body"):
                yield message["body"]
            more = message.get("more_body", False)

    async def while_there(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The work's result; the work is cancelled, and `Gone` raised, when the caller goes away."""
        with self.caller.leash():
            return await work

    @property
    def caller(self) -> "Caller":
        caller: Caller = self.scope["state"]["caller"]
        return caller


class Caller:
    """Who is at the other end of a connection, the tasks that end when they leave, and the shortest way to them."""

    def __init__(self, send_file: Callable[[Span], Awaitable[None]]) -> None:
        self.left, self.send_file = False, send_file
        self._tasks: set[asyncio.Task[Any]] = set()

    def leave(self) -> None:
        """The connection is gone."""
        self.left = True
        for task in self._tasks:
            task.cancel()

    @contextlib.contextmanager
    def leash(self) -> Iterator[None]:
        """Within it the current task is cancelled when the caller leaves, which comes out as `Gone`."""
        task = asyncio.current_task()
        assert task is not None
        if self.left:
            raise Gone
        self._tasks.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self.left:
                raise
            task.uncancel()
            raise Gone from None
        finally:
            self._tasks.discard(task)


Handler = Callable[[Machine, Request], Awaitable[Reply]]
Talk = Callable[[Machine, Request, "Conversation"], Awaitable[None]]


@dataclass(frozen=True)
class Route:
    """A row of the table. Method `*` is every method; a path that ends with `/*` goes on as it likes, or not at all.

    `open` to callers without a token.
    """

    method: str
    path: str
    handle: Handler
    open: bool = False


@dataclass(frozen=True)
class Socket:
    """A row of the table that is a WebSocket."""

    path: str
    talk: Talk


@dataclass
class Conversation:
    """An accepted WebSocket."""

    receive: Receive
    send: Send
    closed: bool = field(default=False)

    async def accept(self) -> None:
        await self.send({"type": "websocket.accept"})

    async def binary(self, chunk: bytes) -> None:
        await self.send({"type": "websocket.send", "bytes": chunk})

    async def text(self, document: Any) -> None:
        await self.send({"type": "websocket.send", "text": json.dumps(document)})

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed = True
        await self.send({"type": "websocket.close", "code": code, "reason": reason})

    async def until_closed(self, tell: Coroutine[Any, Any, None]) -> None:
        """Tell, ignoring what the caller says, until the caller closes."""
        await self.both(tell, self._deaf())

    async def both(self, tell: Coroutine[Any, Any, None], listen: Coroutine[Any, Any, None]) -> None:
        """Tell and listen at once; when one is over, so is the other."""
        tasks = asyncio.ensure_future(tell), asyncio.ensure_future(listen)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _deaf(self) -> None:
        async for _ in self.incoming():
            pass

    async def incoming(self) -> AsyncIterator[bytes]:
        """What the caller sends, text as UTF-8, until it closes."""
        while (message := await self.receive())["type"] != "websocket.disconnect":
            if message["type"] == "websocket.receive":
                yield message["bytes"] if message.get("bytes") is not None else message["text"].encode()


class Application:
    """The ASGI application: finds the row, checks the token, turns refusals into replies. No request ends it."""

    def __init__(self, machine: Machine, routes: Iterable[Route], sockets: Iterable[Socket]) -> None:
        self._machine = machine
        self._routes = _indexed([(row.path, row) for row in routes])
        self._sockets = _indexed([(row.path, row) for row in sockets])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await (self._converse if scope["type"] == "websocket" else self._serve)(scope, receive, send)
        except Gone:
            log.info("caller went away", extra={"path": scope["path"]})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            reply = await self._reply(scope, receive)
        except Refusal as refusal:
            reply = answer(refusal.body(), refusal.status)
        except OSError as problem:
            system = from_system(problem)
            reply = answer(system.body(), system.status)
        await self._deliver(reply, scope, send)

    async def _deliver(self, reply: Reply, scope: Scope, send: Send) -> None:
        caller: Caller = scope["state"]["caller"]
        if isinstance(reply.body, bytes):
            await _deliver_bytes(reply, reply.body, send)
            return
        with caller.leash():
            if not isinstance(reply.body, Span):
                await _deliver_stream(reply, reply.body, send)
            elif scope["method"] == "HEAD":
                await _deliver_bytes(reply, b"", send, length=reply.body.size)
            else:
                await _deliver_span(reply, reply.body, caller, send)

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        row, request = self._found(scope, receive)
        try:
            return await row.handle(self._machine, request)
        except (Refusal, OSError, Gone, asyncio.CancelledError):
            raise
        except Exception as problem:
            log.exception("handler failed", extra={"path": scope["path"]})
            raise Refusal("failed", f"The agent failed at this: {type(problem).__name__}.") from None

    def _found(self, scope: Scope, receive: Receive) -> tuple[Route, Request]:
        segments, rows = _matching(scope, self._routes)
        row = next((row for row in rows if row.method in (scope["method"], "*")), None)
        if row is None or not row.open:
            self._admit(scope)
        if row is None:
            known = f" Methods here: {', '.join(sorted({row.method for row in rows}))}." if rows else ""
            raise Refusal("not_found", f"There is no {scope['method']} {scope['path'][:200]!a}.{known}")
        return row, Request(scope, receive, _words(row.path, segments))

    def _admit(self, scope: Scope) -> None:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not hmac.compare_digest(given, b"Bearer " + self._machine.token.encode()):
            raise Refusal("unauthorized", "The Authorization header must carry this sandbox's agent token.")

    async def _converse(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            self._admit(scope)
            segments, rows = _matching(scope, self._sockets)
            if not rows:
                raise Refusal("not_found", f"There is no WebSocket at {scope['path'][:200]!a}.")
            request = Request(scope, receive, _words(rows[0].path, segments))
            await rows[0].talk(self._machine, request, Conversation(receive, send))
        except Refusal as refusal:
            await _refuse_handshake(refusal, send)
        except Exception:
            log.exception("conversation failed", extra={"path": scope["path"]})
            with contextlib.suppress(Exception):
                await send({"type": "websocket.close", "code": 1011, "reason": "The agent failed."})


def _indexed(rows: Iterable[tuple[str, Row]]) -> dict[int, list[tuple[list[str], Row]]]:
    """Rows by their number of words, those with fewer variable words first."""
    index: dict[int, list[tuple[list[str], Row]]] = {}
    for path, row in sorted(rows, key=lambda pair: pair[0].count("{")):
        words = path.split("/")
        index.setdefault(ANY_LENGTH if words[-1] == "*" else len(words), []).append((words, row))
    return index


def _matching(scope: Scope, index: dict[int, list[tuple[list[str], Row]]]) -> tuple[list[str], list[Row]]:
    """The path's words, decoded after splitting so that %2F is part of a word, and the rows that fit them."""
    words = [unquote(word, errors="surrogateescape") for word in scope["raw_path"].decode("latin-1").split("/")]
    fits = [row for pattern, row in index.get(len(words), ()) if _fits(pattern, words)]
    return words, fits or [row for pattern, row in index.get(ANY_LENGTH, ()) if _fits(pattern[:-1], words)]


def _fits(pattern: list[str], words: list[str]) -> bool:
    """Whether the words begin as the pattern says."""
    same = (part == word or (part[:1] == "{" and word) for part, word in zip(pattern, words, strict=False))
    return len(words) >= len(pattern) and all(same)


def _words(path: str, words: list[str]) -> dict[str, str]:
    return {part[1:-1]: word for part, word in zip(path.split("/"), words, strict=False) if part[:1] == "{"}


async def _deliver_bytes(reply: Reply, body: bytes, send: Send, length: int | None = None) -> None:
    size = len(body) if length is None else length
    length_header = [] if reply.status in (204, 304) else [(b"content-length", b"%d" % size)]
    await send({"type": "http.response.start", "status": reply.status, "headers": [*reply.headers, *length_header]})
    await send({"type": "http.response.body", "body": body})


async def _deliver_span(reply: Reply, span: Span, caller: "Caller", send: Send) -> None:
    headers = [*reply.headers, (b"content-length", b"%d" % span.size)]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await caller.send_file(span)
    await send({"type": "http.response.body", "body": b""})


async def _deliver_stream(reply: Reply, body: AsyncGenerator[bytes, None], send: Send) -> None:
    async with contextlib.aclosing(body):
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        async for chunk in body:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _refuse_handshake(refusal: Refusal, send: Send) -> None:
    body = json.dumps(refusal.body()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
