"""What listens inside, and connections to it."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

from agent import shapes
from agent.children import descendants
from agent.errors import Refusal
from agent.machine import Machine
from agent.web import Conversation, Reply, Request, answer

PATIENCE = 5.0

_LISTEN = "0A"
_port = shapes.whole(1, 65535)

Made = TypeVar("Made", bound=asyncio.BaseProtocol)


async def index(machine: Machine, request: Request) -> Reply:
    """TCP ports in state LISTEN. Where the sandbox is a folder, those of its own processes."""
    found = list(_listening())
    if machine.root != "/":
        own = _sockets_of(descendants(os.getpid()))
        found = [(port, inode) for port, inode in found if inode in own]
    return answer({"ports": sorted({port for port, _ in found} - {machine.port})})


def _listening() -> Iterator[tuple[int, str]]:
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError), open(path) as lines:
            for fields in (line.split() for line in lines):
                if len(fields) > 9 and fields[3] == _LISTEN:
                    yield int(fields[1].rpartition(":")[2], 16), fields[9]


def _sockets_of(pids: list[int]) -> set[str]:
    found = set()
    for pid in pids:
        with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as files:
            for file in files:
                with suppress(OSError):
                    found.add(os.readlink(file.path).removeprefix("socket:[").removesuffix("]"))
    return found


def port_in(request: Request) -> int:
    return int(_port("port", request.words["port"]))


async def dial(port: int, make: Callable[[], Made]) -> tuple[asyncio.Transport, Made]:
    """Connect to a port inside: on either loopback address, then on the sandbox's own. Refuses as `unreachable`."""
    loop = asyncio.get_running_loop()
    for address in ("127.0.0.1", "::1", _own_address()):
        with suppress(OSError, TimeoutError):
            return await asyncio.wait_for(loop.create_connection(make, address, port), PATIENCE)
    raise Refusal("unreachable", f"Nothing listens on port {port} of this sandbox.")


def _own_address() -> str:
    """The address that the sandbox has towards others. No packet is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


class _Wire(asyncio.Protocol):
    """A connection whose bytes become messages; not read while the one before is on its way."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self.writable = asyncio.Event()
        self.writable.set()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.arrived.put_nowait(data)
        if self.transport is not None:
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.arrived.put_nowait(b"")
        self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()


async def carry(machine: Machine, request: Request, conversation: Conversation) -> None:
    """A TCP connection to the port as binary messages, both ways."""
    transport, wire = await dial(port_in(request), _Wire)
    try:
        await conversation.accept()

        async def tell() -> None:
            while chunk := await wire.arrived.get():
                await conversation.binary(chunk)
                transport.resume_reading()
            await conversation.close()

        async def listen() -> None:
            async for chunk in conversation.incoming():
                transport.write(chunk)
                await wire.writable.wait()

        await conversation.both(tell(), listen())
    finally:
        transport.abort() if transport.is_closing() else transport.close()
