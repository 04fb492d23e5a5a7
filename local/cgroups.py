"""Whether the kernel killed something for want of memory: the engine is told of it on some machines only."""

import contextlib
import re
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
# Of cgroups v1 and of v2.
COUNTERS = ("memory.oom_control", "memory.events")


def memory_of(pid: int) -> Path | None:
    """The cgroup that bounds that process's memory; None where it is gone or has none."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                return ROOT / "memory" / path.lstrip("/")
            if number == "0" and (ROOT / path.lstrip("/") / "memory.events").exists():
                return ROOT / path.lstrip("/")
    return None


def killed_for_memory(folder: Path | None) -> bool:
    """Whether any of its processes was; False where the cgroup is gone already."""
    if folder is None:
        return False
    for name in COUNTERS:
        with contextlib.suppress(OSError):
            counted = re.search(r"^oom_kill (\d+)$", (folder / name).read_text(), re.MULTILINE)
            return bool(counted and int(counted[1]))
    return False
