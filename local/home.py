"""Where one installation keeps what it has: state under the data folder, sockets and scratch under a short runtime folder.

The two differ because a Unix socket's path holds 108 bytes at most, and because scratch must not outlive a reboot.
"""

import hashlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
CODE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Home:
    """The folders of one data folder. Two data folders on one machine share nothing."""

    data: Path
    run: Path

    @property
    def tag(self) -> str:
        """Eight letters of its own, for names that the whole machine sees: bridges, labels, runtime folders."""
        return _tag(self.data)

    @property
    def objects(self) -> Path:
        return self.data / "objects"

    @property
    def tables(self) -> Path:
        return self.data / "tables" / "dynamodb.sqlite"

    @property
    def containers(self) -> Path:
        return self.data / "containers"

    @property
    def machines(self) -> Path:
        """Sandboxes that run as plain processes live here, one folder each."""
        return self.data / "machines"

    @property
    def images(self) -> Path:
        return self.data / "images"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def scratch(self) -> Path:
        return self.run / "tmp"

    @property
    def door(self) -> Path:
        """The folder that every container sees, read-only, at /run/sandbar/door."""
        return self.run / "door"

    @property
    def control_socket(self) -> Path:
        return self.door / "control.sock"


def at(data: Path) -> Home:
    """The home at this data folder, which need not exist yet."""
    data = data.resolve()
    return Home(data=data, run=_runtime_root() / _tag(data))


def prepare(home: Home) -> None:
    """Make the folders, for our eyes only, and throw away scratch that an earlier boot of the machine left."""
    _private(home.data)
    for folder in (home.objects, home.tables.parent, home.containers, home.machines, home.images, home.logs):
        folder.mkdir(mode=0o700, exist_ok=True)
    boot = BOOT_ID.read_text().strip()
    if _read(home.run / "boot") != boot:
        shutil.rmtree(home.run, ignore_errors=True)
    _private(home.run.parent)
    _private(home.run)
    shutil.rmtree(home.scratch, ignore_errors=True)
    home.scratch.mkdir(mode=0o700)
    home.door.mkdir(mode=0o700, exist_ok=True)
    (home.run / "boot").write_text(boot)


def _runtime_root() -> Path:
    if os.geteuid() == 0:
        return Path("/run/sandbar")
    # _private refuses a folder that somebody else made there.
    return Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp") / f"sandbar-{os.geteuid()}"  # noqa: S108


def _tag(data: Path) -> str:
    return hashlib.sha256(os.fsencode(data)).hexdigest()[:8]


def _private(folder: Path) -> None:
    """Make it ours alone, or refuse: in a shared /tmp somebody else may have made it first."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to another user; remove it or name another folder")
    folder.chmod(0o700)


def _read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""
