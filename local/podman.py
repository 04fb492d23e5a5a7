"""A Podman of our own: its storage under the data folder, its sockets and locks in the runtime folder.

Nothing of it is shared with a Podman that the machine's user runs besides.
"""

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from local import networks
from local.home import Home

CGROUPS_V2 = Path("/sys/fs/cgroup/cgroup.controllers")
SYSTEMD = Path("/run/systemd/system")
NEEDED = ("podman", "conmon")
RUNTIMES = ("crun", "runc")
KILLED = "137"
# Where the bridge's plugin notes who has which address.
ADDRESSES = Path("/var/lib/cni/networks")
Settings = dict[str, dict[str, str | list[str]]]


def socket(home: Home) -> Path:
    return home.run / "podman.sock"


def url(home: Home) -> str:
    return f"unix://{socket(home)}"


def missing() -> list[str]:
    """The programs without which no container starts."""
    lacking = [program for program in NEEDED if not shutil.which(program)]
    return lacking + ([] if any(map(shutil.which, RUNTIMES)) else ["runc"])


def configure(home: Home, image_stores: Sequence[Path]) -> dict[str, str]:
    """Write our settings and return the environment that makes podman heed them and no others."""
    engine, storage = home.run / "containers.conf", home.run / "storage.conf"
    engine.write_text(_engine(home))
    storage.write_text(_storage(home, image_stores))
    return {"CONTAINERS_CONF": str(engine), "CONTAINERS_STORAGE_CONF": str(storage)}


def service(home: Home) -> list[str]:
    """The command that serves Docker's API on our socket until it is ended; containers outlive it."""
    return ["podman", "--log-level=error", "system", "service", "--time=0", url(home)]


def tidy(home: Home) -> None:
    """Take away what a Podman that runs nothing leaves outside of the data folder; it makes all of it anew."""
    if shutil.which("ip"):
        subprocess.run(["ip", "link", "delete", networks.interface(home.tag)], capture_output=True)
    for left in (ADDRESSES / networks.name(home.tag), home.run):
        shutil.rmtree(left, ignore_errors=True)


def note_lost_exit(home: Home, id: str, pid: int) -> bool:
    """Whether a container had ended without Podman's knowing, which it now does.

    Each container's end is written down by a monitor of its own. Where that was killed too, Podman believes for ever
    that the container runs, and starts it never again.
    """
    monitor = home.run / "storage" / "overlay-containers" / id / "userdata" / "conmon.pid"
    if _alive(pid) or _alive(int(monitor.read_text() or 0) if monitor.exists() else 0):
        return False
    exits = home.run / "libpod" / "exits"
    exits.mkdir(parents=True, exist_ok=True)
    (exits / id).write_text(KILLED)
    return True


def _alive(pid: int) -> bool:
    """Whether that process runs; a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text() if pid else ""
    except OSError:
        return False
    return bool(status) and status.rpartition(")")[2].split()[0] != "Z"


def _engine(home: Home) -> str:
    files, processes = _hard_limit(resource.RLIMIT_NOFILE, 65536), _hard_limit(resource.RLIMIT_NPROC, 32768)
    # crun refuses the hybrid of cgroups v1 and v2, and runc serves both.
    version2 = CGROUPS_V2.exists()
    runtime = next((name for name in (RUNTIMES if version2 else ("runc",)) if shutil.which(name)), "runc")
    manager = "systemd" if version2 and SYSTEMD.exists() else "cgroupfs"
    settings: Settings = {
        "containers": {"default_ulimits": [f"nofile={files}:{files}", f"nproc={processes}:{processes}"]},
        "engine": {
            "runtime": runtime,
            "cgroup_manager": manager,
            "events_logger": "file",
            # Podman's own default is one shared-memory segment for every storage of the user.
            "lock_type": "file",
            "tmp_dir": str(home.run / "libpod"),
            # Nowhere else: the clean-up that each container's monitor starts is told the storage alone and looks there,
            # and where it finds nothing, whoever waits for the container waits 20 s too long.
            "static_dir": str(home.containers / "storage" / "libpod"),
            "volume_path": str(home.containers / "volumes"),
        },
        "network": {"network_config_dir": str(home.containers / "networks")},
    }
    return _toml(settings)


def _storage(home: Home, image_stores: Sequence[Path]) -> str:
    return _toml(
        {
            "storage": {
                "driver": "overlay",
                "graphroot": str(home.containers / "storage"),
                "runroot": str(home.run / "storage"),
            },
            "storage.options": {"additionalimagestores": [str(store) for store in image_stores]},
            # Else it mounts its own folder over itself, for ever.
            "storage.options.overlay": {"skip_mount_home": "true"},
        }
    )


def _toml(settings: Settings) -> str:
    """Strings and lists of strings are written alike in JSON and in TOML, and we have no others."""
    lines: list[str] = []
    for section, values in settings.items():
        lines += [f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def _hard_limit(kind: int, wanted: int) -> int:
    """What we want, or what we have: a limit above the caller's own hard one needs a right that we may lack."""
    hard = resource.getrlimit(kind)[1]
    return wanted if hard == resource.RLIM_INFINITY or (os.geteuid() == 0 and _may_raise()) else min(hard, wanted)


def _may_raise() -> bool:
    """Whether we hold CAP_SYS_RESOURCE, bit 24 of the effective set."""
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
    return bool(int(effective, 16) >> 24 & 1)
