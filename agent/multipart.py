"""multipart/form-data as it streams by. Holds no more than one chunk of the body."""

import os
import re
from collections.abc import AsyncGenerator, AsyncIterator

from agent.errors import Refusal

_HEAD_LIMIT = 64 * 1024
_NAME = re.compile(rb';\s*name=(?:"((?:[^"\\]|\\.)*)"|([^;\s"]+))', re.IGNORECASE)


class Part:
    """One part; its chunks must be taken before the next part is asked for, else they are skipped."""

    def __init__(self, name: str, body: AsyncGenerator[bytes, None]) -> None:
        self.name, self._body = name, body

    def chunks(self) -> AsyncGenerator[bytes, None]:
        return self._body


class Multipart:
    """A body of that content type. Refuses what is not multipart, or ends before its last boundary."""

    def __init__(self, content_type: bytes, stream: AsyncIterator[bytes]) -> None:
        match = re.search(rb'boundary=(?:"([^"]{1,200})"|([^;\s"]{1,200}))', content_type)
        if not content_type.lower().startswith(b"multipart/form-data") or not match:
            raise Refusal("unsupported", "The content type must be multipart/form-data with a boundary.")
        self._delimiter = b"\r\n--" + (match[1] or match[2])
        self._stream = stream
        self._waiting = bytearray(b"\r\n")  # the first boundary has no line end before it

    async def parts(self) -> AsyncGenerator[Part, None]:
        async for _ in self._body():
            pass  # the preamble
        while not await self._last():
            part = Part(_name(await self._head()), self._body())
            yield part
            async for _ in part.chunks():
                pass

    async def _body(self) -> AsyncGenerator[bytes, None]:
        """Up to the next delimiter, which is taken away."""
        while (found := self._waiting.find(self._delimiter)) < 0:
            safe = len(self._waiting) - len(self._delimiter) + 1
            if safe > 0:
                yield self._take(safe)
            await self._more()
        if found:
            yield self._take(found)
        del self._waiting[: len(self._delimiter)]

    async def _last(self) -> bool:
        while len(self._waiting) < 2:
            await self._more()
        if self._waiting[:2] == b"--":
            return True
        if not self._waiting.lstrip(b" \t").startswith(b"\r\n"):
            raise Refusal("invalid", "A multipart boundary is followed by something that is not a line end.")
        return False

    async def _head(self) -> bytes:
        while (found := self._waiting.find(b"\r\n\r\n")) < 0:
            if len(self._waiting) > _HEAD_LIMIT:
                raise Refusal("invalid", "The head of a multipart part is too long.")
            await self._more()
        head = self._take(found)
        del self._waiting[:4]
        return head

    def _take(self, count: int) -> bytes:
        taken = bytes(self._waiting[:count])
        del self._waiting[:count]
        return taken

    async def _more(self) -> None:
        try:
            self._waiting += await anext(self._stream)
        except StopAsyncIteration:
            raise Refusal("invalid", "The multipart body ended before its last boundary.") from None


def _name(head: bytes) -> str:
    disposition = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"content-disposition:")), b"")
    if not (match := _NAME.search(disposition)):
        raise Refusal("invalid", "A multipart part has no name.")
    return os.fsdecode(re.sub(rb"\\(.)", rb"\1", match[1]) if match[1] is not None else match[2])
