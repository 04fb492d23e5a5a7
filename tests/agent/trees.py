"""Folders as values, so that two can be compared entry by entry."""

import os
import stat
from pathlib import Path
from typing import Any

Tree = dict[bytes, tuple[Any, ...]]


def read_tree(root: Path) -> Tree:
    """Everything below `root` that a checkpoint promises to keep, links as groups of names."""
    inodes: dict[int, bytes] = {}
    tree: Tree = {}
    for folder, folders, files in sorted(os.walk(os.fsencode(root))):
        for name in sorted(folders + files):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            relative = os.path.relpath(path, os.fsencode(root))
            first = relative if stat.S_ISDIR(status.st_mode) else inodes.setdefault(status.st_ino, relative)
            tree[relative] = (
                oct(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_mtime_ns,
                first,
                _content(path, status),
            )
    return tree


def _content(path: bytes, status: os.stat_result) -> bytes:
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)
    if not stat.S_ISREG(status.st_mode) or status.st_size > 64 * 1024 * 1024:
        return b"%d" % status.st_size if stat.S_ISREG(status.st_mode) else b""
    with open(os.open(path, os.O_RDONLY), "rb") as file:
        return file.read()
