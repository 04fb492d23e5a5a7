"""Files as entries of folders: list, describe, make, move, delete, and who may do what with them."""

import asyncio
import grp
import os
import pwd
import shutil
import stat
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from agent import shapes
from agent.errors import Refusal, named
from agent.machine import Machine
from agent.web import NOTHING, Reply, Request, answer

MOST_ENTRIES = 100_000
PATH = {"path": (shapes.word, shapes.REQUIRED)}


async def index(machine: Machine, request: Request) -> Reply:
    asked = request.query({"path": (shapes.word, "."), "depth": (shapes.whole(1, 100), 1)})
    entries = await asyncio.to_thread(_listed, machine.path(asked.path), asked.depth)
    return answer({"entries": entries[:MOST_ENTRIES], "truncated": len(entries) > MOST_ENTRIES})


async def show(machine: Machine, request: Request) -> Reply:
    return answer(await asyncio.to_thread(entry, machine.path(request.query(PATH).path, follow=False)))


async def make_folder(machine: Machine, request: Request) -> Reply:
    asked = await request.json({**PATH, "mode": (shapes.permissions, 0o755)})
    path = machine.path(asked.path)
    for made in await asyncio.to_thread(make_parents, machine, path):
        if made == path:
            os.chmod(made, asked.mode)
    return answer(entry(path), 201)


async def delete(machine: Machine, request: Request) -> Reply:
    asked = request.query({**PATH, "recursive": (shapes.flag, False)})
    path = machine.path(asked.path, follow=False)
    if path in ("/", machine.root):
        raise Refusal("invalid", f"{path} cannot be deleted.")
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
    elif asked.recursive:
        await asyncio.to_thread(shutil.rmtree, path)
    else:
        raise Refusal("invalid", f"{named(path)} is a folder; it is deleted only with recursive=true.")
    return NOTHING


async def move(machine: Machine, request: Request) -> Reply:
    asked = await request.json(
        {"source": (shapes.word, shapes.REQUIRED), "destination": (shapes.word, shapes.REQUIRED)}
    )
    source, target = machine.path(asked.source, follow=False), machine.path(asked.destination, follow=False)
    os.lstat(source)
    if os.path.isdir(target):
        target = os.path.join(target, os.path.basename(source))
    if os.path.lexists(target):
        raise Refusal("conflict", f"{named(target)} exists already.")
    if not os.path.isdir(os.path.dirname(target)):
        raise Refusal("not_found", f"The folder {named(os.path.dirname(target))} does not exist.")
    try:
        await asyncio.to_thread(shutil.move, source, target)
    except shutil.Error as problem:
        raise Refusal("invalid", f"{named(str(problem))}.") from None
    return answer(entry(target))


async def set_permissions(machine: Machine, request: Request) -> Reply:
    fields = {"owner": (shapes.word, None), "group": (shapes.word, None), "mode": (shapes.permissions, None)}
    asked = await request.json({**PATH, **fields})
    path = machine.path(asked.path)
    uid = -1 if asked.owner is None else _number(asked.owner, lambda name: pwd.getpwnam(name).pw_uid, "user")
    gid = -1 if asked.group is None else _number(asked.group, lambda name: grp.getgrnam(name).gr_gid, "group")
    os.stat(path)
    if (uid, gid) != (-1, -1):
        os.chown(path, uid, gid)
    if asked.mode is not None:  # after the owner: a change of owner takes the setuid bits away
        os.chmod(path, asked.mode)
    return answer(entry(path))


def _number(name: str, find: Any, kind: str) -> int:
    if name.isascii() and name.isdigit() and int(name) < 2**31:
        return int(name)
    try:
        return int(find(name))
    except KeyError:
        raise Refusal("invalid", f"There is no {kind} {name[:100]!a} in this sandbox.") from None


def make_parents(machine: Machine, path: str) -> list[str]:
    """Make the folder and those above it; the ones that were made, which belong to the sandbox's user."""
    made: list[str] = []
    missing = path
    while not os.path.lexists(missing):
        made.append(missing)
        missing = os.path.dirname(missing)
    for folder in reversed(made):
        os.mkdir(folder, 0o755)
        machine.own(folder)
    if not os.path.isdir(path):
        raise Refusal("conflict", f"{named(missing)} exists and is not a folder.")
    return made


def _listed(path: str, depth: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with os.scandir(path) as children:
        for child in sorted(children, key=lambda child: child.name):
            try:
                found.append(entry(child.path))
                if depth > 1 and child.is_dir(follow_symlinks=False):
                    found += _listed(child.path, depth - 1)
            except (FileNotFoundError, PermissionError):
                continue
            if len(found) > MOST_ENTRIES:
                break
    return found


def entry(path: str) -> dict[str, Any]:
    """The file as the API shows it: the link itself where it is one, but `is_dir` says what it leads to."""
    status = os.lstat(path)
    is_link = stat.S_ISLNK(status.st_mode)
    return {
        "path": path,
        "name": os.path.basename(path) or "/",
        "is_dir": os.path.isdir(path) if is_link else stat.S_ISDIR(status.st_mode),
        "is_link": is_link,
        "link_target": os.readlink(path) if is_link else None,
        "size": status.st_size,
        "mode": stat.filemode(status.st_mode),
        "permissions": f"{stat.S_IMODE(status.st_mode):04o}",
        "owner": _user(status.st_uid),
        "group": _group(status.st_gid),
        "modified_at": moment(status.st_mtime_ns),
    }


def moment(nanoseconds: int) -> str:
    """ISO 8601 in UTC, to the nanosecond."""
    seconds, rest = divmod(nanoseconds, 10**9)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
    except (ValueError, OverflowError, OSError):
        return "1970-01-01T00:00:00.000000000Z"  # a time that no calendar of ours has


@lru_cache(maxsize=64)
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@lru_cache(maxsize=64)
def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
