"""Looking through files: text in contents, names by pattern, and replacing text in many."""

import asyncio
import fnmatch
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any

from agent import shapes
from agent.content import Draft
from agent.errors import Refusal, from_system, named
from agent.machine import Machine
from agent.web import Reply, Request, answer

MOST = 10_000
PATIENCE = 60.0
LONGEST_LINE = 2000
LARGEST = 64 * 1024 * 1024

LOOK = {"path": (shapes.word, "."), "pattern": (shapes.text, shapes.REQUIRED)}
REPLACE = {
    "paths": (shapes.list_of(shapes.word, least=1), shapes.REQUIRED),
    "pattern": (shapes.text, shapes.REQUIRED),
    "replacement": (shapes.text, shapes.REQUIRED),
}
_UNSEARCHED = ("/proc", "/sys", "/dev")


async def find(machine: Machine, request: Request) -> Reply:
    asked = request.query(LOOK)
    path = machine.path(asked.path)
    os.stat(path)
    matches, truncated = await asyncio.to_thread(_limited, _occurrences(path, os.fsencode(asked.pattern)))
    return answer({"matches": matches, "truncated": truncated})


async def search(machine: Machine, request: Request) -> Reply:
    asked = request.query(LOOK)
    path = machine.path(asked.path)
    os.stat(path)
    paths, truncated = await asyncio.to_thread(_limited, _named_like(path, asked.pattern))
    return answer({"paths": paths, "truncated": truncated})


def _limited(found: Iterator[Any]) -> tuple[list[Any], bool]:
    """As many as we give, and whether there may be more. None stands for another file looked at."""
    deadline = time.monotonic() + PATIENCE
    kept: list[Any] = []
    for item in found:
        if len(kept) == MOST or time.monotonic() > deadline:
            return kept, True
        if item is not None:
            kept.append(item)
    return kept, False


def _files(path: str) -> Iterator[os.DirEntry[str]]:
    """Everything below, links not followed, the kernel's own file systems left out."""
    try:
        with os.scandir(path) as children:
            entries = sorted(children, key=lambda child: child.name)
    except OSError:
        return
    for child in entries:
        yield child
        if child.is_dir(follow_symlinks=False) and child.path not in _UNSEARCHED:
            yield from _files(child.path)


def _named_like(path: str, pattern: str) -> Iterator[str | None]:
    fits: Callable[[str], Any] = re.compile(fnmatch.translate(pattern)).match
    whole = "/" in pattern
    for child in _files(path):
        yield child.path if fits(os.path.relpath(child.path, path) if whole else child.name) else None


def _occurrences(path: str, pattern: bytes) -> Iterator[dict[str, Any] | None]:
    if not os.path.isdir(path):
        yield from _in_file(path, pattern)
        return
    for child in _files(path):
        if child.is_file(follow_symlinks=False):
            yield None
            yield from _in_file(child.path, pattern)


def _in_file(path: str, pattern: bytes) -> Iterator[dict[str, Any]]:
    try:
        text = _text(path)
    except OSError:
        return
    if text is None or pattern not in text:
        return
    for number, line in enumerate(text.split(b"\n"), 1):
        if pattern in line:
            shown = line[:LONGEST_LINE].rstrip(b"\r").decode("utf-8", "replace")
            yield {"path": path, "line": number, "content": shown}


def _text(path: str) -> bytes | None:
    """The content of a text file; None for what is binary, too large or no file."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            return None
        text = file.read(8192)
        return None if b"\0" in text else text + file.read()


async def replace(machine: Machine, request: Request) -> Reply:
    asked = await request.json(REPLACE)
    if not asked.pattern:
        raise Refusal("invalid", "pattern must not be empty.")
    results = []
    for path in asked.paths:
        try:
            await _replace_in(machine, machine.path(path), os.fsencode(asked.pattern), os.fsencode(asked.replacement))
            results.append({"path": path, "success": True, "error": None})
        except (Refusal, OSError) as problem:
            refusal = problem if isinstance(problem, Refusal) else from_system(problem)
            results.append({"path": path, "success": False, "error": refusal.message})
    return answer({"results": results})


async def _replace_in(machine: Machine, path: str, pattern: bytes, replacement: bytes) -> None:
    text = await asyncio.to_thread(_text, path)
    if text is None:
        raise Refusal("invalid", f"{named(path)} is not a text file of at most {LARGEST} bytes.")

    async def replaced() -> Any:
        yield text.replace(pattern, replacement)

    if pattern in text:
        await Draft(machine, path, parents=False).write(replaced())
