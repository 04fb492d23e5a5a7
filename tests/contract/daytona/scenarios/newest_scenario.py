"""What only the newer SDKs can ask."""

import uuid
from typing import Any

import pytest
from sdk import daytona

Params = daytona.CreateSandboxFromSnapshotParams
Command = daytona.SessionExecuteRequest


async def test_a_sandbox_is_found_by_its_name_which_none_other_may_have(client: Any) -> None:
    name = f"n{uuid.uuid4().hex}"
    made = await client.create(Params(name=name))

    with pytest.raises(daytona.DaytonaConflictError, match=name):
        await client.create(Params(name=name))

    assert (await client.get(name)).id == made.id
    await client.delete(made)


@pytest.mark.proves("updateLastActivity", "updatePublicStatus", "setTtl")
async def test_the_newer_changes_are_taken(client: Any, sandbox: Any) -> None:
    await sandbox.refresh_activity()
    await sandbox.set_public(True)
    await sandbox.set_ttl(600)

    found = await client.get(sandbox.id)
    assert found.public
    assert found.auto_destroy_at


@pytest.mark.proves("sendInput")
async def test_a_waiting_command_is_given_its_input(sandbox: Any, session: str) -> None:
    started = await sandbox.process.execute_session_command(
        session, Command(command="read -r word; echo got $word", run_async=True)
    )
    out: list[str] = []

    await sandbox.process.send_session_command_input(session, started.cmd_id, "yes\n")
    await sandbox.process.get_session_command_logs_async(session, started.cmd_id, out.append, out.append)

    assert "got yes" in "".join(out)


async def test_a_file_streams_out_in_pieces(sandbox: Any, folder: str) -> None:
    content = b"0123456789" * 200_000
    await sandbox.fs.upload_file(content, f"{folder}/stream")

    stream = await sandbox.fs.download_file_stream(f"{folder}/stream")
    pieces = [piece async for piece in stream] if hasattr(stream, "__aiter__") else list(stream)

    assert b"".join(pieces) == content


@pytest.mark.parametrize("language", ["javascript", "typescript"])
async def test_scripts_of_other_languages_get_their_arguments(client: Any, language: str) -> None:
    sandbox = await client.create(Params(language=language))
    params = daytona.CodeRunParams(argv=["one two", "-3"])

    done = await sandbox.process.code_run("console.log(process.argv.slice(2))", params)

    assert done.result.strip() == "[ 'one two', '-3' ]"
    await client.delete(sandbox)
