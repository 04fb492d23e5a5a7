"""Setting up a bare machine: which Python, which packages, what is checked before it is used."""

import base64
import hashlib
import io
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import install
from local.errors import SetupError

PROGRAM = b"#!/bin/sh\necho dynoxide\n"


@pytest.fixture(name="archive")
def an_archive(tmp_path: Path) -> Path:
    path = tmp_path / "dynoxide.tgz"
    with tarfile.open(path, "w:gz") as bundle:
        member = tarfile.TarInfo(install.DYNOXIDE_MEMBER)
        member.size = len(PROGRAM)
        bundle.addfile(member, io.BytesIO(PROGRAM))
    return path


@pytest.fixture(name="path")
def a_path_of_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_the_very_archive_that_was_tried_is_installed(archive: Path, tmp_path: Path) -> None:
    install.unpack_dynoxide(archive, tmp_path / "dynoxide", _sha512(archive))

    assert subprocess.check_output([tmp_path / "dynoxide"]) == b"dynoxide\n"


def test_another_archive_is_refused_and_nothing_is_left(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="SHA-512 differs"):
        install.unpack_dynoxide(archive, tmp_path / "dynoxide")

    assert not (tmp_path / "dynoxide").exists()


def test_the_newest_python_that_works_is_chosen(path: Path) -> None:
    _python(path, "python3", "3 11")
    _python(path, "python3.12", "3 12")
    _python(path, "python3.13", "", code=127)  # a shim for a version that is not installed

    assert install.interpreter() == "python3.12"


def test_a_python_that_is_too_old_or_too_new_is_no_python(path: Path) -> None:
    _python(path, "python3", "3 14")
    _python(path, "python3.11", "3 10")

    with pytest.raises(SetupError, match=r"Python 3\.11, 3\.12 or 3\.13 is needed"):
        install.interpreter()


def test_where_there_is_no_apt_the_packages_are_named(path: Path) -> None:
    with pytest.raises(SetupError, match="install with its own tools: podman zstd"):
        install.install_debian_packages(["podman", "zstd"], hard=True)


def test_what_is_only_wanted_does_not_stop_the_set_up(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install.install_debian_packages(["podman"], hard=False)

    assert "going on without them" in capsys.readouterr().err


def test_a_finished_set_up_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requirements, program = tmp_path / "requirements.txt", tmp_path / "dynoxide"
    requirements.write_text("one==1\n")
    program.touch()
    monkeypatch.setattr(install, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(install, "dynoxide", lambda: program)
    assert not install._is_current([requirements])

    install._stamp([requirements])

    assert install._is_current([requirements])
    requirements.write_text("one==2\n")
    assert not install._is_current([requirements])


def test_every_requirement_is_pinned_and_alike_wherever_it_is_named() -> None:
    pins = list(_pins())

    versions = {name: {version for other, version in pins if other == name} for name, _ in pins}

    assert all(version for _, version in pins)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def _pins() -> Iterator[tuple[str, str]]:
    for path in install.CODE.glob("requirements*.txt"):
        for line in path.read_text().splitlines():
            if wanted := re.match(r"([A-Za-z0-9._-]+)(?:\[\w+\])?(?:==(\S+))?", line.strip()):
                yield wanted[1].lower().replace("_", "-"), wanted[2] or ""


def _python(folder: Path, name: str, version: str, code: int = 0) -> None:
    (folder / name).write_text(f"#!/bin/sh\necho {version}\nexit {code}\n")
    (folder / name).chmod(0o755)


def _sha512(path: Path) -> str:
    return base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
