"""What handlers see of the web: requests, replies, conversations, and the rows of the table that leads to them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, BinaryIO, TypeVar
from urllib.parse import parse_qsl

from agent.errors import Refusal
from agent.machine import Machine
from agent.shapes import Read, parse

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Result = TypeVar("Result")

JSON_LIMIT = 16 * 1024 * 1024


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
