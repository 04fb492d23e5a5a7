"""Fetching a checkpoint and unpacking it as it arrives."""

import hashlib
import http.client
import time
from dataclasses import dataclass, field
from typing import IO, Any, cast

import zstandard

from agent.checkpoint.restoring import Restoring
from agent.checkpoint.tar import Damaged, Reader
from agent.control import LOST, connection

ATTEMPTS = 8
LARGEST_WINDOW = 128 * 1024 * 1024


def restore(url: str, *, size: int, sha256: str, root: str, control: str = "") -> int:
    """Unpack the checkpoint over `root`; the number of its entries.

    Raises ValueError if it is damaged, OSError if the disk fails. Damage that shows only at the end is found after the
    disk was written: such a disk must not be used.
    """
    download = Download(url, size, control)
    try:
        plain = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).stream_reader(
            cast(IO[bytes], download), read_size=1 << 18
        )
        count = Restoring(root).apply(Reader(plain.read))
        while plain.read(1 << 20):
            pass
        while download.read(1 << 20):
            pass
    except zstandard.ZstdError as problem:
        raise Damaged(f"it cannot be unpacked ({problem})") from None
    finally:
        download.close()
    if download.digest() != sha256.lower():
        raise Damaged(f"its SHA-256 is {download.digest()}, not {sha256}")
    return count


@dataclass
class Download:
    """The bytes at a URL as a file to read once. A lost connection is taken up where it broke."""

    url: str
    size: int
    control: str = ""  # where the control plane is, which may be the only way out
    _position: int = 0
    _failures: int = 0
    _sha256: Any = field(default_factory=hashlib.sha256)
    _link: http.client.HTTPConnection | None = None
    _reply: http.client.HTTPResponse | None = None

    def read(self, count: int = -1) -> bytes:
        """Up to `count` bytes; none at the end. Raises `Damaged` where the URL gives something else."""
        count = self.size - self._position if count < 0 else min(count, self.size - self._position)
        while count:
            try:
                chunk = self._opened().read(count)
                if not chunk:
                    raise http.client.IncompleteRead(b"")
            except LOST as lost:
                self._lost(lost)
                continue
            self._failures = 0
            self._position += len(chunk)
            self._sha256.update(chunk)
            return chunk
        return b""

    def digest(self) -> str:
        return str(self._sha256.hexdigest())

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = self._reply = None

    def _lost(self, lost: Exception) -> None:
        self.close()
        self._failures += 1
        if self._failures == ATTEMPTS:
            raise Damaged(f"it broke off {ATTEMPTS} times at byte {self._position} of {self.size}: {lost}")
        time.sleep(min(0.1 * 2**self._failures, 5.0))

    def _opened(self) -> http.client.HTTPResponse:
        if self._reply is None:
            self._link, target = connection(self.url, control=self.control)
            headers = {"Range": f"bytes={self._position}-"} if self._position else {}
            self._link.request("GET", target, headers=headers)
            self._reply = self._link.getresponse()
            if self._reply.status >= 500 or self._reply.status == 429:
                raise http.client.HTTPException(f"status {self._reply.status}")
            if self._reply.status != (206 if self._position else 200):
                raise Damaged(f"its address answers {self._reply.status}")
        return self._reply
