"""What changed over the image: a walk of the whole disk against the image's manifest.

The manifest has one line a path, a JSON array of type, mode, uid, gid, size, mtime in whole seconds (image layers keep
no finer) and the path relative to the root, sorted, compressed with zstd. The walk makes the same line for what it
finds; a line that the manifest has is a path that has not changed.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii
from operator import attrgetter
from typing import NamedTuple

APART = frozenset({"proc", "sys", "dev", "run/sandbar", "opt/sandbar"})
DIFFERENT_SIZE_EVERYWHERE = "d"

_TYPES = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFIFO: "p",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
}
_quoted: Callable[[str], str] = encode_basestring_ascii


class Found(NamedTuple):
    """A path, relative to the root and empty for the root itself. A tuple, since a disk has many."""

    path: str
    status: os.stat_result


@dataclass
class Survey:
    """The walk below `root`. After `changed` is exhausted, `deleted` are the manifest's paths that are gone."""

    root: str
    born_ns: int
    manifest: set[str] = field(default_factory=set)
    apart: frozenset[str] = APART
    unreadable: list[str] = field(default_factory=list)

    def changed(self) -> Iterator[Found]:
        """What changed, parents before children. A path that vanishes meanwhile is left out."""
        unseen = self.manifest
        for found in self.everything():
            line = described(found)
            if line in unseen:
                unseen.discard(line)
                if found.status.st_ctime_ns < self.born_ns:
                    continue
            elif not self.manifest and not found.path:
                continue
            yield found

    def deleted(self) -> Iterator[str]:
        """Paths of the manifest that are gone, those below a deleted folder left out."""
        last = None
        for path in sorted(described_path(line) for line in self.manifest):
            if (last is not None and path.startswith(last + "/")) or self._is_apart(path):
                continue
            if not os.path.lexists(f"{self.root}/{path}"):
                last = path
                yield path

    def _is_apart(self, path: str) -> bool:
        return path in self.apart or any(path.startswith(prefix + "/") for prefix in self.apart)

    def everything(self) -> Iterator[Found]:
        """Every path, changed or not."""
        yield Found("", os.lstat(self.root or "/"))
        # A list of iterators rather than recursion: a sandbox may nest folders deeper than Python recurses.
        open_folders = [iter(self._folder(""))]
        while open_folders:
            for found in open_folders[-1]:
                yield found
                if stat.S_ISDIR(found.status.st_mode):
                    open_folders.append(iter(self._folder(found.path)))
                    break
            else:
                open_folders.pop()

    def _folder(self, path: str) -> list[Found]:
        """What is in the folder, by name; sockets, what is set apart and what vanishes meanwhile are left out."""
        found, prefix, apart = [], f"{path}/" if path else "", self.apart
        try:
            with os.scandir(f"{self.root}/{path}") as children:
                entries = sorted(children, key=_name)
        except OSError:
            self.unreadable.append(path)
            return []
        for child in entries:
            below = prefix + child.name
            if below in apart:
                continue
            try:
                status = child.stat(follow_symlinks=False)
            except OSError:
                continue
            if not stat.S_ISSOCK(status.st_mode):
                found.append(Found(below, status))
        return found


_name = attrgetter("name")


def described(found: Found) -> str:
    """The manifest's line for this path."""
    status = found.status
    kind = _TYPES.get(stat.S_IFMT(status.st_mode), "?")
    size = 0 if kind == DIFFERENT_SIZE_EVERYWHERE else status.st_size
    seconds = status.st_mtime_ns // 1_000_000_000
    return (
        f'["{kind}",{status.st_mode & 0o7777},{status.st_uid},{status.st_gid},{size},{seconds},{_quoted(found.path)}]'
    )


def described_path(line: str) -> str:
    """The path in a line of the manifest."""
    import json  # only what changed is ever parsed

    return str(json.loads(line)[6])


def mounts(root: str) -> frozenset[str]:
    """Where other file systems are mounted below `root`, relative to it."""
    prefix = root.rstrip("/") + "/"
    with open("/proc/self/mountinfo", "rb") as lines:
        points = [_unescaped(line.split()[4]) for line in lines]
    return frozenset(point.removeprefix(prefix) for point in points if point.startswith(prefix) and point != prefix)


def _unescaped(word: bytes) -> str:
    for code, character in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        word = word.replace(code, character)
    return os.fsdecode(word)
