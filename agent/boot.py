"""From the container's environment to a machine: ask who we are, restore the disk, find or make the user."""

import logging
import os
import pwd
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent import VERSION, identity, shapes
from agent.control import Control, Unreachable
from agent.errors import Refusal
from agent.machine import Machine, Settings, default_shell, inherited, person
from agent.starting import Person

NOT_OURS = 78
UNREACHABLE = 69
DAMAGED = 65

RESTORE = {
    "url": (shapes.word, shapes.REQUIRED),
    "size": (shapes.whole(0, 2**63 - 1), shapes.REQUIRED),
    "sha256": (shapes.word, shapes.REQUIRED),
}

ANSWER = {
    "agent_token": (shapes.word, shapes.REQUIRED),
    "env": (shapes.variables, {}),
    "user": (shapes.word, None),
    "home": (shapes.word, None),
    "work_dir": (shapes.word, None),
    "restore": (lambda _, value: shapes.parse(value, RESTORE), None),
    "volumes": (shapes.list_of(lambda _, value: value), []),
}
log = logging.getLogger(__name__)


class Ended(Exception):
    """The agent cannot serve; it ends with this exit code."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True)
class Booted:
    machine: Machine
    restored: bool
    problem: str | None = None


def settings(environ: Mapping[str, str]) -> Settings:
    """What the environment says. Ends with 78 where it does not say enough."""
    try:
        return Settings(
            sandbox=environ["SANDBAR_SANDBOX"],
            control=environ["SANDBAR_CONTROL"],
            boot_token=environ["SANDBAR_BOOT"],
            task_token=environ.get("SANDBAR_TASK_TOKEN", ""),
            host=environ.get("SANDBAR_AGENT_HOST", "0.0.0.0"),
            port=int(environ.get("SANDBAR_AGENT_PORT", "2280")),
            root=os.path.realpath(environ.get("SANDBAR_ROOT") or "/"),
            inherited=inherited(environ),
        )
    except (KeyError, ValueError) as problem:
        raise Ended(NOT_OURS, f"the environment is incomplete: {problem}") from None


def boot(given: Settings, born_ns: int, control: Control) -> Booted:
    """Ask the control plane who we are and make the machine so. Ends with 78 where it does not know us."""
    given, born_ns, document = _introduced(given, born_ns, control)
    try:
        answer = shapes.parse({key: document.get(key) for key in ANSWER}, ANSWER)
    except Refusal as refusal:
        raise Ended(NOT_OURS, f"the control plane's answer to boot cannot be used: {refusal.message}") from None
    problem = _restored(given, answer.restore) if answer.restore else None
    who = person_for(given, answer.user, answer.home)
    machine = Machine(given, born_ns, answer.agent_token, who, who.home, answer.env)
    machine.work_dir = machine.made_folder(answer.work_dir or who.home)
    identity.keep(given.root, identity.Identity(given.sandbox, answer.agent_token, born_ns))
    return Booted(machine, restored=bool(answer.restore) and problem is None, problem=problem)


def _introduced(given: Settings, born_ns: int, control: Control) -> tuple[Settings, int, dict[str, Any]]:
    """The control plane's answer, and who we turned out to be: whoever this disk says, else whoever we were started as."""
    if known := identity.load(given.root):
        status, document = _presented(known.sandbox, known.agent_token, control)
        if status == 200:
            return replace(given, sandbox=known.sandbox), min(known.born_ns, born_ns), document
    status, document = _presented(given.sandbox, given.boot_token, control)
    if status != 200:
        raise Ended(NOT_OURS, f"the control plane answered {status} to boot: {document.get('message', '')}")
    return given, born_ns, document


def _presented(sandbox: str, token: str, control: Control) -> tuple[int, dict[str, Any]]:
    return _asked(control, "/agent/boot", token, {"sandbox": sandbox, "agent_version": VERSION})


def hello(booted: Booted, port: int, control: Control) -> None:
    """Tell the control plane that we listen, or why not. Ends with 78 where it does not want us."""
    given = booted.machine.settings
    body = {
        "sandbox": given.sandbox,
        "task_token": given.task_token,
        "port": port,
        "restored": booted.restored,
        "error": booted.problem,
    }
    status, document = _asked(control, "/agent/hello", booted.machine.token, body)
    if status != 200:
        raise Ended(NOT_OURS, f"the control plane answered {status} to hello: {document.get('message', '')}")


def _asked(control: Control, path: str, token: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    try:
        return control.post(path, token, body)
    except Unreachable as problem:
        raise Ended(UNREACHABLE, str(problem)) from None


def _restored(given: Settings, wanted: Any) -> str | None:
    """Unpack the checkpoint; the sentence that says what is wrong with it, if something is."""
    from agent.checkpoint.fetching import restore  # only here: most boots have nothing to restore

    began = time.monotonic()
    try:
        count = restore(wanted.url, size=wanted.size, sha256=wanted.sha256, root=given.root, control=given.control)
    except (ValueError, OSError) as problem:
        log.exception("restoring failed")
        return f"The checkpoint cannot be restored: {problem}"
    log.info("restored %d entries in %.2f s", count, time.monotonic() - began)
    return None


def person_for(given: Settings, name: str | None, home: str | None) -> Person:
    """Whom processes run as. In a folder that is ourselves, with a home inside it."""
    if given.root != "/":
        own = pwd.getpwuid(os.geteuid())
        inside = os.path.normpath(given.root + "/" + (home or "/home/sandbox").lstrip("/"))
        os.makedirs(inside, exist_ok=True)
        return Person(own.pw_name, own.pw_uid, own.pw_gid, tuple(os.getgroups()), inside, default_shell())
    if name and not _known(name):
        _enroll(name, home or f"/home/{name}")
    who = person(name or "root")
    return who if home is None else Person(who.name, who.uid, who.gid, who.groups, home, who.shell)


def _known(name: str) -> bool:
    try:
        person(name)
    except Refusal:
        return False
    return True


def _enroll(name: str, home: str) -> None:
    """Make the user that the image lacks, without the image's help."""
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    uid = next(number for number in range(1000, 60000) if number not in taken)
    for path, line in (
        ("/etc/passwd", f"{name}:x:{uid}:{uid}::{home}:{default_shell()}\n"),
        ("/etc/group", f"{name}:x:{uid}:\n"),
        ("/etc/shadow", f"{name}:!:19000:0:99999:7:::\n"),
    ):
        with open(path, "a") as file:
            file.write(line)
    os.makedirs(home, exist_ok=True)
    os.chown(home, uid, uid)
