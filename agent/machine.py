"""The machine that the agent keeps: who its user is, where paths lead, which environment its processes get."""

import asyncio
import grp
import os
import pwd
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.children import Children
from agent.errors import Refusal, named
from agent.starting import Person

if TYPE_CHECKING:
    from agent.checkpoint.saving import Saving
    from agent.sessions import Session
    from agent.terminals import Terminal

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Settings:
    """What the agent was started with. `root` is `/`, or the folder where plain processes live."""

    sandbox: str
    control: str
    boot_token: str
    task_token: str
    host: str
    port: int
    root: str
    inherited: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Machine:
    """One sandbox while it runs. `born_ns` is the wall clock at the agent's start: what changed since, changed here."""

    settings: Settings
    born_ns: int
    token: str
    person: Person
    work_dir: str
    variables: dict[str, str]
    children: Children = field(default_factory=Children)
    started: float = field(default_factory=time.monotonic)
    unset: set[str] = field(default_factory=set)
    claimed: bool = False
    port: int = 0
    quiet: bool = False
    sessions: "dict[str, Session]" = field(default_factory=dict)
    terminals: "dict[str, Terminal]" = field(default_factory=dict)
    checkpoints: "dict[str, Saving]" = field(default_factory=dict)
    errands: "set[asyncio.Task[None]]" = field(default_factory=set)

    @property
    def root(self) -> str:
        return self.settings.root

    def path(self, given: str, *, follow: bool = True) -> str:
        """The absolute path meant by `given`: `~` is the home, relative is to the work dir.

        Where the sandbox is a folder, every path is inside it, and one that links lead out of it is refused; with
        `follow=False` the last word may be such a link, since it is the link itself that is meant.
        """
        if given == "~" or given.startswith("~/"):
            given = self.person.home + given[1:]
        path = os.path.normpath(os.path.join(self.work_dir, given))
        if self.root == "/":
            return "/" + path.lstrip("/")
        if not within(self.root, path):
            path = os.path.normpath(self.root + "/" + path.lstrip("/"))
        if not within(self.root, os.path.realpath(path if follow else os.path.dirname(path))) and path != self.root:
            raise Refusal("forbidden", f"{named(given)} leads out of the sandbox.")
        return path

    def folder(self, given: str | None) -> str:
        """An existing directory to work in; the work dir where none is given."""
        path = self.path(given) if given else self.work_dir
        if not os.path.isdir(path):
            raise Refusal("not_found", f"The working directory {named(path)} does not exist.")
        return path

    def made_folder(self, given: str) -> str:
        """The directory, made for the sandbox's user where it is missing."""
        path = self.path(given)
        if not os.path.isdir(path):
            os.makedirs(path, exist_ok=True)
            self.own(path)
        return path

    def environment(self, extra: Mapping[str, str] | None = None, person: Person | None = None) -> dict[str, str]:
        """What a process is started with."""
        who = person or self.person
        own = {"HOME": who.home, "USER": who.name, "LOGNAME": who.name, "SHELL": who.shell}
        image = {"LANG": "C.UTF-8", "PATH": DEFAULT_PATH, **self.settings.inherited, **own}
        kept = {name: value for name, value in image.items() if name not in self.unset}
        return {**kept, **self.variables, **(extra or {})}

    def change(self, variables: Mapping[str, str], unset: list[str]) -> None:
        """Later processes get these variables; those `unset` they do not get, also where the image has them."""
        self.variables = {name: value for name, value in {**self.variables, **variables}.items() if name not in unset}
        self.unset = (self.unset | set(unset)) - set(variables)

    def user(self, name: str | None) -> Person:
        """The person of that name; the sandbox's own where none is given or the machine is a plain folder."""
        if name is None or self.root != "/" or name == self.person.name:
            return self.person
        return person(name)

    def own(self, path: str | int) -> None:
        """Give what the agent just created to the sandbox's user."""
        if os.geteuid() == 0:
            os.chown(
                path, self.person.uid, self.person.gid, **({"follow_symlinks": False} if isinstance(path, str) else {})
            )

    def awake(self) -> None:
        """Refuse new processes while the sandbox is being stopped."""
        if self.quiet:
            raise Refusal("conflict", f"Sandbox {self.settings.sandbox} is being stopped; it starts nothing new.")


def within(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def person(name: str) -> Person:
    """The user of the machine with that name or number; refuses one that is not there."""
    try:
        entry = pwd.getpwuid(int(name)) if name.isascii() and name.isdigit() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        raise Refusal("invalid", f"There is no user {name[:100]!a} in this sandbox.") from None
    groups = tuple({entry.pw_gid, *(group.gr_gid for group in grp.getgrall() if entry.pw_name in group.gr_mem)})
    shell = entry.pw_shell if os.access(entry.pw_shell, os.X_OK) and "nologin" not in entry.pw_shell else ""
    home = entry.pw_dir or "/"
    return Person(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, home, shell or default_shell())


def default_shell() -> str:
    """bash where there is one, else sh."""
    return next(
        (shell for shell in ("/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash") if os.path.exists(shell)), "/bin/sh"
    )


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What the image's own environment gives to processes: nothing of ours, of the engine's or of our Python's."""
    ours = (
        "SANDBAR_",
        "ECS_",
        "AWS_CONTAINER_",
        "AWS_EXECUTION_ENV",
        "PYTHONHOME",
        "PYTHONPATH",
        "PYTHONDONTWRITE",
        "PYTHONUNBUFFERED",
    )
    return {name: value for name, value in environ.items() if not name.startswith(ours)}
