"""Mounts below our folders: none may outlive us."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")


def release(folders: Sequence[Path]) -> list[str]:
    """Unmount whatever is mounted in these folders, the deepest first; what could not be."""
    left = []
    for point in sorted(_below(folders), key=len, reverse=True):
        if subprocess.run(["umount", "--lazy", point], capture_output=True).returncode:
            left.append(point)
    return left


def _below(folders: Sequence[Path]) -> list[str]:
    points = [_unescaped(line.split()[4]) for line in MOUNTS.read_text().splitlines()]
    return [point for point in points if any(Path(point).is_relative_to(folder) for folder in folders)]


def _unescaped(point: str) -> str:
    """The kernel writes a space, tab, line end or backslash as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), point)
