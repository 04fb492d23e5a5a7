"""WebSockets: both ways through the bridge, refused before the handshake, ended from either side."""

import asyncio

import aiohttp
import pytest

from tests.edge.house import AUTH, House
from tests.edge.house import house as house_for_a_while


async def test_frames_go_both_ways(house: House) -> None:
    async with house.client.ws_connect(house.at("/echo")) as socket:
        assert await socket.receive_str() == "hello"
        await socket.send_str("a")
        await socket.send_bytes(b"\x00\xff")

        assert await socket.receive_str() == "a"
        assert await socket.receive_bytes() == b"\x00\xff"


async def test_the_agents_end_is_told_as_the_bridge_says(house: House) -> None:
    async with house.client.ws_connect(house.at("/echo")) as socket:
        await socket.receive()
        await socket.send_str("end")

        message = await socket.receive()
        assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "agent: enough")


async def test_an_agent_that_dies_is_told_too(house: House) -> None:
    async with house.client.ws_connect(house.at("/echo")) as socket:
        await socket.receive()
        await socket.send_str("die")

        assert (await socket.receive()).data == 4006


async def test_the_bridge_can_end_it(house: House) -> None:
    async with house.client.ws_connect(house.at("/echo")) as socket:
        await socket.receive()
        await socket.send_str("bye")

        message = await socket.receive()
        assert (message.data, message.extra) == (4001, "you said bye")
    await asyncio.wait_for(house.agent.gone.wait(), 5)


async def test_a_client_that_leaves_ends_the_agents_side(house: House) -> None:
    async with house.client.ws_connect(house.at("/echo")) as socket:
        await socket.receive()

    await asyncio.wait_for(house.agent.gone.wait(), 5)


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [(("other", "tiny.v1"), "tiny.v1"), (("env~abc",), "env~abc"), (("other",), None), ((), None)],
)
async def test_a_subprotocol_is_agreed_on(house: House, offered: tuple[str, ...], agreed: str | None) -> None:
    async with house.client.ws_connect(house.at("/echo"), protocols=offered) as socket:
        assert socket.protocol == agreed


async def test_what_comes_before_is_asked_first(house: House) -> None:
    async with house.client.ws_connect(house.at("/made")) as socket:
        await socket.receive()

    assert house.agent.asked == [{"command": "make"}]


@pytest.mark.parametrize(("path", "key", "status"), [("/refused", "sb_owner_key", 409), ("/echo", "wrong", 401)])
async def test_a_refusal_comes_before_the_handshake(house: House, path: str, key: str, status: int) -> None:
    headers = {"Authorization": f"Bearer {key}", "Connection": "upgrade", "Upgrade": "websocket"}
    headers |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    reply = await house.client.get(house.at(path), headers=headers)

    assert (reply.status, (await reply.json())["status"]) == (status, status)


async def test_a_plain_request_for_a_websocket_is_refused(house: House) -> None:
    assert (await house.client.get(house.at("/echo"))).status == 400


async def test_a_machine_that_is_gone_is_unavailable(house: House) -> None:
    house.agent.token = "somebody else's"

    with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
        await house.client.ws_connect(house.at("/echo"))


async def test_a_frame_that_is_too_long_ends_it(house: House) -> None:
    async with house.client.ws_connect(house.at("/echo")) as socket:
        await socket.receive()
        await socket.send_bytes(b"x" * (1024 * 1024 + 1))

        assert (await socket.receive()).data == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_a_slow_reader_slows_the_agent(house: House) -> None:
    async with house.client.ws_connect(house.at("/echo"), max_msg_size=0) as socket:
        await socket.receive()
        await socket.send_str("flood")
        await asyncio.sleep(1)
        left = house.agent.sent
        size = 0
        while size < 64 * 1024 * 1024:
            size += len(await socket.receive_bytes())

    assert left < 48 * 1024 * 1024


async def test_a_websocket_is_told_when_the_edge_ends() -> None:
    async with aiohttp.ClientSession(headers=AUTH) as client:
        async with house_for_a_while() as house:
            socket = await client.ws_connect(house.at("/echo"))
            await socket.receive()

        assert (await socket.receive()).data == aiohttp.WSCloseCode.GOING_AWAY
