"""What an image holds, as its agent compares it later, told from the image's layers rather than from a machine: that
needs no engine, and shows what the image says even where something else would lie mounted over it.
"""

import os
import stat
import tarfile
from collections.abc import Iterable, Iterator

from agent.checkpoint.changes import APART, Found, described
from local.layers import Layer

KINDS = {
    tarfile.REGTYPE: stat.S_IFREG,
    tarfile.AREGTYPE: stat.S_IFREG,
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
}


def lines(layers: Iterable[Layer]) -> Iterator[str]:
    """The manifest's lines for an image of these layers, lowest first, none of which takes anything away again."""
    known: dict[str, os.stat_result] = {}
    for layer in layers:
        with layer.opened() as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for entry in tar:
                path = _relative(entry.name)
                known[path] = known[_relative(entry.linkname)] if entry.islnk() else _status(entry)
    return (described(Found(path, known[path])) for path in sorted(known) if not _is_apart(path))


def _relative(name: str) -> str:
    path = os.path.normpath(name)
    return "" if path == "." else path


def _status(entry: tarfile.TarInfo) -> os.stat_result:
    size = len(os.fsencode(entry.linkname)) if entry.issym() else entry.size
    whole = (KINDS[entry.type] | entry.mode, 0, 0, 1, entry.uid, entry.gid, size, 0, entry.mtime, 0)
    return os.stat_result(whole, {"st_mtime_ns": int(entry.mtime * 1_000_000_000)})


def _is_apart(path: str) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in APART)
