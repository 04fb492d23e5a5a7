"""Shells that live on, and what their commands write."""

from typing import Any

import pytest
from sdk import NEWEST, DaytonaError, daytona, eventually

Command = daytona.SessionExecuteRequest


@pytest.mark.proves("createSession", "executeSessionCommand", "sessionExecuteCommand", "deleteSession")
async def test_a_session_keeps_its_folder_and_variables(sandbox: Any, session: str) -> None:
    await sandbox.process.execute_session_command(
        session, Command(command="cd /tmp && export WORD=kept && f() { echo f; }")
    )

    done = await sandbox.process.execute_session_command(session, Command(command='echo "$PWD $WORD $(f)"'))

    assert done.exit_code == 0
    assert done.stdout == "/tmp kept f\n" if NEWEST else done.output == "/tmp kept f\n"


@pytest.mark.proves("getSession", "listSessions", "getSessionCommand")
async def test_a_session_tells_its_commands(sandbox: Any, session: str) -> None:
    done = await sandbox.process.execute_session_command(
        session, Command(command="exit_with() { return 5; }; exit_with")
    )

    shown = await sandbox.process.get_session(session)
    assert [(c.id, c.exit_code) for c in shown.commands] == [(done.cmd_id, 5)]
    assert session in [each.session_id for each in await sandbox.process.list_sessions()]
    assert (await sandbox.process.get_session_command(session, done.cmd_id)).exit_code == 5


@pytest.mark.proves("getSessionCommandLogs")
async def test_a_command_in_the_background_is_read_later(sandbox: Any, session: str) -> None:
    started = await sandbox.process.execute_session_command(
        session, Command(command="echo out; echo err >&2; sleep 0.3; echo end", run_async=True)
    )

    async def ended() -> bool:
        return (await sandbox.process.get_session_command(session, started.cmd_id)).exit_code == 0

    await eventually(ended)
    logs = await sandbox.process.get_session_command_logs(session, started.cmd_id)
    assert (logs.stdout, logs.stderr) == ("out\nend\n", "err\n")


@pytest.mark.proves("getSessionCommandLogs")
async def test_a_log_is_followed_to_its_end(sandbox: Any, session: str) -> None:
    started = await sandbox.process.execute_session_command(
        session,
        Command(command="for i in 1 2 3; do echo out $i; echo err $i >&2; sleep 0.2; done", run_async=True),
    )
    out: list[str] = []
    err: list[str] = []

    await sandbox.process.get_session_command_logs_async(session, started.cmd_id, out.append, err.append)

    assert "".join(out) == "out 1\nout 2\nout 3\n"
    assert "".join(err) == "err 1\nerr 2\nerr 3\n"


async def test_a_log_that_has_ended_is_followed_from_its_beginning(sandbox: Any, session: str) -> None:
    done = await sandbox.process.execute_session_command(session, Command(command="seq 20000"))
    out: list[str] = []

    await sandbox.process.get_session_command_logs_async(session, done.cmd_id, out.append, out.append)

    assert "".join(out) == "".join(f"{n}\n" for n in range(1, 20001))


async def test_a_session_that_is_there_is_not_made_again(sandbox: Any, session: str) -> None:
    with pytest.raises(daytona.DaytonaConflictError if NEWEST else DaytonaError, match=session):
        await sandbox.process.create_session(session)


async def test_a_session_that_is_not_there_is_not_found(sandbox: Any) -> None:
    with pytest.raises(daytona.DaytonaNotFoundError if NEWEST else DaytonaError, match="nobody"):
        await sandbox.process.get_session("nobody")


async def test_a_heredoc_does_not_hang_a_session(sandbox: Any, session: str) -> None:
    done = await sandbox.process.execute_session_command(session, Command(command="cat <<EOF\none\ntwo\nEOF"))

    assert done.output == "one\ntwo\n"
