"""Unpacking an archive over a root that it must not leave.

An archive may come from another sandbox and is not trusted. Every path is walked from the root by file descriptors
that never follow a link, and whatever is in the way of a member is removed first.
"""

import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from agent.checkpoint import tar
from agent.checkpoint.archive import DELETED, XATTRS
from agent.checkpoint.changes import APART
from agent.checkpoint.tar import Damaged, Member, Reader

_LONGEST_DELETED = 256 * 1024 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_APART = tuple(tuple(os.fsencode(path).split(b"/")) for path in APART)

log = logging.getLogger(__name__)

Words = tuple[bytes, ...]
Made = TypeVar("Made")


@dataclass
class _Open:
    """A folder on the way to the current member, and how it is to look when we leave it."""

    name: bytes
    file: int
    mtime_ns: int
    mode: int


@dataclass
class Restoring:
    """Applies archives to the folder `root`."""

    root: str
    _way: list[_Open] = field(default_factory=list)

    def apply(self, reader: Reader) -> int:
        """Unpack everything; how many members there were. Raises `Damaged` for what would lead out or makes no sense."""
        count = 0
        self._enter(b"", os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        try:
            for number, member in enumerate(reader.members()):
                if number == 0:
                    self._delete(member, reader)
                    continue
                self._member(member, reader)
                count += 1
        finally:
            while self._way:
                self._leave()
        return count

    def _delete(self, member: Member, reader: Reader) -> None:
        if member.path != DELETED or member.kind != tar.FILE or member.size > _LONGEST_DELETED:
            raise Damaged("it does not begin with its deletions")
        listed = b"".join(reader.content())
        for path in listed.split(b"\0") if listed else ():
            words = _words(path)
            if self._walk(words[:-1], make=False):
                _clear(self._here, words[-1])

    def _member(self, member: Member, reader: Reader) -> None:
        if member.path in (b".", b"./"):
            self._walk((), make=False)
            self._set_folder(member)
            return
        words = _words(member.path)
        self._walk(words[:-1], make=True)
        make = _MAKERS.get(member.kind)
        if make is None:
            raise Damaged(f"{member.path!a} is of unknown type {member.kind!a}")
        try:
            make(self, words[-1], member, reader)
        except OSError as problem:
            if problem.errno != 16:  # EBUSY: something is mounted there on this machine
                raise
            log.warning("left as it is, since it is mounted: %r", member.path)

    @property
    def _here(self) -> int:
        return self._way[-1].file

    def _walk(self, words: Words, *, make: bool) -> bool:
        """Make the folder of these words the current one; False if it is missing and not to be made."""
        current = tuple(folder.name for folder in self._way[1:])
        same = next(
            (i for i, (a, b) in enumerate(zip(current, words, strict=False)) if a != b), min(len(current), len(words))
        )
        while len(self._way) > same + 1:
            self._leave()
        for name in words[same:]:
            try:
                self._enter(name, os.open(name, _FOLDER, dir_fd=self._here))
            except FileNotFoundError:
                if not make:
                    return False
                os.mkdir(name, 0o755, dir_fd=self._here)
                self._enter(name, os.open(name, _FOLDER, dir_fd=self._here))
            except OSError as problem:
                if not make:
                    return False
                raise Damaged(
                    f"{b'/'.join(words)!a} leads through something that is no folder: {problem.strerror}"
                ) from None
        return True

    def _enter(self, name: bytes, file: int) -> None:
        status = os.fstat(file)
        self._way.append(_Open(name, file, status.st_mtime_ns, stat.S_IMODE(status.st_mode)))

    def _leave(self) -> None:
        # Modes and times come last: what was put into the folder has changed its time, and may have needed its mode.
        folder = self._way.pop()
        if stat.S_IMODE(os.fstat(folder.file).st_mode) != folder.mode:
            os.fchmod(folder.file, folder.mode)
        os.utime(folder.file, ns=(folder.mtime_ns, folder.mtime_ns))
        os.close(folder.file)

    def _set_folder(self, member: Member) -> None:
        folder = self._way[-1]
        folder.mode, folder.mtime_ns = member.mode, member.mtime_ns
        _own(folder.file, member)
        _mark(folder.file, member)

    def folder(self, name: bytes, member: Member, reader: Reader) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=self._here)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=self._here, follow_symlinks=False).st_mode):
                _clear(self._here, name)
                os.mkdir(name, 0o700, dir_fd=self._here)
        self._enter(name, os.open(name, _FOLDER, dir_fd=self._here))
        if os.geteuid() != 0:
            os.fchmod(self._here, 0o700)
        self._set_folder(member)

    def file(self, name: bytes, member: Member, reader: Reader) -> None:
        made = self._fresh(name, lambda: os.open(name, _NEW, 0o600, dir_fd=self._here))
        try:
            _fill(made, member, reader)
            _own(made, member)
            os.fchmod(made, member.mode)
            _mark(made, member)
            os.utime(made, ns=(member.mtime_ns, member.mtime_ns))
        finally:
            os.close(made)

    def symlink(self, name: bytes, member: Member, reader: Reader) -> None:
        self._fresh(name, lambda: os.symlink(member.link, name, dir_fd=self._here))
        self._dress(name, member)

    def special(self, name: bytes, member: Member, reader: Reader) -> None:
        kind = {tar.FIFO: stat.S_IFIFO, tar.CHARACTER: stat.S_IFCHR, tar.BLOCKS: stat.S_IFBLK}[member.kind]
        if member.kind != tar.FIFO and self.root != "/":
            raise Damaged(f"{member.path!a} is a device, which a sandbox that is a folder cannot have")
        device = os.makedev(*member.device)
        self._fresh(name, lambda: os.mknod(name, kind | 0o600, device, dir_fd=self._here))
        self._dress(name, member)
        os.chmod(name, member.mode, dir_fd=self._here)  # after the owner, which takes the setuid bits away

    def link(self, name: bytes, member: Member, reader: Reader) -> None:
        words = _words(member.link)
        with self._folder_of(words) as folder:
            self._fresh(
                name, lambda: os.link(words[-1], name, src_dir_fd=folder, dst_dir_fd=self._here, follow_symlinks=False)
            )

    @contextmanager
    def _folder_of(self, words: Words) -> Iterator[int]:
        file = os.dup(self._way[0].file)
        try:
            for name in words[:-1]:
                below = os.open(name, _FOLDER, dir_fd=file)
                os.close(file)
                file = below
            yield file
        except (FileNotFoundError, NotADirectoryError) as problem:
            raise Damaged(f"a link leads to {b'/'.join(words)!a}, which is not there: {problem.strerror}") from None
        finally:
            os.close(file)

    def _fresh(self, name: bytes, make: Callable[[], Made]) -> Made:
        """Make something new, in place of whatever is there."""
        try:
            return make()
        except FileExistsError:
            _clear(self._here, name)
            return make()

    def _dress(self, name: bytes, member: Member) -> None:
        if os.geteuid() == 0:
            os.chown(name, member.uid, member.gid, dir_fd=self._here, follow_symlinks=False)
        os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=self._here, follow_symlinks=False)


_MAKERS = {
    tar.FILE: Restoring.file,
    tar.FOLDER: Restoring.folder,
    tar.SYMLINK: Restoring.symlink,
    tar.LINK: Restoring.link,
    tar.FIFO: Restoring.special,
    tar.CHARACTER: Restoring.special,
    tar.BLOCKS: Restoring.special,
}


def _words(path: bytes) -> Words:
    words = tuple(path.rstrip(b"/").split(b"/"))
    if any(word in (b"", b".", b"..") or b"\0" in word for word in words):
        raise Damaged(f"{path[:200]!a} leads out of the sandbox")
    if any(words[: len(apart)] == apart for apart in _APART):
        raise Damaged(f"{path[:200]!a} is not a sandbox's to change")
    return words


def _clear(folder: int, name: bytes) -> None:
    """Remove whatever has that name; a link is removed, not what it leads to."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            shutil.rmtree(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)


def _fill(file: int, member: Member, reader: Reader) -> None:
    segments = iter([(0, member.size)] if member.segments is None else member.segments)
    position, room = 0, 0
    for chunk in reader.content():
        view = memoryview(chunk)
        while view:
            while not room:
                position, room = next(segments)
            written = os.pwrite(file, view[:room], position)
            position, room, view = position + written, room - written, view[written:]
    if member.segments is not None:
        os.ftruncate(file, member.size)


def _own(file: int, member: Member) -> None:
    if os.geteuid() == 0:
        os.fchown(file, member.uid, member.gid)


def _mark(file: int, member: Member) -> None:
    for name, value in member.xattrs.items():
        if name.startswith(XATTRS):
            with suppress(OSError):  # a file system without them
                os.setxattr(file, name, value)
