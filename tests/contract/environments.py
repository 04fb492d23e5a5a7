"""One virtual environment for each version of an SDK, because two versions cannot live in one.

Made when first needed and again when its requirements change; several test runs may ask for the same one at once.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".venv-sdk"
STAMP = "made-of"


def python_with(requirements: Path) -> Path:
    """The Python of an environment that has exactly these requirements."""
    name = f"{requirements.parent.name}-{requirements.stem.removeprefix('requirements-')}"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    folder = HOME / name
    HOME.mkdir(exist_ok=True)
    with (HOME / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _stamped(folder, wanted):
            _make(folder, requirements)
            (folder / STAMP).write_text(wanted)
    return folder / "bin" / "python"


def _stamped(folder: Path, wanted: str) -> bool:
    stamp = folder / STAMP
    return stamp.exists() and stamp.read_text() == wanted


def _make(folder: Path, requirements: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(requirements)]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{requirements.name} could not be installed:\n{done.stderr[-4000:]}")


if __name__ == "__main__":
    for path in sorted(Path(__file__).parent.glob("*/requirements-*.txt")):
        print(python_with(path))
