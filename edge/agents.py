"""Calls to the agents: over kept connections, to the machine that a sandbox has now, with every refusal made the core's."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode
from weakref import WeakValueDictionary

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientSession, ClientWebSocketResponse, web
from yarl import URL

from chalicelib.core import agent_errors
from chalicelib.core.errors import Unavailable
from chalicelib.core.sandbox import Sandbox
from edge.activity import Activity
from edge.incoming import Body
from edge.known import Known, Reached
from edge.splice import Upload, worth_it

LARGEST_ANSWER = 192 * 1024 * 1024  # three streams at their bound of 10 MiB, where each byte takes six in JSON
LARGE = 1024 * 1024
MOST_LARGE_AT_ONCE = 1
LARGE_SECONDS = 60.0
LONGEST_FRAME = 16 * 1024 * 1024
HEARTBEAT = 20.0

ELSEWHERE = frozenset((300, 301, 302, 303, 305, 307, 308))
"""Where an agent would send us to another place, it is not to be believed."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Question:
    """What an agent is asked. The body is there whole, or it is a client's and streams through."""

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Body | None = None

    @property
    def spent(self) -> bool:
        """Whether it cannot be asked again, because a part of its body is gone."""
        return isinstance(self.body, Body) and self.body.spent


class Agents:
    """The agents of all sandboxes. Whoever asks one keeps its sandbox active as long as that takes."""

    def __init__(self, known: Known, session: ClientSession, activity: Activity) -> None:
        self._known, self._session, self.activity = known, session, activity
        self.talks: set[web.WebSocketResponse] = set()
        # Of its own, because a handshake that is refused has its reason in a body that ws_connect throws away.
        self._sockets = ClientSession(connector=session.connector, connector_owner=False, middlewares=(self._switched,))
        self._large: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def asked(self, owner: str, name: str, question: Question) -> AsyncIterator[ClientResponse]:
        """The answer of the sandbox's agent, its body not read yet; raises the error that it refused with.

        Leaving early, as when the client goes away, closes the agent's connection, which ends what it does for us.
        """
        sandbox, response = await self._found(owner, name, lambda machine: self._answer(machine, question))
        async with response:
            with self.activity.during(sandbox):
                yield response

    async def connected(self, owner: str, name: str, path: str) -> tuple[Sandbox, ClientWebSocketResponse]:
        """A WebSocket to the sandbox's agent; raises the error that it refused with."""
        return await self._found(owner, name, lambda machine: self._socket(machine, path))

    async def value(self, owner: str, response: ClientResponse) -> Any:
        """The JSON of an answer. An owner's large ones wait for each other, for each is in memory several times over, and
        an agent that drips one holds up nobody else."""
        raw = await _read(response, LARGE)
        if not response.content.at_eof():
            async with self._large.setdefault(owner, asyncio.Semaphore(MOST_LARGE_AT_ONCE)):
                return _parsed(response, raw + await _rest(response, LARGEST_ANSWER - len(raw)))
        return _parsed(response, raw)

    async def close(self) -> None:
        """End every WebSocket: who talks may come again, to another edge or a later one."""
        await asyncio.gather(*(talk.close(code=aiohttp.WSCloseCode.GOING_AWAY) for talk in self.talks))
        await self._sockets.close()

    async def _found(
        self, owner: str, name: str, attempt: Callable[[Reached], Awaitable[Answer]]
    ) -> tuple[Sandbox, Answer]:
        """What the sandbox's machine answers. Where nobody does, or somebody that is not its agent, it may have another
        machine by now: that one is asked."""
        machine = await self._known.machine(owner, name)
        try:
            return machine.sandbox, await attempt(machine)
        except _Nobody as nobody:
            was, machine = machine, await self._known.machine(owner, name, fresh=True)
            if nobody.may_try_again and (machine.url, machine.token) != (was.url, was.token):
                with contextlib.suppress(_Nobody):
                    return machine.sandbox, await attempt(machine)
        raise Unavailable(f"the machine of sandbox {machine.sandbox.id} does not answer just now; try again")

    async def _answer(self, machine: Reached, question: Question) -> ClientResponse:
        try:
            response = await self._sent(machine, question)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise _Nobody(may_try_again=not question.spent) from None
        except (aiohttp.ClientError, ConnectionError) as problem:
            if isinstance(question.body, Body) and question.body.problem:
                raise question.body.problem from None
            raise Unavailable(
                f"the machine of sandbox {machine.sandbox.id} went away before it answered; it may have done what was asked"
            ) from problem
        if response.ok and response.status not in ELSEWHERE:
            return response
        async with response:
            raise await self._refusal(machine.sandbox.owner, response, may_try_again=not question.spent)

    async def _sent(self, machine: Reached, question: Question) -> ClientResponse:
        url = machine.url + question.path
        if question.query:
            url += ("&" if "?" in question.path else "?") + urlencode(question.query)
        return await self._session.request(
            question.method,
            URL(url, encoded=True),
            data=_streaming(question.body) if isinstance(question.body, Body) else question.body,
            headers={**question.headers, "authorization": f"Bearer {machine.token}"},
            allow_redirects=False,  # an agent names no other place for us to call
        )

    async def _socket(self, machine: Reached, path: str) -> ClientWebSocketResponse:
        try:
            return await self._sockets.ws_connect(
                URL(machine.url + path, encoded=True),
                headers={"authorization": f"Bearer {machine.token}"},
                max_msg_size=LONGEST_FRAME,
                compress=0,
                heartbeat=HEARTBEAT,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise _Nobody(may_try_again=True) from None
        except (aiohttp.ClientError, ConnectionError) as problem:
            raise Unavailable(f"the machine of sandbox {machine.sandbox.id} went away before it answered") from problem

    async def _switched(self, request: ClientRequest, ask: ClientHandlerType) -> ClientResponse:
        response = await ask(request)
        if response.status >= 400:
            async with response:
                raise await self._refusal("", response, may_try_again=True)
        return response

    async def _refusal(self, owner: str, response: ClientResponse, *, may_try_again: bool) -> Exception:
        refused = agent_errors.from_agent(await self.value(owner, response), response.status)
        return _Nobody(may_try_again=may_try_again) if refused.details["code"] == "unauthorized" else refused


class _Nobody(Exception):
    """Nobody listens there, or somebody that does not know our token."""

    def __init__(self, *, may_try_again: bool) -> None:
        super().__init__()
        self.may_try_again = may_try_again


def _streaming(body: Body) -> Any:
    return Upload(body) if worth_it(body.size) else body.chunks()


async def _rest(response: ClientResponse, most: int) -> bytes:
    try:
        async with asyncio.timeout(LARGE_SECONDS):
            raw = await _read(response, most)
    except TimeoutError:
        raise Unavailable(f"the sandbox's answer did not arrive within {LARGE_SECONDS:g} seconds") from None
    if not response.content.at_eof():
        raise Unavailable(f"the sandbox's answer is longer than the {LARGEST_ANSWER} bytes that are taken here")
    return raw


async def _read(response: ClientResponse, most: int) -> bytes:
    """All that comes, up to its end or until it is more than so many bytes."""
    chunks, size = [], 0
    try:
        while size <= most and (chunk := await response.content.readany()):
            chunks.append(chunk)
            size += len(chunk)
    except (aiohttp.ClientError, ConnectionError) as problem:
        raise Unavailable("the sandbox's machine went away in the middle of its answer") from problem
    return b"".join(chunks)


def _parsed(response: ClientResponse, raw: bytes) -> Any:
    if not raw.strip():
        return {}
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        if response.status >= 400:
            return {}
        raise Unavailable(f"the sandbox's answer of status {response.status} is not JSON") from None
