"""The default image: built once on a machine, then shared by all of its data folders and clones.

What an image is built from is its name, so that a change of the agent alone rebuilds the agent's layer alone.
"""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from local import recipes
from local.commands import Commands
from local.errors import SetupError
from local.image_stores import ImageStore
from local.layers import Image, Layer
from local.recipes import Kitchen

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/home/daytona/.local/bin"
CONFIG = {
    "Env": [f"PATH={PATH}", "LANG=C.UTF-8", "NODE_PATH=/usr/local/lib/node_modules"],
    "Entrypoint": ["/opt/sandbar/bin/agent"],
    "ExposedPorts": {"2280/tcp": {}},
    "WorkingDir": "/",
}
# Without any of these nothing of Debian's can be built.
TOOLS = ("mmdebstrap",)
FULL = (errno.ENOSPC, errno.EDQUOT)


def default_cache() -> Path:
    """What data folders share: `SANDBAR_CACHE`, or the user's cache folder."""
    named = os.environ.get("SANDBAR_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sandbar"


def missing(cache: Path) -> list[str]:
    """Debian's packages that are still to be installed before the default image can be built here."""
    if (_shelf(cache) / recipes.root_name()).exists():
        return []
    return [tool for tool in TOOLS if not shutil.which(tool)]


def default_reference() -> str:
    """What the default image is called that belongs to the code as it is now."""
    return f"localhost/sandbar/default:{_tag(recipes.manifest_name(), recipes.agent_name())}"


def agent_reference() -> str:
    """What the image is called that holds /opt/sandbar and nothing else, to be laid over other images."""
    return f"localhost/sandbar/agent:{_tag(recipes.agent_name())}"


def ensure_default_image(store: ImageStore, cache: Path, progress: Callable[[str], None]) -> str:
    """See that the engine has the default image; its reference. Raises `SetupError` where that cannot be.

    Safe to be called by several at once, and again after it was killed.
    """
    cooks = [recipes.root, recipes.runtime, recipes.manifest, recipes.agent]
    return _ensure(default_reference(), cooks, store, cache, progress)


def ensure_agent_image(store: ImageStore, cache: Path, progress: Callable[[str], None]) -> str:
    """See that the engine has the image of /opt/sandbar alone; its reference."""
    return _ensure(agent_reference(), [recipes.runtime, recipes.agent], store, cache, progress)


def _ensure(
    reference: str,
    cooks: Sequence[Callable[[Kitchen], Layer]],
    store: ImageStore,
    cache: Path,
    progress: Callable[[str], None],
) -> str:
    if store.has(reference):
        return reference
    try:
        with _kitchen(cache.absolute(), progress) as kitchen:
            if not store.has(reference):
                image = Image(reference, [cook(kitchen) for cook in cooks], CONFIG)
                progress("Importing the image")
                store.add(image, kitchen.bench, kitchen.run)
    except OSError as problem:
        if problem.errno not in FULL:
            raise
        raise SetupError(f"No room is left under {cache}; make some, then run it again") from problem
    return reference


@contextmanager
def _kitchen(cache: Path, progress: Callable[[str], None]) -> Iterator[Kitchen]:
    """A kitchen of our own, tidied of whatever was left in it; another that is at work is waited for."""
    shelf, bench = _shelf(cache), cache / "images" / "bench"
    shelf.mkdir(parents=True, exist_ok=True)
    with (cache / "images" / "lock").open("a") as lock:
        _wait_for(lock.fileno(), progress)
        scratch = bench / "scratch" if os.geteuid() == 0 else _scratch()
        for folder in (bench, scratch):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        log = cache / "images" / "build.log"
        log.write_bytes(b"")
        try:
            yield Kitchen(shelf=shelf, bench=bench, scratch=scratch, run=Commands(log), progress=progress)
        finally:
            for folder in (bench, scratch):
                shutil.rmtree(folder, ignore_errors=True)


def _wait_for(lock: int, progress: Callable[[str], None]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        progress("Waiting for another set-up that is building an image")
        fcntl.flock(lock, fcntl.LOCK_EX)


def _shelf(cache: Path) -> Path:
    return cache / "images" / "layers"


def _scratch() -> Path:
    """Outside of the home: package tools act as users of their own, who may not enter it."""
    return Path("/var/tmp") / f"sandbar-{os.geteuid()}"  # noqa: S108 - made anew each time, and refused if it cannot be


def _tag(*names: str) -> str:
    return hashlib.sha256(" ".join(names).encode()).hexdigest()[:12]
