"""Assemble the folder that makes any x86_64 Linux image a sandbox's: assemble.py runtime ROOT WHEELS PATCHELF OUT.

OUT becomes /opt/sandbar: a Python of its own, copied from the Debian root ROOT, with its own loader and C library, and
the agent's dependencies from the folder WHEELS. It needs nothing of the image, be that built on glibc, on musl or on
nothing at all, and no environment variable that the sandbox's own processes could inherit.

assemble.py agent SOURCES RUNTIME OUT lays the agent over that. Standard library only, as a bare Debian runs this too.
"""

import os
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

PREFIX = "/opt/sandbar"
PYTHON = "python3.11"
LOADER = "ld-linux-x86-64.so.2"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
# What a server without screen, keyboard or packages to install never imports.
UNUSED = (
    *("__pycache__", "config-3.11-x86_64-linux-gnu", "curses", "dbm", "dist-packages", "distutils", "ensurepip"),
    *("idlelib", "lib2to3", "pydoc_data", "sqlite3", "test", "tkinter", "turtledemo", "unittest", "venv", "wsgiref"),
    *("xmlrpc", "sitecustomize.py", "turtle.py", "antigravity.py", "doctest.py", "pydoc.py", "pdb.py", "LICENSE.txt"),
    *("_codecs_*", "_crypt.*", "_ctypes_test.*", "_curses*", "_dbm.*", "_sqlite3.*", "_test*", "_xx*", "audioop.*"),
    *("nis.*", "ossaudiodev.*", "readline.*", "xx*"),
)
# Scripts and headers; tests; what only a compiler reads; zstandard's second copy, for Pythons that are not CPython.
LEFT_IN_WHEELS = (".data/", "/tests/", ".pyx", ".pxd", ".pyi", "zstandard/_cffi.")


def assemble_runtime(root: Path, wheels: Path, patchelf: Path, out: Path) -> None:
    """Fill `out`, which must not exist yet."""
    library = out / "lib" / PYTHON
    shutil.copytree(root / "usr/lib" / PYTHON, library, ignore=shutil.ignore_patterns(*UNUSED), symlinks=False)
    for wheel in sorted(wheels.glob("*.whl")):
        _unpack(wheel, library)
    (out / "bin").mkdir()
    python = Path(shutil.copy2(root / "usr/bin" / PYTHON, out / "bin/python"))
    for name in _needed(root, [python, *library.rglob("*.so"), *library.rglob("*.so.*")]):
        shutil.copy2(root / LIBRARIES / name, out / "lib" / name)
    shutil.copy2(root / LIBRARIES / LOADER, out / "lib" / LOADER)
    _compile(out, out)
    # RPATH, not RUNPATH: it holds for the libraries of extension modules too, and goes before LD_LIBRARY_PATH, which
    # images made for graphics cards set for their own libraries.
    place = ["--set-interpreter", f"{PREFIX}/lib/{LOADER}", "--force-rpath", "--set-rpath", "$ORIGIN/../lib"]
    subprocess.run([str(patchelf), *place, str(python)], check=True)


def assemble_agent(sources: Path, runtime: Path, out: Path) -> None:
    """Fill `out` with the agent from the repository at `sources`, compiled by the Python at `runtime`."""
    (out / "bin").mkdir(parents=True)
    shutil.copy2(Path(__file__).parent / "agent", out / "bin/agent")
    for source in agent_sources(sources):
        target = out / "lib" / PYTHON / source.relative_to(sources)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    _compile(out, runtime)


def agent_sources(repository: Path) -> list[Path]:
    """The agent, and the one module of the house that it shares."""
    shared = [path for name in ("__init__.py", "frames.py") if (path := repository / "chalicelib" / name).exists()]
    return [*sorted((repository / "agent").rglob("*.py")), *shared]


def _unpack(wheel: Path, library: Path) -> None:
    """Lay the wheel's modules beside the standard library, where an isolated Python without site finds them."""
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if not any(part in name for part in LEFT_IN_WHEELS)]
        archive.extractall(library, members)
    for name in members:
        if name.endswith(".so"):
            _strip(library / name)


def _strip(binary: Path) -> None:
    """Cut off what no loader reads: symbols and debug information, nine tenths of some wheels."""
    image = bytearray(binary.read_bytes())
    (headers,) = struct.unpack_from("<Q", image, 0x20)
    size, count = struct.unpack_from("<HH", image, 0x36)
    segments = (struct.unpack_from("<IIQQQQ", image, headers + size * index) for index in range(count))
    end = max(offset + length for _, _, offset, _, _, length in segments)
    # No section headers any more: their offset, count and index of names are nought.
    struct.pack_into("<Q", image, 0x28, 0)
    struct.pack_into("<HHH", image, 0x3A, 0, 0, 0)
    binary.write_bytes(image[:end])


def _needed(root: Path, binaries: Iterable[Path]) -> Iterator[str]:
    """The libraries of the system that these load, by asking the root's own loader."""
    libraries = root / LIBRARIES
    loader = [str(libraries / LOADER), "--library-path", str(libraries), "--list"]
    listed = (subprocess.run([*loader, str(it)], check=True, capture_output=True, text=True).stdout for it in binaries)
    paths = {Path(word) for text in listed for word in text.split() if word.startswith(f"{libraries}/")}
    return (path.name for path in sorted(paths) if path.name != LOADER)


def _compile(out: Path, runtime: Path) -> None:
    """Compile every module, never to be checked against its source: nobody edits them in place."""
    python = [str(runtime / "lib" / LOADER), "--library-path", str(runtime / "lib"), str(runtime / "bin/python"), "-SB"]
    options = ["-q", "--invalidation-mode", "unchecked-hash", "-s", str(out), "-p", PREFIX]
    environment = {**os.environ, "PYTHONHOME": str(runtime)}
    subprocess.run([*python, "-m", "compileall", *options, str(out / "lib" / PYTHON)], check=True, env=environment)


WHAT: dict[str, Callable[..., None]] = {"runtime": assemble_runtime, "agent": assemble_agent}

if __name__ == "__main__":
    WHAT[sys.argv[1]](*(Path(argument) for argument in sys.argv[2:]))
