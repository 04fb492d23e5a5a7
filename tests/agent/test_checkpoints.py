"""What changed is saved, and restored as it was."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import Start
from tests.agent.control_plane import ControlPlane
from tests.agent.running import Agent
from tests.agent.trees import read_tree

MOMENT = 1_600_000_000_123_456_789


def save(
    agent: Agent, id: str = "cp", *, part_bytes: int = 65536, quiesce: bool = False, urls: int = 1
) -> dict[str, Any]:
    body = {"id": id, "quiesce": quiesce, "part_bytes": part_bytes, "task_token": "saved-token"}
    reply = agent.client().post("/checkpoints", {**body, "part_urls": agent.control.part_urls(id, 1, urls)})
    assert reply.status == 202, reply.body
    return agent.control.saved.get(timeout=60)


def moved(agent: Agent, control: ControlPlane, start: Start, **options: Any) -> Agent:
    """Another agent with a new root, restored from what this one saves."""
    saved = save(agent, **options)
    assert saved["error"] is None
    control.plan.restore = control.checkpoint(saved)
    another = start(control)
    said = another.hello()
    assert (said["error"], said["restored"]) == (None, True)
    return another


def odd_tree(root: Path) -> None:
    (root / "folder").mkdir(mode=0o750)
    (root / "folder" / "plain").write_bytes(os.urandom(200_000))
    os.link(root / "folder" / "plain", root / "linked")
    (root / "line\nbreak and  spaces ").write_text("odd")
    Path(os.fsdecode(os.fsencode(root) + b"/not-utf-8-\xff\xfe")).write_bytes(b"bytes")
    (root / ("long" * 50)).write_text("long name")
    os.symlink("../../nowhere", root / "dangling")
    os.symlink(os.fsdecode(b"\xff"), root / "odd link")
    (root / "setuid").write_text("#!/bin/sh\n")
    os.chmod(root / "setuid", 0o4755)
    (root / "closed").mkdir()
    (root / "closed" / "inside").write_text("kept")
    (root / "empty").touch()
    os.mkfifo(root / "pipe", 0o640)
    with open(root / "holes", "wb") as file:
        file.truncate(30_000_000)
        os.pwrite(file.fileno(), b"middle", 12_345_678)
    for path in [*root.iterdir(), root / "folder" / "plain", root]:
        os.utime(path, ns=(MOMENT, MOMENT), follow_symlinks=False)
    os.chmod(root / "closed", 0o500)


def test_a_tree_of_odd_files_comes_back_as_it_was(control: ControlPlane, start: Start) -> None:
    agent = start(control)
    agent.hello()
    odd_tree(agent.home)

    another = moved(agent, control, start)

    assert read_tree(another.home) == read_tree(agent.home)
    assert os.stat(another.home / "holes").st_blocks < 1000


def test_extended_attributes_come_back(control: ControlPlane, start: Start) -> None:
    agent = start(control)
    agent.hello()
    (agent.home / "marked").touch()
    os.setxattr(agent.home / "marked", "user.note", b"\x00\xff\nbytes")

    another = moved(agent, control, start)

    assert os.getxattr(another.home / "marked", "user.note") == b"\x00\xff\nbytes"


def test_a_checkpoint_of_a_restored_sandbox_is_whole_again(control: ControlPlane, start: Start) -> None:
    agent = start(control)
    agent.hello()
    odd_tree(agent.home)
    another = moved(agent, control, start)

    third = moved(another, control, start, id="second")

    assert read_tree(third.home) == read_tree(agent.home)


def test_many_small_parts_ask_for_more_addresses(control: ControlPlane, start: Start) -> None:
    agent = start(control)
    agent.hello()
    (agent.home / "random").write_bytes(os.urandom(1_000_000))

    saved = save(agent, part_bytes=10_000)

    assert [part["number"] for part in saved["parts"]] == list(range(1, len(saved["parts"]) + 1))
    assert sum(part["size"] for part in saved["parts"]) == saved["size"] > 1_000_000
    assert saved["task_token"] == "saved-token"


def test_uploads_survive_failing_and_lying_stores(control: ControlPlane, start: Start) -> None:
    agent = start(control)
    agent.hello()
    (agent.home / "file").write_text("kept")
    control.plan.put_statuses = [503, 403]
    control.plan.wrong_etags = 1

    another = moved(agent, control, start)

    assert (another.home / "file").read_text() == "kept"


def test_a_unix_socket_is_the_way_to_the_store_too(start: Start, tmp_path: Path) -> None:
    with ControlPlane(socket=tmp_path / "s") as control:
        agent = start(control)
        agent.hello()
        (agent.home / "file").write_text("kept")

        another = moved(agent, control, start)

        assert (another.home / "file").read_text() == "kept"
        agent.stop()
        another.stop()


def test_a_download_that_breaks_is_taken_up_where_it_broke(control: ControlPlane, start: Start) -> None:
    agent = start(control)
    agent.hello()
    (agent.home / "random").write_bytes(os.urandom(1_000_000))
    control.plan.break_downloads_at = [1000, 300_000, 300_001]

    another = moved(agent, control, start)

    assert (another.home / "random").read_bytes() == (agent.home / "random").read_bytes()


@pytest.mark.parametrize("damage", ["flip", "cut", "digest"])
def test_a_damaged_checkpoint_is_reported_and_nothing_is_served(
    control: ControlPlane, start: Start, damage: str
) -> None:
    agent = start(control)
    agent.hello()
    (agent.home / "random").write_bytes(os.urandom(100_000))
    restore = control.checkpoint(save(agent))
    whole = control.store["cp/whole"]
    damaged = {
        "flip": whole[:50_000] + bytes([whole[50_000] ^ 1]) + whole[50_001:],
        "cut": whole[:60_000],
        "digest": whole,
    }
    control.store["cp/whole"] = damaged[damage]
    control.plan.restore = {
        **restore,
        "size": len(damaged[damage]),
        "sha256": "0" * 64 if damage == "digest" else restore["sha256"],
    }

    another = start(control)
    said = another.hello()

    assert not said["restored"]
    assert "cannot be restored" in said["error"]
    assert another.ended()[0] == 65


def test_a_quiesced_sandbox_ends_its_processes_and_starts_no_more(control: ControlPlane, start: Start) -> None:
    agent = start(control)
    agent.hello()
    client = agent.client()
    client.post("/sessions", {"id": "s"})
    client.post(
        "/sessions/s/commands",
        {"command": "trap 'echo saved > last-words; exit' TERM; while :; do sleep 0.05; done", "wait": False},
    )
    assert client.exec("sleep 0.3; ls").status == 200

    saved = save(agent, quiesce=True)

    assert saved["error"] is None
    assert (agent.home / "last-words").read_text() == "saved\n"
    assert client.exec("true").status == 409
    assert client.get("/checkpoints/cp").json["state"] == "saved"


def test_a_second_checkpoint_waits_for_no_one(control: ControlPlane, start: Start) -> None:
    agent = start(control)
    agent.hello()
    body = {"id": "cp", "part_bytes": 65536, "part_urls": []}
    client = agent.client()
    (agent.home / "large").write_bytes(os.urandom(20_000_000))

    first, second = client.post("/checkpoints", body), client.post("/checkpoints", {**body, "id": "other"})

    assert (first.status, second.status) == (202, 409)
    assert client.get("/checkpoints/none").status == 404


def test_deletions_against_the_manifest_are_saved(control: ControlPlane, start: Start, tmp_path: Path) -> None:
    image = tmp_path / "image"
    for name in ("gone/below/file", "kept", "edited", "folder-to-file/x", "file-to-folder", "opt/sandbar/ours"):
        (image / name).parent.mkdir(parents=True, exist_ok=True)
        (image / name).write_text("image")
    (image / "link-to-folder").symlink_to("gone")
    first, second = clone_with_manifest(image, tmp_path / "a"), clone_with_manifest(image, tmp_path / "b")
    agent = start(control, first)
    agent.hello()
    agent.client().exec(
        "rm -r gone folder-to-file file-to-folder link-to-folder; echo x > folder-to-file", cwd=str(first)
    )
    agent.client().exec(
        "mkdir -p file-to-folder/d link-to-folder/e; echo new > edited; echo made > made", cwd=str(first)
    )

    saved = save(agent)
    control.plan.restore = control.checkpoint(saved)
    assert start(control, second).hello()["error"] is None

    assert visible(second) == visible(first)
    assert "kept" not in {name for name, _ in changed_names(saved, control)}


def visible(root: Path) -> dict[bytes, tuple[Any, ...]]:
    return {path: entry for path, entry in read_tree(root).items() if not path.startswith((b"run", b"opt"))}


def clone_with_manifest(image: Path, root: Path) -> Path:
    import shutil
    import subprocess
    import sys

    shutil.copytree(image, root, symlinks=True)
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            os.utime(f"{folder}/{name}", ns=(MOMENT, MOMENT), follow_symlinks=False)
    manifest = subprocess.run(
        [sys.executable, "-m", "agent.manifest", str(root)], capture_output=True, check=True
    ).stdout
    (root / "opt/sandbar/image.manifest").write_bytes(manifest)
    return root


def changed_names(saved: dict[str, Any], control: ControlPlane) -> list[tuple[str, int]]:
    import io
    import tarfile

    import zstandard

    whole = control.store[f"{saved['checkpoint']}/whole"]
    plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(whole)).read()
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        return [(member.name, member.size) for member in archive if not stat.S_ISDIR(member.mode)]
