"""The calls of sessions: `/sessions` and everything below it."""

import signal
import uuid
from collections.abc import AsyncGenerator

from agent import shapes
from agent.errors import Refusal
from agent.machine import Machine
from agent.sessions import MOST_SESSIONS, Command, Session
from agent.spool import Spool
from agent.web import NOTHING, Conversation, Reply, Request, answer

CREATE = {
    "id": (shapes.identifier, shapes.REQUIRED),
    "cwd": (shapes.word, None),
    "env": (shapes.variables, {}),
}
RUN = {
    "command": (shapes.word, shapes.REQUIRED),
    "wait": (shapes.flag, True),
    "timeout_seconds": (shapes.seconds, None),
    "command_id": (shapes.identifier, None),
    "stdin": (shapes.one_of("open", "empty"), None),
}
INPUT = {"data": (shapes.content, b""), "end": (shapes.flag, False)}
SIGNALS = {
    "KILL": signal.SIGKILL,
    "TERM": signal.SIGTERM,
    "INT": signal.SIGINT,
    "HUP": signal.SIGHUP,
    "QUIT": signal.SIGQUIT,
    "STOP": signal.SIGSTOP,
    "CONT": signal.SIGCONT,
    "USR1": signal.SIGUSR1,
    "USR2": signal.SIGUSR2,
    "WINCH": signal.SIGWINCH,
}
KILL = {"signal": (shapes.one_of(*SIGNALS), "KILL")}


async def create(machine: Machine, request: Request) -> Reply:
    asked = await request.json(CREATE)
    machine.awake()
    if asked.id in machine.sessions:
        raise Refusal("conflict", f"There is a session {asked.id[:100]!a} already.")
    if len(machine.sessions) >= MOST_SESSIONS:
        raise Refusal("busy", f"There are {MOST_SESSIONS} sessions; delete one first.")
    session = Session(machine, asked.id, cwd=machine.folder(asked.cwd), env=asked.env)
    machine.sessions[asked.id] = session
    return answer(session.document(), 201)


async def index(machine: Machine, request: Request) -> Reply:
    return answer({"sessions": [session.document() for session in machine.sessions.values()]})


async def show(machine: Machine, request: Request) -> Reply:
    return answer(_session(machine, request).document())


async def delete(machine: Machine, request: Request) -> Reply:
    session = _session(machine, request)
    del machine.sessions[session.id]
    await session.end()
    return NOTHING


async def run(machine: Machine, request: Request) -> Reply:
    session = _session(machine, request)
    asked = await request.json(RUN)
    machine.awake()
    interactive = not asked.wait if asked.stdin is None else asked.stdin == "open"
    command = session.add(
        asked.command, id=asked.command_id or uuid.uuid4().hex, interactive=interactive, timeout=asked.timeout_seconds
    )
    if not asked.wait:
        return answer({"id": command.id}, 202)
    await command.done.wait()
    said = (await command.spool.captured()).document()
    said["truncated"] = said["truncated"] or command.spool.truncated
    if command.timed_out:
        message = f"The command did not end within {asked.timeout_seconds:g} seconds and was killed."
        raise Refusal("timeout", message, id=command.id, **said)
    return answer({"id": command.id, "exit_code": command.exit_code, **said})


async def command(machine: Machine, request: Request) -> Reply:
    return answer(_command(machine, request)[1].document())


async def output(machine: Machine, request: Request) -> Reply:
    _, command = _command(machine, request)
    if request.query({"marked": (shapes.flag, False)}).marked:
        return Reply(200, _marked(command.spool), ((b"content-type", b"application/octet-stream"),))
    said = (await command.spool.captured()).document()
    said["truncated"] = said["truncated"] or command.spool.truncated
    return answer({**said, "exit_code": command.exit_code})


async def _marked(spool: Spool) -> AsyncGenerator[bytes, None]:
    async for stream, chunk in spool.chunks():
        yield bytes((stream,)) * 3 + chunk


async def follow(machine: Machine, request: Request, conversation: Conversation) -> None:
    _, command = _command(machine, request)
    offset = request.query({"offset": (shapes.whole(0, 2**63 - 1), 0)}).offset
    await conversation.accept()

    async def tell() -> None:
        async for stream, chunk in command.spool.chunks(offset, follow=True):
            await conversation.binary(bytes((stream,)) + chunk)
        await conversation.close()

    await conversation.until_closed(tell())


async def feed(machine: Machine, request: Request) -> Reply:
    session, command = _command(machine, request)
    asked = await request.json(INPUT)
    await request.while_there(session.feed(command, asked.data, end=asked.end))
    return NOTHING


async def kill(machine: Machine, request: Request) -> Reply:
    session, command = _command(machine, request)
    asked = await request.json(KILL)
    if command.done.is_set():
        raise Refusal("conflict", f"Command {command.id[:100]!a} has ended with code {command.exit_code}.")
    await session.kill(command, SIGNALS[asked.signal])
    return NOTHING


def _session(machine: Machine, request: Request) -> Session:
    id = request.words["id"]
    if id not in machine.sessions:
        raise Refusal("not_found", f"There is no session {id[:100]!a}.")
    return machine.sessions[id]


def _command(machine: Machine, request: Request) -> tuple[Session, Command]:
    session = _session(machine, request)
    return session, session.command(request.words["command"])
