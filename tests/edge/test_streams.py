"""Bytes that stream through: all of them, in both directions, no faster than they are taken."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.edge.agent import CHUNK
from tests.edge.house import House
from tests.edge.wire import Wire

MANY = 200 * 1024 * 1024
BUFFERED = 48 * 1024 * 1024  # what all sockets and buffers on the way may hold of it


async def test_a_download_is_whole(house: House) -> None:
    digest, size = hashlib.sha256(), 0
    async with house.client.get(house.at(f"/file?size={MANY}")) as reply:
        async for chunk in reply.content.iter_any():
            digest.update(chunk)
            size += len(chunk)

    assert (reply.headers["content-length"], size) == (str(MANY), MANY)
    assert digest.digest() == hashlib.sha256(b"x" * MANY).digest()


async def test_a_slow_reader_slows_the_agent(house: House) -> None:
    async with house.client.get(house.at(f"/file?size={MANY}")) as reply:
        while (before := house.agent.sent) < BUFFERED and await _moved(lambda: house.agent.sent, before):
            pass
        left = house.agent.sent
        await reply.content.readexactly(MANY)

    assert left < BUFFERED
    assert house.agent.sent == MANY


async def test_an_upload_is_whole(house: House) -> None:
    reply = await house.client.put(house.at("/file?path=a"), data=_many(), headers={"Content-Type": "text/x"})

    assert await reply.json() == {"size": MANY, "type": "text/x"}


async def test_a_slow_agent_slows_the_client(house: House) -> None:
    given = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal given
        async for chunk in _many():
            given += len(chunk)
            yield chunk

    upload = asyncio.create_task(house.client.put(house.at("/file?path=later"), data=counted()))
    await house.agent.reached.wait()
    while (before := given) < BUFFERED and await _moved(lambda: given, before):
        pass
    left = given
    house.agent.go_on.set()

    assert left < BUFFERED
    assert (await (await upload).json())["size"] == MANY


@pytest.mark.parametrize("size", [1, 1024 * 1024 - 1, 1024 * 1024, MANY])
async def test_an_upload_of_a_known_size_is_whole_and_others_may_follow(house: House, size: int) -> None:
    wire = await Wire.to(house, "PUT", "/file?path=a", f"Content-Length: {size}")
    await wire.pour(size)

    assert await wire.status() == 200
    assert house.agent.taken == size
    assert (await house.client.put(house.at("/file"), data=b"x")).status == 200


async def test_a_slow_agent_slows_an_upload_of_a_known_size(house: House) -> None:
    wire = await Wire.to(house, "PUT", "/file?path=later", f"Content-Length: {MANY}")
    upload = asyncio.create_task(wire.pour(MANY))
    await house.agent.reached.wait()
    while (before := wire.poured) < BUFFERED and await _moved(lambda: wire.poured, before):
        pass
    left = wire.poured
    house.agent.go_on.set()
    await upload

    assert left < BUFFERED
    assert (await wire.status(), house.agent.taken) == (200, MANY)


@pytest.mark.parametrize("size", [1000, MANY])
async def test_an_upload_that_is_refused_early_says_so(house: House, size: int) -> None:
    wire = await Wire.to(house, "PUT", "/file?path=full", f"Content-Length: {size}")
    with contextlib.suppress(ConnectionError):
        await wire.pour(size)

    assert (await wire.status(), json.loads(wire.body)["code"]) == (429, "full")


@pytest.mark.parametrize("size", [100_000, 100_000_000])
async def test_an_upload_that_the_client_gives_up_is_given_up(house: House, size: int) -> None:
    wire = await Wire.to(house, "PUT", "/file?path=a", f"Content-Length: {size}")
    wire.send(b"x" * 1000)
    await house.agent.reached.wait()
    wire.close()

    await asyncio.wait_for(house.agent.gone.wait(), 5)
    assert house.agent.taken < size


async def test_an_agent_that_dies_in_the_middle_of_an_upload_is_told(house: House) -> None:
    wire = await Wire.to(house, "PUT", "/file?path=die", f"Content-Length: {MANY}")
    with contextlib.suppress(ConnectionError):
        await wire.pour(MANY)

    assert await wire.status() == 503


async def test_a_broken_chunk_breaks_the_upload_off(house: House) -> None:
    wire = await Wire.to(house, "PUT", "/file?path=a", "Transfer-Encoding: chunked")
    wire.send(b"5\r\nhello\r\n")
    await house.agent.reached.wait()
    wire.send(b"zz\r\n")

    assert await wire.status() == 400
    await asyncio.wait_for(house.agent.gone.wait(), 5)


async def test_an_agent_that_dies_in_the_middle_cuts_the_download(house: House) -> None:
    async with house.client.get(house.at("/file?size=half")) as reply:
        with pytest.raises((aiohttp.ClientPayloadError, ConnectionError)):
            await reply.read()


async def test_an_agent_that_dies_leaves_the_edge_well(house: House) -> None:
    async with house.client.get(house.at("/file?size=half")):
        pass

    assert (await house.client.post(house.at("/exec"), json={"command": "true"})).status == 200


async def test_a_client_that_leaves_in_the_middle_ends_the_download(house: House) -> None:
    async with house.client.get(house.at(f"/file?size={MANY}")) as reply:
        await reply.content.readexactly(BUFFERED)
        reply.close()

    await asyncio.wait_for(house.agent.gone.wait(), 5)
    assert house.agent.sent < MANY


async def test_requests_after_a_download_on_the_same_connection_are_answered(house: House) -> None:
    wire = await Wire.to(house, "GET", "/file?size=3000000")
    first = (await wire.status(), len(wire.body))
    wire.ask("GET", "/picked?marked=1")

    assert (first, await wire.status()) == ((200, 3_000_000), 200)


async def test_only_harmless_headers_of_a_sandbox_reach_the_client(house: House) -> None:
    reply = await house.client.get(house.at("/picked?marked=1"))

    assert await reply.text() == "/marked"
    assert not {"set-cookie", "x-own"} & {name.lower() for name in reply.headers}
    assert reply.headers["x-content-type-options"] == "nosniff"


async def test_the_rows_own_choice_is_followed(house: House) -> None:
    assert await (await house.client.get(house.at("/picked"))).text() == "/plain"


async def test_ranges_are_passed_on(house: House) -> None:
    await house.client.get(house.at("/file"), headers={"Range": "bytes=0-1", "If-Range": '"e"'})

    seen = house.agent.seen[0].headers
    assert (seen["range"], seen["if-range"]) == ("bytes=0-1", '"e"')


async def test_head_of_a_stream_has_its_size_and_no_body(house: House) -> None:
    reply = await house.client.head(house.at("/file?size=5"))

    assert (reply.status, reply.headers["content-length"], await reply.read()) == (200, "5", b"")


async def test_many_uploads_at_once_are_all_whole(house: House) -> None:
    calls = [house.client.put(house.at("/file"), data=b"x" * 10_000) for _ in range(50)]
    replies = await asyncio.gather(*calls)

    assert {reply.status for reply in replies} == {200}
    assert house.agent.taken == 50 * 10_000


async def test_a_client_that_waits_to_be_asked_is_asked_once_the_agent_is_there(house: House) -> None:
    wire = await Wire.to(house, "PUT", "/file?path=a", "Content-Length: 5", "Expect: 100-continue")

    assert await wire.status() == 100
    wire.send(b"hello")
    assert await wire.status() == 200


async def test_a_client_that_is_refused_is_not_asked_for_its_body(house: House) -> None:
    wire = await Wire.to(house, "PUT", "/file", "Content-Length: 5", "Expect: 100-continue", auth="Bearer wrong")

    assert await wire.status() == 401
    assert await wire.closed()


async def test_another_request_follows_on_the_same_connection(house: House) -> None:
    wire = await Wire.to(house, "GET", "/file?size=3")
    first = await wire.status()
    wire.ask("GET", "/file?size=0")

    assert (first, await wire.status()) == (200, 200)
    assert len(house.agent.seen) == 2


async def _many() -> AsyncIterator[bytes]:
    for _ in range(MANY // len(CHUNK)):
        yield CHUNK


async def _moved(count, before: int) -> bool:  # type: ignore[no-untyped-def]
    """Whether it moves on within a while."""
    for _ in range(50):
        await asyncio.sleep(0.01)
        if count() != before:
            return True
    return False
