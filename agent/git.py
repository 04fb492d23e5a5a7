"""Running git as the sandbox's user: with credentials that stay in memory, and its failures in our words."""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit

from agent.errors import Refusal
from agent.machine import Machine
from agent.processes import run

_WORDS = (
    ("git_auth", r"Authentication failed|could not read (Username|Password)|terminal prompts disabled|Permission denied"
     r"|Access denied|returned error: 40[13]|Invalid username or"),
    ("git_conflict", r"CONFLICT|\[rejected\]|non-fast-forward|would be overwritten|Not possible to fast-forward"
     r"|already exists|unmerged files|needs merge|not fully merged|You have unstaged changes|divergent branches"),
    ("not_found", r"not a git repository|[Rr]epository not found|does not exist|not found|did not match|No such remote"
     r"|unknown revision|invalid reference"
     r"|couldn't find remote ref|bad revision|No such file|ambiguous argument|does not appear to be a git"),
)  # fmt: skip
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "GIT_OPTIONAL_LOCKS": "0",
}
_SETTINGS = ("-c", "safe.directory=*", "-c", "advice.detachedHead=false")
_SSH = "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new"


@dataclass(frozen=True)
class Credentials:
    """For one server only; they are never offered to another that it redirects to."""

    server: str
    username: str
    password: str


def credentials(url: str, username: str | None, password: str | None) -> tuple[str, Credentials | None]:
    """The URL without any names in it, and the credentials given beside it or within it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        return url, None
    host = parts.netloc.rpartition("@")[2]
    given = username if username is not None else unquote(parts.username or "")
    secret = password if password is not None else unquote(parts.password or "")
    clean = urlunsplit(parts._replace(netloc=host))
    if not given and not secret:
        return clean, None
    if any(character in given + secret for character in "\r\n"):
        raise Refusal("invalid", "username and password must not contain line breaks.")
    return clean, Credentials(f"{parts.scheme}://{host}", given or "git", secret)


async def git(
    machine: Machine,
    *arguments: str,
    cwd: str,
    secret: Credentials | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    accept: Sequence[int] = (0,),
) -> str:
    """What git says on its standard output. Refuses, with git's own words, when it ends with a code not accepted."""
    environment = machine.environment({**_ENVIRONMENT, "GIT_SSH_COMMAND": _SSH, **(env or {})})
    memory = _remembered(secret)
    try:
        argv = [_program(environment["PATH"]), *_SETTINGS, *_helper(secret, memory), *arguments]
        outcome = await run(machine, argv, cwd=cwd, env=environment, stdin=stdin, pass_fds=memory)
    finally:
        for file in memory:
            os.close(file)
    said = outcome.captured
    if outcome.exit_code not in accept:
        raise failure(arguments[0], "\n".join(filter(None, (said.stderr.text().strip(), said.stdout.text().strip()))))
    if said.stdout.cut:
        raise Refusal("too_large", f"git {arguments[0]} says more than can be answered.")
    return said.stdout.bytes().decode("utf-8", "surrogateescape")


def _program(path: str) -> str:
    program = shutil.which("git", path=path)
    if program is None:
        raise Refusal("git_failed", "git is not installed in this image.")
    return program


def _remembered(secret: Credentials | None) -> tuple[int, ...]:
    """The credentials in memory that only git and what it starts inherit, as git's credential helpers say them."""
    if secret is None:
        return ()
    memory = os.memfd_create("credentials")
    os.write(memory, f"username={secret.username}\npassword={secret.password}\n".encode("utf-8", "surrogateescape"))
    return (memory,)


def _helper(secret: Credentials | None, memory: Sequence[int]) -> list[str]:
    if secret is None:
        return []
    # Opened anew each time it is asked, and by every user: a memfd's mode allows it to those who hold it.
    return ["-c", "credential.helper=", "-c", f"credential.{secret.server}.helper=!cat /proc/self/fd/{memory[0]}; :"]


def failure(action: str, words: str) -> Refusal:
    """git's words as a refusal: which kind it is, and what it said."""
    words = re.sub(r"(https?://)[^/@\s]*@", r"\1", words)[:4000]
    code = next((code for code, pattern in _WORDS if re.search(pattern, words)), "git_failed")
    return Refusal(code, words or f"git {action} failed and did not say why.")


async def current_branch(machine: Machine, cwd: str) -> str:
    """The branch's name, also of a branch without commits; HEAD where none is checked out."""
    return (await git(machine, "symbolic-ref", "--short", "-q", "HEAD", cwd=cwd, accept=(0, 1))).strip() or "HEAD"


async def secret_for_remote(
    machine: Machine, cwd: str, remote: str, username: str | None, password: str | None
) -> Credentials | None:
    """The credentials for the server that this remote, or URL, names."""
    if username is None and password is None:
        return None
    url = remote
    with suppress(Refusal):
        url = (await git(machine, "remote", "get-url", "--", remote, cwd=cwd)).strip()
    return credentials(url, username, password)[1]
