"""Starting a program as somebody else without copying ourselves first.

`fork` copies the agent's page tables, and every page that either side touches afterwards: tens of milliseconds on a busy
machine. `posix_spawn` does not, but knows only one change of identity: to make the real user the effective one. So the
calling thread, and no other, takes on the person's real ids for as long as the call takes; the program that is executed
keeps nothing else of ours.
"""

import ctypes
import errno
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

LIBC = ctypes.CDLL(None, use_errno=True)

# By number, since the C library's own functions would change the ids of all threads.
_CALLS = {"x86_64": (116, 117, 119), "aarch64": (159, 147, 149)}
_KEEP = -1


@dataclass(frozen=True)
class Person:
    """A user of the sandbox."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str


def start(argv: Sequence[str], cwd: str, env: Mapping[str, str], person: Person, files: Sequence[int]) -> int:
    """The id of the new process, which leads a session of its own. Raises OSError.

    The first three of `files` become its streams, the others keep their numbers. All other files of ours are close-on-exec.
    """
    actions = [(os.POSIX_SPAWN_DUP2, file, file if place > 2 else place) for place, file in enumerate(files)]
    problem: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])
    with _within(cwd), _as(person):
        for program in _candidates(argv[0], env):
            try:
                return os.posix_spawn(
                    program, list(argv), env, file_actions=actions, setsid=True, resetids=True,
                    setsigmask=(), setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
                )  # fmt: skip
            except (FileNotFoundError, NotADirectoryError):
                continue
            except PermissionError as refused:
                problem = refused
    raise problem


def seal() -> None:
    """Keep from later programs whatever files we were started with, the three streams excepted."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with suppress(OSError):
                os.set_inheritable(int(name), False)


def _candidates(program: str, env: Mapping[str, str]) -> list[str]:
    """Where the program may be: itself if it is a path, else in each folder of the environment's PATH."""
    if "/" in program:
        return [program]
    return [f"{folder or '.'}/{program}" for folder in env.get("PATH", os.defpath).split(":")]


@contextmanager
def _within(folder: str) -> Iterator[None]:
    # Nothing of ours relies on the working directory, so it may be whatever the next program is to have.
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir("/")


@contextmanager
def _as(person: Person) -> Iterator[None]:
    """Real ids and groups of the person, for this thread."""
    if os.geteuid() != 0 or person.uid == 0:
        yield
        return
    ours = os.getgroups()
    _take(person.uid, person.gid, person.groups)
    try:
        yield
    finally:
        _take(0, 0, ours)


def _take(uid: int, gid: int, groups: Sequence[int]) -> None:
    setgroups, setresuid, setresgid = _CALLS[os.uname().machine]
    listed = (ctypes.c_uint32 * len(groups))(*groups)
    for call in ((setgroups, len(groups), listed), (setresgid, gid, _KEEP, _KEEP), (setresuid, uid, _KEEP, _KEEP)):
        if LIBC.syscall(*call) != 0:
            raise OSError(ctypes.get_errno(), f"the identity of user {uid} cannot be taken")
