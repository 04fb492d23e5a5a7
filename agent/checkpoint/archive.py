"""Writing what changed as an archive: deletions first, then every changed path with its content."""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from agent.checkpoint import tar
from agent.checkpoint.changes import Found, Survey

DELETED = b".sandbar/deleted"
XATTRS = ("user.", "security.capability", "system.posix_acl_")

_CHUNK = 1024 * 1024
_KINDS = {
    stat.S_IFREG: tar.FILE,
    stat.S_IFDIR: tar.FOLDER,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFIFO: tar.FIFO,
    stat.S_IFCHR: tar.CHARACTER,
    stat.S_IFBLK: tar.BLOCKS,
}


@dataclass
class Archive:
    """Writes to `write`. `count` is the number of members so far."""

    root: str
    write: Callable[[bytes], object]
    count: int = 0
    _linked: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def save(self, survey: Survey) -> None:
        """Everything that the survey finds. The changed are known by name before the deleted are, hence two steps."""
        changed = [found.path for found in survey.changed()]
        deleted = b"\0".join(os.fsencode(path) for path in survey.deleted())
        self.write(tar.head(tar.Member(DELETED, tar.FILE, 0o600, 0, 0, 0, len(deleted))))
        self.write(deleted + tar.padding(len(deleted)))
        for path in changed:
            try:
                self._add(Found(path, os.lstat(f"{self.root}/{path}")))
            except FileNotFoundError:
                continue  # it vanished since the walk
            self.count += 1
        self.write(tar.END)

    def _add(self, found: Found) -> None:
        status, place = found.status, f"{self.root}/{found.path}"
        path, kind = os.fsencode(found.path) or b".", _KINDS[stat.S_IFMT(status.st_mode)]
        inode = (status.st_dev, status.st_ino)
        if kind != tar.FOLDER and inode in self._linked:
            self.write(tar.head(_member(path, tar.LINK, status, link=self._linked[inode])))
            return
        if kind == tar.FILE:
            self._add_file(path, place)
        else:
            link = os.fsencode(os.readlink(place)) if kind == tar.SYMLINK else b""
            self.write(tar.head(_member(path, kind, status, link=link, xattrs=_xattrs(place))))
        if status.st_nlink > 1:
            self._linked[inode] = path

    def _add_file(self, path: bytes, place: str) -> None:
        file = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(file)
            segments = _segments(file, status.st_size) if status.st_blocks * 512 < status.st_size else None
            member = _member(path, tar.FILE, status, size=status.st_size, segments=segments, xattrs=_xattrs(file))
            self.write(tar.head(member))
            for offset, length in [(0, status.st_size)] if segments is None else segments:
                for chunk in _exactly(file, offset, length):
                    self.write(chunk)
            self.write(tar.padding(member.stored))
        finally:
            os.close(file)


def _member(path: bytes, kind: bytes, status: os.stat_result, **more: Any) -> tar.Member:
    if kind in (tar.CHARACTER, tar.BLOCKS):
        more["device"] = os.major(status.st_rdev), os.minor(status.st_rdev)
    mode = status.st_mode & 0o7777
    return tar.Member(path, kind, mode, status.st_uid, status.st_gid, status.st_mtime_ns, **more)


def _xattrs(place: str | int) -> dict[str, bytes]:
    follow = {} if isinstance(place, int) else {"follow_symlinks": False}
    try:
        names = [name for name in os.listxattr(place, **follow) if name.startswith(XATTRS)]
        return {name: os.getxattr(place, name, **follow) for name in names if "=" not in name}
    except OSError:
        return {}  # a file system without them, or a file that just vanished


def _segments(file: int, size: int) -> tar.Segments:
    """Where the file has data. Ends with an empty segment at its size, as GNU tar has it."""
    segments, position = [], 0
    while position < size:
        try:
            begin = os.lseek(file, position, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            break
        position = min(size, os.lseek(file, begin, os.SEEK_HOLE))
        segments.append((begin, position - begin))
    return [*segments, (size, 0)]


def _exactly(file: int, offset: int, length: int) -> Iterator[bytes]:
    """That many bytes, zeros for what a file lost since its size was taken."""
    while length:
        chunk = os.pread(file, min(length, _CHUNK), offset) or bytes(min(length, _CHUNK))
        offset += len(chunk)
        length -= len(chunk)
        yield chunk
