"""A sandbox from its creation to its end, as the SDK sees it."""

import uuid
from typing import Any

import pytest
from sdk import NEWEST, DaytonaError, daytona, eventually, listed

Params = daytona.CreateSandboxFromSnapshotParams


@pytest.mark.proves("createSandbox", "getSandbox", "deleteSandbox")
async def test_a_sandbox_is_created_found_and_deleted(client: Any) -> None:
    made = await client.create(
        Params(language="python", env_vars={"A": "1"}, labels={"tag": "x"}, auto_stop_interval=5, public=True)
    )
    state = made.state
    found = await client.get(made.id)
    await client.delete(made)

    assert state == "started"
    assert (found.env, found.public, found.user, found.auto_stop_interval) == ({"A": "1"}, True, "daytona", 5)
    assert found.labels["tag"] == "x"
    assert found.cpu >= 1
    assert found.memory >= 1
    await eventually(lambda: _is_gone(client, made.id))


@pytest.mark.proves("stopSandbox", "startSandbox")
async def test_files_survive_a_stop_and_a_start(client: Any) -> None:
    sandbox = await client.create()
    await sandbox.fs.upload_file(b"kept", "notes/kept.txt")

    await sandbox.stop()
    stopped = sandbox.state
    await sandbox.start()

    assert stopped == "stopped"
    assert sandbox.state == "started"
    assert await sandbox.fs.download_file("notes/kept.txt") == b"kept"
    await client.delete(sandbox)


@pytest.mark.proves("listSandboxes", "listSandboxesPaginated", "replaceLabels")
async def test_a_list_by_label_shows_exactly_those_that_have_it(client: Any, sandbox: Any) -> None:
    label = {"run": uuid.uuid4().hex}

    await sandbox.set_labels(label)

    assert [found.id for found in await listed(client, label)] == [sandbox.id]
    assert await listed(client, {"run": "nobody's"}) == []


@pytest.mark.proves("listSandboxes", "listSandboxesPaginated")
async def test_a_list_without_labels_shows_every_sandbox(client: Any, sandbox: Any) -> None:
    assert sandbox.id in [found.id for found in await listed(client, {})]


@pytest.mark.proves("setAutostopInterval", "setAutoArchiveInterval", "setAutoDeleteInterval")
async def test_intervals_are_changed(client: Any, sandbox: Any) -> None:
    await sandbox.set_autostop_interval(30)
    await sandbox.set_auto_archive_interval(60)
    await sandbox.set_auto_delete_interval(90)

    found = await client.get(sandbox.id)
    assert (found.auto_stop_interval, found.auto_archive_interval, found.auto_delete_interval) == (30, 60, 90)


@pytest.mark.proves("getUserHomeDir", "getWorkDir")
async def test_home_and_work_dir_are_told(sandbox: Any) -> None:
    assert await sandbox.get_user_home_dir() == "/home/daytona"
    assert (await sandbox.get_work_dir()).startswith("/")


async def test_starting_what_is_started_is_refused_with_its_state(sandbox: Any) -> None:
    with pytest.raises(DaytonaError, match="started"):
        await sandbox.start()


async def test_a_sandbox_that_is_not_there_is_not_found(client: Any) -> None:
    with pytest.raises(daytona.DaytonaNotFoundError if NEWEST else DaytonaError, match="not found"):
        await client.get(str(uuid.uuid4()))


async def test_an_unknown_snapshot_is_refused_by_name(client: Any) -> None:
    with pytest.raises(DaytonaError, match="no-such-snapshot not found"):
        await client.create(Params(snapshot="no-such-snapshot"))


async def _is_gone(client: Any, id: str) -> bool:
    try:
        return (await client.get(id)).state == "destroyed"
    except DaytonaError as problem:
        return "not found" in str(problem)
