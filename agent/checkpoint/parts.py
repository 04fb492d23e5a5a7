"""Uploading an archive as it grows, in parts: one is filled while the one before it is on its way."""

import hashlib
import http.client
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from agent.control import LOST, connection

ATTEMPTS = 6
MOST_PARTS = 10_000


class Refused(ValueError):
    """The store does not take a part."""


@dataclass(frozen=True)
class Sent:
    """A part that the store has, and under which tag."""

    number: int
    etag: str
    size: int

    def document(self) -> dict[str, Any]:
        return {"number": self.number, "etag": self.etag, "size": self.size}


@dataclass
class Parts:
    """Takes bytes and uploads them. `url_of(number, fresh)` gives a part's address, a new one if `fresh`.

    Never holds more than two parts. `finish` must be called once; what fails, fails there or in a later `write`.
    """

    size: int
    url_of: Callable[[int, bool], str]
    control: str = ""  # where the control plane is, which may be the only way out
    sent: list[Sent] = field(default_factory=list)
    total: int = 0
    _filled: int = 0
    _sha256: Any = field(default_factory=hashlib.sha256)
    _underway: "Future[Sent] | None" = None
    _number: int = 0
    _sender: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "parts"))

    def __post_init__(self) -> None:
        # Two, used in turn: fresh memory for each part would cost more than sending it. Untouched, they cost nothing.
        self._buffers = memoryview(bytearray(self.size)), memoryview(bytearray(self.size))

    def write(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self.total += len(chunk)
        view = memoryview(chunk)
        while view:
            fitting, view = view[: self.size - self._filled], view[self.size - self._filled :]
            self._buffers[self._number % 2][self._filled : self._filled + len(fitting)] = fitting
            self._filled += len(fitting)
            if self._filled == self.size:
                self._send()

    def finish(self) -> str:
        """Upload the rest and wait for all of it; the SHA-256 of everything."""
        if self._filled or not self._number:
            self._send()
        self._settle()
        return str(self._sha256.hexdigest())

    def close(self) -> None:
        self._sender.shutdown(wait=True, cancel_futures=True)
        self._buffers = memoryview(b""), memoryview(b"")

    def _send(self) -> None:
        self._settle()
        self._number += 1
        if self._number > MOST_PARTS:
            raise Refused(f"The checkpoint has more than {MOST_PARTS} parts of {self.size} bytes; use larger parts.")
        full = self._buffers[(self._number - 1) % 2][: self._filled]
        self._filled = 0
        self._underway = self._sender.submit(_put, self._number, full, self.url_of, self.control)

    def _settle(self) -> None:
        if self._underway is not None:
            underway, self._underway = self._underway, None
            self.sent.append(underway.result())


def _put(number: int, part: memoryview, url_of: Callable[[int, bool], str], control: str) -> Sent:
    expected = hashlib.md5(part, usedforsecurity=False).hexdigest()
    problem, fresh = "", False
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(min(0.2 * 2**attempt, 5.0))
        try:
            status, etag = _put_once(url_of(number, fresh), part, control)
        except LOST as lost:
            problem = str(lost) or type(lost).__name__
            continue
        if status == 200 and etag == expected:
            return Sent(number, etag, len(part))
        problem = f"status {status}" if status != 200 else f"it arrived as {etag or 'nothing'}, not as {expected}"
        fresh = status in (400, 403)  # an address that expired
    raise Refused(f"Part {number} could not be uploaded in {ATTEMPTS} attempts: {problem}.")


def _put_once(url: str, part: memoryview, control: str) -> tuple[int, str]:
    link, target = connection(url, control=control)
    try:
        link.request("PUT", target, part, {"Content-Length": str(len(part))})
        reply: http.client.HTTPResponse = link.getresponse()
        reply.read(65536)
        return reply.status, (reply.getheader("ETag") or "").strip('"')
    finally:
        link.close()
