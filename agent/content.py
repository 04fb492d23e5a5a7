"""What is in files, up and down, as streams: nothing is held in memory, and no file is ever seen half written."""

import asyncio
import json
import mimetypes
import os
import re
import secrets
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from typing import Any, BinaryIO, cast

from agent import shapes
from agent.errors import Refusal, from_system, named
from agent.files import make_parents
from agent.machine import Machine
from agent.multipart import Multipart, Part
from agent.web import Reply, Request, Span, answer

BOUNDARY = "DAYTONA-FILE-BOUNDARY"

_CHUNK = 1024 * 1024
_SMALL = 256 * 1024


@dataclass(frozen=True)
class Opened:
    """A regular file that is open for reading, and is closed when nobody holds it any more."""

    file: BinaryIO
    status: os.stat_result

    @property
    def size(self) -> int:
        return self.status.st_size

    @property
    def etag(self) -> bytes:
        return b'"%x-%x-%x"' % (self.status.st_mtime_ns, self.status.st_size, self.status.st_ino)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """As many bytes as it had when it was opened; one that was cut meanwhile breaks off instead of faking an end."""
        position = 0
        while position < self.size:
            size = min(_CHUNK, self.size - position)
            reading = partial(os.pread, self.file.fileno(), size, position)
            chunk = reading() if size <= _SMALL else await asyncio.to_thread(reading)
            if not chunk:
                raise Refusal("failed", "A file became shorter while it was read.")
            position += len(chunk)
            yield chunk


async def download(machine: Machine, request: Request) -> Reply:
    opened = _open(machine.path(request.query({"path": (shapes.word, shapes.REQUIRED)}).path))
    headers = [(b"content-type", b"application/octet-stream"), (b"accept-ranges", b"bytes"), (b"etag", opened.etag)]
    headers.append((b"last-modified", formatdate(opened.status.st_mtime, usegmt=True).encode()))
    if opened.size == 0:  # an empty file, or one of the kernel's, which claim to be empty and are not
        return Reply(200, opened.file.read(_CHUNK), tuple(headers))
    if request.headers.get(b"if-none-match") == opened.etag:
        return Reply(304, b"", tuple(headers))
    begin, end = _range(request, opened)
    if (begin, end) != (0, opened.size):
        headers.append((b"content-range", b"bytes %d-%d/%d" % (begin, end - 1, opened.size)))
    return Reply(206 if end - begin != opened.size else 200, Span(opened.file, begin, end - begin), tuple(headers))


def _open(path: str) -> Opened:
    # Without O_NONBLOCK a FIFO would be waited for.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(file)
    if stat.S_ISREG(status.st_mode):
        return Opened(cast(BinaryIO, open(file, "rb", buffering=0)), status)
    os.close(file)
    raise Refusal(
        "invalid", f"{named(path)} is {'a folder' if stat.S_ISDIR(status.st_mode) else 'not a regular file'}."
    )


def _range(request: Request, opened: Opened) -> tuple[int, int]:
    """The span that is asked for; everything where it is not, or cannot be understood."""
    size = opened.size
    match = re.fullmatch(rb"bytes=(\d{0,18})-(\d{0,18})", request.headers.get(b"range", b""))
    if not match or match[0] == b"bytes=-" or request.headers.get(b"if-range", opened.etag) != opened.etag:
        return 0, size
    first, last = match.groups()
    begin = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if begin >= end:
        raise Refusal("unsatisfiable", f"The file has {size} bytes; there is no such range in it.", size=size)
    return begin, end


async def put(machine: Machine, request: Request) -> Reply:
    fields = {"mode": (shapes.permissions, None), "make_parents": (shapes.flag, True)}
    asked = request.query({"path": (shapes.word, shapes.REQUIRED), **fields})
    draft = Draft(machine, machine.path(asked.path), parents=asked.make_parents, mode=asked.mode)
    return answer(await draft.write(request.stream()))


async def upload(machine: Machine, request: Request) -> Reply:
    written, paths = [], {}
    if path := request.query({"path": (shapes.word, None)}).path:
        paths["file"] = path
    async for part in Multipart(request.headers.get(b"content-type", b""), request.stream()).parts():
        if match := re.fullmatch(r"(files\[\d{1,9}\]\.)?path", part.name):
            paths[f"{match[1] or ''}file"] = shapes.word(part.name, await _field(part))
        elif re.fullmatch(r"(files\[\d{1,9}\]\.)?file", part.name):
            if part.name not in paths:
                raise Refusal("invalid", f"{part.name} came before its path.")
            draft = Draft(machine, machine.path(paths.pop(part.name)))
            written.append(await draft.write(part.chunks()))
        else:
            raise Refusal(
                "invalid", f"Unknown part {part.name[:100]!a}; known are files[i].path, files[i].file, path and file."
            )
    if paths and path is None:
        raise Refusal("invalid", f"{next(iter(paths))[:100]} is missing.")
    return answer({"files": written})


async def _field(part: Part) -> str:
    value = bytearray()
    async for chunk in part.chunks():
        value += chunk
        if len(value) > 65536:
            raise Refusal("too_large", f"{part.name} has more than 65536 bytes.")
    return os.fsdecode(bytes(value))


class Draft:
    """A file being written beside its destination, which it replaces when it is complete.

    A link is written through. A file that is there keeps its owner, and its mode where none is given.
    """

    def __init__(self, machine: Machine, path: str, *, parents: bool = True, mode: int | None = None) -> None:
        self._path = os.path.realpath(path)
        self._machine, self._asked_mode = machine, mode
        folder, name = os.path.split(self._path)
        if parents:
            make_parents(machine, folder)
        self._old = _regular(self._path)
        self._beside = os.path.join(folder, f".{os.fsdecode(os.fsencode(name)[:100])}.{secrets.token_hex(6)}")
        self._file = os.open(self._beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    async def write(self, chunks: AsyncIterator[bytes]) -> dict[str, Any]:
        """Write all chunks and put the file in its place; whatever fails, nothing is left beside it."""
        try:
            try:
                size = await self._fill(chunks)
                self._dress()
            finally:
                os.close(self._file)
            await self._place()
        except BaseException:
            with suppress(OSError):
                os.unlink(self._beside)
            raise
        return {"path": self._path, "size": size}

    async def _fill(self, chunks: AsyncIterator[bytes]) -> int:
        """Write what arrives; one batch is written in a thread while the next arrives, for a full page cache makes wait."""
        size, waiting, batch = 0, 0, list[bytes]()
        writing: asyncio.Future[None] | None = None
        try:
            async for chunk in chunks:
                batch.append(chunk)
                waiting += len(chunk)
                if waiting >= _CHUNK:
                    await _over(writing)
                    writing = asyncio.ensure_future(asyncio.to_thread(_write_all, self._file, batch))
                    size, waiting, batch = size + waiting, 0, []
        finally:
            # Whatever ends us: the file's number may be another file's as soon as it is closed.
            await _over(writing)
        _write_all(self._file, batch)
        return size + waiting

    def _dress(self) -> None:
        if os.geteuid() == 0:
            owner = self._old or self._machine.person
            os.fchown(
                self._file,
                *((owner.st_uid, owner.st_gid) if isinstance(owner, os.stat_result) else (owner.uid, owner.gid)),
            )
        kept = stat.S_IMODE(self._old.st_mode) if self._old else 0o644
        os.fchmod(self._file, kept if self._asked_mode is None else self._asked_mode)

    async def _place(self) -> None:
        try:
            os.rename(self._beside, self._path)
        except OSError:
            # A file that the engine has mounted, such as /etc/hosts, cannot be replaced but can be filled.
            if not os.path.ismount(self._path):
                raise
            await asyncio.to_thread(_copy, self._beside, self._path)
            os.unlink(self._beside)


async def _over(writing: "asyncio.Future[None] | None") -> None:
    """Wait for the thread that writes. To be cancelled does not end a thread, so it is not passed on to it."""
    if writing is not None:
        await asyncio.wait((writing,))
        writing.result()


def _regular(path: str) -> os.stat_result | None:
    """The file that is to be replaced, if there is one; refuses what is not a file."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise Refusal(
            "invalid", f"{named(path)} is {'a folder' if stat.S_ISDIR(status.st_mode) else 'not a regular file'}."
        )
    return status


def _write_all(file: int, chunks: list[bytes]) -> None:
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            view = view[os.write(file, view) :]


def _copy(source: str, target: str) -> None:
    with open(source, "rb") as reader, open(target, "wb") as writer:
        while chunk := reader.read(_CHUNK):
            writer.write(chunk)


# The SDKs that read this reply know these words for what went wrong with one file of many.
_FILE_CODES = {"not_found": "FILE_NOT_FOUND", "forbidden": "FILE_ACCESS_DENIED", "invalid": "INVALID_FILE_PATH"}


async def download_many(machine: Machine, request: Request) -> Reply:
    as_text = request.query({"errors": (shapes.one_of("json", "text"), "json")}).errors == "text"
    paths = (await request.json({"paths": (shapes.list_of(shapes.word, least=1), shapes.REQUIRED)})).paths
    kind = f"multipart/form-data; boundary={BOUNDARY}".encode()
    return Reply(200, _parts(machine, paths, as_text), ((b"content-type", kind),))


async def _parts(machine: Machine, paths: list[str], as_text: bool) -> AsyncGenerator[bytes, None]:
    for path in paths:
        try:
            opened = _open(machine.path(path))
        except (Refusal, OSError) as problem:
            yield _error_part(path, problem if isinstance(problem, Refusal) else from_system(problem), as_text)
            continue
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
        yield _part_head("file", path, kind, opened.size)
        async for chunk in opened.chunks():
            yield chunk
        yield b"\r\n"
    yield f"--{BOUNDARY}--\r\n".encode()


def _error_part(path: str, refusal: Refusal, as_text: bool) -> bytes:
    """Older SDKs show whatever the part says; newer ones read JSON."""
    told = {"statusCode": refusal.status, "code": _FILE_CODES.get(refusal.code), "source": "DAYTONA_DAEMON"}
    body = refusal.message.encode(errors="replace") if as_text else json.dumps({**refusal.body(), **told}).encode()
    kind = "text/plain; charset=utf-8" if as_text else "application/json"
    return _part_head("error", path, kind, len(body)) + body + b"\r\n"


def _part_head(name: str, path: str, kind: str, size: int) -> bytes:
    shown = os.fsencode(path).translate(None, b"\r\n").replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="'.encode()
        + shown
        + f'"\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n'.encode()
    )
