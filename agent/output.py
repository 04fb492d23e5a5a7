"""What a command said, kept within bounds: the first and the last bytes, and how many were cut between."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

KEEP = 5 * 1024 * 1024


@dataclass
class Kept:
    """The first and last `keep` bytes of a stream. Chunks are shared with whoever else keeps them, never copied."""

    keep: int = KEEP
    _head: list[bytes] = field(default_factory=list)
    _tail: deque[bytes] = field(default_factory=deque)
    _head_size: int = 0
    _tail_size: int = 0
    cut: int = 0

    def add(self, chunk: bytes) -> None:
        if room := self.keep - self._head_size:
            first = chunk[:room]
            self._head.append(first)
            self._head_size += len(first)
            chunk = chunk[room:]
        if not chunk:
            return
        self._tail.append(chunk)
        self._tail_size += len(chunk)
        while self._tail_size - len(self._tail[0]) >= self.keep:
            dropped = len(self._tail.popleft())
            self._tail_size -= dropped
            self.cut += dropped

    def bytes(self) -> bytes:
        """What is kept, with a marker line where something was cut."""
        tail = b"".join(self._tail)
        excess = max(0, len(tail) - self.keep) if self.cut else 0
        cut = self.cut + excess
        marker = b"\n... [%d bytes cut] ...\n" % cut if cut else b""
        return b"".join(self._head) + marker + tail[excess:]

    def text(self) -> str:
        return self.bytes().decode("utf-8", "replace")


@dataclass
class Captured:
    """Both streams of a command, apart and in order of arrival."""

    stdout: Kept = field(default_factory=Kept)
    stderr: Kept = field(default_factory=Kept)
    both: Kept = field(default_factory=Kept)

    def add(self, stream: int, chunk: bytes) -> None:
        (self.stdout if stream == 1 else self.stderr).add(chunk)
        self.both.add(chunk)

    def document(self) -> dict[str, Any]:
        return {
            "stdout": self.stdout.text(),
            "stderr": self.stderr.text(),
            "output": self.both.text(),
            "truncated": bool(self.both.cut),
        }
