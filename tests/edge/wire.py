"""HTTP by hand, for what no well-bred client would say."""

import asyncio
import contextlib

from tests.edge.agent import CHUNK
from tests.edge.house import KEY, House


class Wire:
    """A connection to the edge."""

    def __init__(self, house: House, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._house, self._reader, self._writer = house, reader, writer
        self.poured = 0

    @classmethod
    async def open(cls, house: House) -> "Wire":
        """A connection on which nothing was said yet."""
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        house.wires.append(writer)
        return cls(house, reader, writer)

    @classmethod
    async def to(cls, house: House, method: str, path: str, *headers: str, auth: str = f"Bearer {KEY}") -> "Wire":
        """A connection on which the head of a request for the sandbox was sent."""
        wire = await cls.open(house)
        wire.ask(method, path, *headers, auth=auth)
        return wire

    def ask(self, method: str, path: str, *headers: str, auth: str = f"Bearer {KEY}") -> None:
        """Send the head of a request for the sandbox."""
        first = f"{method} /tiny/box/{self._house.box.id}{path} HTTP/1.1"
        self.say(first, "Host: x", f"Authorization: {auth}", *headers)

    def say(self, *lines: str) -> None:
        """Send these lines and an empty one."""
        self.send("\r\n".join([*lines, "", ""]).encode())

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)

    async def pour(self, size: int) -> None:
        """Send so many bytes, as fast as they are taken; `poured` counts them."""
        while self.poured < size:
            self._writer.write(CHUNK[: size - self.poured])
            self.poured += len(CHUNK[: size - self.poured])
            await self._writer.drain()

    async def status(self) -> int:
        """The status of the next answer, its head and its body read."""
        line = await asyncio.wait_for(self._reader.readline(), 5)
        size = 0
        while (header := await self._reader.readline()).strip():
            name, _, value = header.decode().partition(":")
            size = int(value) if name.lower() == "content-length" else size
        self.body = await self._reader.readexactly(size)
        return int(line.split()[1])

    async def closed(self) -> bool:
        """Whether the edge ends the connection, with nothing more to say."""
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(self._reader.read(), 5) == b""
        return True

    def close(self) -> None:
        """End the connection."""
        self._writer.close()
