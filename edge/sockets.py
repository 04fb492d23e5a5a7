"""WebSockets: a client's on one side, the agent's on the other, and the dialect's bridge between them."""

import asyncio
from collections.abc import Callable, Sequence

from aiohttp import ClientWebSocketResponse, WSMsgType, web

from chalicelib.core.errors import Invalid
from chalicelib.dialect import Bridge, Close, Frame, Socket
from edge.agents import HEARTBEAT, Agents
from edge.relay import asked, placed
from edge.visit import Admitted

LONGEST_CLIENT_FRAME = 1024 * 1024
"""What a client may send at once: larger than any keystroke or paste; what is larger is a file."""

LONGEST_REASON = 123
"""RFC 6455, section 5.5: a control frame has at most 125 bytes, two of which are the code."""

LOST = 1006
"""RFC 6455, section 7.4.1: what is said of a WebSocket that ended without a word."""

WORDS = (WSMsgType.TEXT, WSMsgType.BINARY)


async def carried(agents: Agents, admitted: Admitted, row: Socket) -> web.WebSocketResponse:
    """A WebSocket from its handshake to its end. What the agent refuses is refused before the handshake."""
    http = admitted.http
    client = web.WebSocketResponse(
        protocols=_agreed(row.protocols, http.headers.get("sec-websocket-protocol", "")),
        max_msg_size=LONGEST_CLIENT_FRAME,
        compress=False,
        heartbeat=HEARTBEAT,
    )
    if not client.can_prepare(http):
        raise Invalid(f"{http.raw_path.partition('?')[0][:200]} is a WebSocket: ask for it with its handshake")
    owner, name = admitted.call.owner, admitted.sandbox
    if row.before:
        relay, fields = row.before(admitted.call)
        async with agents.asked(owner, name, asked(admitted, relay, fields)) as response:
            await agents.value(owner, response)
    sandbox, agent = await agents.connected(owner, name, placed(row.path, admitted.call)[0])
    agents.activity.seen(sandbox)
    try:
        await client.prepare(http)
        agents.talks.add(client)
        end = await _talked(client, agent, row.bridge(admitted.call), lambda: agents.activity.seen(sandbox))
        if end is not None:
            await client.close(code=end.code, message=_cut(end.reason))
    finally:
        agents.talks.discard(client)
        await agent.close()
    return client


async def _talked(
    client: web.WebSocketResponse, agent: ClientWebSocketResponse, bridge: Bridge, seen: Callable[[], None]
) -> Close | None:
    """Carry frames both ways, no faster than they are taken, until one side ends. None: the client has ended it."""
    if end := await _given(client, bridge.opened()):
        return end
    down = asyncio.create_task(_down(client, agent, bridge, seen))
    up = asyncio.create_task(_up(client, agent, bridge, seen))
    try:
        await asyncio.wait((down, up), return_when=asyncio.FIRST_COMPLETED)
        return await (down if down.done() else up)
    except ConnectionError:
        return bridge.agent_closed(LOST, "")
    finally:
        for way in (down, up):
            way.cancel()
        await asyncio.gather(down, up, return_exceptions=True)


async def _down(
    client: web.WebSocketResponse, agent: ClientWebSocketResponse, bridge: Bridge, seen: Callable[[], None]
) -> Close:
    while (message := await agent.receive()).type in WORDS:
        seen()
        if end := await _given(client, bridge.from_agent(message.data)):
            return end
    if message.type is WSMsgType.CLOSE:
        return bridge.agent_closed(int(message.data or 1005), str(message.extra or ""))
    return bridge.agent_closed(LOST, "")


async def _up(
    client: web.WebSocketResponse, agent: ClientWebSocketResponse, bridge: Bridge, seen: Callable[[], None]
) -> Close | None:
    while (message := await client.receive()).type in WORDS:
        seen()
        if end := await _given(agent, bridge.from_client(message.data)):
            return end
    return None


async def _given(side: web.WebSocketResponse | ClientWebSocketResponse, frames: Sequence[Frame]) -> Close | None:
    for frame in frames:
        if isinstance(frame, Close):
            return frame
        await (side.send_str(frame) if isinstance(frame, str) else side.send_bytes(frame))
    return None


def _agreed(ours: Sequence[str], offered: str) -> tuple[str, ...]:
    """The first subprotocol offered that is one of ours, or begins with one of ours that ends in '~'."""
    for protocol in (each.strip() for each in offered.split(",")):
        if any(protocol == one or (one.endswith("~") and protocol.startswith(one)) for one in ours):
            return (protocol,)
    return ()


def _cut(reason: str) -> bytes:
    return reason.encode()[:LONGEST_REASON].decode(errors="ignore").encode()
