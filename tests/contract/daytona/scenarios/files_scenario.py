"""Files carried in and out, found and changed."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from sdk import NEWEST, DaytonaError, daytona

ODD = "ünï 'q\" 漢 $x;&.txt"


@pytest.mark.proves("uploadFiles", "downloadFiles")
async def test_bytes_go_in_and_come_out_unchanged(sandbox: Any, folder: str) -> None:
    content = bytes(range(256)) * 4096

    await sandbox.fs.upload_file(content, f"{folder}/deep/er/bytes.bin")

    assert await sandbox.fs.download_file(f"{folder}/deep/er/bytes.bin") == content


@pytest.mark.proves("uploadFiles", "downloadFiles")
async def test_many_files_go_and_come_together(sandbox: Any, folder: str) -> None:
    files = {f"{folder}/{n}.txt": f"content {n}".encode() for n in range(20)} | {f"{folder}/empty": b""}

    await sandbox.fs.upload_files(
        [daytona.FileUpload(source=content, destination=path) for path, content in files.items()]
    )
    found = await sandbox.fs.download_files([daytona.FileDownloadRequest(source=path) for path in files])

    assert {each.source: each.result for each in found if each.result} == {p: c for p, c in files.items() if c}


async def test_a_large_file_streams_from_disk_to_disk(sandbox: Any, folder: str, tmp_path: Path) -> None:
    there, back = tmp_path / "there.bin", tmp_path / "back.bin"
    block = hashlib.sha256(b"seed").digest() * 32768
    with there.open("wb") as file:
        for _ in range(64):
            file.write(block)

    await sandbox.fs.upload_file(str(there), f"{folder}/large.bin")
    await sandbox.fs.download_file(f"{folder}/large.bin", str(back))

    assert back.stat().st_size == 64 * len(block)
    assert back.read_bytes() == there.read_bytes()


async def test_a_file_that_is_not_there_is_told_so_in_words(sandbox: Any, folder: str) -> None:
    wanted = getattr(daytona, "DaytonaFileNotFoundError", None) if NEWEST else None

    with pytest.raises(wanted or DaytonaError) as refused:
        await sandbox.fs.download_file(f"{folder}/missing")

    assert "missing" in str(refused.value)
    assert "{" not in str(refused.value)


async def test_one_missing_file_does_not_spoil_the_others(sandbox: Any, folder: str) -> None:
    await sandbox.fs.upload_file(b"here", f"{folder}/here")

    requests = [daytona.FileDownloadRequest(source=f"{folder}/{name}") for name in ("missing", "here")]
    missing, here = await sandbox.fs.download_files(requests)

    assert missing.error
    assert (here.result, here.error) == (b"here", None)


@pytest.mark.proves("createFolder", "listFiles", "getFileInfo", "setFilePermissions")
async def test_a_folder_tells_what_is_in_it(sandbox: Any, folder: str) -> None:
    await sandbox.fs.create_folder(f"{folder}/sub", "750")
    await sandbox.fs.upload_file(b"12345", f"{folder}/{ODD}")
    await sandbox.fs.set_file_permissions(f"{folder}/{ODD}", mode="640")

    entries = {entry.name: entry for entry in await sandbox.fs.list_files(folder)}
    info = await sandbox.fs.get_file_info(f"{folder}/{ODD}")

    assert set(entries) == {"sub", ODD}
    assert (entries["sub"].is_dir, entries["sub"].permissions) == (True, "0750")
    assert (info.size, info.is_dir, info.permissions, info.owner) == (5, False, "0640", "daytona")


@pytest.mark.proves("findInFiles", "searchFiles", "replaceInFiles")
async def test_text_is_found_and_replaced(sandbox: Any, folder: str) -> None:
    await sandbox.fs.upload_file(b"first\nTODO: this\nlast\n", f"{folder}/a.py")
    await sandbox.fs.upload_file(b"nothing\n", f"{folder}/b.py")

    matches = await sandbox.fs.find_files(folder, "TODO")
    named = await sandbox.fs.search_files(folder, "*.py")
    done = await sandbox.fs.replace_in_files([f"{folder}/a.py"], "TODO", "DONE")

    assert [(m.file, m.line, m.content) for m in matches] == [(f"{folder}/a.py", 2, "TODO: this")]
    assert sorted(named.files) == [f"{folder}/a.py", f"{folder}/b.py"]
    assert [r.success for r in done] == [True]
    assert await sandbox.fs.download_file(f"{folder}/a.py") == b"first\nDONE: this\nlast\n"


@pytest.mark.proves("searchFiles")
async def test_a_search_that_finds_nothing_is_an_empty_list(sandbox: Any, folder: str) -> None:
    assert (await sandbox.fs.search_files(folder, "*.nothing")).files == []


@pytest.mark.proves("moveFile", "deleteFile")
async def test_a_file_is_moved_and_deleted(sandbox: Any, folder: str) -> None:
    await sandbox.fs.upload_file(b"x", f"{folder}/old")

    await sandbox.fs.move_files(f"{folder}/old", f"{folder}/new")
    moved = [entry.name for entry in await sandbox.fs.list_files(folder)]
    await sandbox.fs.delete_file(f"{folder}/new")

    assert moved == ["new"]
    assert await sandbox.fs.list_files(folder) == []


@pytest.mark.proves("deleteFile")
async def test_a_folder_is_deleted_only_when_that_is_meant(sandbox: Any, folder: str) -> None:
    await sandbox.fs.upload_file(b"x", f"{folder}/sub/file")

    with pytest.raises(DaytonaError):
        await sandbox.fs.delete_file(f"{folder}/sub")
    await sandbox.fs.delete_file(f"{folder}/sub", True)

    assert await sandbox.fs.list_files(folder) == []
