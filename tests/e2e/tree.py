"""Runs inside a sandbox: `make` grows a tree of hard cases below /tree, `tell` prints what is there, one line a path."""

import hashlib
import json
import os
import random
import stat
import sys

ROOT = b"/tree"
FILES = 10_000
BLOCK = 1 << 20
ODD = [
    b"new\nline",
    b"tab\t",
    b" leading",
    b"trailing ",
    b"-rf",
    b"*?[x]",
    b"quote'\"",
    b"\xff\xfe not UTF-8",
    "ünï".encode(),
    b"x" * 255,
]


def make() -> None:
    """Everything that a disk may hold and that a careless copy loses."""
    chance = random.Random(7)
    for number in range(FILES):
        folder = b"%s/%02d/%02d" % (ROOT, number % 50, number % 7)
        os.makedirs(folder, exist_ok=True)
        _write(b"%s/%05d" % (folder, number), chance.randbytes(chance.randrange(4096)))
    for name in ODD:
        _write(ROOT + b"/" + name, name)
    _links()
    _large(chance)
    _replace_what_the_image_has()
    for number in range(100):
        os.utime(b"%s/%02d" % (ROOT, number % 50), ns=(number * 10**9 + 1, number * 10**9 + 123_456_789))


def tell() -> None:
    """Type, mode, owner, size, times, blocks of files with holes, link counts and contents of every path."""
    for folder, folders, files in os.walk(ROOT):
        for name in sorted(folders + files):
            print(json.dumps(_facts(os.path.join(folder, name))))
    for path in (b"/etc/motd.d", b"/etc/issue", b"/etc/issue.net", b"/usr/share/common-licenses"):
        print(json.dumps([path.decode(), _facts(path) if os.path.lexists(path) else None]))


def _write(path: bytes, contents: bytes) -> None:
    with open(path, "wb") as file:
        file.write(contents)


def _links() -> None:
    os.symlink(b"no/such/place", ROOT + b"/dangling")
    os.symlink(b"00", ROOT + b"/to-a-folder")
    for number in range(20):
        os.link(b"%s/%02d/%02d/%05d" % (ROOT, 1, 1, 1), b"%s/hard-%d" % (ROOT, number))
    os.mkfifo(ROOT + b"/fifo", 0o640)
    _write(ROOT + b"/setuid", b"#!/bin/sh\n")
    os.chown(ROOT + b"/setuid", 1234, 4321)
    os.chmod(ROOT + b"/setuid", 0o6755)
    os.mkdir(ROOT + b"/sticky")
    os.chmod(ROOT + b"/sticky", 0o1777)
    os.mkdir(ROOT + b"/empty")


def _large(chance: random.Random) -> None:
    with open(ROOT + b"/large", "wb") as file:
        for _ in range(1024):
            file.write(chance.randbytes(BLOCK))
    with open(ROOT + b"/sparse", "wb") as file:
        file.truncate(8 << 30)
        for offset in (0, 3 << 30, (8 << 30) - 5):
            file.seek(offset)
            file.write(b"data!")


def _replace_what_the_image_has() -> None:
    """A file that is deleted, one that becomes a folder, one that becomes a link."""
    os.unlink(b"/etc/issue.net")
    os.unlink(b"/etc/issue")
    os.mkdir(b"/etc/issue")
    os.makedirs(b"/etc/motd.d", exist_ok=True)
    _write(b"/etc/motd.d/ours", b"hello\n")


def _facts(path: bytes) -> list[object]:
    found = os.lstat(path)
    what = stat.S_IFMT(found.st_mode)
    facts: list[object] = [path.hex(), oct(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns]
    if what == stat.S_IFREG:
        holes = found.st_size - found.st_blocks * 512 > found.st_size // 2
        return [*facts, found.st_size, found.st_nlink, holes, _digest(path, holes)]
    return [*facts, os.readlink(path).hex() if what == stat.S_IFLNK else None]


def _digest(path: bytes, holes: bool) -> str:
    """Of the whole contents; of a file with holes of where its data lies, too."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        end, at = os.fstat(file.fileno()).st_size, 0
        while at < end:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA) if holes else at
            except OSError:
                break
            os.lseek(file.fileno(), at, os.SEEK_SET)
            chunk = file.read(BLOCK)
            if chunk.strip(b"\0") or not holes:
                digest.update((b"%d " % at if holes else b"") + chunk)
            at += len(chunk)
    return digest.hexdigest()


if __name__ == "__main__":
    {"make": make, "tell": tell}[sys.argv[1]]()
