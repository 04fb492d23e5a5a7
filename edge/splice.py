"""Large answers of a known size go from one socket to the other inside the kernel (splice(2)), not through this process.

That is half as fast again. aiohttp has read the head of the one message and written the head of the other; what it holds of the
body is sent first, then both transports rest and their sockets are used. aiohttp does not know how far the agent's
connection has come then, so that is not used again.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from aiohttp import ClientResponse, web

WORTH_IT = 1024 * 1024
PIPE = 1024 * 1024

Watch = Callable[..., Any]


class CutShort(Exception):
    """The source ended before its end."""


def worth_it(source: ClientResponse) -> bool:
    """Whether this answer is better moved by the kernel: it is large, and most of it is not here yet."""
    return source.connection is not None and (source.content_length or 0) >= WORTH_IT and hasattr(os, "splice")


async def spliced(source: ClientResponse, reply: web.StreamResponse, http: web.BaseRequest) -> None:
    """The body of an answer to a client; `CutShort` where the agent leaves."""
    assert source.connection is not None
    # No await between these two: whatever has arrived is in `ready`, and nothing more arrives.
    ready, came = source.content.read_nowait(-1), source.connection.transport
    assert came is not None
    came.pause_reading()
    await reply.write(ready)
    with _at_rest(http) as there:
        await http.writer.drain()
        if there.get_write_buffer_size():
            raise ConnectionResetError("the client left")
        await _moved(came, there, (source.content_length or 0) - len(ready))
    source.close()


@contextmanager
def _at_rest(http: web.BaseRequest) -> Iterator[asyncio.Transport]:
    """The client's transport, which reports itself drained only when it holds nothing at all."""
    there = http.transport
    if there is None:
        raise ConnectionResetError("the client left")
    low, high = there.get_write_buffer_limits()
    there.set_write_buffer_limits(0)
    try:
        yield there
    finally:
        there.set_write_buffer_limits(high, low)


async def _moved(came: asyncio.Transport, there: asyncio.Transport, left: int) -> None:
    """Move exactly so many bytes, as fast as the slower side is."""
    with ExitStack() as stack:
        # Copies, because the loop does not let others watch the sockets of its transports.
        source, sink = (stack.enter_context(_copy(each)) for each in (came, there))
        out, into = stack.enter_context(_pipe())
        loop, held = asyncio.get_running_loop(), 0
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
