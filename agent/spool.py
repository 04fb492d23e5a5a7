"""A command's output on disk: chunks of both streams in order of arrival, readable by many while it grows."""

import asyncio
import os
import struct
from collections.abc import AsyncIterator

from agent.output import Captured

LIMIT = 64 * 1024 * 1024
STDOUT, STDERR = 1, 2

_HEAD = struct.Struct(">BI")
_READ = 256 * 1024


class Spool:
    """Keeps the first `limit` bytes and then one marker line. A chunk is a byte for the stream, a length and the bytes."""

    def __init__(self, path: str, limit: int = LIMIT) -> None:
        self._path, self._limit = path, limit
        self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self._end = self._kept = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self.truncated = self.complete = False

    def append(self, stream: int, chunk: bytes) -> None:
        """Add a chunk; what is over the limit, or finds no room on the disk, is dropped and said so."""
        room = self._limit - self._kept
        if not self.truncated and chunk[:room]:
            self._write(stream, chunk[:room])
        if len(chunk) > room and not self.truncated:
            self.truncated = True
            self._write(stream, b"\n... [output over %d bytes is not kept] ...\n" % self._limit)
        self._wake()

    def _write(self, stream: int, chunk: bytes) -> None:
        record = _HEAD.pack(stream, len(chunk)) + chunk
        try:
            written = os.pwrite(self._file, record, self._end)
        except OSError:
            written = 0
        if written < len(record):  # no room: the half record is never counted, so no reader sees it
            self.truncated = True
            return
        self._end += written
        self._kept += len(chunk)

    def finish(self) -> None:
        """Tell the readers that the command has ended. A background child may still add to it."""
        self.complete = True
        self._wake()

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    def remove(self) -> None:
        self.finish()
        os.close(self._file)
        os.unlink(self._path)

    async def chunks(self, offset: int = 0, *, follow: bool = False) -> AsyncIterator[tuple[int, bytes]]:
        """Stream and bytes from `offset` bytes of output on; with `follow` until the command has ended."""
        with open(self._path, "rb", buffering=_READ) as file:
            position, skip = 0, offset
            while True:
                while position < self._end:
                    stream, size = _HEAD.unpack(file.read(_HEAD.size))
                    chunk = file.read(size)
                    position += _HEAD.size + size
                    if skip < size:
                        yield stream, chunk[skip:]
                    skip = max(0, skip - size)
                if not follow or self.complete:
                    return
                await self._grown()

    async def _grown(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    async def captured(self) -> Captured:
        """Both streams so far, bounded as an exec's are."""
        captured = Captured()
        async for stream, chunk in self.chunks():
            captured.add(stream, chunk)
        return captured
