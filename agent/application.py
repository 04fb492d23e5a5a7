"""The table of routes as an ASGI application: finds the row, checks the token, turns refusals into replies."""

import asyncio
import contextlib
import hmac
import json
import logging
from collections.abc import AsyncGenerator, Iterable
from typing import TypeVar
from urllib.parse import unquote

from agent.errors import Refusal, from_system
from agent.machine import Machine
from agent.web import Caller, Conversation, Gone, Receive, Reply, Request, Route, Scope, Send, Socket, Span, answer

Row = TypeVar("Row")

ANY_LENGTH = -1

log = logging.getLogger(__name__)


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


async def _deliver_span(reply: Reply, span: Span, caller: Caller, send: Send) -> None:
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
