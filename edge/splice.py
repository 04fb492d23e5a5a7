"""Large bodies of a known size go from one socket to the other inside the kernel (splice(2)), not through this process.

That is half as fast again. aiohttp has read the head of the one message and written the head of the other; what it holds of the
body is sent first, then both transports rest and their sockets are used. aiohttp does not know how far the connection that
the body came from has got then, so that is not used again.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from aiohttp import ClientResponse, payload, web
from aiohttp.abc import AbstractStreamWriter

from chalicelib.core.errors import Invalid
from edge.incoming import LAST, Body

WORTH_IT = 1024 * 1024
PIPE = 1024 * 1024

Watch = Callable[..., Any]


class CutShort(Exception):
    """The source ended before its end."""


def worth_it(size: int | None) -> bool:
    """Whether a body of this size is better moved by the kernel."""
    return (size or 0) >= WORTH_IT and hasattr(os, "splice")


async def spliced(source: ClientResponse, reply: web.StreamResponse, http: web.BaseRequest) -> None:
    """The body of an agent's answer to a client; `CutShort` where the agent leaves."""
    came, there = source.connection and source.connection.transport, http.transport
    # No await between these two: whatever has arrived is in `ready`, and nothing more arrives.
    ready = source.content.read_nowait(-1)
    if came is not None:
        came.pause_reading()
    await reply.write(ready)
    if (left := (source.content_length or 0) - len(ready)) == 0:
        return
    if came is None or there is None:
        raise CutShort("a side left")
    await _moved(came, there, http.writer, left)
    source.close()


class Upload(payload.Payload):
    """A client's body on its way to an agent."""

    _autoclose = True

    def __init__(self, body: Body) -> None:
        super().__init__(body, content_type="application/octet-stream")
        self._body, self._size = body, body.size

    async def write(self, writer: AbstractStreamWriter) -> None:
        """All of it. Where the client leaves before, its problem is in the body."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """The same: the length is the body's own."""
        http, there = self._body.http, getattr(writer, "transport", None)
        if http.transport is None or there is None:
            raise ConnectionResetError("a side left")
        self._body.begin()
        http[LAST] = True
        ready, came = http.content.read_nowait(-1), http.transport
        came.pause_reading()
        try:
            await (writer.write(ready) if ready else _headed(writer))
            await _moved(came, there, writer, (self._size or 0) - len(ready))
        except BaseException as problem:
            if isinstance(problem, CutShort):
                self._body.problem = Invalid(f"the body broke off: {problem}")
            if not came.is_closing():
                came.resume_reading()  # the rest is dropped, so that the client gets to read why
            raise
        http.content.feed_eof()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """It is not text."""
        raise TypeError("a body that streams through cannot be looked at")


async def _headed(writer: AbstractStreamWriter) -> None:
    """aiohttp holds the head back until there is something to send with it."""
    writer.send_headers()


async def _moved(came: asyncio.Transport, there: asyncio.Transport, writer: AbstractStreamWriter, left: int) -> None:
    """Move exactly so many bytes, once all that was written before is gone."""
    with _draining_to_nothing(there):
        await writer.drain()
    if there.is_closing() or there.get_write_buffer_size():
        raise ConnectionResetError("a side left")
    with ExitStack() as stack:
        # Copies, because the loop does not let others watch the sockets of its transports.
        source, sink = (stack.enter_context(_copy(each)) for each in (came, there))
        await _pumped(source, sink, left)


@contextmanager
def _draining_to_nothing(there: asyncio.Transport) -> Iterator[None]:
    """It reports itself drained only when it holds nothing at all."""
    low, high = there.get_write_buffer_limits()
    there.set_write_buffer_limits(0)
    try:
        yield
    finally:
        there.set_write_buffer_limits(high, low)


async def _pumped(source: int, sink: int, left: int) -> None:
    """As fast as the slower side is."""
    loop, held = asyncio.get_running_loop(), 0
    with _pipe() as (out, into):
        while left or held:
            if left and held < PIPE:
                taken = _taken(source, into, min(left, PIPE - held))
                left, held = left - (taken or 0), held + (taken or 0)
                if taken is None and not held:
                    await _ready(source, loop.add_reader, loop.remove_reader)
            if held:
                given = _nonblocking(out, sink, held)
                held -= given or 0
                if given is None:
                    await _ready(sink, loop.add_writer, loop.remove_writer)
            await asyncio.sleep(0)  # others want to be served too


def _taken(source: int, into: int, most: int) -> int | None:
    try:
        taken = _nonblocking(source, into, most)
    except OSError as problem:
        raise CutShort(str(problem)) from None
    if taken == 0:
        raise CutShort("it ended before its end")
    return taken


def _nonblocking(source: int, sink: int, most: int) -> int | None:
    try:
        return os.splice(source, sink, most, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
    except BlockingIOError:
        return None


async def _ready(socket: int, watch: Watch, leave: Watch) -> None:
    ready = asyncio.Event()
    watch(socket, ready.set)
    try:
        await ready.wait()
    finally:
        leave(socket)


@contextmanager
def _copy(transport: asyncio.Transport) -> Iterator[int]:
    copy = os.dup(transport.get_extra_info("socket").fileno())
    try:
        yield copy
    finally:
        os.close(copy)


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    out, into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with suppress(PermissionError):  # one user's pipes may hold only so much together; then this one stays small
            fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PIPE)
        yield out, into
    finally:
        os.close(out)
        os.close(into)
