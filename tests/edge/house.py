"""A house for the edge's tests: a dialect of a few words, two sandboxes, an agent and an API Gateway on loopback."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

import aiohttp

from chalicelib.core import access, movements
from chalicelib.core.access import Key
from chalicelib.core.errors import NotFound
from chalicelib.core.ids import new_id
from chalicelib.core.sandbox import Machine, Sandbox
from chalicelib.core.states import State
from chalicelib.core.world import Settings as WorldSettings
from chalicelib.core.world import World
from chalicelib.dialect import Call, Close, Dialect, Frame, Needed, Pick, Relay, Reply, Route, Socket, some_text, text
from edge.listening import listening
from edge.settings import Settings
from tests import fakes
from tests.edge.agent import Agent, Api

KEY, READER, STRANGER = "sb_owner_key", "sb_reader_key", "sb_other_key"
AUTH = {"Authorization": f"Bearer {KEY}"}


class Echo:
    """A bridge that says which way a frame went, and ends at the word 'bye'."""

    def opened(self) -> Sequence[Frame]:
        """The first word is the house's."""
        return ("hello",)

    def from_agent(self, frame: str | bytes) -> Sequence[Frame]:
        """Passed on as it is."""
        return (frame,)

    def from_client(self, frame: str | bytes) -> Sequence[Frame]:
        """Passed on, but for the last word."""
        return (Close(4001, "you said bye"),) if frame == "bye" else (frame,)

    def agent_closed(self, code: int, reason: str) -> Close:
        """As the agent ended it."""
        return Close(4000 + code - 1000, f"agent: {reason}")


def chosen(call: Call) -> Relay:
    """By a field of the query."""
    return Relay("GET", "/marked" if call.query.get("marked") else "/plain", receive="stream")


SAID = Relay("GET", "/said/{word}?always=1")
UPLOAD = Relay("PUT", "/file", send="stream")

DIALECT = Dialect(
    name="tiny",
    routes=(
        Route("GET", "/box/{sandbox}", lambda *_: Reply(200)),
        Route("POST", "/box/{sandbox}/stop", lambda *_: Reply(200), body={}),
        Route(
            "POST",
            "/box/{sandbox}/exec",
            Relay("POST", "/exec"),
            {"result": "output", "asked": "asked"},
            {"command": Needed("command", some_text), "dir": ("cwd", text)},
        ),
        Route("POST", "/box/{sandbox}/quiet", Relay("POST", "/exec", receive="nothing"), body={}, status=204),
        Route("GET", "/box/{sandbox}/said/{word}", SAID, {"asked": "asked"}, query={"q": ("q", text)}),
        Route("GET", "/box/{sandbox}/file", Relay("GET", "/file", receive="stream"), query={"size": ("size", text)}),
        Route("PUT", "/box/{sandbox}/file", UPLOAD, {"size": "size", "type": "type"}, query={"path": ("path", text)}),
        Route("POST", "/box/{sandbox}/secret", Relay("POST", "/exec"), {"result": "output"}, {}, needs="write:sandboxes"),
        Route("GET", "/box/{sandbox}/picked", Pick(chosen), query={"marked": ("marked", text)}),
        Route("GET", "/box/{sandbox}/echo", Socket("/echo", lambda _: Echo(), protocols=("tiny.v1", "env~"))),
        Route(
            "GET",
            "/box/{sandbox}/made",
            Socket("/echo", lambda _: Echo(), before=lambda _: (Relay("POST", "/exec"), {"command": "make"})),
        ),
        Route("GET", "/box/{sandbox}/refused", Socket("/refused", lambda _: Echo())),
    ),
    error=lambda refused, status, _: {"oops": refused.message, "status": status, "code": refused.details.get("code")},
    statuses={"git_auth": 418},
)  # fmt: skip


class Boxes(fakes.Sandboxes):
    """The sandboxes, with their readings counted and what was noted of them remembered."""

    def __init__(self, clock: fakes.Clock) -> None:
        super().__init__(clock)
        self.reads, self.touched, self.broken = 0, list[str](), False
        self.noted = threading.Event()

    def get(self, owner: str, id: str) -> Sandbox:
        """The sandbox, or an error that nobody expects."""
        self.reads += 1
        if self.broken:
            raise RuntimeError("a secret of ours")
        return super().get(owner, id)

    def touch(self, sandbox: Sandbox, now: datetime) -> None:
        """Remembered for the test."""
        self.touched.append(sandbox.id)
        self.noted.set()


class Keyring(fakes.Keys):
    """The keys, with their readings counted."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def get(self, hash: str) -> Key:
        """The key."""
        self.reads += 1
        return super().get(hash)


@dataclass
class House:
    """All that stands: what a test turns and looks at."""

    port: int
    world: World
    boxes: Boxes
    keys: Keyring
    agent: Agent
    api: Api
    box: Sandbox
    client: aiohttp.ClientSession
    wires: list[asyncio.StreamWriter]  # connections that tests opened by hand

    @property
    def url(self) -> str:
        """Where the dialect begins."""
        return f"http://127.0.0.1:{self.port}/tiny"

    def at(self, rest: str) -> str:
        """A path of the sandbox."""
        return f"{self.url}/box/{self.box.id}{rest}"

    def token(self) -> str:
        """What the agent of its machine must be shown."""
        return movements.agent_token(self.world, self.box)

    def change(self, **changes: Any) -> None:
        """Write the sandbox anew."""
        self.box = self.boxes.put(replace(self.box, **changes))

    def moved_to(self, address: str) -> None:
        """Another machine is the sandbox now."""
        self.change(machine=Machine("task-2", address), incarnation="boot-2")


@asynccontextmanager
async def house(named: Callable[[str], Dialect] | None = None, **limits: float) -> AsyncIterator[House]:
    """The edge, its World, an agent and an API Gateway."""
    async with AsyncExitStack() as stack:
        agent, api = (
            await stack.enter_async_context(Agent().listening()),
            await stack.enter_async_context(Api().listening()),
        )
        clock = fakes.Clock()
        boxes, keys = Boxes(clock), Keyring()
        box = boxes.add(_sandbox(clock.now(), Machine("task-1", agent.address)))
        for key in (_key(KEY), _key(READER, ()), _key(STRANGER, owner="org-2")):
            keys.add(key)
        world = _world(boxes, keys, clock)
        agent.token = movements.agent_token(world, box)
        ours = Settings(api=api.url, port=0, grace_seconds=0.1, json_seconds=0.3, **cast(Any, limits))
        port = await stack.enter_async_context(listening(world, ours, dialect_named=named or _named))
        client = await stack.enter_async_context(aiohttp.ClientSession(headers=AUTH, read_bufsize=2**16))
        wires: list[asyncio.StreamWriter] = []
        yield House(port, world, boxes, keys, agent, api, box, client, wires)
        for wire in wires:
            wire.close()
            with contextlib.suppress(ConnectionError):
                await wire.wait_closed()


def _world(boxes: Boxes, keys: Keyring, clock: fakes.Clock) -> World:
    settings = WorldSettings(secret=b"s" * 32, url="http://127.0.0.1:8080")
    ports = fakes.Workflows(), fakes.Machines(), fakes.Blobs(), fakes.Agents()
    return World(
        boxes,
        keys,
        *ports,
        organizations=fakes.Organizations(clock),
        audit=fakes.Audit(clock),
        clock=clock,
        settings=settings,
    )


def _named(name: str) -> Dialect:
    if name != "tiny":
        raise NotFound(f"there is no API named {name!r}")
    return DIALECT


def _sandbox(now: datetime, machine: Machine) -> Sandbox:
    sandbox = Sandbox(new_id(now), "org-1", "box", "default", State.STARTED, now, now, now)
    return replace(sandbox, machine=machine, incarnation="boot-1")


def _key(word: str, permissions: tuple[str, ...] = ("write:sandboxes",), owner: str = "org-1") -> Key:
    now = fakes.BEGINNING
    return Key(access.digest(word), owner, "user", word, word[-4:], frozenset(permissions), now, used_at=now)
