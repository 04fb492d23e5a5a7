"""The archive's form: pax tar with GNU.sparse 1.0. Made and read here, understood by GNU tar and others.

A reader of our own because archives may be hostile and large: it holds one header at a time and knows only what the
writer writes; anything else is damage.
"""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

BLOCK = 512
FILE, LINK, SYMLINK, CHARACTER, BLOCKS, FOLDER, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"

_PAX = b"x"
_XATTR = "SCHILY.xattr."
_LARGEST_PAX = 16 * 1024 * 1024
_MOST_SEGMENTS = 4_000_000

Segments = list[tuple[int, int]]


class Damaged(ValueError):
    """The archive is not one of ours, or not whole."""


@dataclass(frozen=True)
class Member:
    """One entry. `segments` are offset and length of the data of a file with holes, None where it has none."""

    path: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    segments: Segments | None = None
    xattrs: dict[str, bytes] = field(default_factory=dict)

    @property
    def stored(self) -> int:
        """How many bytes of content follow in the archive."""
        if self.kind != FILE:
            return 0
        return self.size if self.segments is None else sum(length for _, length in self.segments)


def head(member: Member) -> bytes:
    """Everything that comes before the member's content."""
    sign = b"-" if member.mtime_ns < 0 else b""
    records = {"mtime": sign + b"%d.%09d" % divmod(abs(member.mtime_ns), 10**9)}
    records |= {_XATTR + name: value for name, value in member.xattrs.items()}
    name, listing = member.path, b""
    if member.segments is not None:
        listing = _listing(member.segments)
        records |= {"GNU.sparse.major": b"1", "GNU.sparse.minor": b"0", "GNU.sparse.name": member.path}
        records["GNU.sparse.realsize"] = b"%d" % member.size
        name = b"GNUSparseFile.0/" + os.path.basename(member.path)
    size = member.stored + len(listing)
    for key, value, limit in (("path", name, 100), ("linkpath", member.link, 100)):
        if len(value) > limit or not value.isascii():
            records[key] = value
    for key, number, limit in (("size", size, 8**11), ("uid", member.uid, 8**7), ("gid", member.gid, 8**7)):
        if number >= limit:
            records[key] = b"%d" % number
    return _pax(records) + _ustar(member, name, member.kind, size) + listing


def padding(size: int) -> bytes:
    """What fills the last block of content of that size."""
    return bytes(-size % BLOCK)


END = bytes(2 * BLOCK)


def _listing(segments: Segments) -> bytes:
    numbers = b"%d\n" % len(segments) + b"".join(b"%d\n%d\n" % segment for segment in segments)
    return numbers + padding(len(numbers))


def _pax(records: dict[str, bytes]) -> bytes:
    if not all(_is_utf8(value) for value in records.values()):
        records = {"hdrcharset": b"BINARY", **records}
    body = b"".join(_record(key.encode(), value) for key, value in records.items())
    pax = Member(b"././@PaxHeader", _PAX, 0, 0, 0, 0)
    return _ustar(pax, pax.path, _PAX, len(body)) + body + padding(len(body))


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


_USTAR = struct.Struct("100s8s8s8s12s12s8sc100s8s64x8s8s167x")


def _ustar(member: Member, name: bytes, kind: bytes, size: int) -> bytes:
    seconds = member.mtime_ns // 1_000_000_000
    block = _USTAR.pack(
        name,
        b"%07o" % member.mode,
        b"%07o" % (member.uid & 0o7777777),
        b"%07o" % (member.gid & 0o7777777),
        b"%011o" % (size if size < 8**11 else 0),
        b"%011o" % (seconds if 0 <= seconds < 8**11 else 0),
        b"        ",
        kind,
        member.link,
        b"ustar\x0000",
        b"%07o" % member.device[0],
        b"%07o" % member.device[1],
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


@dataclass
class Reader:
    """Members of a stream. `read(n)` gives at most n bytes, none at the end."""

    read: Callable[[int], bytes]
    _left: int = 0
    _pad: int = 0

    def members(self) -> Iterator[Member]:
        """Each member; its content, if not taken with `content`, is skipped. Raises `Damaged`."""
        while True:
            for _ in self.content():
                pass
            self._exactly(self._pad)
            self._pad = 0
            records, block = self._records()
            if block is None:
                return
            member = self._member(records, block)
            self._left, self._pad = member.stored, -member.stored % BLOCK
            yield member

    def content(self) -> Iterator[bytes]:
        """The current member's stored bytes."""
        while self._left:
            chunk = self.read(min(self._left, 1024 * 1024))
            if not chunk:
                raise Damaged("it ends within a file")
            self._left -= len(chunk)
            yield chunk

    def _records(self) -> tuple[dict[str, bytes], bytes | None]:
        block = self._exactly(BLOCK)
        if not any(block):
            return {}, None
        _verify(block)
        if block[156:157] != _PAX:
            return {}, block
        size = _octal(block[124:136])
        if size > _LARGEST_PAX:
            raise Damaged("a header is too large")
        records = _parsed(self._exactly(size))
        self._exactly(-size % BLOCK)
        block = self._exactly(BLOCK)
        _verify(block)
        return records, block

    def _member(self, records: dict[str, bytes], block: bytes) -> Member:
        kind = block[156:157]
        size = _number(records.get("size")) if "size" in records else _octal(block[124:136])
        segments, real = None, size
        if "GNU.sparse.realsize" in records:
            real = _number(records["GNU.sparse.realsize"])
            segments, listed = self._segments(real)
            if sum(length for _, length in segments) + listed != size:
                raise Damaged("a file with holes does not add up")
        return Member(
            path=records.get("GNU.sparse.name") or records.get("path") or _text(block[0:100]),
            kind=kind,
            mode=_octal(block[100:108]) & 0o7777,
            uid=_number(records.get("uid")) if "uid" in records else _octal(block[108:116]),
            gid=_number(records.get("gid")) if "gid" in records else _octal(block[116:124]),
            mtime_ns=_moment(records.get("mtime"), _octal(block[136:148])),
            size=real if kind == FILE else 0,
            link=records.get("linkpath") or _text(block[157:257]),
            device=(_octal(block[329:337]), _octal(block[337:345])),
            segments=segments,
            xattrs={key.removeprefix(_XATTR): value for key, value in records.items() if key.startswith(_XATTR)},
        )

    def _segments(self, size: int) -> tuple[Segments, int]:
        """The listing of a file with holes, and how many bytes it took."""
        waiting, taken = b"", 0

        def number() -> int:
            nonlocal waiting, taken
            while b"\n" not in waiting:
                if len(waiting) > 32:
                    raise Damaged("a listing of holes is not readable")
                waiting += self._exactly(BLOCK)
                taken += BLOCK
            line, _, waiting = waiting.partition(b"\n")
            return _number(line)

        count = number()
        if count > _MOST_SEGMENTS:
            raise Damaged("a file has too many holes")
        segments, position = [], 0
        for _ in range(count):
            offset, length = number(), number()
            if offset < position or offset + length > size:
                raise Damaged("a listing of holes is out of order")
            position = offset + length
            segments.append((offset, length))
        return segments, taken

    def _exactly(self, size: int) -> bytes:
        chunks = []
        while size:
            chunk = self.read(size)
            if not chunk:
                raise Damaged("it ends too early")
            size -= len(chunk)
            chunks.append(chunk)
        return b"".join(chunks)


def _verify(block: bytes) -> None:
    if sum(block[:148]) + sum(block[156:]) + 8 * 32 != _octal(block[148:156]) or block[257:262] != b"ustar":
        raise Damaged("a header is wrong")


def _parsed(body: bytes) -> dict[str, bytes]:
    records, position = {}, 0
    while position < len(body):
        space = body.find(b" ", position, position + 20)
        length = _number(body[position:space]) if space > 0 else 0
        record = body[space + 1 : position + length - 1]
        key, equals, value = record.partition(b"=")
        if not equals or body[position + length - 1 : position + length] != b"\n":
            raise Damaged("an extended header is wrong")
        records[key.decode("utf-8", "replace")] = value
        position += length
    return records


def _octal(word: bytes) -> int:
    digits = word.strip(b" \0")
    if not digits:
        return 0
    try:
        return int(digits, 8) if digits.isdigit() else int("x")
    except ValueError:
        raise Damaged("a header has a wrong number") from None


def _number(word: bytes | None) -> int:
    if word is None or not word.isdigit() or len(word) > 20:
        raise Damaged("an extended header has a wrong number")
    return int(word)


def _moment(word: bytes | None, seconds: int) -> int:
    if word is None:
        return seconds * 10**9
    whole, _, part = word.partition(b".")
    negative = whole.startswith(b"-")
    nanoseconds = _number(part[:9].ljust(9, b"0")) if part else 0
    return (-1 if negative else 1) * (_number(whole.removeprefix(b"-")) * 10**9 + nanoseconds)


def _text(word: bytes) -> bytes:
    return word.split(b"\0", 1)[0]
