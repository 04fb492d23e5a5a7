"""The calls below `/git`."""

import os
import re
from typing import Any

from agent import shapes
from agent.errors import Refusal
from agent.files import make_parents
from agent.git import credentials, current_branch, git, secret_for_remote
from agent.machine import Machine
from agent.web import Reply, Request, answer

STATES = {
    ".": "Unmodified",
    "?": "Untracked",
    "M": "Modified",
    "T": "Modified",
    "A": "Added",
    "D": "Deleted",
    "R": "Renamed",
    "C": "Copied",
    "U": "Updated but unmerged",
}


def name(field: str, value: Any) -> str:
    """A branch, remote, revision or key: it must not be taken for an option."""
    if shapes.word(field, value).startswith("-") or re.search(r"[\s\x7f]", value):
        raise Refusal("invalid", f"{field} must not begin with a dash or contain spaces.")
    return str(value)


PATH = {"path": (shapes.word, shapes.REQUIRED)}
SECRET = {"username": (shapes.text, None), "password": (shapes.text, None)}
FILES = (shapes.list_of(shapes.word, least=1), shapes.REQUIRED)
CLONE = {**PATH, **SECRET, "url": (name, shapes.REQUIRED), "branch": (name, None), "commit": (name, None)}
SYNC = {**PATH, **SECRET, "remote": (name, None), "branch": (name, None), "set_upstream": (shapes.flag, False)}
COMMIT = {
    **PATH,
    "message": (shapes.word, shapes.REQUIRED),
    "author": (shapes.word, shapes.REQUIRED),
    "email": (shapes.word, shapes.REQUIRED),
    "allow_empty": (shapes.flag, False),
}
RESET = {
    **PATH,
    "mode": (shapes.one_of("soft", "mixed", "hard", "merge", "keep"), "mixed"),
    "revision": (name, None),
    "files": (shapes.list_of(shapes.word), []),
}
RESTORE = {
    **PATH,
    "files": FILES,
    "staged": (shapes.flag, False),
    "worktree": (shapes.flag, None),
    "source": (name, None),
}
REMOTE = {
    **PATH,
    "name": (name, shapes.REQUIRED),
    "url": (name, shapes.REQUIRED),
    "fetch": (shapes.flag, False),
    "overwrite": (shapes.flag, False),
}
SCOPE = {"scope": (shapes.one_of("local", "global", "system"), "local"), "path": (shapes.word, None)}
CREDENTIALS = {
    "username": (shapes.word, shapes.REQUIRED),
    "password": (shapes.word, shapes.REQUIRED),
    "host": (name, "github.com"),
}


async def clone(machine: Machine, request: Request) -> Reply:
    asked = await request.json(CLONE)
    url, secret = credentials(asked.url, asked.username, asked.password)
    path = machine.path(asked.path)
    make_parents(machine, os.path.dirname(path))
    options = ["--branch", asked.branch] if asked.branch else []
    await request.while_there(git(machine, "clone", *options, "--", url, path, cwd=machine.work_dir, secret=secret))
    if asked.commit:
        await git(machine, "checkout", asked.commit, "--", cwd=path)
    return answer({"path": path})


async def init(machine: Machine, request: Request) -> Reply:
    asked = await request.json({**PATH, "branch": (name, "main"), "bare": (shapes.flag, False)})
    path = machine.path(asked.path)
    make_parents(machine, path)
    await git(machine, "init", f"--initial-branch={asked.branch}", *(["--bare"] if asked.bare else []), cwd=path)
    return answer({"path": path})


async def add(machine: Machine, request: Request) -> Reply:
    asked = await request.json({**PATH, "files": FILES})
    await git(machine, "add", "--", *asked.files, cwd=machine.folder(asked.path))
    return answer({})


async def commit(machine: Machine, request: Request) -> Reply:
    asked = await request.json(COMMIT)
    path = machine.folder(asked.path)
    who: dict[str, str] = {}
    for role in ("AUTHOR", "COMMITTER"):
        who |= {f"GIT_{role}_NAME": asked.author, f"GIT_{role}_EMAIL": asked.email}
    options = ["--allow-empty"] if asked.allow_empty else []
    await git(machine, "commit", "-F", "-", *options, cwd=path, env=who, stdin=os.fsencode(asked.message))
    return answer({"hash": (await git(machine, "rev-parse", "HEAD", cwd=path)).strip()})


async def push(machine: Machine, request: Request) -> Reply:
    asked = await request.json(SYNC)
    path = machine.folder(asked.path)
    remote = asked.remote or "origin"
    secret = await secret_for_remote(machine, path, remote, asked.username, asked.password)
    branch = asked.branch or await current_branch(machine, path)
    options = ["--set-upstream"] if asked.set_upstream else []
    await request.while_there(git(machine, "push", *options, remote, branch, cwd=path, secret=secret))
    return answer({})


async def pull(machine: Machine, request: Request) -> Reply:
    asked = await request.json(SYNC)
    path = machine.folder(asked.path)
    remote = asked.remote or "origin"
    secret = await secret_for_remote(machine, path, remote, asked.username, asked.password)
    what = [remote, asked.branch] if asked.branch else [asked.remote] if asked.remote else []
    await request.while_there(git(machine, "pull", "--no-rebase", "--no-edit", *what, cwd=path, secret=secret))
    return answer({})


async def checkout(machine: Machine, request: Request) -> Reply:
    asked = await request.json({**PATH, "branch": (name, shapes.REQUIRED), "create": (shapes.flag, False)})
    how = ["-b", asked.branch] if asked.create else [asked.branch]
    await git(machine, "checkout", *how, "--", cwd=machine.folder(asked.path))
    return answer({})


async def status(machine: Machine, request: Request) -> Reply:
    path = machine.folder(request.query(PATH).path)
    said = await git(machine, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", cwd=path)
    return answer(parse_status(said))


def parse_status(said: str) -> dict[str, Any]:
    """The answer made of git's porcelain, version 2, separated by NUL."""
    answered: dict[str, Any] = {"branch": "HEAD", "ahead": 0, "behind": 0, "published": False, "files": []}
    lines = iter(said.split("\0"))
    for line in lines:
        kind, _, rest = line.partition(" ")
        if kind == "#":
            _parse_branch(rest, answered)
        elif kind == "?":
            answered["files"].append(_file(rest, "??"))
        elif kind in ("1", "u"):
            answered["files"].append(_file(rest.split(" ", 7 if kind == "1" else 9)[-1], rest[:2]))
        elif kind == "2":
            answered["files"].append(_file(rest.split(" ", 8)[-1], rest[:2], extra=next(lines)))
    return answered


def _parse_branch(rest: str, answered: dict[str, Any]) -> None:
    word, _, value = rest.partition(" ")
    if word == "branch.head" and value != "(detached)":
        answered["branch"] = value
    elif word == "branch.ab":
        ahead, behind = value.split()
        answered.update(published=True, ahead=int(ahead), behind=-int(behind))


def _file(path: str, letters: str, extra: str = "") -> dict[str, str]:
    return {"name": path, "staging": STATES[letters[0]], "worktree": STATES[letters[1]], "extra": extra}


async def branches(machine: Machine, request: Request) -> Reply:
    path = machine.folder(request.query(PATH).path)
    said = await git(machine, "for-each-ref", "--format=%(refname:short)", "refs/heads", cwd=path)
    return answer({"branches": said.splitlines(), "current": await current_branch(machine, path)})


async def make_branch(machine: Machine, request: Request) -> Reply:
    asked = await request.json({**PATH, "name": (name, shapes.REQUIRED)})
    await git(machine, "branch", asked.name, cwd=machine.folder(asked.path))
    return answer({})


async def delete_branch(machine: Machine, request: Request) -> Reply:
    asked = await request.json({**PATH, "name": (name, shapes.REQUIRED)})
    await git(machine, "branch", "-D", asked.name, cwd=machine.folder(asked.path))
    return answer({})


async def history(machine: Machine, request: Request) -> Reply:
    asked = request.query({**PATH, "limit": (shapes.whole(1, 10_000), 100)})
    path = machine.folder(asked.path)
    form = "--format=%H%x1f%an%x1f%ae%x1f%aI%x1f%B"
    try:
        said = await git(machine, "log", "-z", f"--max-count={asked.limit}", form, cwd=path)
    except Refusal as refusal:
        if "does not have any commits yet" not in refusal.message:
            raise
        said = ""
    rows = [row.split("\x1f", 4) for row in said.split("\0") if row]
    fields = ("hash", "author", "email", "timestamp", "message")
    return answer({"commits": [dict(zip(fields, (*row[:4], row[4].rstrip("\n")), strict=True)) for row in rows]})


async def reset(machine: Machine, request: Request) -> Reply:
    asked = await request.json(RESET)
    revision = [asked.revision] if asked.revision else []
    if asked.files and asked.mode != "mixed":
        raise Refusal("invalid", f"With files the mode must be mixed, not {asked.mode}.")
    mode = [] if asked.files else [f"--{asked.mode}"]
    await git(machine, "reset", "-q", *mode, *revision, "--", *asked.files, cwd=machine.folder(asked.path))
    return answer({})


async def restore(machine: Machine, request: Request) -> Reply:
    asked = await request.json(RESTORE)
    worktree = not asked.staged if asked.worktree is None else asked.worktree
    chosen = {"--staged": asked.staged, "--worktree": worktree, f"--source={asked.source}": asked.source}
    options = [option for option, wanted in chosen.items() if wanted]
    await git(machine, "restore", *options, "--", *asked.files, cwd=machine.folder(asked.path))
    return answer({})


async def remotes(machine: Machine, request: Request) -> Reply:
    path = machine.folder(request.query(PATH).path)
    await git(machine, "rev-parse", "--git-dir", cwd=path)
    said = await git(machine, "config", "-z", "--get-regexp", r"^remote\..*\.url$", cwd=path, accept=(0, 1))
    pairs = [line.partition("\n") for line in said.split("\0") if line]
    return answer({"remotes": [{"name": key[len("remote.") : -len(".url")], "url": url} for key, _, url in pairs]})


async def make_remote(machine: Machine, request: Request) -> Reply:
    asked = await request.json(REMOTE)
    path = machine.folder(asked.path)
    known = (await git(machine, "remote", cwd=path)).splitlines()
    verb = "set-url" if asked.overwrite and asked.name in known else "add"
    await git(machine, "remote", verb, asked.name, asked.url, cwd=path)
    if asked.fetch:
        await request.while_there(git(machine, "fetch", asked.name, cwd=path))
    return answer({"name": asked.name, "url": asked.url})


async def delete_remote(machine: Machine, request: Request) -> Reply:
    asked = await request.json({**PATH, "name": (name, shapes.REQUIRED)})
    await git(machine, "remote", "remove", asked.name, cwd=machine.folder(asked.path))
    return answer({})


async def get_config(machine: Machine, request: Request) -> Reply:
    asked = request.query({"key": (name, shapes.REQUIRED), **SCOPE})
    said = await git(
        machine, "config", f"--{asked.scope}", "--get", asked.key, cwd=machine.folder(asked.path), accept=(0, 1)
    )
    return answer({"key": asked.key, "value": said.removesuffix("\n") if said else None})


async def set_config(machine: Machine, request: Request) -> Reply:
    asked = await request.json({"key": (name, shapes.REQUIRED), "value": (shapes.text, shapes.REQUIRED), **SCOPE})
    await git(machine, "config", f"--{asked.scope}", asked.key, asked.value, cwd=machine.folder(asked.path))
    return answer({})


async def store_credentials(machine: Machine, request: Request) -> Reply:
    """Keep credentials for the sandbox's own use of git, in git's own store in the user's home."""
    asked = await request.json(CREDENTIALS)
    if any(character in asked.username + asked.password for character in "\r\n"):
        raise Refusal("invalid", "username and password must not contain line breaks.")
    home = machine.person.home
    await git(machine, "config", "--global", "credential.helper", "store", cwd=home)
    words = f"protocol=https\nhost={asked.host}\nusername={asked.username}\npassword={asked.password}\n\n"
    await git(machine, "credential", "approve", cwd=home, stdin=os.fsencode(words))
    return answer({})
