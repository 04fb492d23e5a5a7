"""Archives as values: what goes in comes out, and what is hostile does not get out of its folder."""

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.checkpoint import tar
from agent.checkpoint.archive import DELETED, Archive
from agent.checkpoint.changes import Survey, described
from agent.checkpoint.restoring import Restoring
from agent.checkpoint.tar import Damaged, Member, Reader
from tests.agent.trees import read_tree

NOW = 1_700_000_000_123_456_789
A_FILE = Member(b"file", tar.FILE, 0o644, os.getuid(), os.getgid(), NOW)
NO_DELETIONS = Member(DELETED, tar.FILE, 0o600, 0, 0, 0)

names = st.binary(min_size=1, max_size=120).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b".."))
modes = st.integers(0, 0o7777).map(lambda mode: mode | 0o600)
times = st.integers(-(2**31) * 10**9, 2**33 * 10**9)
segments = st.lists(st.tuples(st.integers(0, 300_000), st.binary(min_size=1, max_size=9000)), max_size=4)
files = st.tuples(st.just("file"), names, modes, times, segments, st.integers(0, 500_000))
folders = st.tuples(st.just("folder"), names, modes.map(lambda mode: mode | 0o700), times)
links = st.tuples(st.just("link"), names)
symlinks = st.tuples(
    st.just("symlink"), names, st.binary(min_size=1, max_size=200).filter(lambda target: 0 not in target), times
)
pipes = st.tuples(st.just("pipe"), names, modes, times)
trees = st.lists(st.tuples(st.integers(0, 5), st.one_of(files, folders, links, symlinks, pipes)), max_size=12)


def build(root: bytes, plan: list[tuple[int, Any]]) -> None:
    """Make the planned tree: each item goes into one of the folders made before it."""
    made_folders: list[bytes] = [root]
    made_files: list[bytes] = []
    dressed: list[tuple[bytes, int, int]] = []
    for number, (kind, name, *rest) in plan:
        folder = made_folders[number % len(made_folders)]
        path = os.path.join(folder, name)
        if os.path.lexists(path):
            continue
        if kind == "link" and made_files:
            os.link(made_files[number % len(made_files)], path)
        elif kind == "symlink":
            os.symlink(rest[0], path)
            os.utime(path, ns=(rest[1], rest[1]), follow_symlinks=False)
        elif kind == "folder":
            os.mkdir(path)
            made_folders.append(path)
            dressed.append((path, rest[0], rest[1]))
        elif kind == "pipe":
            os.mkfifo(path)
            dressed.append((path, rest[0], rest[1]))
        elif kind == "file":
            _write(path, rest[2], rest[3])
            made_files.append(path)
            dressed.append((path, rest[0], rest[1]))
    for path, mode, moment in reversed(dressed):
        os.chmod(path, mode)
        os.utime(path, ns=(moment, moment))


def _write(path: bytes, chunks: list[tuple[int, bytes]], size: int) -> None:
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    os.ftruncate(file, size)
    for offset, chunk in chunks:
        os.pwrite(file, chunk, offset)
    os.close(file)


def packed(survey: Survey) -> bytes:
    said = io.BytesIO()
    Archive(survey.root, said.write).save(survey)
    return said.getvalue()


def unpacked(archive: bytes, root: Path) -> int:
    return Restoring(str(root)).apply(Reader(io.BytesIO(archive).read))


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[], Path]:
    """Makes new empty folders, also within one test."""
    numbers = iter(range(10_000))

    def make() -> Path:
        path = tmp_path / str(next(numbers))
        path.mkdir()
        return path

    return make


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=trees)
def test_any_tree_comes_out_as_it_went_in(folder: Callable[[], Path], plan: list[tuple[int, Any]]) -> None:
    source, target = folder(), folder()
    build(os.fsencode(source), plan)

    unpacked(packed(Survey(str(source), 0)), target)

    assert read_tree(target) == read_tree(source)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(before=trees, after=trees)
def test_any_change_comes_out_on_a_copy_of_the_image(folder: Callable[[], Path], before: Any, after: Any) -> None:
    image, source = folder(), folder()
    build(os.fsencode(image), before)
    shutil.rmtree(source)
    subprocess.run(["cp", "-a", image, source], check=True)
    manifest = {described(found) for found in Survey(str(image), 0).everything()}
    for path in list(source.iterdir())[::2]:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    build(os.fsencode(source), after)

    unpacked(packed(Survey(str(source), 0, manifest)), image)

    assert read_tree(image) == read_tree(source)


def test_other_programs_read_it(folder: Callable[[], Path]) -> None:
    source, target = folder(), folder()
    build(os.fsencode(source), [(0, ("file", b"holes", 0o644, NOW, [(200_000, b"data")], 10_000_000))])
    (source / "plain").write_text("plain")
    (source / ("n" * 200)).symlink_to("t" * 200)
    archive = packed(Survey(str(source), 0))

    subprocess.run(["tar", "-x", "-C", target], input=archive, check=True)
    shutil.rmtree(target / ".sandbar")

    assert read_tree(target) == read_tree(source)
    with tarfile.open(fileobj=io.BytesIO(archive)) as other:
        holes = other.extractfile("holes")
        assert holes is not None
        assert holes.read() == (source / "holes").read_bytes()


def made(*members: tuple[Member, bytes]) -> bytes:
    parts = [tar.head(member) + content + tar.padding(member.stored) for member, content in members]
    return b"".join(parts) + tar.END


def evil() -> Iterator[tuple[str, bytes]]:
    first = (NO_DELETIONS, b"")
    link = replace(A_FILE, path=b"way", kind=tar.SYMLINK, link=b"../outside")
    for path in (b"../outside/x", b"/outside/x", b"a/../../outside/x", b"a//b", b"./x", b"..", b"a/.", b""):
        yield f"path {path!r}", made(first, (replace(A_FILE, path=path, size=1), b"x"))
    yield "through a symlink", made(first, (link, b""), (replace(A_FILE, path=b"way/x", size=1), b"x"))
    yield "folder through a symlink", made(first, (link, b""), (replace(A_FILE, path=b"way/d", kind=tar.FOLDER), b""))
    yield "hard link out", made(first, (replace(A_FILE, kind=tar.LINK, link=b"../outside/kept"), b""))
    yield (
        "hard link through a symlink",
        made(first, (link, b""), (replace(A_FILE, kind=tar.LINK, link=b"way/kept"), b"")),
    )
    yield "a device", made(first, (replace(A_FILE, kind=tar.CHARACTER, device=(1, 3)), b""))
    yield "our own folder", made(first, (replace(A_FILE, path=b"opt/sandbar/agent"), b""))
    yield "an unknown type", made(first, (replace(A_FILE, kind=b"7"), b""))
    yield "deletions that leave", made((replace(NO_DELETIONS, size=15), b"../outside/kept"))
    yield "no deletions first", made((A_FILE, b""))
    yield "no end", made(first)[:-1024]
    yield "half a file", made(first, (replace(A_FILE, size=2000), b"x" * 2000))[:-1500]
    yield "nothing", b""
    yield "noise", bytes(range(256)) * 40
    backward = replace(A_FILE, size=100, segments=[(50, 10), (0, 10)])
    yield "holes out of order", made(first, (backward, b"x" * 20))
    yield "data beyond the end", made(first, (replace(A_FILE, size=10, segments=[(5, 10)]), b"x" * 10))


EVIL = dict(evil())


@pytest.mark.parametrize("name", EVIL)
def test_hostile_archives_are_damage_and_touch_nothing_outside(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").write_text("kept")
    (tmp_path / "root").mkdir()
    before = read_tree(tmp_path / "outside")

    with pytest.raises(Damaged):
        unpacked(EVIL[name], tmp_path / "root")

    assert read_tree(tmp_path / "outside") == before


def test_deletions_do_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root/way").symlink_to("../outside")

    unpacked(made((replace(NO_DELETIONS, size=16), b"way/kept\0way\0no/x")), tmp_path / "root")

    assert (tmp_path / "outside/kept").exists()
    assert not (tmp_path / "root/way").is_symlink()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(position=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_changed_byte_is_damage_or_harmless(folder: Callable[[], Path], position: int, byte: int) -> None:
    contents = [(NO_DELETIONS, b""), (replace(A_FILE, size=700, segments=[(0, 5), (600, 5)]), b"0123456789")]
    archive = bytearray(made(*contents))
    archive[position % len(archive)] = byte
    target = folder()

    with suppress(Damaged, OSError):
        unpacked(bytes(archive), target)

    assert set(os.listdir(target.parent)) >= {target.name}
