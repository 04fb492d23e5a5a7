"""A sandbox's agent and an API Gateway, as far as the edge sees them, on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

CHUNK = b"x" * 65536


class Agent:
    """Answers what the tiny dialect relays, and remembers what it was asked and what became of it."""

    def __init__(self, token: str = "") -> None:
        self.token, self.address = token, ""
        self.seen: list[web.Request] = []
        self.asked: list[object] = []
        self.sent = self.taken = 0
        self.gone, self.reached, self.go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator["Agent"]:
        """It listens until this ends."""
        app = web.Application(client_max_size=2**40)
        app.router.add_post("/exec", self.exec)
        app.router.add_get("/said/{word}", self.said)
        app.router.add_get("/file", self.download)
        app.router.add_put("/file", self.upload)
        app.router.add_get("/plain", self.plain)
        app.router.add_get("/marked", self.plain)
        app.router.add_get("/echo", self.echo)
        app.router.add_get("/refused", self.refused)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        self.address = f"127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def exec(self, request: web.Request) -> web.StreamResponse:
        """By the command: an echo, a refusal, something that takes for ever, something that is not JSON."""
        if refusal := self._noted(request):
            return refusal
        asked = await request.json()
        self.asked.append(asked)
        kind, _, rest = asked.get("command", "").partition(" ")
        if kind == "hang":
            self.reached.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.gone.set()
        if kind == "refuse":
            code, _, status = rest.partition(" ")
            return _refusal(code, int(status))
        if kind == "die":
            assert request.transport
            request.transport.abort()
        if kind == "babble":
            return web.Response(text="I am no JSON")
        if kind == "redirect":
            return web.Response(status=302, headers={"location": rest})
        return web.json_response({"output": "o" * int(rest or 2) if kind == "big" else "ok", "asked": asked})

    async def said(self, request: web.Request) -> web.Response:
        """What the target was."""
        return self._noted(request) or web.json_response({"asked": request.raw_path})

    async def plain(self, request: web.Request) -> web.Response:
        """Its own path, as text."""
        return self._noted(request) or web.Response(text=request.path, headers={"set-cookie": "a=b", "x-own": "1"})

    async def download(self, request: web.Request) -> web.StreamResponse:
        """So many bytes, counted as they leave; 'half' of 1 MiB and then death."""
        if refusal := self._noted(request):
            return refusal
        size = request.query.get("size", "10")
        total = 1024 * 1024 if size == "half" else int(size)
        reply = web.StreamResponse(headers={"content-length": str(total), "etag": '"e"', "connection": "keep-alive"})
        await reply.prepare(request)
        try:
            while self.sent < (total // 2 if size == "half" else total):
                await reply.write(CHUNK[: total - self.sent])
                self.sent += len(CHUNK[: total - self.sent])
        finally:
            self.gone.set()
        if size == "half":
            assert request.transport
            request.transport.close()
        return reply

    async def upload(self, request: web.Request) -> web.Response:
        """Takes all of it, once it may go on; `?path=full` is refused before a byte is read."""
        if refusal := self._noted(request):
            return refusal
        if request.query.get("path") == "full":
            return _refusal("full", 507)
        self.reached.set()
        if request.query.get("path") == "die":
            assert request.transport
            request.transport.abort()
        if request.query.get("path") == "later":
            await self.go_on.wait()
        try:
            async for chunk in request.content.iter_any():
                self.taken += len(chunk)
        finally:
            self.gone.set()
        return web.json_response({"size": self.taken, "type": request.headers.get("content-type")})

    async def echo(self, request: web.Request) -> web.StreamResponse:
        """Frames come back; 'end' ends it, 'flood' is answered by 64 MiB."""
        if refusal := self._noted(request):
            return refusal
        socket = web.WebSocketResponse(max_msg_size=0, compress=False)
        await socket.prepare(request)
        async for message in socket:
            if message.data == "end":
                await socket.close(code=1001, message=b"enough")
            elif message.data == "die":
                assert request.transport
                request.transport.abort()
            elif message.data == "flood":
                for _ in range(1024):
                    await socket.send_bytes(CHUNK)
                    self.sent += len(CHUNK)
            elif isinstance(message.data, bytes):
                await socket.send_bytes(message.data)
            else:
                await socket.send_str(message.data)
        self.gone.set()
        return socket

    async def refused(self, request: web.Request) -> web.Response:
        """A handshake that is refused."""
        return self._noted(request) or _refusal("conflict", 409)

    def _noted(self, request: web.Request) -> web.Response | None:
        self.seen.append(request)
        return None if request.headers.get("authorization") == f"Bearer {self.token}" else _refusal("unauthorized", 401)


class Api:
    """API Gateway: says what it was asked, byte for byte."""

    def __init__(self) -> None:
        self.url, self.seen = "", list[web.BaseRequest]()
        self.dead = False

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Api"]:
        """It listens until this ends."""
        runner = web.ServerRunner(web.Server(self.handle, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/restapis/abc/dev"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """What it was asked, and headers that must not reach the client."""
        self.seen.append(request)
        if self.dead:
            assert request.transport
            request.transport.abort()
        size = 0
        async for chunk in request.content.iter_any():
            size += len(chunk)
        told = {"method": request.method, "target": request.raw_path, "size": size}
        headers = {"X-Kept": "1", "Keep-Alive": "timeout=1", "X-Gone": "1", "Connection": "X-Gone"}
        return web.Response(
            status=207, body=json.dumps(told).encode(), headers=headers, content_type="application/json"
        )


def _refusal(code: str, status: int) -> web.Response:
    return web.json_response({"error": code, "message": f"{code} it is", "stdout": "partly"}, status=status)
