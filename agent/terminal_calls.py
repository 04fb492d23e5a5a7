"""The calls of terminals: `/terminals` and everything below it."""

from agent import shapes
from agent.errors import Refusal
from agent.machine import Machine
from agent.session_calls import SIGNALS
from agent.terminals import MOST_TERMINALS, Terminal
from agent.web import NOTHING, Conversation, Reply, Request, answer

SIZE = {"cols": (shapes.whole(1, 1000), 80), "rows": (shapes.whole(1, 1000), 24)}
CREATE = {
    **SIZE,
    "id": (shapes.identifier, shapes.REQUIRED),
    "cwd": (shapes.word, None),
    "env": (shapes.variables, {}),
    "command": (shapes.list_of(shapes.text, least=1), None),
    "lazy": (shapes.flag, False),
}


async def create(machine: Machine, request: Request) -> Reply:
    asked = await request.json(CREATE)
    if asked.id in machine.terminals:
        raise Refusal("conflict", f"There is a terminal {asked.id[:100]!a} already.")
    _make_room(machine)
    size, command = (asked.cols, asked.rows), asked.command or [machine.person.shell, "-i", "-l"]
    terminal = Terminal(machine, asked.id, cwd=machine.folder(asked.cwd), env=asked.env, size=size, command=command)
    terminal.lazy = asked.lazy
    if not asked.lazy:
        terminal.start()
    machine.terminals[asked.id] = terminal
    return answer(terminal.document(), 201)


def _make_room(machine: Machine) -> None:
    """Ended terminals are forgotten when there are too many, oldest first."""
    if len(machine.terminals) < MOST_TERMINALS:
        return
    ended = next((terminal.id for terminal in machine.terminals.values() if terminal.ended), None)
    if ended is None:
        raise Refusal("busy", f"There are {MOST_TERMINALS} terminals; delete one first.")
    del machine.terminals[ended]


async def index(machine: Machine, request: Request) -> Reply:
    return answer({"terminals": [terminal.document() for terminal in machine.terminals.values()]})


async def show(machine: Machine, request: Request) -> Reply:
    return answer(_terminal(machine, request).document())


async def resize(machine: Machine, request: Request) -> Reply:
    terminal = _terminal(machine, request)
    asked = await request.json({name: (read, shapes.REQUIRED) for name, (read, _) in SIZE.items()})
    terminal.resize(asked.cols, asked.rows)
    return answer(terminal.document())


async def signal(machine: Machine, request: Request) -> Reply:
    terminal = _terminal(machine, request)
    asked = await request.json({"signal": (shapes.one_of(*SIGNALS), shapes.REQUIRED)})
    terminal.signal(SIGNALS[asked.signal])
    return answer(terminal.document())


async def delete(machine: Machine, request: Request) -> Reply:
    terminal = _terminal(machine, request)
    del machine.terminals[terminal.id]
    await terminal.kill()
    return NOTHING


async def attach(machine: Machine, request: Request, conversation: Conversation) -> None:
    terminal = _terminal(machine, request)
    offset = request.query({"offset": (shapes.whole(0, 2**63 - 1), None)}).offset
    terminal.start()
    await conversation.accept()
    await conversation.both(_tell(terminal, offset, conversation), _listen(terminal, conversation))


async def _tell(terminal: Terminal, offset: int | None, conversation: Conversation) -> None:
    async for begin, chunk in terminal.output(offset):
        if chunk:
            await conversation.binary(chunk)
        else:
            await conversation.text({"type": "attached", "offset": begin})
    await conversation.text(terminal.exit())
    await conversation.close()


async def _listen(terminal: Terminal, conversation: Conversation) -> None:
    async for content in conversation.incoming():
        await terminal.type(content)


def _terminal(machine: Machine, request: Request) -> Terminal:
    id = request.words["id"]
    if id not in machine.terminals:
        raise Refusal("not_found", f"There is no terminal {id[:100]!a}.")
    return machine.terminals[id]
