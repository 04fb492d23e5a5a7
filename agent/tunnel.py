"""Connections that stop being HTTP: once agreed, bytes pass between the caller and a port inside, untouched."""

import asyncio
from dataclasses import dataclass, field

from agent.errors import Refusal
from agent.ports import dial


class Side(asyncio.Protocol):
    """One end of a tunnel: what it receives goes to the other end, at the pace of the other end."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Side | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def join(self, other: "Side") -> None:
        self.other, other.other = other, self
        for one, two in ((self, other), (other, self)):
            early, one._early = one._early, []
            for chunk in early:
                two.write(chunk)

    def write(self, chunk: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(chunk)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        else:
            self.other.write(data)

    def eof_received(self) -> bool:
        """Half-closed stays half-closed: the other end may still have something to say."""
        if self.other is not None and self.other.transport is not None and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()


@dataclass
class Tunnel:
    """A caller's connection that is to be carried to a port. `opening` is what the port is told first."""

    transport: asyncio.Transport
    port: int
    opening: bytes
    agreed: bytes = b""
    caller: Side = field(default_factory=Side)

    def begin(self, early: bytes) -> "asyncio.Task[None]":
        """Take the connection over; `early` is what the caller sent already."""
        self.transport.set_protocol(self.caller)
        self.caller.connection_made(self.transport)
        self.transport.pause_reading()
        if early:
            self.caller.data_received(early)
        return asyncio.ensure_future(self._open())

    async def _open(self) -> None:
        try:
            _, inside = await dial(self.port, Side)
        except Refusal as refusal:
            self.transport.write(refused(refusal))
            self.transport.close()
            return
        if self.agreed:
            self.caller.write(self.agreed)
        inside.write(self.opening)
        self.caller.join(inside)
        self.transport.resume_reading()


def refused(refusal: Refusal) -> bytes:
    """A refusal as a whole HTTP response."""
    import json

    body = json.dumps(refusal.body()).encode()
    head = f"HTTP/1.1 {refusal.status} Refused\r\ncontent-type: application/json\r\n"
    head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body
